import Configuration
import Glibc
import Testing

/// etc/proxyfs.toml is what operators start from: it must be valid, say the defaults, and name every key.
@Suite struct SampleFileTests {
    private func sample() throws -> String {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let file = try #require(fopen("/\(root)/etc/proxyfs.toml", "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    @Test func saysTheDefaults() throws {
        var said = try Configuration.load(Array(sample().utf8), file: "s").configuration
        let volumes = said.volumes.map(\.name)
        #expect(volumes == ["default"])
        said.volumes = [Configuration.standardVolume]
        #expect(try said == Configuration.load(nil, file: "").configuration)
    }

    /// Also the keys that are commented out, once they are not.
    @Test func namesEveryKey() throws {
        let text = try sample()
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let active = lines.map { line in
            let bare = line.hasPrefix("# ") ? line.dropFirst(2) : line
            return line.hasPrefix("# ") && (bare.contains(" = ") || bare.hasPrefix("[[")) ? bare : line
        }
        let loaded = try Configuration.load(Array(active.joined(separator: "\n").utf8), file: "s")
        #expect(loaded.known.count > 25)
        for key in loaded.known { #expect(loaded.places[key.path] != nil, "\(key.path) is not in etc/proxyfs.toml") }
    }

    /// What the fuzzer found worth keeping runs with every test: read or refused, never trapped on.
    @Test func fuzzersCorpus() throws {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let folder = "/\(root)/fuzz/corpus/TOML"
        let directory = try #require(opendir(folder))
        defer { closedir(directory) }
        var count = 0
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasPrefix(".") { continue }
            let file = try #require(fopen("\(folder)/\(name)", "r"))
            defer { fclose(file) }
            var bytes = [UInt8](repeating: 0, count: 65_536)
            let size = fread(&bytes, 1, bytes.count, file)
            _ = try? Configuration.load(Array(bytes[..<size]), file: "f")
            count += 1
        }
        #expect(count > 0)
    }
}
