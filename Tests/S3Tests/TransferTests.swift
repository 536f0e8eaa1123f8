import Foundation
import Runtime
import S3
import TestSupport
import Testing

/// What bodies and answers take of the memory, whoever is slow.
@Suite struct TransferTests {
    @Test func manyHaveSmallPieces() {
        let share = TransferShare(bytesMax: 1 << 20)
        var pieces: [Int] = []
        for _ in 0..<100 { pieces.append(share.take(1 << 30)) }
        // Half of what is left, until that is no piece any more; then a little for each.
        #expect(Array(pieces.prefix(3)) == [512 << 10, 256 << 10, 128 << 10])
        #expect(pieces.dropFirst(5).allSatisfy { $0 == TransferShare.pieceBytesMin })
        #expect(share.heldBytes == pieces.reduce(0, +))
        #expect(share.heldBytes <= (1 << 20) + 100 * TransferShare.pieceBytesMin)
        #expect(share.take(100) == 100 && !share.takeWhole(1))
        for piece in pieces + [100] { share.give(piece) }
        #expect(share.heldBytes == 0)
        #expect(share.takeWhole(1 << 20) && !share.takeWhole(1))
        share.give(1 << 20)
        // All who go on at the same pace have the same in the end.
        var held = [Int](repeating: 0, count: 30)
        for _ in 0..<100 {
            for index in held.indices {
                share.give(held[index])
                held[index] = share.take(1 << 30)
            }
        }
        #expect(held.allSatisfy { abs($0 - (1 << 20) / 32) < 4 << 10 }, "\(held)")
    }

    /// Documents are read whole, so many of them at a time as there is memory for.
    @Test func documentsHaveTheirShare() async throws {
        var limits = S3Limits()
        limits.documentShareBytesMax = 450_000
        limits.documentBytesMax = 100_000
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let tags = Array("<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>".utf8)
        let long = tags + [UInt8](repeating: 0x20, count: 100_000 - tags.count)
        // One is on its way, and holds what of it has come.
        let peer = try Peer(site.listener.address)
        peer.send(Array(site.signed("PUT", "/bkt?tagging", [], body: long).utf8) + long[..<70_000])
        #expect(await eventually { site.service.documents.heldBytes == 4 << 16 })
        let refused = try site.request("PUT", "/bkt?tagging", body: long)
        #expect(refused.status == 503 && refused.code == "SlowDown")
        #expect(try site.request("PUT", "/bkt?tagging", body: tags).status == 204)
        peer.send(Array(long[70_000...]))
        #expect(Site.answer(peer).status == 204)
        #expect(await eventually { site.service.documents.heldBytes == 0 })
        #expect(try site.request("PUT", "/bkt?tagging", body: long).status == 204)
        try await site.close()
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
        #expect(await eventually { site.service.transfers.heldBytes >= 12 * TransferShare.pieceBytesMin })
        #expect(site.service.transfers.heldBytes <= (256 << 10) + 24 * TransferShare.pieceBytesMin)
        // Who was slow gets it all, once he takes it.
        for (index, peer) in stalled.enumerated() where index % 2 == 0 {
            #expect(Site.answer(peer).body == long, "reader \(index)")
        }
        stalled.removeAll()
        for index in stride(from: 1, to: 24, by: 2) {
            #expect(try site.request("HEAD", "/bkt/half\(index)").status == 404)
        }
        #expect(await eventually { site.service.transfers.heldBytes == 0 })
        try await site.close()
    }
}
