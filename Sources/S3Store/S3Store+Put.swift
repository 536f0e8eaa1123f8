import Bytes
import Crypto
import ObjectStore
import Runtime
import Transfer
import XML

extension S3Store {
    private static let unsigned = "UNSIGNED-PAYLOAD"

    func put(_ name: ObjectName, _ body: ObjectBody, _ condition: PutCondition, _ limit: UInt64) async -> StoreReply {
        // Parts are put together without a condition, whatever was asked for.
        if body.size > max(options.partBytes, S3Options.partBytesMin), condition == .always {
            return await putParts(name, body, limit)
        }
        guard body.size <= S3Options.putBytesMax else { return StoreReply(status: 413) }
        if condition == .absent, !options.createsIfAbsent {
            let there = reply(await send(.head, key(name), limit, over: writes), isHead: true)
            if there.status == 200 { return StoreReply(status: 412) }
            guard there.status == 404 else { return there }
        }
        do throws(StoreError) {
            var extras = try await prepared(body)
            if condition == .absent, options.createsIfAbsent { extras.headers.append(("If-None-Match", "*")) }
            let answer = await send(.put, key(name), limit, over: writes, extras)
            return checked(answer, extras)
        } catch { return failed("\(name): the body: \(error)") }
    }

    /// Sums first: they stand in front of the body. Without TLS its hash is signed, or anybody between us could change it.
    private func prepared(_ body: ObjectBody) async throws(StoreError) -> Extras {
        var extras = Extras()
        extras.body = body
        extras.headers.append(("Content-Type", "application/octet-stream"))
        let wanted: [BodySender.Summary] =
            (options.endpoint.isSecure ? [] : [.sha256]) + (options.hasChecksums ? [.crc32c] : [])
        let sums = try await sender.digest(body, wanted)
        extras.hash = sums[.sha256].map { Hexadecimal.encode($0) } ?? Self.unsigned
        if let sum = sums[.crc32c] { extras.headers.append(("x-amz-checksum-crc32c", Base64.encode(sum))) }
        return extras
    }

    /// A store that says what it has stored must say what was sent.
    private func checked(_ answer: TransferReply, _ extras: Extras) -> StoreReply {
        let reply = reply(answer)
        guard reply.status / 100 == 2, let stored = answer.headers["x-amz-checksum-crc32c"],
            let sent = extras.headers.first(where: { $0.name == "x-amz-checksum-crc32c" })?.value
        else { return reply }
        return stored == sent ? reply : failed("the store has stored other bytes than were sent")
    }

    // MARK: Parts

    /// One part after another, each read while nothing but the one before is in memory: other objects fill the
    /// connections meanwhile. What was begun and could not be completed is taken back.
    private func putParts(_ name: ObjectName, _ body: ObjectBody, _ limit: UInt64) async -> StoreReply {
        let start = loop.now
        func rest() -> UInt64 { limit - min(loop.now - start, limit) }
        var begin = Extras()
        begin.query = [("uploads", "")]
        if options.hasChecksums { begin.headers = [("x-amz-checksum-algorithm", "CRC32C")] }
        let begun = await send(.post, key(name), rest(), over: writes, begin)
        guard begun.status == 200 else { return reply(begun) }
        guard let upload = XMLElement(parsing: begun.bodyBytes)?.text("UploadId"), !upload.isEmpty else {
            return failed("the store began an upload without a name for it")
        }
        let (parts, failure) = await send(body, as: upload, of: name, rest)
        if let failure {
            await abort(upload, of: name)
            return failure
        }
        var complete = Extras()
        complete.query = [("uploadId", upload)]
        complete.headers = [("Content-Type", "application/xml")]
        var xml = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        for (index, part) in parts.enumerated() {
            let sum = part.sum.map { "<ChecksumCRC32C>\($0)</ChecksumCRC32C>" } ?? ""
            xml += "<Part><PartNumber>\(index + 1)</PartNumber><ETag>\(part.tag)</ETag>\(sum)</Part>"
        }
        let text = Array((xml + "</CompleteMultipartUpload>").utf8)
        complete.body = .blocks([text.withUnsafeBytes { Block(copying: $0) }])
        complete.hash = Hexadecimal.encode(Digest.of(.sha256, text))
        let completed = await send(.post, key(name), rest(), over: writes, complete)
        let refusal = await refusal(completed, name, body.size, rest)
        // Without an answer it may be complete: then there is nothing to take back, and that is no error.
        if refusal != nil { await abort(upload, of: name) }
        return refusal ?? reply(completed)
    }

    /// Why the object is not there, whatever the answer to its completion says; nil: it is. A store sends 200 before it
    /// knows, and what stands in front of it may send one that means nothing.
    private func refusal(
        _ completed: TransferReply, _ name: ObjectName, _ size: UInt64, _ rest: () -> UInt64
    ) async -> StoreReply? {
        guard completed.status == 200 else { return reply(completed) }
        guard XMLElement(parsing: completed.bodyBytes)?.name == "CompleteMultipartUploadResult" else {
            return failed("the parts were not put together: \(S3Answer(completed).text(200))")
        }
        let there = await send(.head, key(name), rest(), over: writes)
        guard there.status == 200 else {
            return failed(
                "the parts were put together, and looking at the object: \(reply(there, isHead: true).reason)")
        }
        let found = there.headers["Content-Length"].flatMap { UInt64($0) }
        guard found == size else {
            return failed("of \(size) bytes in parts the store has \(found.map { "\($0)" } ?? "an unknown number")")
        }
        return nil
    }

    private typealias Part = (tag: String, sum: String?)

    private func send(
        _ body: ObjectBody, as upload: String, of name: ObjectName, _ rest: () -> UInt64
    ) async -> (parts: [Part], failure: StoreReply?) {
        let size = max(
            options.partBytes, S3Options.partBytesMin, (body.size + S3Options.partsMax - 1) / S3Options.partsMax)
        var pieces = BodyPieces(body, world: world, loop: loop)
        var parts: [Part] = []
        var sent: UInt64 = 0
        var held: [Block] = []
        var bytes: UInt64 = 0
        do throws(StoreError) {
            while sent < body.size {
                while bytes < min(size, body.size - sent) {
                    guard let piece = try await pieces.next() else { return ([], failed("the body ended too early")) }
                    held.append(piece)
                    bytes += UInt64(piece.count)
                }
                var extras = try await prepared(.blocks(held))
                extras.query = [("partNumber", String(parts.count + 1)), ("uploadId", upload)]
                let answer = await send(.put, key(name), rest(), over: writes, extras)
                let status = checked(answer, extras)
                guard status.status == 200 else { return ([], status) }
                guard let tag = answer.headers["ETag"],
                    tag.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x3c && $0 != 0x26 })
                else { return ([], failed("the store took a part and did not name it")) }
                // A store that knows nothing of it may refuse a completion that names it.
                parts.append((tag, answer.headers["x-amz-checksum-crc32c"]))
                sent += bytes
                (held, bytes) = ([], 0)
            }
            return (parts, nil)
        } catch { return ([], failed("\(name): the body: \(error)")) }
    }

    /// Parts that nobody puts together cost money until the bucket's rules remove them. In a task of its own: the one
    /// that began the upload may have been given up, and could send nothing more.
    private func abort(_ upload: String, of name: ObjectName) async {
        await loop.task {
            var extras = Extras()
            extras.query = [("uploadId", upload)]
            _ = await self.send(.delete, self.key(name), Self.abortNanoseconds, over: self.writes, extras)
        }.value
    }

    private static let abortNanoseconds: UInt64 = 10_000_000_000
}
