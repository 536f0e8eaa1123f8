import Bytes
import Namespace
import Runtime

/// LOCK ([MS-SMB2] 3.3.5.14).
extension Exchange {
    private static let sequencePlaces: ClosedRange<UInt32> = 1...64

    func lock(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try LockRequest(reading: element) }
        let open = try open(request.file)
        guard let volume = open.volume, let held = open.held, !open.isDirectory else {
            throw .status(.invalidDeviceRequest)
        }
        guard let first = request.ranges.first else { throw .status(.invalidParameter) }
        // What is locked may be given back, and nothing is locked any more.
        guard session?.state != .expired || first.flags & LockRequest.unlock != 0 else {
            throw .status(.networkSessionExpired)
        }
        let place = request.sequence >> 4
        let number = UInt8(request.sequence & 15)
        let isCounted = Self.sequencePlaces ~= place && stream?.negotiation.dialect?.isThree == true
        if isCounted {
            // It was done; the answer was lost.
            if open.lockSequences[place] == number { return empty(&writer) }
            open.lockSequences[place] = nil
        }
        if first.flags & LockRequest.unlock != 0 {
            try unlock(request, open, volume, held)
        } else {
            try lock(request, open, volume, held) { [self] in
                guard isCounted else { return }
                open.lockSequences[place] = number
                keepSoon(open)
            }
        }
        if isCounted {
            open.lockSequences[place] = number
            try keepUpToDate(open)
        }
        return empty(&writer)
    }

    /// Ranges before one that is refused stay unlocked.
    private func unlock(
        _ request: LockRequest, _ open: Open, _ volume: Volume, _ held: OpenHandle
    ) throws(SMBHalt) {
        for range in request.ranges.dropFirst(progress) {
            guard range.flags == LockRequest.unlock else { throw .status(.invalidParameter) }
            guard let bytes = LockRange(exactly: range.offset, length: range.count) else {
                throw .status(.invalidLockRange)
            }
            guard try value(volume.unlock(caller(open), held, bytes), volume) else { throw .status(.rangeNotLocked) }
            progress += 1
        }
    }

    /// `granted`: called when a lock that was waited for is there.
    private func lock(
        _ request: LockRequest, _ open: Open, _ volume: Volume, _ held: OpenHandle,
        granted: @escaping @Sendable () -> Void
    ) throws(SMBHalt) {
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
        let waits = request.ranges.count == 1 && request.ranges[0].flags & immediate == 0
        let (use, loop) = (use, loop)
        let waiter = LockWaiter(loop: loop) { [self, weak open] _, refusal in
            open?.locking.removeAll { $0.exchange === self && $0.use == use }
            guard self.use == use else { return }
            if refusal == nil { granted() }
            finish(
                refusal == nil
                    ? SMBAnswer { writer in
                        writer.u16LE(4)
                        writer.u16LE(0)
                    } : SMBAnswer(.lockNotGranted))
        }
        var taken: [LockRange] = []
        do throws(SMBHalt) {
            for range in request.ranges {
                guard let bytes = LockRange(exactly: range.offset, length: range.count) else {
                    throw .status(.invalidLockRange)
                }
                let mode: LockMode = range.flags & LockRequest.exclusive != 0 ? .exclusive : .shared
                let answer = volume.lock(
                    caller(open), held.file, bytes, mode, held.lockOwner, waiter: waits ? waiter : nil)
                switch try value(answer, volume) {
                case .granted: taken.append(bytes)
                case .waits(let wait): throw waiting(for: wait, open, volume)
                case .refused(let why): throw .status(Self.status(why))
                }
            }
        } catch {
            // All of them or none.
            for bytes in taken { _ = volume.unlock(caller(open), held, bytes) }
            throw error
        }
    }

    private func waiting(for wait: LockWait, _ open: Open, _ volume: Volume) -> SMBHalt {
        announce()
        open.locking.append((self, use))
        onCancel = { [self, weak open] who in
            // Too late: its outcome is on its way, and is the answer.
            guard volume.cancelLock(wait) else { return }
            open?.locking.removeAll { $0.exchange === self }
            finish(SMBAnswer(who == .client ? .cancelled : .rangeNotLocked))
        }
        return .pending
    }

    private static func status(_ refusal: LockRefusal) -> NTStatus {
        switch refusal {
        case .held, .deadlock, .timeout, .grace, .noReclaim: .lockNotGranted
        case .tooMany: .insufficientResources
        }
    }
}
