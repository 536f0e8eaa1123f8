import Runtime

/// The connections of each client, by its GUID, the oldest first: what a lease has to be told reaches it by another one when its own
/// is gone ([MS-SMB2] 3.3.4.7).
final class ClientConnections: Sendable {
    private struct Entry: Sendable {
        let loop: EventLoop
        weak let stream: SMBStream?
    }

    /// As many as there are connections.
    private let clients = Guarded<[UInt128: [Entry]]>([:])

    func add(_ stream: SMBStream, of client: UInt128) {
        let entry = Entry(loop: stream.loop, stream: stream)
        clients.withLock { $0[client, default: []].append(entry) }
    }

    func remove(_ stream: SMBStream, of client: UInt128) {
        clients.withLock { clients in
            clients[client]?.removeAll { $0.stream == nil || $0.stream === stream }
            if clients[client]?.isEmpty == true { clients[client] = nil }
        }
    }

    /// So many are told, when nobody knows which one hears.
    private static let toldMax = 8

    /// The client's connections, each with the loop that it may be touched on.
    func all(of client: UInt128) -> [(loop: EventLoop, stream: SMBStream)] {
        clients.withLock { clients in
            (clients[client] ?? []).prefix(Self.toldMax).compactMap { entry in
                entry.stream.map { (entry.loop, $0) }
            }
        }
    }
}
