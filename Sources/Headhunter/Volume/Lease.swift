import Runtime
import Synchronization

/// Until when the owner of a volume may say anything of it. Asked on any loop, extended on the volume's.
///
/// A look at the store that began at some time and met no other owner is good for the lease's length from that time on: who takes
/// the volume over waits for so long behind its claim, which any later look would have met.
final class Lease: @unchecked Sendable {
    /// Of who keeps no lease.
    private static let endless = UInt64.max

    private typealias Waiter = @Sendable (VolumeError?) -> Void

    private let clock: any WorldClock
    private let length: UInt64
    private let end = Atomic<UInt64>(endless)
    // On the volume's loop:
    /// As `end`, whether it was given back or not.
    private var proven = endless
    private var waiting: [Waiter] = []
    private var proving: [Waiter] = []
    private(set) var isOver = false
    private var failure: VolumeError?

    /// `length` 0: none is kept.
    init(_ length: UInt64, clock: any WorldClock) {
        self.length = length
        self.clock = clock
    }

    var isKept: Bool { length > 0 }

    /// The clock is read after the question came in: a process that stood still in between does not answer by an old one.
    @inline(__always)
    var holds: Bool {
        let end = end.load(ordering: .relaxed)
        return end == Self.endless || clock.monotonic() < end
    }

    /// A look began at `start` and found that nobody else has the volume.
    func extend(from start: UInt64) {
        guard isKept else { return }
        proven = proven == Self.endless ? start + length : max(proven, start + length)
        if isProven { resume(\.proving, nil) }
        guard !isOver else { return }
        end.store(proven, ordering: .relaxed)
        if holds { resume(\.waiting, nil) }
    }

    /// Nobody else can have the volume yet, also while it is closed, when nobody is answered any more.
    var isProven: Bool { proven == Self.endless || clock.monotonic() < proven }
    var hasEnded: Bool { failure != nil }

    /// Calls `done` when that is so, or will not be any more.
    func whenProven(_ done: @escaping @Sendable (VolumeError?) -> Void) {
        if failure != nil || isProven { return done(failure) }
        proving.append(done)
    }

    /// Calls `done` when the lease holds, or will not any more.
    func wait(_ done: @escaping @Sendable (VolumeError?) -> Void) {
        if failure != nil || holds { return done(failure) }
        waiting.append(done)
    }

    /// The volume has failed: nobody waits in vain.
    func end(_ failure: VolumeError) {
        self.failure = self.failure ?? failure
        resume(\.waiting, failure)
        resume(\.proving, failure)
    }

    /// Nobody is answered any more: what is left is the volume's own work.
    func release() {
        isOver = true
        end.store(Self.endless, ordering: .relaxed)
        resume(\.waiting, nil)
    }

    private func resume(_ list: ReferenceWritableKeyPath<Lease, [Waiter]>, _ failure: VolumeError?) {
        let ready = self[keyPath: list]
        self[keyPath: list] = []
        for done in ready { done(failure) }
    }
}
