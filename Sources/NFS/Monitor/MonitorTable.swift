import RPC

/// Programs of this machine that want to hear when a host restarts (SM_MON). No I/O.
struct MonitorTable {
    static let entriesMax = 1024

    struct Entry: Hashable, Sendable {
        var host: [UInt8]
        var caller: [UInt8]
        var program: UInt32
        var version: UInt32
        var procedure: UInt32
        var privateData: [UInt8]
    }

    private var entries: [Entry] = []
    private var states: [[UInt8]: Int32] = [:]

    /// False: there are too many.
    mutating func add(_ entry: Entry) -> Bool {
        entries.removeAll { Self.isSame($0, entry) }
        guard entries.count < Self.entriesMax else { return false }
        entries.append(entry)
        return true
    }

    /// What it is told with may be another one.
    private static func isSame(_ a: Entry, _ b: Entry) -> Bool {
        var a = a
        a.privateData = b.privateData
        return a == b
    }

    /// False: there is none such.
    mutating func remove(_ entry: Entry) -> Bool {
        let before = entries.count
        entries.removeAll { Self.isSame($0, entry) }
        forgetStates()
        return entries.count < before
    }

    mutating func removeAll(caller: [UInt8], program: UInt32, version: UInt32, procedure: UInt32) {
        entries.removeAll {
            $0.caller == caller && $0.program == program && $0.version == version && $0.procedure == procedure
        }
        forgetStates()
    }

    private mutating func forgetStates() {
        let hosts = Set(entries.map(\.host))
        states = states.filter { hosts.contains($0.key) }
    }

    /// Whom to call since the host restarted; nobody when it only says so again.
    mutating func restarted(_ host: [UInt8], _ state: Int32) -> [Entry] {
        let told = entries.filter { LockHosts.isSame($0.host, host) }
        guard !told.isEmpty, states[host] != state else { return [] }
        states[host] = state
        return told
    }
}
