import Bytes
import Namespace
import RPC

/// A call of the lock manager, whatever its version and procedure. It has memory of its own: it may outlive the record.
struct LockRequest: Sendable {
    var version: UInt32
    var cookie: [UInt8] = []
    /// The client's name for itself.
    var caller: [UInt8] = []
    var file: [UInt8] = []
    var owner: [UInt8] = []
    var process: Int32 = 0
    /// As the client said them: a grant says them back.
    var offset: UInt64 = 0
    var length: UInt64 = 0
    var isExclusive = false
    var mayBlock = false
    var isReclaim = false
    /// Of the client's status monitor; 0: not known.
    var state: Int32 = 0
    /// Of SHARE.
    var deny = ShareBits.none
    var access = ShareBits.none

    var range: LockRange { LockRange(toEndIfZero: offset, length: length) }
    var mode: LockMode { isExclusive ? .exclusive : .shared }
    var hasWideNumbers: Bool { version == 4 }
}

extension LockRequest {
    /// What a procedure's arguments say, those of the form with messages included.
    init(_ procedure: LockProcedure, version: UInt32, reading reader: inout Reader) throws(BytesError) {
        if version == 4 {
            try self.init(procedure, version, reading: &reader, LockWidth64.self)
        } else {
            try self.init(procedure, version, reading: &reader, LockWidth32.self)
        }
    }

    private init<Width: LockWidth>(
        _ procedure: LockProcedure, _ version: UInt32, reading reader: inout Reader, _ width: Width.Type
    ) throws(BytesError) {
        self.version = version
        switch procedure {
        case .test, .testMessage, .granted, .grantedMessage:
            let call = try LockTestArguments<Width>(reading: &reader)
            cookie = Array(call.cookie)
            isExclusive = call.isExclusive
            take(call.lock)
        case .lock, .lockMessage, .lockUnmonitored:
            let call = try LockArguments<Width>(reading: &reader)
            cookie = Array(call.cookie)
            isExclusive = call.isExclusive
            mayBlock = call.mayBlock
            isReclaim = call.isReclaim
            state = call.state
            take(call.lock)
        case .cancel, .cancelMessage:
            let call = try LockCancelArguments<Width>(reading: &reader)
            cookie = Array(call.cookie)
            isExclusive = call.isExclusive
            mayBlock = call.mayBlock
            take(call.lock)
        case .unlock, .unlockMessage:
            let call = try LockUnlockArguments<Width>(reading: &reader)
            cookie = Array(call.cookie)
            take(call.lock)
        case .share, .unshare:
            let call = try LockShareArguments(reading: &reader)
            cookie = Array(call.cookie)
            caller = Array(call.caller)
            file = Array(call.file)
            owner = Array(call.owner)
            deny = call.deny
            access = call.access
            isReclaim = call.isReclaim
        case .freeAll:
            let call = try LockNotice(reading: &reader)
            caller = Array(call.name)
            state = call.state
        case .null, .testResult, .lockResult, .cancelResult, .unlockResult, .grantedResult: break
        }
    }

    private mutating func take<Width: LockWidth>(_ lock: LockDescription<Width>) {
        caller = Array(lock.caller)
        file = Array(lock.file)
        owner = Array(lock.owner)
        process = lock.process
        offset = lock.offset
        length = lock.length
    }
}

/// The answer to a call of the lock manager.
struct LockReply: Sendable {
    var status: LockStatus
    /// With `.denied` of TEST: who is in the way.
    var holder: Holder?

    struct Holder: Sendable {
        var isExclusive: Bool
        var process: Int32
        var owner: [UInt8]
        var range: LockRange
    }

    init(_ status: LockStatus, holder: Holder? = nil) {
        self.status = status
        self.holder = holder
    }

    func write(_ procedure: LockProcedure, to request: LockRequest, into writer: inout Writer) {
        let status = request.hasWideNumbers ? status : status.beforeVersion4
        request.cookie.withUnsafeBytes { cookie in
            switch procedure {
            case .test, .testMessage:
                writer.opaque(cookie)
                writer.u32(status.rawValue)
                guard status == .denied else { return }
                if request.hasWideNumbers {
                    write(holder, into: &writer, LockWidth64.self)
                } else {
                    write(holder, into: &writer, LockWidth32.self)
                }
            case .share, .unshare: LockShareResult(cookie: cookie, status: status, sequence: 0).write(into: &writer)
            default: LockResult(cookie: cookie, status: status).write(into: &writer)
            }
        }
    }

    /// A denied test names a holder: where none is known, the whole file of nobody.
    private func write<Width: LockWidth>(_ holder: Holder?, into writer: inout Writer, _ width: Width.Type) {
        let holder = holder ?? Holder(isExclusive: true, process: 0, owner: [], range: .whole)
        let isToEnd = holder.range.last == .max
        holder.owner.withUnsafeBytes { owner in
            LockHolder<Width>(
                isExclusive: holder.isExclusive, process: holder.process, owner: owner, offset: holder.range.first,
                length: isToEnd ? 0 : holder.range.length
            ).write(into: &writer)
        }
    }
}

extension LockStatus {
    /// Versions 1 and 3 know no status beyond 5: the lock is not to be had.
    var beforeVersion4: LockStatus { rawValue > LockStatus.deadlock.rawValue ? .deniedNoLocks : self }

    init(_ refusal: LockRefusal) {
        self =
            switch refusal {
            case .held, .timeout: .denied
            case .deadlock: .deadlock
            case .tooMany: .deniedNoLocks
            case .grace, .noReclaim: .deniedGrace
            }
    }

    init(_ error: FileError) {
        self =
            switch error {
            case .stale, .noEntry: .stale
            case .readOnly: .readOnly
            case .tooManyLocks, .noSpace: .deniedNoLocks
            case .accessDenied, .notPermitted, .sharingViolation, .locked: .denied
            case .grace: .deniedGrace
            default: .failed
            }
    }
}

extension LockProcedure {
    /// The call that carries the answer, for the procedures that are messages both ways.
    var result: LockProcedure? {
        switch self {
        case .testMessage: .testResult
        case .lockMessage: .lockResult
        case .cancelMessage: .cancelResult
        case .unlockMessage: .unlockResult
        case .grantedMessage: .grantedResult
        default: nil
        }
    }
}
