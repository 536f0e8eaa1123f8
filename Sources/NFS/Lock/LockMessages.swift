import Bytes
import RPC

/// The network lock manager (X/Open XNFS 14; version 4: RFC 1813 appendix II). Versions 1 and 3 have ranges of 32 bits, 4
/// of 64; version 3 adds what personal computers ask for.
public enum LockManager {
    public static let program: UInt32 = 100_021
    public static let versions: ClosedRange<UInt32> = 1...4
    /// `LM_MAXSTRLEN`, and `MAXNETOBJ_SZ`, which bounds cookies, handles and owners.
    public static let nameMax = 1024
    public static let objectMax = 1024
    /// `LM_MAXNAMELEN` is one more than the longest name.
    public static let hostMax = 1025
}

/// X/Open XNFS 14.3; 20 to 23 from version 3 on.
public enum LockProcedure: UInt32, Sendable, CaseIterable {
    case null = 0
    case test, lock, cancel, unlock, granted
    case testMessage, lockMessage, cancelMessage, unlockMessage, grantedMessage
    case testResult, lockResult, cancelResult, unlockResult, grantedResult
    case share = 20
    case unshare, lockUnmonitored, freeAll
}

/// RFC 1813 6.1, `nlm4_stats`; up to 5 for the versions before.
public enum LockStatus: UInt32, Sendable, CaseIterable {
    case granted = 0
    case denied, deniedNoLocks, blocked, deniedGrace, deadlock, readOnly, stale, tooBig, failed
}

/// The width of offsets and lengths.
public protocol LockWidth: Sendable {
    static func read(_ reader: inout Reader) throws(BytesError) -> UInt64
    static func write(_ value: UInt64, into writer: inout Writer)
}

/// Versions 1 and 3. What does not fit becomes the largest value, which stands for the end.
public enum LockWidth32: LockWidth {
    public static func read(_ reader: inout Reader) throws(BytesError) -> UInt64 { UInt64(try reader.u32()) }
    public static func write(_ value: UInt64, into writer: inout Writer) { writer.u32(UInt32(clamping: value)) }
}

/// Version 4.
public enum LockWidth64: LockWidth {
    public static func read(_ reader: inout Reader) throws(BytesError) -> UInt64 { try reader.u64() }
    public static func write(_ value: UInt64, into writer: inout Writer) { writer.u64(value) }
}

/// RFC 1813 6.1.4, `nlm4_holder`: who is in the way.
public struct LockHolder<Width: LockWidth>: XDRMessage {
    public var isExclusive: Bool
    public var process: Int32
    public var owner: UnsafeRawBufferPointer
    public var offset: UInt64
    public var length: UInt64

    public init(isExclusive: Bool, process: Int32, owner: UnsafeRawBufferPointer, offset: UInt64, length: UInt64) {
        self.isExclusive = isExclusive
        self.process = process
        self.owner = owner
        self.offset = offset
        self.length = length
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        isExclusive = try reader.bool()
        process = try reader.i32()
        owner = try reader.inPlace(limit: LockManager.objectMax)
        offset = try Width.read(&reader)
        length = try Width.read(&reader)
    }
    public func write(into writer: inout Writer) {
        writer.bool(isExclusive)
        writer.i32(process)
        writer.opaque(owner)
        Width.write(offset, into: &writer)
        Width.write(length, into: &writer)
    }
}

/// RFC 1813 6.1.4, `nlm4_lock`: what is to be locked, for whom. A length of 0 goes to the end.
public struct LockDescription<Width: LockWidth>: XDRMessage {
    public var caller: UnsafeRawBufferPointer
    public var file: UnsafeRawBufferPointer
    public var owner: UnsafeRawBufferPointer
    public var process: Int32
    public var offset: UInt64
    public var length: UInt64

    public init(
        caller: UnsafeRawBufferPointer, file: UnsafeRawBufferPointer, owner: UnsafeRawBufferPointer, process: Int32,
        offset: UInt64, length: UInt64
    ) {
        self.caller = caller
        self.file = file
        self.owner = owner
        self.process = process
        self.offset = offset
        self.length = length
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        caller = try reader.inPlace(limit: LockManager.nameMax)
        file = try reader.inPlace(limit: LockManager.objectMax)
        owner = try reader.inPlace(limit: LockManager.objectMax)
        process = try reader.i32()
        offset = try Width.read(&reader)
        length = try Width.read(&reader)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(caller)
        writer.opaque(file)
        writer.opaque(owner)
        writer.i32(process)
        Width.write(offset, into: &writer)
        Width.write(length, into: &writer)
    }
}

/// RFC 1813 6.3.1, `nlm4_testargs`; GRANTED has the same.
public struct LockTestArguments<Width: LockWidth>: XDRMessage {
    public var cookie: UnsafeRawBufferPointer
    public var isExclusive: Bool
    public var lock: LockDescription<Width>

    public init(cookie: UnsafeRawBufferPointer, isExclusive: Bool, lock: LockDescription<Width>) {
        self.cookie = cookie
        self.isExclusive = isExclusive
        self.lock = lock
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        cookie = try reader.inPlace(limit: LockManager.objectMax)
        isExclusive = try reader.bool()
        lock = try LockDescription<Width>(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(cookie)
        writer.bool(isExclusive)
        lock.write(into: &writer)
    }
}

/// RFC 1813 6.3.2, `nlm4_lockargs`.
public struct LockArguments<Width: LockWidth>: XDRMessage {
    public var cookie: UnsafeRawBufferPointer
    public var mayBlock: Bool
    public var isExclusive: Bool
    public var lock: LockDescription<Width>
    public var isReclaim: Bool
    /// Of the client's status monitor.
    public var state: Int32

    public init(
        cookie: UnsafeRawBufferPointer, mayBlock: Bool, isExclusive: Bool, lock: LockDescription<Width>,
        isReclaim: Bool, state: Int32
    ) {
        self.cookie = cookie
        self.mayBlock = mayBlock
        self.isExclusive = isExclusive
        self.lock = lock
        self.isReclaim = isReclaim
        self.state = state
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        cookie = try reader.inPlace(limit: LockManager.objectMax)
        mayBlock = try reader.bool()
        isExclusive = try reader.bool()
        lock = try LockDescription<Width>(reading: &reader)
        isReclaim = try reader.bool()
        state = try reader.i32()
    }
    public func write(into writer: inout Writer) {
        writer.opaque(cookie)
        writer.bool(mayBlock)
        writer.bool(isExclusive)
        lock.write(into: &writer)
        writer.bool(isReclaim)
        writer.i32(state)
    }
}

/// RFC 1813 6.3.3, `nlm4_cancargs`.
public struct LockCancelArguments<Width: LockWidth>: XDRMessage {
    public var cookie: UnsafeRawBufferPointer
    public var mayBlock: Bool
    public var isExclusive: Bool
    public var lock: LockDescription<Width>

    public init(cookie: UnsafeRawBufferPointer, mayBlock: Bool, isExclusive: Bool, lock: LockDescription<Width>) {
        self.cookie = cookie
        self.mayBlock = mayBlock
        self.isExclusive = isExclusive
        self.lock = lock
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        cookie = try reader.inPlace(limit: LockManager.objectMax)
        mayBlock = try reader.bool()
        isExclusive = try reader.bool()
        lock = try LockDescription<Width>(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(cookie)
        writer.bool(mayBlock)
        writer.bool(isExclusive)
        lock.write(into: &writer)
    }
}

/// RFC 1813 6.3.4, `nlm4_unlockargs`.
public struct LockUnlockArguments<Width: LockWidth>: XDRMessage {
    public var cookie: UnsafeRawBufferPointer
    public var lock: LockDescription<Width>

    public init(cookie: UnsafeRawBufferPointer, lock: LockDescription<Width>) {
        self.cookie = cookie
        self.lock = lock
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        cookie = try reader.inPlace(limit: LockManager.objectMax)
        lock = try LockDescription<Width>(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(cookie)
        lock.write(into: &writer)
    }
}

/// RFC 1813 6.1.4, `nlm4_res`.
public struct LockResult: XDRMessage {
    public var cookie: UnsafeRawBufferPointer
    public var status: LockStatus

    public init(cookie: UnsafeRawBufferPointer, status: LockStatus) {
        self.cookie = cookie
        self.status = status
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        cookie = try reader.inPlace(limit: LockManager.objectMax)
        status = try reader.enumeration(LockStatus.self)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(cookie)
        writer.u32(status.rawValue)
    }
}

/// RFC 1813 6.3.1, `nlm4_testres`: with `.denied`, who is in the way.
public struct LockTestResult<Width: LockWidth>: XDRMessage {
    public var cookie: UnsafeRawBufferPointer
    public var status: LockStatus
    /// There when the status is `.denied`, and only then.
    public var holder: LockHolder<Width>?

    public init(cookie: UnsafeRawBufferPointer, status: LockStatus, holder: LockHolder<Width>? = nil) {
        precondition((status == .denied) == (holder != nil), "a denied test names a holder")
        self.cookie = cookie
        self.status = status
        self.holder = holder
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        cookie = try reader.inPlace(limit: LockManager.objectMax)
        status = try reader.enumeration(LockStatus.self)
        holder = status == .denied ? try LockHolder(reading: &reader) : nil
    }
    public func write(into writer: inout Writer) {
        writer.opaque(cookie)
        writer.u32(status.rawValue)
        holder?.write(into: &writer)
    }
}

/// X/Open XNFS 14.3, `fsh_mode` and `fsh_access`.
public enum ShareBits: UInt32, Sendable {
    case none = 0
    case read, write, both
}

/// RFC 1813 6.3.5, `nlm4_shareargs`.
public struct LockShareArguments: XDRMessage {
    public var cookie: UnsafeRawBufferPointer
    public var caller: UnsafeRawBufferPointer
    public var file: UnsafeRawBufferPointer
    public var owner: UnsafeRawBufferPointer
    public var deny: ShareBits
    public var access: ShareBits
    public var isReclaim: Bool

    public init(
        cookie: UnsafeRawBufferPointer, caller: UnsafeRawBufferPointer, file: UnsafeRawBufferPointer,
        owner: UnsafeRawBufferPointer, deny: ShareBits, access: ShareBits, isReclaim: Bool
    ) {
        self.cookie = cookie
        self.caller = caller
        self.file = file
        self.owner = owner
        self.deny = deny
        self.access = access
        self.isReclaim = isReclaim
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        cookie = try reader.inPlace(limit: LockManager.objectMax)
        caller = try reader.inPlace(limit: LockManager.nameMax)
        file = try reader.inPlace(limit: LockManager.objectMax)
        owner = try reader.inPlace(limit: LockManager.objectMax)
        deny = try reader.enumeration(ShareBits.self)
        access = try reader.enumeration(ShareBits.self)
        isReclaim = try reader.bool()
    }
    public func write(into writer: inout Writer) {
        writer.opaque(cookie)
        writer.opaque(caller)
        writer.opaque(file)
        writer.opaque(owner)
        writer.u32(deny.rawValue)
        writer.u32(access.rawValue)
        writer.bool(isReclaim)
    }
}

/// RFC 1813 6.3.5, `nlm4_shareres`.
public struct LockShareResult: XDRMessage {
    public var cookie: UnsafeRawBufferPointer
    public var status: LockStatus
    public var sequence: Int32

    public init(cookie: UnsafeRawBufferPointer, status: LockStatus, sequence: Int32) {
        self.cookie = cookie
        self.status = status
        self.sequence = sequence
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        cookie = try reader.inPlace(limit: LockManager.objectMax)
        status = try reader.enumeration(LockStatus.self)
        sequence = try reader.i32()
    }
    public func write(into writer: inout Writer) {
        writer.opaque(cookie)
        writer.u32(status.rawValue)
        writer.i32(sequence)
    }
}

/// RFC 1813 6.3.8, `nlm4_notify` of FREE_ALL.
public struct LockNotice: XDRMessage {
    public var name: UnsafeRawBufferPointer
    public var state: Int32

    public init(name: UnsafeRawBufferPointer, state: Int32) {
        self.name = name
        self.state = state
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        name = try reader.inPlace(limit: LockManager.hostMax)
        state = try reader.i32()
    }
    public func write(into writer: inout Writer) {
        writer.opaque(name)
        writer.i32(state)
    }
}
