import S3
import Testing

@Suite struct ShelfPathTests {
    /// Paths of all versions sort as their keys do, and of one key the newest comes first; what was written can be read.
    @Test func orderOfKeysAndTimes() {
        var random = SystemRandomNumberGenerator()
        let letters: [UInt8] = [1, 2, 0x21, 0x2d, 0x2e, 0x2f, 0x30, 0x41, 0x61, 0xc3, 0xff]
        func key() -> [UInt8] {
            let count = [1, 2, 3, 3, 150, 199, 200, 201, 399, 400, 401, 1024].randomElement(using: &random) ?? 1
            if count < 10 { return (0..<count).map { _ in letters.randomElement(using: &random) ?? 0x61 } }
            return Array(repeating: 0x61, count: count - 1) + [letters.randomElement(using: &random) ?? 0x61]
        }
        var paths: [ShelfPath] = []
        for _ in 0..<3000 {
            let time = UInt64.random(in: 0...UInt64.max, using: &random)
            let stamp = VersionID.Stamp(time: time, salt: .random(in: 0...UInt64.max, using: &random))
            paths.append(
                ShelfPath(
                    key: key(), id: Bool.random(using: &random) ? .stamped(stamp) : .null, time: time,
                    isMark: Bool.random(using: &random)))
        }
        for path in paths {
            let bytes = path.bytes
            #expect(bytes.withUnsafeBytes { ShelfPath($0) } == path)
            #expect(bytes.starts(with: ShelfPath.prefix(ofVersionsOf: path.key)))
            let part = Array(path.key.prefix(.random(in: 0...path.key.count, using: &random)))
            #expect(bytes.starts(with: ShelfPath.prefix(ofKeys: part)))
            if case .stamped(let stamp) = path.id {
                #expect(bytes.starts(with: ShelfPath.prefix(of: stamp, of: path.key)))
                #expect(VersionID(path.id.text) == path.id)
            }
            for name in bytes.split(separator: 0x2f, omittingEmptySubsequences: false) {
                #expect((1...255).contains(name.count) && name != [0x2e] && name != [0x2e, 0x2e])
            }
        }
        for (a, b) in zip(paths, paths.dropFirst()) where a.time != b.time || a.key != b.key {
            let wanted = a.key == b.key ? a.time > b.time : a.key.lexicographicallyPrecedes(b.key)
            #expect(a.bytes.lexicographicallyPrecedes(b.bytes) == wanted)
        }
    }

    @Test func damagedPathsAreNone() {
        for text in [
            "", "v", "abc", "a\u{1}\u{1}0000000000000000nullx", "a\u{1}\u{1}000000000000000gnullv",
            "a.\u{3}\u{1}\u{1}0000000000000000nullv",
        ] {
            #expect(Array(text.utf8).withUnsafeBytes { ShelfPath($0) } == nil)
        }
        for text in ["", "nul", "NULL", String(repeating: "g", count: 32), String(repeating: "0", count: 31)] {
            #expect(VersionID(text) == nil)
        }
    }
}
