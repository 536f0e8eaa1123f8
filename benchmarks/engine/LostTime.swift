import Glibc
import Runtime
import Synchronization

/// What the machine takes away, whatever runs on it: a thread of the highest priority on each processor wakes up each quarter of a millisecond, and
/// when it does so late, nobody ran there. Whoever asks how long something took learns how much of that it was.
final class LostTime: @unchecked Sendable {
    private struct Interval {
        let begin: UInt64
        let end: UInt64
    }

    private static let pause: UInt64 = 250_000
    /// What is less is its own waking up.
    private static let least: UInt64 = 250_000

    private let clock: any WorldClock
    private let isOver = Atomic(false)
    private let lost = Mutex<[Interval]>([])
    /// Not every machine lets everybody have such a thread.
    private let isPrivileged = Atomic(true)
    private var threads: [pthread_t] = []

    init(_ clock: any WorldClock) { self.clock = clock }

    private final class Place {
        let owner: LostTime
        let processor: Int
        init(_ owner: LostTime, _ processor: Int) { (self.owner, self.processor) = (owner, processor) }
    }

    func begin() {
        for processor in 0..<Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))) {
            var thread = pthread_t()
            let place = Unmanaged.passRetained(Place(self, processor)).toOpaque()
            let made = pthread_create(
                &thread, nil,
                { argument in
                    guard let argument else { return nil }
                    let place = Unmanaged<Place>.fromOpaque(argument).takeRetainedValue()
                    place.owner.look(place.processor)
                    return nil
                }, place)
            precondition(made == 0, "a thread for each processor")
            threads.append(thread)
        }
    }

    func end() {
        isOver.store(true, ordering: .releasing)
        for thread in threads { pthread_join(thread, nil) }
        threads = []
    }

    private func look(_ processor: Int) {
        var only = cpu_set_t()
        withUnsafeMutableBytes(of: &only) { $0[processor / 8] = 1 << UInt8(processor % 8) }
        var highest = sched_param(sched_priority: 90)
        if pthread_setaffinity_np(pthread_self(), MemoryLayout<cpu_set_t>.size, &only) != 0
            || pthread_setschedparam(pthread_self(), SCHED_FIFO, &highest) != 0
        {
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
