import Foundation
import Namespace
import Runtime
import S3
import TestSupport
import Testing
import XML

@Suite struct ServiceTests {
    @Test func bodiesInTheirCodings() async throws {
        let site = try await Site()
        #expect(try site.request("PUT", "/bkt").status == 200)
        let chunked = Array("5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n".utf8)
        let fields = [
            ("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", "11"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ]
        let put = try site.request(
            "PUT", "/bkt/chunks", fields, body: chunked, hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        #expect(put.status == 200 && put.field("x-amz-checksum-crc32") == "DUoRhQ==")
        let get = try site.request("GET", "/bkt/chunks", [("x-amz-checksum-mode", "ENABLED")])
        #expect(get.text == "hello world" && get.field("content-encoding") == nil)
        #expect(get.field("x-amz-checksum-crc32") == "DUoRhQ==" && get.field("x-amz-checksum-type") == "FULL_OBJECT")
        let wrong = Array("b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n".utf8)
        #expect(
            try site.request("PUT", "/bkt/bad", fields, body: wrong, hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER").code
                == "BadDigest")
        let short = Array("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n".utf8)
        #expect(
            try site.request("PUT", "/bkt/bad", fields, body: short, hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER").code
                == "IncompleteBody")
        #expect(try site.request("PUT", "/bkt/bad", body: [1], hash: emptyHash).code == "XAmzContentSHA256Mismatch")
        #expect(try site.request("GET", "/bkt/bad").code == "NoSuchKey")
        try await site.close()
    }

    /// The client learns that it need not send the body before it does.
    @Test func continueOnlyWhenAccepted() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        let body = [UInt8](repeating: 7, count: 1000)
        let peer = try Peer(site.listener.address)
        peer.send(site.signed("PUT", "/bkt/k", [("expect", "100-continue")], body: body))
        #expect(peer.receive(through: "\r\n\r\n").hasPrefix("HTTP/1.1 100"))
        peer.send(body)
        #expect(Site.answer(peer).status == 200)
        let refused = try Peer(site.listener.address)
        refused.send(site.signed("PUT", "/none/k", [("expect", "100-continue")], body: body))
        #expect(Site.answer(refused).code == "NoSuchBucket")
        try await site.close()
    }

    /// A connection that breaks off leaves what was there.
    @Test func cutUploadsChangeNothing() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        for size in [1000, 2_000_000] {
            let body = [UInt8](repeating: 1, count: size)
            _ = try site.request("PUT", "/bkt/k", body: body)
            let peer = try Peer(site.listener.address)
            let next = [UInt8](repeating: 2, count: size)
            peer.send(Array(site.signed("PUT", "/bkt/k", body: next).utf8) + next.dropLast(10))
            peer.close()
            #expect(try site.request("GET", "/bkt/k").body == body)
        }
        try await site.close()
    }

    /// A write by a file client is seen at once, and gives another entity tag; a change of rights does not.
    @Test func oneTruthWithFiles() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        let put = try site.request("PUT", "/bkt/d/k", [("x-amz-meta-one", "1")], body: Array("content".utf8))
        let tag = try #require(put.field("etag"))
        #expect(tag == "\"9a0364b9e99bb480dd25e1f0284c8555\"")
        let volume = site.volume
        let clock = site.clock
        func files<Value: Sendable>(_ body: @escaping @Sendable (Caller) -> Attempt<Value>) async throws -> Value {
            try await site.world.loops[1].task { () async throws -> Value in
                while true {
                    switch body(Caller(.root, Request(reader: 1, now: clock.wall()))) {
                    case .done(let value, _): return value
                    case .refused(let error): throw error
                    case .lacks(let lack): try await lack.supplied()
                    }
                }
            }.value
        }
        @Sendable func find(_ caller: Caller) -> Attempt<Attributes> {
            var place = volume.root
            for name in ["bkt", "d", "k"] {
                switch Array(name.utf8).withUnsafeBytes({ volume.lookup(caller, in: place, $0) }) {
                case .done(let found, _): place = found.file
                case .refused(let error): return .refused(error)
                case .lacks(let lack): return .lacks(lack)
                }
            }
            return volume.attributes(caller, place)
        }
        let file = try await files(find)
        #expect(file.size == 7 && file.uid == 10_000 && file.mode == 0o644)
        var mode = NewAttributes()
        mode.mode = 0o600
        let closed = mode
        _ = try await files { volume.setAttributes($0, file.file, closed) }
        #expect(try site.request("HEAD", "/bkt/d/k").field("etag") == tag)
        // By the very attribute that a file client sees.
        _ = try await files { volume.setExtendedAttribute($0, file.file, "user.two", Array("2".utf8)) }
        let head = try site.request("HEAD", "/bkt/d/k")
        #expect(head.field("x-amz-meta-one") == "1" && head.field("x-amz-meta-two") == "2" && head.field("etag") == tag)
        _ = try await files { caller in
            [UInt8(ascii: "X")].withUnsafeBytes { volume.write(caller, file.file, at: 7, $0) }
        }
        let get = try site.request("GET", "/bkt/d/k")
        #expect(get.text == "contentX")
        let other = try #require(get.field("etag"))
        #expect(other != tag && other.contains("-"))
        #expect(
            try site.request("GET", "/bkt?list-type=2").element("ETag")
                == other.replacingOccurrences(of: "\"", with: "&quot;"))
        _ = try await files { caller in
            [UInt8(ascii: "Y")].withUnsafeBytes { volume.write(caller, file.file, at: 0, $0) }
        }
        #expect(try site.request("HEAD", "/bkt/d/k").field("etag") != other)
        let totals = try await files { caller in volume.totals(caller, below: volume.root) }
        #expect(totals.bytes == 7 || totals.bytes == 8)
        try await site.close()
    }

    /// Each GET has one version, whole, while others replace it.
    @Test func readersSeeOneVersion() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        let sizes = [100, 5000, 300_000, 3_000_000]
        for size in sizes { _ = try site.request("PUT", "/bkt/k\(size)", body: [UInt8](repeating: 0, count: size)) }
        await withTaskGroup(of: Void.self) { group in
            for size in sizes {
                group.addTask {
                    for round in 1...12 {
                        let put = try? site.request(
                            "PUT", "/bkt/k\(size)", body: [UInt8](repeating: UInt8(round), count: size))
                        #expect(put?.status == 200)
                    }
                }
                for _ in 0..<2 {
                    group.addTask {
                        for _ in 0..<12 {
                            guard let get = try? site.request("GET", "/bkt/k\(size)") else { continue }
                            #expect(get.status == 200 && get.body.count == size)
                            #expect(Set(get.body).count == 1)
                        }
                    }
                }
            }
        }
        try await site.close()
    }

    @Test func manyPartsBecomeOneObject() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        _ = try site.request("PUT", "/bkt")
        let upload = try #require(try site.request("POST", "/bkt/k?uploads").element("UploadId"))
        let count = 300
        var list = "<CompleteMultipartUpload>"
        var whole: [UInt8] = []
        for number in 1...count {
            // Some lie in the tree, some in segments.
            let part = (0..<(number % 7 * 1000 + 1)).map { UInt8(truncatingIfNeeded: $0 &* number) }
            whole += part
            let put = try site.request("PUT", "/bkt/k?partNumber=\(number)&uploadId=\(upload)", body: part)
            list += "<Part><PartNumber>\(number)</PartNumber><ETag>\(put.field("etag") ?? "")</ETag></Part>"
        }
        let done = try site.request(
            "POST", "/bkt/k?uploadId=\(upload)", body: Array((list + "</CompleteMultipartUpload>").utf8))
        #expect(done.status == 200 && done.element("ETag")?.hasSuffix("-\(count)&quot;") == true)
        let get = try site.request("GET", "/bkt/k")
        #expect(get.body == whole)
        #expect(try site.request("GET", "/bkt?uploads").elements("Upload").isEmpty)
        try await site.close()
    }
}
