import Foundation
import Runtime
import S3
import TestSupport
import Testing

/// What bodies and answers take of the memory, whoever is slow.
@Suite struct TransferTests {
    @Test func manyHaveSmallPieces() {
        let share = TransferShare(bytesMax: 1 << 20)
        #expect(share.piece(1 << 30) == 1 << 20)
        for _ in 0..<16 { share.enter() }
        #expect(share.piece(1 << 30) == 64 << 10)
        #expect(share.piece(100) == 100)
        for _ in 0..<1000 { share.enter() }
        #expect(share.piece(1 << 30) == TransferShare.pieceBytesMin)
        for _ in 0..<1015 { share.leave() }
        #expect(share.piece(1 << 30) == 1 << 20)
    }

    /// Readers that take nothing, and writers that stop in the middle, leave the others whole objects.
    @Test func slowOnesLeaveTheOthersAlone() async throws {
        var limits = S3Limits()
        limits.transferBytesMax = 256 << 10
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let long = (0..<(3 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) }
        #expect(try site.request("PUT", "/bkt/long", body: long).status == 200)
        var stalled: [Peer] = []
        for index in 0..<24 {
            let peer = try Peer(site.listener.address)
            if index % 2 == 0 {
                peer.send(Array(site.signed("GET", "/bkt/long").utf8))
            } else {
                peer.send(Array(site.signed("PUT", "/bkt/half\(index)", body: long).utf8) + long[..<(100 << 10)])
            }
            stalled.append(peer)
        }
        for size in [1, 16 << 10, (16 << 10) + 1, 200 << 10, 300 << 10, 2 << 20] {
            let body = Array(long[..<size])
            #expect(try site.request("PUT", "/bkt/k", body: body).status == 200)
            let answer = try site.request("GET", "/bkt/k")
            #expect(answer.status == 200 && answer.body == body, "\(size): \(answer.status)")
        }
        // The writers are there at least: what a reader does not take may lie in the sockets.
        #expect(site.service.transfers.piece(1 << 30) <= (256 << 10) / 12)
        // Who was slow gets it all, once he takes it.
        for (index, peer) in stalled.enumerated() where index % 2 == 0 {
            #expect(Site.answer(peer).body == long, "reader \(index)")
        }
        stalled.removeAll()
        for index in stride(from: 1, to: 24, by: 2) {
            #expect(try site.request("HEAD", "/bkt/half\(index)").status == 404)
        }
        try await site.close()
    }
}
