import Glibc
import Namespace
import Passthrough
import Runtime
import Testing

/// The same program on every file system; what differs is written in differences.txt, and nothing else may differ.
@Suite struct ConformanceTests {
    /// A file of the source tree.
    private static func text(_ path: String) throws -> String {
        let root = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
        let descriptor = open(root + "/" + path, O_RDONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1 << 18)
        let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    private static func differences(_ name: String) throws -> [String] {
        try text("Tests/PassthroughTests/differences.txt").split(separator: "\n")
            .filter { $0.hasPrefix(name + ": ") }.map { String($0.dropFirst(name.count + 2)) }
    }

    private static func hold(_ program: Conformance, _ name: String) throws {
        let known = try differences(name)
        for line in program.seen where !known.contains(line) { Issue.record("\(name): \(line)") }
        for line in known where !program.seen.contains(line) {
            Issue.record("\(name) does not differ any more: \(line)")
        }
        #expect(program.cases > 200)
    }

    /// A member that the program does not call may differ without anybody knowing.
    @Test func everyMemberIsCalled() throws {
        let program =
            try ["Conformance.swift", "Conformance+Members.swift", "Rig.swift"]
            .map { try Self.text("Tests/PassthroughTests/" + $0) }.joined()
        var count = 0
        for file in ["FileSystem/FileSystem", "Objects/ObjectFiles", "Versions/VersionedFiles"] {
            let lines = try Self.text("Sources/Namespace/" + file + ".swift").split(separator: "\n")
            let body = lines.drop { !$0.hasPrefix("public protocol") }.prefix { $0 != "}" }
            for line in body {
                for kind in ["    func ", "    var "] where line.hasPrefix(kind) {
                    let name = line.dropFirst(kind.count).prefix { $0 != "(" && $0 != ":" }
                    count += 1
                    #expect(program.contains("files." + name), "\(name) is not called")
                }
            }
        }
        #expect(count > 60)
    }

    @Test func passthrough() async throws {
        let rig = try Rig()
        defer { rig.end() }
        try Self.hold(try await Conformance.run(Client(files: try rig.passthrough(), world: rig.world)), "Passthrough")
    }

    @Test func logFS() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let hosted = try await rig.loop.task {
            try await HostedVolume.open("v", folder: "v", durability: .log, world: rig.world, loop: rig.loop)
        }.value
        try Self.hold(
            try await Conformance.run(Client(files: hosted.volume.fileSystem, world: rig.world)), "LogFS")
        _ = try await rig.loop.task { try await hosted.close() }.value
    }
}
