import CShim
import Glibc
import Namespace
import Passthrough
import Runtime
import Simulator
import Synchronization
import Testing

/// Clients use a directory while somebody else on the host renames, replaces by links, removes and makes what is in it.
@Suite struct ChangingHostTests {
    static let steps = 20_000
    private static let names = ["a", "b", "c", "d"]

    /// The host's own program, on a thread of its own: everything that could lead a path elsewhere. It follows no links itself,
    /// so that whatever is found outside afterwards was not put there by it.
    private static func disturb(_ rig: Rig, _ seed: UInt64, _ isOver: borrowing Atomic<Bool>) {
        var random = Generator(seed: seed)
        let root = Glibc.open(rig.served, O_RDONLY | O_DIRECTORY)
        defer { Glibc.close(root) }
        func any() -> (directory: Int32, name: String) {
            let path = (0..<random.below(3)).map { _ in names[random.below(names.count)] }.joined(separator: "/")
            let found = shim_host_open(root, path, Int32(SHIM_HOST_NAME), 0)
            let name = names[random.below(names.count)]
            return found < 0 ? (dup(root), name) : (found, name)
        }
        while !isOver.load(ordering: .relaxed) {
            let (one, two) = (any(), any())
            defer {
                Glibc.close(one.directory)
                Glibc.close(two.directory)
            }
            switch random.below(9) {
            case 0: mkdirat(one.directory, one.name, 0o755)
            case 1: _ = shim_host_rename(one.directory, one.name, two.directory, two.name, 0)
            case 2: unlinkat(one.directory, one.name, 0)
            case 3: unlinkat(one.directory, one.name, AT_REMOVEDIR)
            case 4: symlinkat(rig.outside, one.directory, one.name)
            case 5: symlinkat("../../../outside", one.directory, one.name)
            case 6: symlinkat(rig.outside + "/secret", one.directory, one.name)
            // The worst: what was looked at is a link by the time it is used.
            case 7:
                symlinkat(rig.outside, one.directory, one.name + ".link")
                _ = shim_host_rename(one.directory, one.name + ".link", one.directory, one.name, 2)
                unlinkat(one.directory, one.name + ".link", 0)
            default: mkfifoat(one.directory, one.name, 0o644)
            }
        }
    }

    @Test(arguments: [1, 2] as [UInt64]) func nothingOutsideIsTouched(_ seed: UInt64) async throws {
        let rig = try Rig()
        defer { rig.end() }
        rig.put("secret", rig.outside + "/secret")
        let isOver = Box()
        let thread = Thread { Self.disturb(rig, seed, isOver.flag) }
        let files = try rig.passthrough()
        let client = Client(files: files, world: rig.world)
        var random = Generator(seed: seed &+ 1000)
        var known: [FileID] = [client.root]
        var good = 0
        var refusals: [String: Int] = [:]
        for _ in 0..<Self.steps {
            let name = Self.names[Int(random.below(UInt64(Self.names.count)))]
            let other = Self.names[Int(random.below(UInt64(Self.names.count)))]
            // The root often enough, so that there is something to find.
            let place = random.below(3) == 0 ? client.root : known[Int(random.below(UInt64(known.count)))]
            let target = known[Int(random.below(UInt64(known.count)))]
            do {
                switch random.below(12) {
                case 0: known.append(try await client.create(name, in: place).file.file)
                case 1: known.append(try await client.directory(name, in: place))
                case 2, 3:
                    let found = try await client.lookup(name, in: place)
                    known.append(found.file)
                case 4:
                    let text = try await client.read(place)
                    #expect(text != "secret", "seed \(seed): read what lies outside")
                case 5: try await client.write(place, "written")
                case 6: try await client.remove(name, in: place, isDirectory: random.below(2) == 0)
                case 7: try await client.rename(name, other, from: place, to: target)
                case 8: try await client.link(target, name, in: place)
                case 9:
                    let listed = try await client.names(place, attributes: random.below(2) == 0)
                    #expect(!listed.contains("secret"), "seed \(seed): listed what lies outside")
                case 10:
                    var new = NewAttributes()
                    new.mode = 0o700
                    let mode = new
                    _ = try await client.done { files.setAttributes(client.request, target, mode) }
                default:
                    _ = try await client.done {
                        client.name(name) { name in
                            client.name("object") {
                                files.place(
                                    client.request, in: place, name, $0, NewFile(type: .file, mode: 0o644), uid: 0,
                                    gid: 0, attributes: [], seal: nil, expected: .anything)
                            }
                        }
                    }
                }
                good += 1
            } catch { refusals["\(error)", default: 0] += 1 }
            if known.count > 200 { known.removeSubrange(1..<100) }
        }
        isOver.flag.store(true, ordering: .relaxed)
        thread.join()
        #expect(rig.get(rig.outside + "/secret") == "secret", "seed \(seed)")
        #expect(mode(rig.outside + "/secret") == 0o644, "seed \(seed)")
        #expect(mode(rig.outside) == 0o755, "seed \(seed)")
        // What lies outside now was moved there by nobody: links lead there, and nothing else.
        #expect(Rig.names(rig.outside) == ["secret"], "seed \(seed)")
        #expect(good > Self.steps / 20, "seed \(seed): hardly anything could be done: \(refusals)")
        let told: Set<String> = [
            "noEntry", "exists", "notDirectory", "isDirectory", "notEmpty", "stale", "delay", "wrongType", "loop",
            "noAttribute", "notSupported", "invalid", "tooManyLinks",
        ]
        for (error, count) in refusals where !told.contains(error) {
            Issue.record("seed \(seed): \(count) times \(error)")
        }
    }

    private func mode(_ path: String) -> UInt32 {
        var status = stat()
        lstat(path, &status)
        return status.st_mode & 0o7777
    }

    private final class Box: Sendable {
        let flag = Atomic(false)
    }

    private final class Thread: @unchecked Sendable {
        private var handle = pthread_t()
        private let body: @Sendable () -> Void

        init(_ body: @escaping @Sendable () -> Void) {
            self.body = body
            let context = Unmanaged.passRetained(self).toOpaque()
            pthread_create(
                &handle, nil,
                { context in
                    guard let context else { return nil }
                    Unmanaged<Thread>.fromOpaque(context).takeRetainedValue().body()
                    return nil
                }, context)
        }

        func join() { pthread_join(handle, nil) }
    }
}
