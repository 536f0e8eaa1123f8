import Glibc
import Namespace
import Passthrough
import Runtime
import Simulator
import TestSupport
import Testing

/// Several file systems in one tree, held against a simple model of it.
@Suite struct MountTests {
    private static let names = ["a", "b", "c", "a-b"]

    private final class Node {
        let isDirectory: Bool
        /// Which file system has it.
        let home: Int
        var children: [String: Node] = [:]

        init(_ isDirectory: Bool, _ home: Int) {
            self.isDirectory = isDirectory
            self.home = home
        }

        func holds(_ other: Node) -> Bool {
            self === other || children.values.contains { $0.isDirectory && $0.holds(other) }
        }
    }

    private struct Model {
        var roots: [Node] = []
        /// What each is mounted on; nil: nothing.
        var covered: [Node?] = []
        /// Directories that are shown in others' places.
        var binds: [(cover: Node, target: Node)?] = [nil, nil, nil]

        func uncovered(_ node: Node) -> Node {
            for (index, cover) in covered.enumerated() where cover === node { return roots[index] }
            for bind in binds { if let bind, bind.cover === node { return bind.target } }
            return node
        }

        func isTarget(_ node: Node) -> Bool { binds.contains { $0?.target === node } }

        /// The binds that one comes by on the way down from a directory, whatever covers what.
        private func below(_ node: Node) -> Set<Int> {
            var found: Set<Int> = []
            var open = [node]
            while let next = open.popLast() {
                for (index, bind) in binds.enumerated() where bind?.cover === next { found.insert(index) }
                for (index, cover) in covered.enumerated() where cover === next { open.append(roots[index]) }
                open += next.children.values.filter(\.isDirectory)
            }
            return found
        }

        /// Whether somebody who goes down by binds comes to where he was.
        func hasCircle() -> Bool {
            let ways = binds.map { $0.map { below($0.target) } ?? [] }
            return binds.indices.contains { start in
                var reached: Set<Int> = []
                var open = Array(ways[start])
                while let next = open.popLast() {
                    if reached.insert(next).inserted { open += ways[next] }
                }
                return reached.contains(start)
            }
        }

        /// Where a directory really is.
        func place(of node: Node) -> (above: Node, name: String)? {
            if let index = roots.firstIndex(where: { $0 === node }) {
                return covered[index].flatMap { place(of: $0) }
            }
            var open = roots
            while let next = open.popLast() {
                for (name, child) in next.children {
                    if child === node { return (next, name) }
                    if child.isDirectory { open.append(child) }
                }
            }
            return nil
        }

        func isCovered(_ node: Node) -> Bool { uncovered(node) !== node }

        func find(_ path: [String]) -> Node? {
            var node = roots[0]
            for name in path {
                guard node.isDirectory, let next = node.children[name] else { return nil }
                node = uncovered(next)
            }
            return node
        }

        func paths(_ node: Node, _ prefix: String) -> [String] {
            node.children.flatMap { name, child -> [String] in
                let child = uncovered(child)
                let path = prefix + name + (child.isDirectory ? "/" : "")
                return [path] + (child.isDirectory ? paths(child, path) : [])
            }
        }
    }

    /// What can be mounted.
    private struct Other: Sendable {
        let root: FileID
        let isGuest: Bool
        let mount: @Sendable (MountTree, FileID) throws -> Void

        init(_ files: Passthrough) {
            (root, isGuest) = (files.root, false)
            mount = { try $0.mount(files, on: $1) }
        }

        init(_ guest: HostedVolume) {
            (root, isGuest) = (guest.volume.root, true)
            mount = { try $0.mount(guest.volume, guest.tree, root: guest.volume.root, on: $1) }
        }
    }

    private struct Run {
        let client: Client
        let tree: MountTree
        let mounted: [Other]
        var model = Model()
        var random: Generator
        var counts: [String: Int] = [:]

        init(_ tree: MountTree, _ mounted: [Other], _ world: World, seed: UInt64) {
            client = Client(files: tree, world: world)
            self.tree = tree
            self.mounted = mounted
            random = Generator(seed: seed)
            model.roots = (0...mounted.count).map { Node(true, $0) }
            model.covered = model.roots.map { _ in nil }
        }

        /// Nothing can be mounted in a guest.
        private func isEngine(_ node: Node) -> Bool {
            node.home == 0 ? tree.root.subvolume < MountTree.firstSubvolume : isGuest(node)
        }
        private func isGuest(_ node: Node) -> Bool { node.home > 0 && mounted[node.home - 1].isGuest }

        mutating func any() -> [String] {
            (0..<random.below(4)).map { _ in MountTests.names[random.below(MountTests.names.count)] }
        }

        func find(_ path: [String]) async throws -> FileID {
            var place = client.root
            for name in path { place = try await client.lookup(name, in: place).file }
            return place
        }

        private func outcome(_ body: () async throws -> Void) async -> String {
            do {
                try await body()
                return "done"
            } catch { return "\(error)" }
        }

        private func renaming(_ from: Node, _ name: String, _ to: Node, _ newName: String) -> String {
            guard from.home == to.home else { return "crossDevice" }
            let moving = from.children[name]
            let other = to.children[newName]
            if let moving, model.isCovered(moving) { return "accessDenied" }
            if let other, model.isCovered(other) || model.isTarget(other) { return "accessDenied" }
            if let moving, moving.isDirectory, from !== to {
                from.children[name] = nil
                to.children["moving"] = moving
                let isCircle = !moving.holds(to) && model.hasCircle()
                to.children["moving"] = nil
                from.children[name] = moving
                if isCircle { return "loop" }
            }
            guard let moving else { return "noEntry" }
            // Of two reasons to refuse the engine tells this one first.
            if isEngine(from), moving.isDirectory, moving.holds(to) { return "loop" }
            if let other, other.isDirectory != moving.isDirectory {
                return other.isDirectory ? "isDirectory" : "notDirectory"
            }
            if moving === other { return "done" }
            if moving.isDirectory, moving.holds(to) { return "loop" }
            if let other, !other.children.isEmpty { return "notEmpty" }
            from.children[name] = nil
            to.children[newName] = moving
            return "done"
        }

        mutating func step() async throws -> (what: String, expected: String, got: String) {
            let path = any()
            let name = MountTests.names[random.below(MountTests.names.count)]
            guard let node = model.find(path), node.isDirectory else {
                let found = model.find(path) != nil
                let place = try? await find(path)
                return ("found \(path)", "\(found)", "\(place != nil)")
            }
            let place = try await find(path)
            let client = client
            let child = node.children[name]
            switch random.below(13) {
            case 0, 1:
                let got = await outcome { _ = try await client.directory(name, in: place) }
                if child == nil { node.children[name] = Node(true, node.home) }
                return ("make directory \(path) \(name)", child == nil ? "done" : "exists", got)
            case 2:
                let got = await outcome { _ = try await client.create(name, in: place) }
                if child == nil { node.children[name] = Node(false, node.home) }
                return ("make \(path) \(name)", child == nil ? "done" : "exists", got)
            case 3:
                let got = await outcome { try await client.remove(name, in: place) }
                guard let child else { return ("remove \(path) \(name)", "noEntry", got) }
                if !child.isDirectory { node.children[name] = nil }
                return ("remove \(path) \(name)", child.isDirectory ? "isDirectory" : "done", got)
            case 4:
                let got = await outcome { try await client.remove(name, in: place, isDirectory: true) }
                guard let child else { return ("remove directory \(path) \(name)", "noEntry", got) }
                guard child.isDirectory else { return ("remove directory \(path) \(name)", "notDirectory", got) }
                let isFree = child.children.isEmpty && !model.isCovered(child) && !model.isTarget(child)
                if isFree { node.children[name] = nil }
                return ("remove directory \(path) \(name)", isFree ? "done" : "notEmpty", got)
            case 5, 6:
                let other = any()
                let newName = MountTests.names[random.below(MountTests.names.count)]
                guard let target = model.find(other), target.isDirectory else { return ("", "", "") }
                let to = try await find(other)
                let got = await outcome { try await client.rename(name, newName, from: place, to: to) }
                return ("rename \(path) \(name) to \(other) \(newName)", renaming(node, name, target, newName), got)
            case 7:
                let other = any()
                guard let file = model.find(other), !file.isDirectory else { return ("", "", "") }
                let id = try await find(other)
                let got = await outcome { try await client.link(id, name, in: place) }
                if file.home != node.home { return ("link \(other) \(path) \(name)", "crossDevice", got) }
                if child == nil { node.children[name] = file }
                return ("link \(other) \(path) \(name)", child == nil ? "done" : "exists", got)
            case 8:
                let index = 1 + random.below(mounted.count)
                var expected = "done"
                if model.covered[index] != nil {
                    expected = "numberTaken"
                } else if isGuest(node) {
                    expected = "notOurs"
                } else if model.roots.contains(where: { $0 === node }) || model.isTarget(node) {
                    expected = "inUse"
                }
                let other = mounted[index - 1]
                let tree = tree
                let got = await outcome { try other.mount(tree, place) }
                if expected == "done" { model.covered[index] = node }
                return ("mount \(index) on \(path)", expected, got)
            case 9:
                let index = 1 + random.below(mounted.count)
                var expected = "done"
                if model.covered[index] == nil {
                    expected = "notMounted"
                } else if model.covered.contains(where: { $0?.home == index })
                    || model.binds.contains(where: { $0?.cover.home == index || $0?.target.home == index })
                {
                    expected = "hasMounts"
                }
                let (tree, number) = (tree, mounted[index - 1].root.subvolume)
                let got = await outcome { _ = try tree.unmount(number) }
                if expected == "done" { model.covered[index] = nil }
                return ("unmount \(index)", expected, got)
            case 10:
                let other = any()
                guard let target = model.find(other), target.isDirectory else { return ("", "", "") }
                let to = try await find(other)
                let index = random.below(model.binds.count)
                let old = model.binds[index]
                if old != nil { return ("", "", "") }
                var expected = "done"
                let isRoot = model.roots.contains { $0 === node }
                if isGuest(node) {
                    expected = "notOurs"
                } else if isRoot || model.isTarget(node) {
                    expected = "inUse"
                } else if isGuest(target) {
                    expected = "notOurs"
                } else if target === model.roots[0] {
                    expected = "inUse"
                }
                // A circle is found before anything else is.
                model.binds[index] = (node, target)
                if model.hasCircle() { expected = "circle" }
                if expected != "done" { model.binds[index] = nil }
                let (tree, number) = (tree, Self.bindNumber(index))
                let got = await outcome {
                    let fault = try await client.done { tree.bind(to, on: place, number: number, client.request) }
                    if let fault { throw fault }
                }
                return ("bind \(other) on \(path)", expected, got)
            case 11:
                let index = random.below(model.binds.count)
                let (tree, number) = (tree, Self.bindNumber(index))
                let got = await outcome { _ = try tree.unmount(number) }
                let expected = model.binds[index] == nil ? "notMounted" : "done"
                model.binds[index] = nil
                return ("unbind \(index)", expected, got)
            default:
                let isFull = random.below(2) == 0
                let listed = try await client.names(place, attributes: isFull)
                return ("list \(path)", "\(node.children.keys.sorted())", "\(listed)")
            }
        }

        static func bindNumber(_ index: Int) -> UInt32 { MountTree.firstSubvolume + 100 + UInt32(index) }

        /// Everything, by one listing, and the way back from everywhere.
        mutating func check() async throws {
            let wanted = model.paths(model.roots[0], "").sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
            let limit = 1 + random.below(7)
            let prefix = random.below(3) == 0 ? MountTests.names[random.below(MountTests.names.count)] + "/" : ""
            var found: [String] = []
            var from: [UInt8]? = []
            while let start = from {
                var page: [String] = []
                let client = client
                from = try await client.done {
                    page = []
                    return client.files.listPaths(
                        client.request, below: client.root, from: start, prefix: Array(prefix.utf8), limit: limit
                    ) { path, _ in
                        page.append(String(decoding: path, as: UTF8.self))
                        return true
                    }
                }
                found += page
            }
            #expect(found == wanted.filter { $0.hasPrefix(prefix) }, "prefix \(prefix), limit \(limit)")
            for path in wanted where path.hasSuffix("/") {
                let names = path.split(separator: "/").map(String.init)
                let place = try await find(names)
                // By a bind one comes to where the directory really is.
                guard let node = model.find(names), let real = model.place(of: node) else { continue }
                let seen = model.find(Array(names.dropLast()))
                guard seen === real.above || model.isTarget(node) else {
                    Issue.record("\(path) is not where it is")
                    continue
                }
                guard seen === real.above else {
                    let place2 = place
                    let client = client
                    let whereabouts = try await client.done { client.files.whereabouts(client.request, of: place2) }
                    #expect(whereabouts?.name == Array(real.name.utf8))
                    continue
                }
                let above = try await find(Array(names.dropLast()))
                let up = try await client.lookup("..", in: place).file
                #expect(up == above, "above \(path)")
                let (client, place2) = (client, place)
                let whereabouts = try await client.done { client.files.whereabouts(client.request, of: place2) }
                #expect(whereabouts?.directory == above && whereabouts?.name == Array(real.name.utf8))
            }
        }
    }

    /// `answers`: each was given, so that each was compared.
    private static func hold(
        _ tree: MountTree, _ mounted: [Other], _ world: World, seed: UInt64, steps: Int,
        also answers: [String]
    ) async throws {
        var run = Run(tree, mounted, world, seed: seed)
        for index in 0..<steps {
            let (what, expected, got) = try await run.step()
            run.counts[expected, default: 0] += 1
            guard expected == got else {
                Issue.record("seed \(seed), step \(index): \(what): \(got), not \(expected)")
                return
            }
            if index % 200 == 199 { try await run.check() }
        }
        let common = [
            "done", "exists", "noEntry", "notEmpty", "isDirectory", "notDirectory", "crossDevice", "accessDenied",
            "loop",
            "inUse", "numberTaken", "notMounted", "circle",
        ]
        for answer in common + answers {
            #expect(run.counts[answer] ?? 0 > 0, "seed \(seed): never \(answer)")
        }
    }

    @Test(arguments: modelSeeds(3)) func directoriesOfTheHost(_ seed: UInt64) async throws {
        let rig = try Rig()
        defer { rig.end() }
        var mounted: [Passthrough] = []
        for index in 0..<4 {
            mkdir(rig.served + "/\(index)", 0o755)
            mounted.append(
                try Passthrough(
                    path: rig.served + "/\(index)", subvolume: MountTree.firstSubvolume + UInt32(index),
                    world: rig.world))
        }
        try await Self.hold(
            MountTree(mounted[0]), mounted.dropFirst().map { Other($0) }, rig.world, seed: seed, steps: 8000,
            also: ["hasMounts"])
    }

    /// A volume with directories of the host and another volume in it.
    @Test(arguments: modelSeeds(2, from: 4)) func aVolumeWithAllKinds(_ seed: UInt64) async throws {
        let rig = try Rig()
        defer { rig.end() }
        let (world, loop) = (rig.world, rig.loop)
        let locks = ServerLocks(clock: world.clock)
        let volumes = try await loop.task {
            [
                try await HostedVolume.open(
                    "v", folder: "v", durability: .memory, world: world, loop: loop, locks: locks),
                try await HostedVolume.open(
                    "w", folder: "w", durability: .memory, world: world, loop: loop, locks: locks),
            ]
        }.value
        var mounted = [Other(volumes[1])]
        for index in 0..<2 {
            mkdir(rig.served + "/\(index)", 0o755)
            mounted.append(
                Other(
                    try Passthrough(
                        path: rig.served + "/\(index)", subvolume: MountTree.firstSubvolume + UInt32(index),
                        world: world)
                ))
        }
        try await Self.hold(
            volumes[0].tree, mounted, world, seed: seed, steps: 8000, also: ["hasMounts", "notOurs"])
        try await loop.task { for volume in volumes { try await volume.close() } }.value
    }

    /// Volumes in a volume, in a simulated world.
    @Test(arguments: modelSeeds(4, from: 6)) func volumesInAVolume(_ seed: UInt64) {
        let done = Simulation(seed: seed).perform { world -> Bool in
            do {
                let locks = ServerLocks(clock: world.clock)
                var volumes: [HostedVolume] = []
                for name in ["v", "w", "x", "y"] {
                    volumes.append(
                        try await HostedVolume.open(
                            name, folder: name, durability: .memory, world: world, loop: world.loops[0], locks: locks))
                }
                try await Self.hold(
                    volumes[0].tree, volumes.dropFirst().map { Other($0) }, world, seed: seed, steps: 25_000,
                    also: ["notOurs"])
                for volume in volumes { try await volume.close() }
            } catch { Issue.record("seed \(seed): \(error)") }
            return true
        }
        #expect(done == true, "seed \(seed): the program did not come to an end")
    }

    @Test func handlesAndRightsHoldWhateverIsMounted() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let pair = try await TwoDirectories(rig)
        let (tree, other, client, point) = (pair.tree, pair.other, pair.client, pair.point)
        let hidden = try await client.create("hidden", in: point).file.file
        try tree.mount(other, on: point)
        let root = try await client.lookup("point").file
        #expect(root == other.root)
        let file = try await client.create("seen", in: root).file.file
        try await client.write(file, "text")
        #expect(rig.get(rig.served + "/other/seen") == "text")
        // Covered, and by its handle the same as ever.
        #expect(try await client.attributes(hidden).file == hidden)
        #expect(try await client.names(root) == ["seen"])
        // Bytes go across where names do not.
        let copy = try await client.create("copy").file.file
        _ = try await tree.clone(client.request, file, at: 0, length: 4, to: copy, at: 0)
        #expect(try await client.read(copy) == "text")
        // A promise for one holds for all.
        let failure = await withUnsafeContinuation { (done: UnsafeContinuation<FileError?, Never>) in
            tree.whenSettled(tree.newestChange, .log, on: rig.loop) { done.resume(returning: $0) }
        }
        #expect(failure == nil)
        let verifier = tree.writeVerifier
        try tree.unmount(other.root.subvolume)
        #expect(tree.writeVerifier != verifier)
        await #expect(throws: FileError.stale) { _ = try await client.attributes(file) }
        await #expect(throws: FileError.stale) { try await client.write(file, "x") }
        #expect(try await client.names(try await client.lookup("point").file) == ["hidden"])
        // Read-only is a word of the mount's.
        try tree.mount(other, on: point, isReadOnly: true)
        #expect(try await client.read(file) == "text")
        await #expect(throws: FileError.readOnly) { try await client.write(file, "x") }
        await #expect(throws: FileError.readOnly) { _ = try await client.create("x", in: root) }
        await #expect(throws: FileError.readOnly) { try await client.remove("seen", in: root) }
        await #expect(throws: FileError.readOnly) {
            _ = try await tree.resize(client.request, file, to: 0, NewAttributes())
        }
        await #expect(throws: FileError.readOnly) {
            _ = try await tree.clone(client.request, copy, at: 0, length: 4, to: file, at: 0)
        }
        #expect(rig.get(rig.served + "/other/seen") == "text")
    }

    /// Nobody is told that a change is safe which is not waited for: its mount was taken away in the middle of it.
    @Test func aChangeInAMountThatIsTakenAway() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let pair = try await TwoDirectories(rig)
        let (tree, other, client, point) = (pair.tree, pair.other, pair.client, pair.point)
        try tree.mount(other, on: point)
        let file = try await client.create("f", in: other.root).file.file
        let pool = await RepetitionTests.BusyPool(rig)
        var cuts: [Task<Void, any Error>] = []
        await pool.queued {
            cuts.append(Task { _ = try await tree.resize(client.request, file, to: 5, NewAttributes()) })
        }
        try tree.unmount(other.root.subvolume)
        await pool.releaseAll()
        await #expect(throws: FileError.stale) { try await cuts[0].value }
        #expect(rig.get(rig.served + "/other/f").utf8.count == 5)
    }
}
