import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

@Suite struct WatchTests {
    /// Programs that watch many folders give each much room; what waits must not keep a connection's others from being served.
    @Test func manyWatchesStopNobody() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let root = try client.open("", .init(access: 0x12_0089, options: 1)).handle
        var wire = Wire()
        wire.u16(32)
        wire.u16(0)
        wire.u32(65_536)
        wire.handle(root)
        wire.u32(0xFFF)
        wire.u32(0)
        for _ in 0..<300 {
            let number = client.send(.changeNotify, wire.bytes)
            #expect(try client.reply(to: number, pending: true).status == .pending)
        }
        #expect(try client.ask(.echo, [4, 0, 0, 0]).status == .success)
        #expect(try client.open("made", .init(disposition: 2)).status == .success)
        #expect(try client.close(root).status == .success)
        try await site.close()
    }
}
