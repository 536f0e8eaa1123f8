import Bytes
import HTTP
import Namespace
import Runtime

/// Reading objects. What is answered is one version of the object, whole, whatever takes its name meanwhile.
extension S3Call {
    /// Up to this size an object is read before the answer begins, from memory if it is there.
    private static var wholeBytes: Int { 256 << 10 }
    private static var blockBytes: Int { 1 << 20 }

    func getObject() async throws(S3Error) {
        let (bucket, actor) = try await open(.getObject)
        let key = try ObjectKey.ifPath(request.key)
        var tries = 0
        while try await !get(bucket, key, actor) {
            tries += 1
            guard tries < Self.triesMax else { throw S3Error(.operationAborted) }
        }
    }

    /// False: the object was replaced meanwhile.
    private func get(_ bucket: Bucket, _ key: ObjectKey, _ actor: Credential) async throws(S3Error) -> Bool {
        let volume = volume
        let found = try await version(bucket, key, actor)
        let (file, metadata) = (found.file, found.metadata)
        try checkRead(metadata.record, actor)
        let reader = grant == nil ? caller(bucket.owner) : caller(actor)
        if file.type == .file {
            do throws(FileError) { _ = try await supplied { volume.mayRead(reader, file.file) } } catch {
                if error == .stale { return false }
                // A list that lets in who is signed in is as good as the file's own rights.
                guard error == .accessDenied,
                    [.publicRead, .publicReadWrite, .authenticatedRead].contains(metadata.record.acl)
                else { throw S3Error(file: error) }
            }
        }
        var fields = try head(file, metadata)
        addVersion(found.id, to: &fields)
        addExpiry(of: found, bucket, key, to: &fields)
        try Conditions(request).check(file)
        let size = file.type == .file ? file.size : 0
        let (range, status, more) = try part(file, metadata, size, fields)
        if request.method != .head {
            guard try await admitReader(file.file, range) else { return false }
        }
        if request.method == .head || range.length == 0 {
            // Nothing but the head is said, and it is said of what was found.
            if request.method != .head, try await !isSame(file) { return false }
            begin(status, more, range)
            exchange.end()
            return true
        }
        if range.length <= UInt64(Self.wholeBytes) {
            let transfers = service.transfers
            let piece = transfers.take(Int(range.length))
            defer { transfers.give(piece) }
            if range.length <= piece { return try await getWhole(file, range, status, more) }
        }
        return try await stream(file, range, status, more)
    }

    private func head(_ file: Attributes, _ metadata: Metadata) throws(S3Error) -> ResponseFields {
        var fields = ResponseFields()
        for header in ObjectRecord.Header.allCases where grant == nil && query.has(header.override) {
            throw S3Error(
                .invalidRequest, "Request specific response headers cannot be used for anonymous GET requests.")
        }
        fields.add("last-modified", HTTPDate.format(file.modified / 1_000_000_000))
        fields.add("etag", EntityTag.quoted(file))
        fields.add("accept-ranges", "bytes")
        metadata.add(to: &fields, query)
        return fields
    }

    /// Which bytes, and what the answer says of them.
    private func part(
        _ file: Attributes, _ metadata: Metadata, _ size: UInt64, _ head: ResponseFields
    ) throws(S3Error) -> (ByteRange, Status, ResponseFields) {
        var fields = head
        let record = metadata.record
        let parts = file.seal.map { Int($0.parts) } ?? 0
        if let number = try query.number("partNumber") {
            guard request.value("range") == nil else {
                throw S3Error(.invalidRequest, "Cannot specify both Range header and partNumber query parameter")
            }
            let isMultipart =
                parts > 0 && record.partSizes.count == parts && record.partSizes.reduce(0, +) == size
            guard number >= 1, number <= (isMultipart ? parts : 1) else {
                throw S3Error(
                    .invalidPartNumber, "The requested partnumber is not satisfiable",
                    details: [("ActualPartCount", "\(max(parts, 1))"), ("PartNumberRequested", "\(number)")])
            }
            guard isMultipart else {
                let range = ByteRange(offset: 0, length: size)
                if size > 0 { addContentRange(range, size, &fields) }
                return (range, .partialContent, fields)
            }
            let offset = record.partSizes[..<(number - 1)].reduce(0, +)
            let range = ByteRange(offset: offset, length: record.partSizes[number - 1])
            fields.add("x-amz-mp-parts-count", "\(parts)")
            if range.length > 0 { addContentRange(range, size, &fields) }
            return (range, .partialContent, fields)
        }
        if let text = request.value("range"), isOfRange(file), let range = try ByteRange(text, size: size) {
            addContentRange(range, size, &fields)
            return (range, .partialContent, fields)
        }
        if request.value("x-amz-checksum-mode")?.uppercased() == "ENABLED", file.seal != nil {
            addSum(record.sum, parts: parts, to: &fields)
        }
        return (ByteRange(offset: 0, length: size), .ok, fields)
    }

    /// Whether the object is the one that `If-Range` means: else the client would put two versions together.
    private func isOfRange(_ file: Attributes) -> Bool {
        guard let text = request.value("if-range") else { return true }
        // Weak tags never match here (RFC 9110 13.1.5).
        if text.hasPrefix("\"") { return text == EntityTag.quoted(file) }
        return Timestamp.http(text) == file.modified / 1_000_000_000
    }

    private func addContentRange(_ range: ByteRange, _ size: UInt64, _ fields: inout ResponseFields) {
        fields.add("content-range", "bytes \(range.offset)-\(range.offset + range.length - 1)/\(size)")
    }

    private func begin(_ status: Status, _ fields: ResponseFields, _ range: ByteRange) {
        var fields = fields
        addIdentity(&fields)
        exchange.begin(status, fields, length: .bytes(range.length))
    }

    /// Waits for who keeps writes to himself, and refuses what others have locked or deny: docs/sharing.md. Rights have been
    /// asked for. False: the file is gone.
    func admitReader(_ file: FileID, _ range: ByteRange) async throws(S3Error) -> Bool {
        let volume = volume
        do throws(FileError) {
            _ = try await supplied {
                volume.mayRead(ownCaller, file, at: range.offset, count: Int(clamping: range.length))
            }
            return true
        } catch {
            if error == .stale { return false }
            throw S3Error(file: error)
        }
    }

    /// Whether what was read is what the answer's head speaks of.
    func isSame(_ file: Attributes) async throws(S3Error) -> Bool {
        let volume = volume
        guard let now = try await found({ volume.attributes(ownCaller, file.file) }) else { return false }
        // Its rights or times may be others: the content is what the seal says.
        if let seal = file.seal { return now.seal == seal && now.size == file.size }
        return now.change == file.change
    }

    /// All of it is there before the answer begins. False: it is another content by now.
    private func getWhole(
        _ file: Attributes, _ range: ByteRange, _ status: Status, _ fields: ResponseFields
    ) async throws(S3Error) -> Bool {
        let block = Block(capacity: Int(range.length))
        defer { extendLifetime(block) }
        guard let count = try await read(file.file, range.offset, into: block), count == block.capacity,
            try await isSame(file)
        else { return false }
        begin(status, fields, range)
        // As long as the peer has not taken it, it is in memory.
        if count > TransferShare.pieceBytesMin { exchange.limitOutput(1) }
        exchange.write(block, count: count)
        await outputRoom()
        exchange.end()
        return true
    }

    /// Nil: the file is gone.
    private func read(_ file: FileID, _ offset: UInt64, into block: Block) async throws(S3Error) -> Int? {
        let volume = volume
        switch volume.fileSystem.read(ownCaller.request, file, at: offset, into: block.free) {
        case .done(let count, _):
            block.count = count
            return count
        case .refused(let error):
            if error == .stale { return nil }
            throw S3Error(file: error)
        case .lacks: break
        }
        do throws(FileError) {
            let count = try await volume.readAll(file, at: offset, into: SendableBuffer(block.free))
            block.count = count
            return count
        } catch {
            if error == .stale { return nil }
            throw S3Error(file: error)
        }
    }

    /// While it is open the file stays, also when another one gets its name. False: it is another content already.
    private func stream(
        _ file: Attributes, _ range: ByteRange, _ status: Status, _ fields: ResponseFields
    ) async throws(S3Error) -> Bool {
        let volume = volume
        do throws(FileError) { _ = try await supplied { volume.open(ownCaller, file.file) } } catch {
            if error == .stale { return false }
            throw S3Error(file: error)
        }
        var offset = range.offset
        let end = range.offset + range.length
        let transfers = service.transfers
        while offset < end, !isAbandoned {
            let piece = transfers.take(Int(min(end - offset, UInt64(Self.blockBytes))))
            defer { transfers.give(piece) }
            // Its memory is held until the peer has taken the last byte of it.
            exchange.limitOutput(1)
            let block = Block(capacity: piece)
            var count: Int?
            do throws(S3Error) {
                count = try await read(file.file, offset, into: block)
                // A file client may write in place: the answer is one version, or it has no end.
                if try await !isSame(file) { count = nil }
            } catch {
                if !exchange.hasBegun {
                    await close(file.file)
                    throw error
                }
                count = nil
            }
            // Shorter than it was, changed or unreadable: the client sees the answer break off.
            guard let count, count == block.capacity else { break }
            if offset == range.offset { begin(status, fields, range) }
            exchange.write(block, count: count)
            offset += UInt64(count)
            await outputRoom()
        }
        let hasBegun = exchange.hasBegun
        if hasBegun { exchange.end() }
        await close(file.file)
        return hasBegun
    }

    /// Reads a range of a file in pieces, for who needs its bytes here.
    func scan(
        _ file: FileID, _ range: ByteRange, _ visit: (UnsafeRawBufferPointer) -> Void
    ) async throws(S3Error) {
        var offset = range.offset
        let end = range.offset + range.length
        let transfers = service.transfers
        while offset < end {
            let piece = transfers.take(Int(min(end - offset, UInt64(Self.blockBytes))))
            defer { transfers.give(piece) }
            let block = Block(capacity: piece)
            guard let count = try await read(file, offset, into: block), count == block.capacity else {
                throw S3Error(.operationAborted, "The source changed meanwhile.")
            }
            visit(block.bytes)
            extendLifetime(block)
            offset += UInt64(count)
            // Up to 5 GiB are digested here.
            await othersTurn()
        }
    }
}
