import Headhunter
import LogFS
import Runtime
import Simulator
import Testing
import Trials

/// Records that do not agree with the others: each kind is told, of the file that it is about, and none when all is well.
struct CheckTests {
    private typealias P = Planted

    private struct Plant {
        let name: String
        let path: String?
        /// What has to be there, and what is not to be there at any other plant of this list: a word of the difference.
        let word: String
        var tree: UInt32 = 1
        let key: [UInt8]
        let change: ([UInt8]?) -> [UInt8]?

        init(
            _ word: String, _ path: String?, _ key: [UInt8], tree: UInt32 = 1,
            _ change: @escaping ([UInt8]?) -> [UInt8]?
        ) {
            (self.name, self.word, self.path, self.key, self.tree, self.change) = (word, word, path, key, tree, change)
        }
    }

    /// Adds to a number of a record.
    private static func add(_ value: Int64, at place: Int, count: Int = 8) -> ([UInt8]?) -> [UInt8]? {
        { old in
            guard var bytes = old else { return nil }
            P.put(
                P.number(bytes, place, count: count) &+ UInt64(bitPattern: value), at: place, in: &bytes, count: count)
            return bytes
        }
    }

    private static func plants(_ inodes: [String: Inode], _ records: [(key: [UInt8], value: [UInt8])]) -> [Plant] {
        func inode(_ path: String) -> UInt64 { inodes[path]?.number ?? 0 }
        func record(_ path: String) -> [UInt8] { P.key(inode(path), .inode) }
        func find(_ id: UInt64, _ kind: P.Kind) -> [UInt8] {
            records.first { $0.key.starts(with: P.key(id, kind)) }?.key ?? []
        }
        func any(_ kind: P.Kind) -> [UInt8] { records.first { $0.key[8] == kind.rawValue }?.key ?? [] }
        let home = inode("/d")
        let large = inode("/d/Large")
        let other = inode("/d/Inner/other")
        let extras =
            records.first { $0.key[8] == P.Kind.xattr.rawValue }.map { P.number(Array($0.key[..<8].reversed()), 0) }
            ?? 0
        let mark: ([UInt8]?) -> [UInt8]? = { _ in [1] }
        let gone: ([UInt8]?) -> [UInt8]? = { _ in nil }
        return [
            Plant("own(", "/d", record("/d"), add(1, at: 176)),
            Plant("below(", "/d", P.key(home | P.directory, .sums), add(1, at: 17)),
            Plant("unsettledNotMarked", "/d", P.key(home | P.directory, .sums), add(1, at: 25)),
            Plant("linkCount", "/d/Large", record("/d/Large"), add(1, at: 12, count: 4)),
            Plant("linkCount", "/d/linked", record("/d/linked"), add(-1, at: 12, count: 4)),
            Plant("linkCount", "/empty", record("/empty"), add(1, at: 12, count: 4)),
            Plant("entryKeys", "/d", P.key(home | P.directory, .name, Array("Large".utf8)), add(100, at: 9)),
            Plant("entryKeys", "/d", find(home | P.directory, .folded), gone),
            Plant("cookieNotGivenOut", "/d", record("/d"), add(-2, at: 136)),
            Plant("forkOfNobody", nil, P.key(P.fork | 1 << 61 | 99, .inline)) { _ in [1, 2] },
            Plant("forkOfNobody", nil, P.key(P.fork | 12_345_678, .inline)) { _ in [1, 2] },
            Plant(
                "forkOfSeveral", nil, record("/d/Inner/other"),
                { old in
                    guard var bytes = old else { return nil }
                    P.put(extras & ~P.fork, at: 112, in: &bytes)
                    return bytes
                }),
            Plant("allocated", "/d/Large", record("/d/Large"), add(-1, at: 40)),
            Plant("extentBehindEnd", "/d/Large", record("/d/Large"), add(-1, at: 32)),
            Plant("extentsOverlap", "/d/Large", P.key(large | P.fork, .extent, P.bytes(UInt64(P.size) + 10))) { _ in
                var bytes = [UInt8](repeating: 0, count: 21)
                bytes[0] = 1
                P.put(50, at: 1, in: &bytes)
                return bytes
            },
            Plant("extentOutsideSegment", "/d/Large", find(large | P.fork, .extent), add(1 << 29, at: 17, count: 4)),
            Plant("homeless", nil, record("/d/linked"), add(50, at: 104)),
            Plant("lost", "inode \(inode("/apart/control"))", find(inode("/apart") | P.directory, .cookie), gone),
            Plant("orphanOfNothing", "/d/small", P.key(0, .orphan, P.bytes(inode("/d/small"))), mark),
            Plant("entryOfNothing", "/d", P.key(home | P.directory, .name, Array("small".utf8)), add(5_000_000, at: 1)),
            Plant("entryType", "/d", P.key(home | P.directory, .name, Array("small".utf8)), add(3, at: 17, count: 1)),
            Plant("directoryOfNothing", nil, P.key(777_777 | P.directory, .sums)) { _ in
                [1] + [UInt8](repeating: 0, count: 48)
            },
            Plant("linkRecords", "/d/small", P.key(inode("/d/small"), .link, P.bytes(home) + P.bytes(500)), mark),
            Plant(
                "inodeNotGivenOut", nil, P.key(0, .subvolume),
                { old in
                    guard var bytes = old else { return nil }
                    P.put(3, at: 1, in: &bytes)
                    return bytes
                }),
            Plant("streams(", "/d/Inner/other", record("/d/Inner/other"), add(1, at: 132, count: 4)),
            Plant("streamOfNothing", nil, any(.stream), add(9_999, at: 1)),
            Plant("lost", nil, any(.stream), gone),
            Plant("xattrBytes", "/d/Inner/other", record("/d/Inner/other"), add(1, at: 128, count: 4)),
            Plant("attributeParts", nil, any(.xattrPart), gone),
            Plant("attributeParts", nil, P.key(extras, .xattrPart, Array("user.none".utf8) + [0, 0]), mark),
            Plant("settings(", nil, P.key(0, .settings), add(1, at: 1, count: 4)),
            Plant("settingParts", nil, any(.settingPart), gone),
            Plant("settingParts", nil, P.key(0, .settingPart, Array("none".utf8) + [0, 0]), mark),
            Plant("target(", "/d/Inner/link", record("/d/Inner/link"), add(1, at: 32)),
            Plant("token(", nil, any(.token), gone),
            Plant("token(", nil, any(.tokenAge), gone),
            Plant("tokens(", nil, P.key(0, .token, P.bytes(7) + P.bytes(10))) { _ in
                [1] + [UInt8](repeating: 0, count: 24)
            },
            Plant("record(", nil, record("/d/small"), add(8, at: 0, count: 1)),
            Plant("record(", nil, P.key(other, .inode, [1, 2, 3]), mark),
            Plant("record(", nil, P.key(0, .settings).dropLast() + [200], mark),
        ]
    }

    @Test func everyDifferenceIsTold() throws {
        Bench.files(small: true) { files, world in
            let volume = files.headhunter
            let inodes = try await P.fill(files)
            // Segments are in their table, with their sizes.
            try await volume.checkpoint()
            try await volume.checkpoint()
            #expect(try await Check.run(files, readsData: true).differences == [])
            let records = try await P.records(volume)
            let kinds = Set(records.map { $0.key[8] })
            #expect(kinds.count >= 17, "only \(kinds.count) kinds of records are there")
            for plant in Self.plants(inodes, records) {
                #expect(plant.key.count >= 9, "\(plant.name): there is no such record")
                let old = try await P.get(volume, plant.key)
                try await P.set(volume, plant.key, plant.change(old))
                let check = try await Check.run(files)
                let told = check.differences.filter { "\($0)".contains(plant.word) }
                #expect(!told.isEmpty, "\(plant.name) of \(plant.path ?? "-"): \(check.differences)")
                if let path = plant.path, let first = told.first, let inode = first.inode {
                    var paths: [String] = [await check.path(of: inode)]
                    for other in told.dropFirst() {
                        if let inode = other.inode { paths.append(await check.path(of: inode)) }
                    }
                    #expect(paths.contains(path), "\(plant.name): \(paths), not \(path)")
                }
                try await P.set(volume, plant.key, old)
            }
            #expect(try await Check.run(files).differences == [], "a plant was left behind")
            // A segment's live bytes, in the engine's own tree.
            guard let entry = try await P.records(volume, tree: 0).first(where: { $0.key.first == 2 }) else {
                Issue.record("no segment is in the table")
                return
            }
            try await P.set(volume, entry.key, Self.add(1, at: 0)(entry.value), tree: 0)
            let check = try await Check.run(files)
            #expect(
                check.differences.contains { if case .liveBytes = $0 { true } else { false } }, "\(check.differences)")
            try await P.set(volume, entry.key, entry.value, tree: 0)
        }
    }

    /// A second name that the file does not know of.
    @Test func aNameThatIsNotKnown() {
        Bench.files { files, world in
            let inodes = try await P.fill(files)
            guard let home = inodes["/d"], let small = inodes["/d/small"] else { return }
            let name = Array("alias".utf8)
            var value: [UInt8] = [1] + withUnsafeBytes(of: small.number.littleEndian) { Array($0) }
            try await P.set(
                files.headhunter, P.key(home.number | P.directory, .cookie, P.bytes(400)), value + [1] + name)
            value += withUnsafeBytes(of: UInt64(400).littleEndian) { Array($0) } + [1]
            try await P.set(files.headhunter, P.key(home.number | P.directory, .name, name), value)
            let check = try await Check.run(files)
            let isTold = check.differences.contains {
                if case .nameUnknown(home.number, 400, small.number) = $0 { true } else { false }
            }
            #expect(isTold, "\(check.differences)")
        }
    }
}
