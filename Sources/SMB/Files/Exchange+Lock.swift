import Bytes
import Namespace
import Runtime

/// LOCK ([MS-SMB2] 3.3.5.14).
extension Exchange {
    private static let sequencePlaces: ClosedRange<UInt32> = 1...64

    func lock(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try LockRequest(reading: element) }
        let open = try open(request.file)
        guard let sharing = open.sharing, !open.isDirectory else { throw .status(.invalidDeviceRequest) }
        guard let first = request.ranges.first else { throw .status(.invalidParameter) }
        let place = request.sequence >> 4
        let number = UInt8(request.sequence & 15)
        let isCounted = Self.sequencePlaces ~= place && stream?.negotiation.dialect?.isThree == true
        if isCounted {
            // It was done; the answer was lost.
            if open.lockSequences[place] == number { return empty(&writer) }
            open.lockSequences[place] = nil
        }
        if first.flags & LockRequest.unlock != 0 {
            try unlock(request, open, sharing)
        } else {
            try lock(request, open, sharing)
        }
        if isCounted { open.lockSequences[place] = number }
        return empty(&writer)
    }

    private func unlock(_ request: LockRequest, _ open: Open, _ sharing: FileSharing) throws(SMBHalt) {
        let status: NTStatus = sharing.change(on: loop) { state, _ in
            for range in request.ranges {
                guard range.flags == LockRequest.unlock else { return .invalidParameter }
                guard let bytes = LockRange(exactly: range.offset, length: range.count) else {
                    return .invalidLockRange
                }
                // Those before it stay unlocked.
                guard state.locks.unlock(open.file, bytes, handle: open.lockOwner) else { return .rangeNotLocked }
            }
            return .success
        }
        guard status == .success else { throw .status(status) }
    }

    private func lock(_ request: LockRequest, _ open: Open, _ sharing: FileSharing) throws(SMBHalt) {
        let immediate = LockRequest.failImmediately
        for range in request.ranges {
            let kind = range.flags & ~immediate
            guard kind == LockRequest.shared || kind == LockRequest.exclusive else { throw .status(.invalidParameter) }
            // Only one lock may be waited for.
            guard request.ranges.count == 1 || range.flags & immediate != 0 else { throw .status(.invalidParameter) }
        }
        guard !open.granted.isDisjoint(with: [.readData, .writeData, .appendData, .execute]) else {
            throw .status(.accessDenied)
        }
        try proceed(.write, open)
        let use = use
        let loop = loop
        let waits = request.ranges.count == 1 && request.ranges[0].flags & immediate == 0
        let answer: (status: NTStatus, wait: LockWait?) = sharing.change(on: loop) { state, now in
            var taken: [LockRange] = []
            for range in request.ranges {
                var refusal = NTStatus.invalidLockRange
                if let bytes = LockRange(exactly: range.offset, length: range.count) {
                    let mode: LockMode = range.flags & LockRequest.exclusive != 0 ? .exclusive : .shared
                    switch state.locks.lock(open.file, bytes, mode, open.lockOwner, until: waits ? .max : nil, now: now)
                    {
                    case .granted:
                        taken.append(bytes)
                        continue
                    case .waits(let wait):
                        state.lockWaits[wait] = FileSharing.LockWaiter(loop: loop) { [self] refusal in
                            guard self.use == use else { return }
                            finish(
                                refusal == nil
                                    ? SMBAnswer { writer in
                                        writer.u16LE(4)
                                        writer.u16LE(0)
                                    } : SMBAnswer(.lockNotGranted))
                        }
                        return (.pending, wait)
                    case .refused(let why): refusal = Self.status(why)
                    }
                }
                // All of them or none.
                for bytes in taken { _ = state.locks.unlock(open.file, bytes, handle: open.lockOwner) }
                return (refusal, nil)
            }
            return (.success, nil)
        }
        guard let wait = answer.wait else {
            guard answer.status == .success else { throw .status(answer.status) }
            return
        }
        announce()
        open.locking.append((self, use))
        onCancel = { [self, weak open] who in
            open?.locking.removeAll { $0.exchange === self }
            let isWaiting = sharing.change(on: loop) { state, _ in
                state.lockWaits[wait] = nil
                return state.locks.cancel(wait)
            }
            _ = isWaiting
            finish(SMBAnswer(who == .client ? .cancelled : .rangeNotLocked))
        }
        throw .pending
    }

    private static func status(_ refusal: LockRefusal) -> NTStatus {
        switch refusal {
        case .held, .deadlock, .timeout, .grace, .noReclaim: .lockNotGranted
        case .tooMany: .insufficientResources
        }
    }

    /// Waits until nobody else keeps what the operation would make untrue.
    func proceed(_ operation: LeaseOperation, _ open: Open) throws(SMBHalt) {
        guard let sharing = open.sharing else { return }
        var request: UInt64 = 0
        let answer = sharing.mayProceed(
            operation, on: open.file, by: open.actor, loop: loop, number: &request, waiter: { waiter(on: open.file) })
        switch answer {
        case .proceed: return
        case .tooMany: throw .status(.insufficientResources)
        case .waits: throw waits(sharing, request, open.file)
        }
    }

    /// Somebody's byte-range lock may forbid a read or write.
    func checkLocks(_ open: Open, at offset: UInt64, _ count: Int, isWrite: Bool) throws(SMBHalt) {
        guard let sharing = open.sharing, let range = LockRange(accessed: offset, count: UInt64(count)) else { return }
        let blocker = sharing.look { state in
            state.locks.blocker(open.file, range, isWrite: isWrite, handle: open.lockOwner)
        }
        if blocker != nil { throw .status(.fileLockConflict) }
    }
}
