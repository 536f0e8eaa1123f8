import Headhunter
import LogFS
import Namespace
import ObjectStore
import Runtime

/// An engine beside a volume's, to be mounted as it is: not as another volume.
struct OtherEngine: Sendable {
    let files: LogFileSystem
    private let headhunter: Headhunter
    private let subvolume: LogFS

    init(_ world: World, _ loop: EventLoop) async throws {
        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
            try world.disk.makeDirectory("other")
            try world.disk.syncDirectory("")
        }
        let store = ObjectStore(MemoryStore(world: world, loop: loop), world: world, loop: loop)
        try await Headhunter.create(world: world, store: store, prefix: "other")
        headhunter = try await Headhunter.open(
            world: world, loop: loop, store: store, prefix: "other", directory: "other")
        subvolume = try await LogFS.open(headhunter, world: world, subvolume: 1)
        files = LogFileSystem(subvolume, world: world, number: MountTree.firstSubvolume)
    }

    func close() async throws {
        try await subvolume.stop()
        try await headhunter.close()
    }
}
