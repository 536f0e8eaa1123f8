import Glibc
import Namespace
import Passthrough
import Runtime
import Testing

@Suite struct PassthroughTests {
    @Test func filesAreTheHostsOwn() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let client = Client(files: try rig.passthrough(), world: rig.world)
        let file = try await client.create("a").file
        try await client.write(file.file, "hello")
        #expect(rig.get(rig.served + "/a") == "hello")
        rig.put("from the host", rig.served + "/b")
        let other = try await client.lookup("b")
        #expect(try await client.read(other.file) == "from the host")
        #expect(try await client.names() == ["a", "b"])
        #expect(try await client.names(attributes: true) == ["a", "b"])
    }
}
