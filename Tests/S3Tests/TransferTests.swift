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
        #expect(await eventually { site.service.documents.heldBytes == 4 << 16 + 5 * 128 })
        let refused = try site.request("PUT", "/bkt?tagging", body: long)
        #expect(refused.status == 503 && refused.code == "SlowDown")
        #expect(try site.request("PUT", "/bkt?tagging", body: tags).status == 204)
        peer.send(Array(long[70_000...]))
        #expect(Site.answer(peer).status == 204)
        #expect(await eventually { site.service.documents.heldBytes == 0 })
        #expect(try site.request("PUT", "/bkt?tagging", body: long).status == 204)
        try await site.close()
    }

    /// Elements of few letters are as large as others, once they are read.
    @Test func manyElementsAreMuch() async throws {
        var limits = S3Limits()
        limits.documentShareBytesMax = 1 << 20
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        for (text, code) in [("<a/>", "SlowDown"), ("aaaa", "MalformedXML")] {
            let list = Array("<Tagging>\(String(repeating: text, count: 20_000))</Tagging>".utf8)
            #expect(try site.request("PUT", "/bkt?tagging", body: list).code == code)
        }
        #expect(await eventually { site.service.documents.heldBytes == 0 })
        try await site.close()
    }

    /// What has more elements than any document may have is refused before it holds much.
    @Test func bombsHoldLittle() async throws {
        var limits = S3Limits()
        limits.documentShareBytesMax = 32 << 20
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let bomb = [UInt8](repeating: UInt8(ascii: "<"), count: 1 << 20)
        #expect(try site.request("PUT", "/bkt?tagging", body: bomb).code == "MalformedXML")
        try await site.close()
    }

    /// Pages are shorter when memory is short, and all of them together are the same.
    @Test func pagesWhereMemoryIsShort() async throws {
        var limits = S3Limits()
        limits.transferBytesMax = 64 << 10
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        var keys: [String] = []
        for index in 100..<190 {
            keys.append("key-\(index)")
            #expect(try site.request("PUT", "/bkt/\(keys[keys.count - 1])", body: [1]).status == 200)
        }
        #expect(try site.request("GET", "/bkt?list-type=2&max-keys=50").elements("Key").count == 50)
        let held =
            site.service.transfers.take(1 << 30) + site.service.transfers.take(1 << 30)
            + site.service.transfers.take(1 << 30)
        for (target, marker, next) in [
            ("/bkt?list-type=2", "continuation-token", "NextContinuationToken"), ("/bkt?max-keys=1000", "marker", ""),
            ("/bkt?versions", "key-marker", "NextKeyMarker"),
        ] {
            var found: [String] = []
            var page = target
            while true {
                let answer = try site.request("GET", page)
                #expect(answer.status == 200 && answer.element("MaxKeys") == "1000")
                let some = answer.elements("Key")
                #expect(!some.isEmpty && some.count < 50, "\(target) \(some.count)")
                found += some
                guard answer.element("IsTruncated") == "true", found.count <= keys.count else { break }
                page = target + "&\(marker)=\(answer.element(next) ?? found[found.count - 1])"
            }
            #expect(found == keys, "\(target)")
        }
        site.service.transfers.give(held)
        #expect(await eventually { site.service.transfers.heldBytes == 0 })
        try await site.close()
    }

    /// What waits for its reader is counted, lists like objects; what there is no memory for is refused.
    @Test func listsAreCounted() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        #expect(try site.request("PUT", "/bkt").status == 200)
        let rules = "<AllowedHeader>\(String(repeating: "x", count: 200))</AllowedHeader>"
        let text =
            "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
            + "\(String(repeating: rules, count: 90))</CORSRule></CORSConfiguration>"
        #expect(try site.request("PUT", "/bkt?cors", body: Array(text.utf8)).status == 200)
        #expect(try site.request("GET", "/bkt?cors").text == text)
        let share = site.service.transfers
        #expect(await eventually { share.heldBytes == 0 })
        let all = limits.transferBytesMax
        #expect(share.takeWhole(all - 1000))
        let refused = try site.request("GET", "/bkt?cors")
        #expect(refused.status == 503 && refused.code == "SlowDown")
        share.give(all - 1000)
        // Who asks for more than his sockets hold, and does not read, holds one answer, or one piece of it.
        for (name, size) in [("whole", 200 << 10), ("pieces", 3 << 20)] {
            let body = [UInt8](repeating: 7, count: size)
            #expect(try site.request("PUT", "/bkt/\(name)", body: body).status == 200)
        }
        for (target, piece, count) in [
            ("/bkt?cors", text.utf8.count, 500), ("/bkt/whole", 200 << 10, 50), ("/bkt/pieces", 1 << 20, 4),
        ] {
            var peers: [Peer] = []
            for _ in 0..<8 {
                let peer = try Peer(site.listener.address)
                peer.limitInput(4096)
                let ask = Array(site.signed("GET", target).utf8)
                for _ in 0..<count where peer.send(ask, within: 0.5) < ask.count { break }
                peers.append(peer)
            }
            #expect(await eventually { share.heldBytes >= 8 * piece }, "\(target) \(share.heldBytes)")
            #expect(share.heldBytes <= 8 * 2 * piece, "\(target) \(share.heldBytes)")
            peers.removeAll()
            #expect(await eventually { share.heldBytes == 0 }, "\(target)")
        }
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
                // Not a whole number of pieces of any length: some of it is held.
                peer.send(Array(site.signed("PUT", "/bkt/half\(index)", body: long).utf8) + long[..<100_003])
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
