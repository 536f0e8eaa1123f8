import Foundation
import Logging
import Namespace
import Runtime
import SMB
import TestSupport
import Testing

/// What there is for whoever comes: a volume, a directory of it, and all of it again with a promise of its own.
final class OpenCatalog: SMBCatalog {
    private let state: Guarded<(shares: [SMBShare], generation: UInt64)>
    /// Those who may log on, by name.
    private let known: [String: SMBUser]
    var shares: [SMBShare] { state.withLock { $0.shares } }
    var generation: UInt64 { state.withLock { $0.generation } }

    init(_ volume: Volume, _ known: [SMBUser]) {
        self.known = Dictionary(known.map { ($0.name.lowercased(), $0) }) { first, _ in first }
        var whole = SMBShare(name: "default", volume: volume)
        whole.allowsGuests = true
        var below = whole
        below.name = "below"
        below.directory = Array("d/e".utf8)
        var safe = whole
        safe.name = "safe"
        safe.durability = .store
        state = Guarded(([whole, below, safe], 0))
    }

    func change(_ work: (inout [SMBShare]) -> Void) {
        state.withLock {
            work(&$0.shares)
            $0.generation += 1
        }
    }

    func user(named name: String) -> SMBUser? { known[name.lowercased()] }
    func user(principal: String) -> SMBUser? {
        principal.hasSuffix("@" + KeyDistributionCenter.realm)
            ? known[principal.prefix { $0 != "@" }.lowercased()] : nil
    }
    func share(named name: String) -> SMBShare? { shares.first { $0.name == name.lowercased() } }
    let identities = UserTable(domain: (1, 2, 3))
    func rights(of user: SMBUser, on volume: Volume) -> VolumeRights { [.read, .write] }
}

/// An SMB server over a volume of its own in a temporary folder; the volume is used by others too.
final class Site: @unchecked Sendable {
    let folder: String
    let world: World
    let server: SMBServer
    let catalog: OpenCatalog
    let listener: Listener
    let volume: Volume
    /// Until it stops: with it goes the hold on the volume's folder.
    private var hosted: HostedVolume?
    var loop: EventLoop { world.loops[0] }

    /// `there`: where another one was.
    init(
        _ there: String? = nil, _ users: [SMBUser] = [], _ options: SMBOptions = SMBOptions(), loops: Int = 2
    ) async throws {
        folder = there ?? NSTemporaryDirectory() + "proxyfs-smb-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let world = try World.real(disk: RealDisk(path: folder), loops: loops)
        self.world = world
        let hosted = try await world.loops[0].task { () async throws -> HostedVolume in
            try await Self.open(world, patience: there == nil ? 0 : 500)
        }.value
        self.hosted = hosted
        volume = hosted.volume
        catalog = OpenCatalog(hosted.volume, users)
        server = SMBServer(
            catalog, options, world: world,
            logger: Logger(level: .error, format: .logfmt, wall: { 0 }, monotonic: { 0 }))
        listener = try server.listen(on: try #require(SocketAddress(numeric: "127.0.0.1", port: 0)))
        var mode = NewAttributes()
        mode.mode = 0o777
        let (volume, caller, new) = (hosted.volume, caller, mode)
        _ = try await done { volume.setAttributes(caller, volume.root, new) }
    }

    /// `patience`: the one before it may be on its way out.
    private static func open(_ world: World, patience: Int) async throws -> HostedVolume {
        var rest = patience
        while true {
            let failure: any Error
            do {
                return try await HostedVolume.open(
                    "default", folder: "default", durability: .memory, world: world, loop: world.loops[0])
            } catch { failure = error }
            guard rest > 0 else { throw failure }
            rest -= 1
            await world.loops[0].sleep(nanoseconds: 10_000_000)
        }
    }

    func close() async throws {
        try await stop()
        try FileManager.default.removeItem(atPath: folder)
    }

    /// Another one may go on where this one was.
    func stop() async throws {
        await listener.drain(within: 1_000_000_000)
        let last = hosted
        hosted = nil
        try await loop.task { () async throws in try await last?.close() }.value
        world.stop()
    }

    /// From here on changes wait, until `release`.
    func freeze() async throws {
        let hosted = hosted
        _ = try await loop.task { () async throws in try await hosted?.freeze() }.value
    }

    func release() async {
        let hosted = hosted
        _ = await loop.task { () async in hosted?.release() }.value
    }

    /// Somebody who comes over NFS: no open, no lease.
    var caller: Caller { Caller(.root, Request(reader: 0, now: world.clock.wall()), isStateless: true) }

    /// Makes the call as often as it takes, as NFS does.
    func done<Value: Sendable>(_ call: @escaping @Sendable () -> Attempt<Value>) async throws -> Value {
        try await loop.task { () async throws -> Value in
            while true {
                switch call() {
                case .done(let value, _): return value
                case .refused(let error): throw error
                case .lacks(let lack): try await lack.supplied()
                }
            }
        }.value
    }

    func make(_ name: String, type: FileType = .file, in directory: FileID? = nil) async throws -> FileID {
        let (volume, caller) = (volume, caller)
        return try await done {
            Array(name.utf8).withUnsafeBytes {
                volume.create(
                    caller, in: directory ?? volume.root, $0, NewFile(type: type, mode: type == .file ? 0o666 : 0o777))
            }
        }.file.file
    }

    func flush(_ file: FileID) async throws {
        let (volume, loop) = (volume, loop)
        try await loop.task { () async throws in try await volume.flush(file, on: loop) }.value
    }

    /// A write over NFS; nil: it was done.
    func write(_ file: FileID, _ text: String, at offset: UInt64 = 0) async throws -> FileError? {
        let (volume, caller) = (volume, caller)
        do {
            _ = try await done {
                Array(text.utf8).withUnsafeBytes { volume.write(caller, file, at: offset, $0) }
            }
            return nil
        } catch let error as FileError { return error }
    }
}
