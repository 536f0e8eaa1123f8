import Bytes
import Namespace
import Runtime

/// The hosts that lock, and their processes, by the numbers that the lock table knows them by. No I/O, no clock.
///
/// A host is its address and its own name together: hosts that are set up alike often have one name, and their processes
/// one number, and a lock of the one must not be a lock of the other.
///
/// Invariants: the number of a host is the same after a restart, since a host reclaims by it. A host that restarted is told
/// from one that tells of its restart twice by its monitor's state, so that the second message takes no new lock away.
struct LockHosts {
    static let hostsMax = 4096
    static let ownersMax = 65_536

    struct Host: Sendable {
        var name: [UInt8]
        /// Without a port.
        var address: SocketAddress
        /// Which of our addresses it knows us by.
        var local: SocketAddress
        /// The last state of its monitor that it told; 0: none.
        var state: Int32 = 0
        /// Volumes that keep a record of it.
        var volumes: Set<UInt64> = []
    }

    struct Process {
        var number: Int32
        var owner: [UInt8]
    }

    private let key: KeyedHash
    private(set) var hosts: [UInt64: Host] = [:]
    private(set) var processes: [LockOwner: Process] = [:]

    init(key: KeyedHash) { self.key = key }

    // MARK: Numbers

    func number(of name: [UInt8], at address: SocketAddress) -> UInt64 {
        var bytes = Array("lock host ".utf8)
        switch address {
        case .ipv4(let host, _): withUnsafeBytes(of: host.bigEndian) { bytes += $0 }
        case .ipv6(let high, let low, _, _):
            withUnsafeBytes(of: (high.bigEndian, low.bigEndian)) { bytes += $0 }
        case .unix: break
        }
        return (bytes + name).withUnsafeBytes { key($0) }
    }

    func owner(_ host: UInt64, _ process: Int32, _ owner: [UInt8]) -> LockOwner {
        var bytes = Array("lock owner".utf8)
        withUnsafeBytes(of: process.bigEndian) { bytes += $0 }
        return LockOwner(.posix, client: host, id: (bytes + owner).withUnsafeBytes { key($0) })
    }

    // MARK: Coming and going

    /// Remembers a host that locks. Nil: there are too many that hold locks.
    mutating func enter(
        _ name: [UInt8], _ address: SocketAddress, _ local: SocketAddress, holds: (UInt64) -> Bool
    ) -> UInt64? {
        let number = number(of: name, at: address)
        if hosts[number] != nil {
            hosts[number]?.local = local
            return number
        }
        if hosts.count >= Self.hostsMax {
            let idle = hosts.keys.filter { !holds($0) }
            for host in idle { hosts[host] = nil }
            guard hosts.count < Self.hostsMax else { return nil }
        }
        hosts[number] = Host(name: name, address: address.with(port: 0), local: local.with(port: 0))
        return number
    }

    /// A host whose record was found.
    mutating func restore(_ host: Host, volume: UInt64) -> UInt64? {
        let number = number(of: host.name, at: host.address)
        guard hosts[number] != nil || hosts.count < Self.hostsMax else { return nil }
        hosts[number, default: host].volumes.insert(volume)
        return number
    }

    mutating func forget(_ host: UInt64) {
        hosts[host] = nil
        processes = processes.filter { $0.key.client != host }
    }

    mutating func recorded(_ host: UInt64, in volume: UInt64) { hosts[host]?.volumes.insert(volume) }
    mutating func unrecorded(_ host: UInt64, in volume: UInt64) { hosts[host]?.volumes.remove(volume) }
    func isRecorded(_ host: UInt64, in volume: UInt64) -> Bool { hosts[host]?.volumes.contains(volume) ?? false }

    /// Who knows what becomes of the records in volumes that are not here any more.
    mutating func forget(volumesBut here: Set<UInt64>) {
        for (number, host) in hosts where !host.volumes.isSubset(of: here) {
            hosts[number]?.volumes.formIntersection(here)
        }
    }

    /// Remembers who an owner is, for those who ask who is in the way. False: too many hold locks.
    mutating func enter(
        _ owner: LockOwner, _ process: Int32, _ bytes: [UInt8], holds: (LockOwner) -> Bool
    ) -> Bool {
        if processes[owner] != nil { return true }
        if processes.count >= Self.ownersMax {
            processes = processes.filter { holds($0.key) }
            guard processes.count < Self.ownersMax else { return false }
        }
        processes[owner] = Process(number: process, owner: bytes)
        return true
    }

    // MARK: Restarts

    /// The host's state, as a request brings it. True: it is another one than before, so the host has restarted, and
    /// what it held is gone there.
    mutating func saw(_ state: Int32, of host: UInt64) -> Bool {
        guard state != 0, let known = hosts[host]?.state, known != state else { return false }
        hosts[host]?.state = state
        return known != 0
    }

    /// A host says that it restarted: whose locks are to go. A name counts together with the address that it was
    /// heard from, or from a privileged port; the monitor's name for a host may have a domain that the lock manager's
    /// has not. A host that is alone at its address may call itself whatever it likes.
    mutating func restarted(_ name: [UInt8], _ state: Int32, from address: SocketAddress) -> [UInt64] {
        let isPrivileged = address.port.map { $0 < 1024 } ?? true
        let here = address.with(port: 0)
        var found = hosts.filter { _, host in
            Self.isSame(host.name, name) && (host.address == here || isPrivileged)
        }
        if found.isEmpty {
            let neighbours = hosts.filter { $0.value.address == here }
            if neighbours.count == 1 { found = neighbours }
        }
        // A message that comes again finds its state known.
        let hosts = found.filter { state == 0 || $0.value.state != state }.keys.sorted()
        for host in hosts where state != 0 { self.hosts[host]?.state = state }
        return hosts
    }

    /// Equal, or equal up to the first dot where one of them has no domain. Case does not count in hosts' names.
    static func isSame(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        func lower(_ name: ArraySlice<UInt8>) -> [UInt8] { name.map { $0 >= 65 && $0 <= 90 ? $0 | 32 : $0 } }
        if lower(a[...]) == lower(b[...]) { return true }
        let dot = UInt8(ascii: ".")
        // Of a numeric address all parts count.
        guard a.contains(dot) != b.contains(dot), a.first.map({ $0 < 48 || $0 > 57 }) ?? false else { return false }
        return lower(a.prefix { $0 != dot }) == lower(b.prefix { $0 != dot })
    }
}
