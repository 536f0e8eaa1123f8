import Runtime

/// The volumes that are served now, by name and by identity.
///
/// Front ends look one up for each request that names one, from any loop, and keep it no longer than the request.
public final class Volumes: Sendable {
    private struct Table {
        var byName: [String: Volume] = [:]
        var byIdentity: [UInt64: Volume] = [:]
    }

    public static let countMax = 4096

    private let table = Guarded(Table())
    /// Of all of them: volumes that are opened to be served here are given these.
    public let locks: ServerLocks

    public init(locks: ServerLocks = ServerLocks()) { self.locks = locks }

    /// False: there is one of that name or identity, or there are too many.
    public func add(_ volume: Volume) -> Bool {
        table.withLock { table in
            guard table.byName[volume.name] == nil, table.byIdentity[volume.identity] == nil,
                table.byName.count < Self.countMax
            else { return false }
            table.byName[volume.name] = volume
            table.byIdentity[volume.identity] = volume
            return true
        }
    }

    public func remove(_ name: String) -> Volume? {
        table.withLock { table in
            guard let volume = table.byName.removeValue(forKey: name) else { return nil }
            table.byIdentity[volume.identity] = nil
            return volume
        }
    }

    public subscript(name: String) -> Volume? { table.withLock { $0.byName[name] } }
    public subscript(identity: UInt64) -> Volume? { table.withLock { $0.byIdentity[identity] } }

    public var all: [Volume] { table.withLock { $0.byName.values.sorted { $0.name < $1.name } } }
}
