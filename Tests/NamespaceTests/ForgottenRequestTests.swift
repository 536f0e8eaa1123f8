import Namespace
import Runtime
import Simulator
import Testing

/// A volume with quotas that takes a request for one that was made before, and whose engine has forgotten it by then: nothing is
/// made that nobody counts.
@Suite struct ForgottenRequestTests {
    private static func run(
        _ change: @escaping @Sendable (VolumeRig, Caller, _ file: FileID) -> Attempt<Void>
    ) {
        VolumeRig.run { rig in
            let other = try await OtherEngine(rig.world, rig.loop)
            let point = try await rig.make("point", type: .directory, mode: 0o777)
            // Mounted as it is, it is asked for requests, too.
            let files = other.files
            try rig.hosted.tree.mount(files, on: point)
            let file = try await rig.make("f")
            _ = try await rig.make("g")
            try await rig.write(file, "12345", by: rig.caller())
            try await rig.set(quotas: [
                .volume: QuotaLimit(hardBytes: 100, hardFiles: 100), .user(7): QuotaLimit(hardFiles: 100),
            ])
            func names() async throws -> [String] {
                let heard = Heard<String>()
                _ = try await rig.done {
                    rig.volume.list(rig.caller(), rig.root, after: 0, limit: 100, attributes: false) { _, name in
                        heard.add(String(decoding: name, as: UTF8.self))
                        return true
                    }
                }
                return heard.all.sorted()
            }
            func usage() -> [QuotaUsage?] { [.volume, .user(7)].map { rig.volume.quota($0)?.usage } }
            var caller = rig.caller()
            caller.request.token = RequestToken(client: 5, id: 1, digest: 1)
            let copy = caller
            _ = try await rig.done {
                with("known") {
                    files.create(
                        copy.request, in: files.root, $0, NewFile(type: .file, mode: 0o600), uid: 0, gid: 0, .exclusive)
                }
            }
            #expect(try await rig.done { rig.volume.fileSystem.isRepeated(copy.request) })
            let before = (try await names(), usage(), try await rig.attributes(file))
            #expect(await rig.error { change(rig, copy, file) } == .delay)
            #expect(try await names() == before.0 && usage() == before.1)
            let found = try await rig.attributes(file)
            #expect(found.links == before.2.links && found.uid == before.2.uid && found.changed == before.2.changed)
            // The same request, if nobody takes it for an old one.
            _ = try rig.hosted.tree.unmount(MountTree.firstSubvolume)
            _ = try await rig.done { change(rig, copy, file) }
            try await other.close()
        }
    }

    @Test func aFileIsNotMade() {
        Self.run { rig, caller, _ in
            with("new") { rig.volume.create(caller, in: rig.root, $0, NewFile(type: .file, mode: 0o600)) }.void
        }
    }

    @Test func aNameIsNotRemoved() {
        Self.run { rig, caller, _ in
            with("g") { rig.volume.remove(caller, in: rig.root, $0, isDirectory: false) }.void
        }
    }

    @Test func aNameIsNotMoved() {
        Self.run { rig, caller, _ in
            with("g") { old in
                with("h") { rig.volume.rename(caller, from: rig.root, old, to: rig.root, $0) }
            }.void
        }
    }

    @Test func aNameIsNotAdded() {
        Self.run { rig, caller, file in with("l") { rig.volume.link(caller, file, in: rig.root, $0) }.void }
    }

    @Test func anOwnerIsNotChanged() {
        Self.run { rig, caller, file in
            var new = NewAttributes()
            new.uid = 7
            return rig.volume.setAttributes(caller, file, new).void
        }
    }
}

extension Attempt {
    fileprivate var void: Attempt<Void> {
        switch self {
        case .done(_, let number): .done((), number: number)
        case .refused(let error): .refused(error)
        case .lacks(let lack): .lacks(lack)
        }
    }
}
