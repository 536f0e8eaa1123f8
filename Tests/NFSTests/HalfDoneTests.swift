import Namespace
import Runtime
import TestSupport
import Testing

/// Calls that are refused though a part of them was done, over a file system in memory that can be made to do so.
@Suite struct HalfDoneTests {
    /// A tree in whose directory `m` a volume, or a mere file system, is to be seen.
    private final class House: Sendable {
        let loop: EventLoop
        let base = MemoryFileSystem()
        let other: MemoryFileSystem
        let tree: MountTree
        let host: Volume
        let point: FileID
        private let guest: (volume: Volume, tree: MountTree)?

        init(isVolume: Bool) throws {
            let loops = [try EpollLoop(index: 0)]
            loop = loops[0]
            other = MemoryFileSystem(subvolume: isVolume ? 77 : MountTree.firstSubvolume + 7)
            tree = MountTree(base, loops: loops)
            host = Volume("v", identity: 1, tree, loops: loops)
            if isVolume {
                let tree = MountTree(other, loops: loops)
                guest = (Volume("w", identity: 2, tree, loops: loops), tree)
            } else {
                guest = nil
            }
            let base = base
            let made = Array("m".utf8).withUnsafeBytes {
                base.create(
                    Request(reader: 0, now: 1), in: base.root, $0, NewFile(type: .directory, mode: 0o777), uid: 0,
                    gid: 0,
                    .exclusive)
            }
            guard case .done(let created, _) = made else { throw FileError.exists }
            point = created.file.file
            if let guest {
                try tree.mount(guest.volume, guest.tree, root: guest.volume.root, on: point)
            } else {
                try tree.mount(other, on: point)
            }
        }

        deinit { (loop as? EpollLoop)?.stop() }

        var caller: Caller { Caller(.root, Request(reader: 0, now: 1), isStateless: false) }

        /// It is taken away before the next making in it is told, and what its closing needs is not in memory by then.
        func takeAwayInTheMiddle() {
            other.with {
                $0.meanwhile = { [self] in
                    do { _ = try tree.unmount(other.root.subvolume) } catch { Issue.record("\(error)") }
                    other.with { $0.isCold = true }
                }
            }
        }

        func onLoop<Value: Sendable>(_ call: @escaping @Sendable (House) -> Value) async -> Value {
            await loop.task { [self] in call(self) }.value
        }

        /// Within seconds.
        func isAllClosed() async throws -> Bool {
            for _ in 0..<2000 where other.with({ $0.openFiles }) > 0 { try await Task.sleep(nanoseconds: 5_000_000) }
            return other.with { $0.openFiles } == 0
        }
    }

    private static func isStale<Value>(_ attempt: Attempt<Value>) -> Bool {
        if case .refused(.stale) = attempt { true } else { false }
    }

    /// What was made there without a name is known to nobody who could close it.
    @Test(arguments: [true, false]) func aNamelessFileOfAMountThatIsTakenAwayIsClosed(_ isVolume: Bool) async throws {
        let house = try House(isVolume: isVolume)
        house.takeAwayInTheMiddle()
        let isStale = await house.onLoop {
            Self.isStale($0.host.createNameless($0.caller, near: $0.other.root, NewFile(type: .file, mode: 0o600)))
        }
        #expect(isStale && house.other.with { $0.nextInode } == 3)
        #expect(try await house.isAllClosed())
        #expect(house.other.with { $0.lacks } > 0)
    }

    @Test func anOpenOfAVolumeThatIsTakenAwayIsClosed() async throws {
        let house = try House(isVolume: true)
        let intent = OpenIntent(.create, access: [.readData, .writeData], client: 1)
        house.takeAwayInTheMiddle()
        let isStale = await house.onLoop { house in
            Array("f".utf8).withUnsafeBytes {
                Self.isStale(house.host.open(house.caller, in: house.other.root, $0, intent))
            }
        }
        #expect(isStale)
        #expect(try await house.isAllClosed())
        #expect(house.other.with { $0.lacks } > 0)
    }

    /// Of a cut that was made, and of which a later step was refused, those know who watch the file or keep its content by a lease.
    @Test func aCutThatIsRefusedInTheEndIsTold() async throws {
        let loops = [try EpollLoop(index: 0)]
        defer { for loop in loops { loop.stop() } }
        let files = MemoryFileSystem()
        let volume = Volume("v", identity: 1, files, loops: loops)
        let broken = Guarded(0)
        let holder = LeaseHolder(loop: loops[0], tell: { _ in broken.withLock { $0 += 1 } })
        let file = try await loops[0].task { () throws -> FileID in
            let caller = Caller(.root, Request(reader: 0, now: 1), isStateless: false)
            var intent = OpenIntent(.create, access: [.readData, .writeData], client: 1)
            intent.lease = LeaseWish(LeaseKey(client: 1, key: 1), .lease, [.read, .handle], holder: holder)
            let wanted = intent
            let opened = try Array("f".utf8).withUnsafeBytes {
                try volume.open(caller, in: volume.root, $0, wanted).get()
            }
            #expect(opened.lease.contains(.read))
            return opened.handle.file
        }.value
        files.with { $0.resizeFailure = .notPermitted }
        await #expect(throws: FileError.notPermitted) {
            _ = try await volume.resize(Request(reader: 0, now: 2), file, to: 5, NewAttributes())
        }
        for _ in 0..<2000 where broken.withLock({ $0 }) == 0 { try await Task.sleep(nanoseconds: 5_000_000) }
        #expect(broken.withLock { $0 } == 1)
    }
}
