import Bytes
import Glibc
import ObjectStore
import Runtime
import Simulator
import Testing

/// The directory store on a disk of the real kernel that forgets what was not synced (conformance/forgetting-disk).
///
/// Where it can not be mounted the test fails; PROXYFS_WITHOUT_FUSE=1 says that this is known and accepted.
struct ForgettingDiskTests {
    @Test(.enabled(if: getenv("PROXYFS_WITHOUT_FUSE") == nil, "PROXYFS_WITHOUT_FUSE is set")) func powerLosses()
        async throws
    {
        let folder = try #require(makeFolder())
        let mount = folder + "/disk"
        mkdir(mount, 0o700)
        defer {
            rmdir(mount)
            unlink(folder + "/forgetting-disk")
            rmdir(folder)
        }
        let source = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        try #require(
            run("/" + source + "/conformance/forgetting-disk/build", folder + "/forgetting-disk"),
            "the forgetting disk does not compile")
        try #require(
            run(folder + "/forgetting-disk", mount),
            "the forgetting disk can not be mounted: it needs /dev/fuse and root; PROXYFS_WITHOUT_FUSE=1 leaves this out"
        )
        defer { _ = run("fusermount3", "-u", mount) }

        try forgets(mount)

        let model = DirectoryCrashTests.Model()
        var random = Generator(seed: 20_240_917)
        var acknowledged = 0
        for round in 0..<40 {
            let seed = random.next()
            let cut = 500 + random.below(UInt64(25_000))
            let loss = round % 3 == 0 ? "off" : "off \(1 + random.below(1_000_000))"
            let before = model.serial
            try await onWorld(mount) { world in
                // The power goes while the store works; everything fails from then on, so the work ends by itself.
                let cutter = world.loops[0].task {
                    await world.loops[0].sleep(nanoseconds: cut * 1_000)
                    await world.blocking.run(on: world.loops[0]) { #expect(power(mount, loss)) }
                }
                await DirectoryCrashTests.work(
                    world, model, seed: seed, mine: DirectoryCrashTests.names, steps: 25, giveUp: true)
                await cutter.value
            }
            acknowledged += model.serial - before
            try #require(power(mount, "on"))
            try await onWorld(mount) { world in
                let (found, listed) = try #require(await DirectoryCrashTests.read(world), "the store does not open")
                DirectoryCrashTests.compare(model, found, listed, "round \(round), \(loss)")
            }
        }
        // What the disk says of itself: nothing was proved if it has forgotten nothing.
        let disk = try RealDisk(path: mount)
        let file = try disk.open(".power", [])
        var text = [UInt8](repeating: 0, count: 512)
        let count = try text.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
        let report = String(decoding: text[..<count], as: UTF8.self)
        #expect(report.contains("losses 41") && !report.contains("names lost 0"), "\(report)")
        #expect(acknowledged > 400, "only \(acknowledged) operations in all rounds")
    }

    /// The disk itself: it keeps what was synced and nothing else, or all that follows proves nothing.
    private func forgets(_ mount: String) throws {
        let disk = try RealDisk(path: mount)
        let file = try disk.open("file", [.write, .create])
        let old = block("synced")
        let new = block("forgotten, and longer")
        try file.write(old.bytes, at: 0)
        try file.sync()
        try disk.syncDirectory("")
        try file.write(new.bytes, at: 0)
        extendLifetime((old, new))
        _ = try disk.open("unsynced name", [.write, .create])
        try #require(power(mount, "off"))
        #expect(throws: Errno.io) { try disk.status("file") }
        try #require(power(mount, "on"))
        #expect(throws: Errno.io, "a file that was open stays broken") { try file.sync() }
        #expect(throws: Errno.noEntry) { try disk.status("unsynced name") }
        #expect(try disk.status("file").size == 6)
        try disk.remove("file")
        try disk.syncDirectory("")
    }

    private func onWorld(_ mount: String, _ body: @escaping @Sendable (World) async throws -> Void) async throws {
        let world = try World.real(disk: RealDisk(path: mount), loops: 1)
        let result = await world.loops[0].task { try await body(world) }.result
        world.stop()
        try result.get()
    }
}

private func makeFolder() -> String? {
    var name = Array("/var/tmp/proxyfs-test-XXXXXX\0".utf8CString)
    return name.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!).map { String(cString: $0) } }
}

private func power(_ mount: String, _ command: String) -> Bool {
    let fd = open(mount + "/.power", O_WRONLY)
    guard fd >= 0 else { return false }
    defer { close(fd) }
    return write(fd, command, command.utf8.count) == command.utf8.count
}

/// Runs a program to its end; whether it was content.
private func run(_ arguments: String...) -> Bool {
    var process: pid_t = 0
    var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for pointer in pointers { free(pointer) } }
    guard posix_spawnp(&process, arguments[0], nil, nil, &pointers, environ) == 0 else { return false }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0 { guard errno == EINTR else { return false } }
    return status == 0
}
