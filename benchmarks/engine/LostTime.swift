import Glibc
import Runtime
import Synchronization

/// What the machine takes away, whatever runs on it: threads of the highest priority wake up each quarter of a millisecond where they were last, and
/// when one does so late, nobody ran there. Whoever asks how long something took learns how much of that it was.
final class LostTime: @unchecked Sendable {
    private struct Interval {
        let begin: UInt64
        let end: UInt64
    }

    private static let pause: UInt64 = 250_000
    /// They choose their processor themselves.
    private static let perProcessor = 2
    /// What is less is its own waking up.
    private static let least: UInt64 = 250_000

    private let clock: any WorldClock
    private let isOver = Atomic(false)
    private let lost = Mutex<[Interval]>([])
    /// Not every machine lets everybody have such a thread.
    private let isPrivileged = Atomic(true)
    private var threads: [pthread_t] = []

    init(_ clock: any WorldClock) { self.clock = clock }

    func begin() {
        for _ in 0..<Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))) * Self.perProcessor {
            var thread = pthread_t()
            let made = pthread_create(
                &thread, nil,
                { argument in
                    if let argument { Unmanaged<LostTime>.fromOpaque(argument).takeRetainedValue().look() }
                    return nil
                }, Unmanaged.passRetained(self).toOpaque())
            precondition(made == 0, "a thread that looks")
            threads.append(thread)
        }
    }

    func end() {
        isOver.store(true, ordering: .releasing)
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }

    private func look() {
        var highest = sched_param(sched_priority: 90)
        if pthread_setschedparam(pthread_self(), SCHED_FIFO, &highest) != 0 {
            isPrivileged.store(false, ordering: .relaxed)
        }
        while !isOver.load(ordering: .acquiring) {
            let due = clock.monotonic() + Self.pause
            var time = timespec(tv_sec: 0, tv_nsec: Int(Self.pause))
            nanosleep(&time, nil)
            let now = clock.monotonic()
            if now > due + Self.least { lost.withLock { $0.append(Interval(begin: due, end: now)) } }
        }
    }

    /// How long some processor was gone meanwhile, at the most. Nil: nobody could look.
    func within(_ begin: UInt64, _ end: UInt64) -> UInt64? {
        guard isPrivileged.load(ordering: .relaxed) else { return nil }
        return lost.withLock { lost in
            // Two processors that are gone at the same time count once.
            var sum: UInt64 = 0
            var until = begin
            for interval in lost.sorted(by: { $0.begin < $1.begin }) where interval.end > until && interval.begin < end
            {
                let from = max(until, interval.begin)
                until = min(interval.end, end)
                sum += until - from
            }
            return sum
        }
    }
}
