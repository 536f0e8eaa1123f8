import Namespace
import Runtime
import Simulator
import Testing

/// A volume of the engine in a simulated world, as front ends use it.
struct VolumeRig: Sendable {
    let world: World
    let hosted: HostedVolume
    var volume: Volume { hosted.volume }
    var root: FileID { volume.root }
    var loop: EventLoop { world.loops[0] }

    static func run(
        seed: UInt64 = 1, _ body: @escaping @Sendable (VolumeRig) async throws -> Void,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let done = Simulation(seed: seed).perform { world -> Bool in
            do {
                let hosted = try await HostedVolume.open(
                    "v", folder: "v", durability: .log, world: world, loop: world.loops[0])
                try await body(VolumeRig(world: world, hosted: hosted))
                try await hosted.close()
            } catch {
                Issue.record("seed \(seed): \(error)", sourceLocation: sourceLocation)
            }
            return true
        }
        #expect(done == true, "seed \(seed): the program did not come to an end", sourceLocation: sourceLocation)
    }

    func caller(_ uid: UInt32 = 0, _ handle: OpenHandle? = nil, isReadOnly: Bool = false) -> Caller {
        Caller(
            Credential(uid: uid, gid: uid), Request(reader: loop.index, now: world.clock.wall()),
            isReadOnly: isReadOnly,
            isStateless: handle == nil, handle: handle)
    }

    /// Makes the call as often as it takes.
    func done<Value>(_ call: () -> Attempt<Value>) async throws -> Value {
        while true {
            switch call() {
            case .done(let value, _): return value
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
    }

    func error<Value>(_ call: () -> Attempt<Value>) async -> FileError? {
        do {
            _ = try await done(call)
            return nil
        } catch { return error as? FileError }
    }

    func make(_ name: String, type: FileType = .file, mode: UInt16 = 0o666, in directory: FileID? = nil)
        async throws -> FileID
    {
        try await done {
            with(name) { volume.create(caller(), in: directory ?? root, $0, NewFile(type: type, mode: mode)) }
        }
        .file.file
    }

    func open(
        _ name: String, _ intent: OpenIntent, uid: UInt32 = 0, in directory: FileID? = nil
    ) async throws -> OpenedFile {
        try await done { with(name) { volume.open(caller(uid), in: directory ?? root, $0, intent) } }
    }

    func exists(_ name: String, in directory: FileID? = nil) async -> Bool {
        await error { with(name) { volume.lookup(caller(), in: directory ?? root, $0) } } == nil
    }

    func write(_ file: FileID, _ text: String, at offset: UInt64 = 0, by caller: Caller) async throws {
        _ = try await done { with(text) { volume.write(caller, file, at: offset, $0) } }
    }

    func read(_ file: FileID, by caller: Caller) async throws -> String {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 256, alignment: 8)
        defer { memory.deallocate() }
        let got = try await done { volume.read(caller, file, at: 0, into: memory) }
        return String(decoding: memory.prefix(got.count), as: UTF8.self)
    }

    func openError(_ name: String, _ intent: OpenIntent, by who: Caller? = nil) async -> FileError? {
        await error { with(name) { volume.open(who ?? caller(), in: root, $0, intent) } }
    }

    func close(_ handle: OpenHandle) async throws -> ClosedFile { try await done { volume.close(caller(), handle) } }

    func closeError(_ handle: OpenHandle) async -> FileError? { await error { volume.close(caller(), handle) } }

    func writeError(_ file: FileID, _ text: String, at offset: UInt64 = 0, by who: Caller) async -> FileError? {
        await error { with(text) { volume.write(who, file, at: offset, $0) } }
    }

    func readError(_ file: FileID, by who: Caller) async -> FileError? {
        await error { volume.mayRead(who, file, at: 0, count: 1) }
    }

    func remove(_ name: String, in directory: FileID? = nil, by who: Caller? = nil) async throws -> Removed {
        try await done {
            with(name) { volume.remove(who ?? caller(), in: directory ?? root, $0, isDirectory: false) }
        }
    }

    func removeError(_ name: String, in directory: FileID? = nil, by who: Caller? = nil) async -> FileError? {
        await error { with(name) { volume.remove(who ?? caller(), in: directory ?? root, $0, isDirectory: false) } }
    }

    private func renaming(_ name: String, _ newName: String, _ source: FileID, _ target: FileID) -> Attempt<Renamed> {
        let new = Array(newName.utf8)
        return with(name) { name in
            new.withUnsafeBytes { volume.rename(caller(), from: source, name, to: target, $0) }
        }
    }

    func rename(
        _ name: String, _ newName: String, from source: FileID? = nil, to target: FileID? = nil
    ) async throws -> Renamed {
        try await done { renaming(name, newName, source ?? root, target ?? root) }
    }

    func renameError(_ name: String, _ newName: String) async -> FileError? {
        await error { renaming(name, newName, root, root) }
    }

    func create(_ name: String, _ new: NewFile, in directory: FileID? = nil) async throws -> Created {
        try await done { with(name) { volume.create(caller(), in: directory ?? root, $0, new) } }
    }

    func set(_ file: FileID, _ new: NewAttributes) async throws -> Changed {
        try await done { volume.setAttributes(caller(), file, new) }
    }

    func attributes(_ file: FileID) async throws -> Attributes { try await done { volume.attributes(caller(), file) } }

    func setACL(_ file: FileID, _ acl: ACL?) async throws -> Changed {
        try await done { volume.setACL(caller(), file, acl) }
    }

    func replaceError(_ file: FileID) async -> FileError? {
        await error { volume.admitReplacement(caller(), of: file) }
    }

    func lock(
        _ file: FileID, _ range: LockRange, _ mode: LockMode, _ owner: LockOwner,
        by who: Caller? = nil, in other: Volume? = nil, waiter: LockWaiter? = nil
    ) async throws -> LockAnswer {
        try await done { (other ?? volume).lock(who ?? caller(), file, range, mode, owner, waiter: waiter) }
    }

    func lockAll(
        _ file: FileID, _ owner: LockOwner, in other: Volume? = nil, waiter: LockWaiter? = nil
    ) async throws -> LockAnswer {
        try await lock(file, .whole, .exclusive, owner, in: other, waiter: waiter)
    }

    func watch(
        _ directory: FileID, isRecursive: Bool, _ tell: @escaping @Sendable () -> Void
    ) async throws -> WatchID {
        try await done {
            volume.watch(caller(), directory, .all, isRecursive: isRecursive, on: loop, tell: tell)
        }
    }

    /// Lets the loops run what was handed to them.
    func settle() async { await loop.sleep(nanoseconds: 1_000_000) }
}

/// The bytes of a name, for as long as the call lasts.
func with<Value>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Value) -> Value {
    Array(text.utf8).withUnsafeBytes { body($0) }
}

/// What callbacks leave behind for a test to look at.
final class Heard<Value: Sendable>: Sendable {
    private let state = Guarded<[Value]>([])
    func add(_ value: Value) { state.withLock { $0.append(value) } }
    var all: [Value] { state.withLock { $0 } }
}
