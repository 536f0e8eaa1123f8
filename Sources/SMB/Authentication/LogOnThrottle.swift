/// Slows down who guesses secrets. After some failures of one user from one address the answers come later and later; after some
/// more of one address, whoever they were about, nothing is even looked at before its time, be it right or wrong, and only a few
/// wait for that. A right secret clears its user; time forgives an address.
package struct LogOnThrottle {
    package static let entriesMax = 4096
    package static let freeFailures = 5
    /// Of an address: many people may come from one.
    package static let freeFailuresOfAddress = 20
    /// So many of one address may wait for their time.
    package static let waitingMax = 8
    static let firstDelay: UInt64 = 100_000_000
    package static let delayMax: UInt64 = 3_000_000_000
    /// After so long without a failure there is none.
    package static let forgiveness: UInt64 = 60_000_000_000

    private struct Entry {
        var failures: Int
        var last: UInt64
        var waiting = 0
    }

    private var entries: [UInt64: Entry] = [:]

    package init() {}

    /// Notes a failure and answers how long its answer waits.
    package mutating func failed(_ key: UInt64, now: UInt64) -> UInt64 {
        if entries.count >= Self.entriesMax, entries[key] == nil {
            entries = entries.filter { now &- $0.value.last < Self.forgiveness || $0.value.waiting > 0 }
            // Too many strangers at once: all of them wait.
            if entries.count >= Self.entriesMax { return Self.delayMax }
        }
        var entry = entries[key] ?? Entry(failures: 0, last: now)
        if now &- entry.last >= Self.forgiveness { entry.failures = 0 }
        entry.failures += 1
        entry.last = now
        entries[key] = entry
        return Self.delay(entry.failures - Self.freeFailures)
    }

    private static func delay(_ beyond: Int) -> UInt64 {
        beyond > 0 ? min(firstDelay << UInt64(min(beyond, 8)), delayMax) : 0
    }

    /// How long an attempt from this address has to wait before it is looked at; whoever waits calls `waited`. Nil: too many
    /// wait already.
    package mutating func wait(_ address: UInt64, now: UInt64) -> UInt64? {
        guard let entry = entries[address], now &- entry.last < Self.forgiveness else { return 0 }
        let delay = Self.delay(entry.failures - Self.freeFailuresOfAddress)
        let rest = delay &- (now &- entry.last)
        guard delay > 0, rest <= delay, rest > 0 || entry.waiting > 0 else { return 0 }
        guard entry.waiting < Self.waitingMax else { return nil }
        entries[address]?.waiting += 1
        // One behind the other.
        return rest + delay * UInt64(entry.waiting)
    }

    package mutating func waited(_ address: UInt64) { entries[address]?.waiting -= 1 }

    package mutating func succeeded(_ key: UInt64) { entries[key] = nil }
}
