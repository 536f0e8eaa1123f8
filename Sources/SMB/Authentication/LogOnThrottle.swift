/// Slows down who guesses secrets: after some failures of one user from one address, or of one address, the next answer
/// comes later and later. A right secret is forgotten as a failure, and time forgives.
package struct LogOnThrottle {
    package static let entriesMax = 4096
    package static let freeFailures = 5
    static let firstDelay: UInt64 = 100_000_000
    package static let delayMax: UInt64 = 3_000_000_000
    /// After so long without a failure there is none.
    package static let forgiveness: UInt64 = 60_000_000_000

    private struct Entry {
        var failures: Int
        var last: UInt64
    }

    private var entries: [UInt64: Entry] = [:]

    package init() {}

    /// Notes a failure and answers how long its answer waits.
    package mutating func failed(_ key: UInt64, now: UInt64) -> UInt64 {
        if entries.count >= Self.entriesMax, entries[key] == nil {
            entries = entries.filter { now &- $0.value.last < Self.forgiveness }
            // Too many strangers at once: all of them wait.
            if entries.count >= Self.entriesMax { return Self.delayMax }
        }
        var entry = entries[key] ?? Entry(failures: 0, last: now)
        if now &- entry.last >= Self.forgiveness { entry.failures = 0 }
        entry.failures += 1
        entry.last = now
        entries[key] = entry
        let beyond = entry.failures - Self.freeFailures
        guard beyond > 0 else { return 0 }
        return min(Self.firstDelay << UInt64(min(beyond, 8)), Self.delayMax)
    }

    package mutating func succeeded(_ key: UInt64) { entries[key] = nil }
}
