import CShim
import Glibc
import Runtime
import Testing

@Suite(.serialized) struct IdleConnectionTests {
    @Test(arguments: [0, 20])
    func tenThousandConnectionsTakeLessThan100MiB(_ begun: Int) async throws {
        let count = 10_000
        try #require(shim_open_files(20_000) >= UInt64(count + 200), "the test needs 10,200 open files")
        let server = try EchoProcess("--loops", "2")
        let before = server.resident
        // Each has sent a frame; then they are silent, or have begun another frame and not ended it.
        let frame: [UInt8] = [0, 0, 0, 100] + pattern(100)
        var peers: [Peer] = []
        for _ in 0..<count { peers.append(try Peer(server.address)) }
        for peer in peers { peer.send(frame + frame[..<begun]) }
        for peer in peers { try #require(peer.receive(104) == frame) }
        let after = server.resident
        print("10,000 connections with \(begun) bytes of a message: \(before) KiB before, \(after) KiB after")
        // Sanitizers keep several bytes for each byte of the program.
        let isSanitized = dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil
        #expect(after < (isSanitized ? 400 : 100) << 10)
        // All are alive.
        for peer in peers { peer.send(Array(frame[begun...])) }
        if begun == 0 { for peer in peers { try #require(peer.receive(104) == frame) } }
    }
}
