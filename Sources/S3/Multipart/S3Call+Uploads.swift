import Crypto
import HTTP
import Namespace
import Runtime
import XML

/// Uploads in parts: begin, send, list, give up.
extension S3Call {
    func createUpload() async throws(S3Error) {
        let (bucket, actor) = try await open(.putObject)
        let key = try ObjectKey(request.key)
        guard !key.isDirectory else {
            throw S3Error(.invalidArgument, "A key that ends with a slash is a directory: it can not have bytes.")
        }
        let metadata = try Metadata(request, limits: limits)
        try checkLock(metadata.lock, bucket, request.key, actor)
        try checkMetadata(metadata.record, bucket, request.key)
        _ = try await checkPlace(bucket, key, actor)
        let volume = volume
        var sum: [UInt8]?
        var shown: (algorithm: ChecksumAlgorithm, isComposite: Bool)?
        if let word = request.value("x-amz-checksum-algorithm") {
            guard let algorithm = ChecksumAlgorithm(word: word) else {
                throw S3Error(
                    .invalidRequest,
                    "Checksum algorithm provided is unsupported. Please try again with any of the valid "
                        + "types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
            }
            let isComposite = try self.isComposite(algorithm)
            sum = [algorithm.rawValue, isComposite ? 1 : 0]
            shown = (algorithm, isComposite)
        }
        guard let home = try await uploads(of: bucket.file, make: true) else { throw S3Error(.internalError) }
        let underWay = try await value { volume.totals(ownCaller, below: home.file) }.directories
        guard underWay < UInt64(limits.uploadsMax) else {
            throw S3Error(
                .slowDown, "There are \(underWay) uploads in parts under way in the bucket: complete or abort some.")
        }
        var bytes = [UInt8](repeating: 0, count: Upload.idBytes)
        bytes.withUnsafeMutableBytes { service.random.fill($0) }
        let id = Hexadecimal.encode(bytes)
        let made = try await value {
            Array(id.utf8).withUnsafeBytes {
                volume.create(ownCaller, in: home.file, $0, NewFile(type: .directory, mode: 0o700))
            }
        }
        var attributes = metadata.stored + [ExtendedAttribute(Upload.key, request.key)]
        if let sum { attributes.append(ExtendedAttribute(Upload.algorithm, sum)) }
        if metadata.isPrivate { attributes.append(ExtendedAttribute(Upload.access, [1])) }
        for attribute in attributes {
            let name = String(decoding: attribute.name, as: UTF8.self)
            _ = try await value { volume.setExtendedAttribute(ownCaller, made.file.file, name, attribute.value) }
        }
        var owner = NewAttributes()
        // Who asks, though the bucket lets in in its owner's name: it is this user's to rule.
        owner.uid = grant?.credential.uid ?? actor.uid
        owner.gid = grant?.credential.gid ?? actor.gid
        let number = try await done { volume.setAttributes(ownCaller, made.file.file, owner) }.number
        try await settle(number)
        var fields = ResponseFields()
        if let shown {
            fields.add("x-amz-checksum-algorithm", shown.algorithm.word)
            fields.add("x-amz-checksum-type", shown.isComposite ? "COMPOSITE" : "FULL_OBJECT")
        }
        var xml = XMLWriter()
        xml.root("InitiateMultipartUploadResult") { xml in
            xml.element("Bucket", bucket.name)
            xml.element("Key", bytes: request.key)
            xml.element("UploadId", id)
        }
        try await respond(.ok, fields, xml: xml)
    }

    /// Which of the two forms the whole's checksum has; not every algorithm has both.
    private func isComposite(_ algorithm: ChecksumAlgorithm) throws(S3Error) -> Bool {
        let word = request.value("x-amz-checksum-type")?.uppercased()
        switch (algorithm, word) {
        case (.crc64nvme, nil), (.crc64nvme, "FULL_OBJECT"), (.crc32, "FULL_OBJECT"), (.crc32c, "FULL_OBJECT"):
            return false
        case (.crc32, nil), (.crc32, "COMPOSITE"), (.crc32c, nil), (.crc32c, "COMPOSITE"), (.sha1, nil),
            (.sha1, "COMPOSITE"), (.sha256, nil), (.sha256, "COMPOSITE"):
            return true
        default:
            throw S3Error(
                .invalidRequest,
                "The \(word ?? "") checksum type cannot be used with the \(algorithm.word.lowercased()) checksum algorithm."
            )
        }
    }

    /// Who began an upload rules it, and so do the bucket's owner, in whose name the bucket lets others in, and who
    /// may put the object there.
    private func requireRule(_ upload: Upload, _ bucket: Bucket, _ actor: Credential) async throws(S3Error) {
        if actor.uid == 0 || actor.uid == bucket.directory.uid || actor.uid == upload.initiator { return }
        if let grant, grant.credential.uid == upload.initiator { return }
        _ = try await checkPlace(bucket, try ObjectKey(upload.key), actor)
    }

    /// The upload that the request names, for who may rule it.
    private func ruledUpload(_ bucket: Bucket, _ actor: Credential) async throws(S3Error) -> Upload {
        let upload = try await findUpload(bucket)
        try await requireRule(upload, bucket, actor)
        return upload
    }

    /// The upload that the request names.
    func findUpload(_ bucket: Bucket) async throws(S3Error) -> Upload {
        guard let id = query["uploadId"]?.lowercased(), Upload.isID(id) else {
            throw S3Error(.noSuchUpload, details: [("UploadId", query["uploadId"] ?? "")])
        }
        let missing = S3Error(.noSuchUpload, details: [("UploadId", id)])
        guard let home = try await uploads(of: bucket.file, make: false),
            let directory = try await locate(home.file, [Array(id.utf8)], ownCaller)
        else { throw missing }
        let volume = volume
        let found = try await self.found {
            volume.extendedAttributes(ownCaller, directory.file, prefixes: Upload.prefixes)
        }
        guard let found, let upload = Upload(id, directory, found), upload.key == request.key else { throw missing }
        return upload
    }

    func partNumber() throws(S3Error) -> Int {
        guard let number = try query.number("partNumber"), number >= 1, number <= limits.partsMax else {
            throw S3Error(
                .invalidArgument, "Part number must be an integer between 1 and \(limits.partsMax), inclusive",
                details: [("ArgumentName", "partNumber"), ("ArgumentValue", query["partNumber"] ?? "")])
        }
        return number
    }

    func uploadPart() async throws(S3Error) {
        let (bucket, actor) = try await open(.putObject)
        guard query.has("uploadId") else { throw S3Error(.invalidArgument, "This request needs an uploadId.") }
        let number = try partNumber()
        let upload = try await ruledUpload(bucket, actor)
        if request.value("x-amz-copy-source") != nil { return try await copyPart(upload, number) }
        guard let body else { throw S3Error(.missingContentLength) }
        if let length = body.length, length > limits.putBytesMax { throw RequestBody.tooLarge(limits.putBytesMax) }
        if let algorithm = upload.algorithm {
            if let told = body.algorithm, told != algorithm {
                throw S3Error(
                    .invalidRequest,
                    "Checksum Type mismatch occurred, expected checksum Type: \(algorithm.word.lowercased()), actual "
                        + "checksum Type: \(told.word.lowercased())")
            }
            body.want(algorithm)
        }
        body.wantMD5()
        var metadata = Metadata()
        let key = try ObjectKey(Upload.name(ofPart: number))
        let placed = try await take(body, &metadata, upload.place, key, .root, .anything)
        var fields = ResponseFields()
        fields.add("etag", EntityTag.quoted(placed.file))
        if let sum = metadata.record.sum { fields.add(name: sum.algorithm.field, Base64.encode(sum.value)) }
        respond(.ok, fields)
    }

    /// A part that shares the bytes of an object. Its digest has to be made of them.
    private func copyPart(_ upload: Upload, _ number: Int) async throws(S3Error) {
        let source = try await copySource()
        guard source.file.type == .file else { throw S3Error(.noSuchKey) }
        var range = ByteRange(offset: 0, length: source.file.size)
        if let text = request.value("x-amz-copy-source-range") {
            guard let part = try ByteRange(text, size: source.file.size), text.last != "-", !text.hasPrefix("bytes=-")
            else {
                throw S3Error(
                    .invalidArgument, "The x-amz-copy-source-range value must be of the form bytes=first-last",
                    details: [("ArgumentName", "x-amz-copy-source-range"), ("ArgumentValue", text)])
            }
            range = part
        }
        guard range.length <= limits.putBytesMax else { throw RequestBody.tooLarge(limits.putBytesMax) }
        let file = try await nameless(upload.place, nil, 0o600)
        let digest = Digest(.md5)
        var checksum = upload.algorithm.map { Checksum($0) }
        var sum: ObjectRecord.Sum?
        let placed: StoredObject
        do throws(S3Error) {
            try await clone(source.file, range, to: file)
            // Its own bytes, which nobody else can change.
            try await scan(file, ByteRange(offset: 0, length: range.length)) { bytes in
                digest.update(bytes)
                checksum?.update(bytes)
            }
            var metadata = Metadata()
            sum = checksum.map {
                ObjectRecord.Sum(algorithm: $0.algorithm, isComposite: false, value: $0.finish())
            }
            metadata.record.sum = sum
            placed = try await place(
                file, metadata, EntityTag.seal(digest.finish()), upload.place,
                try ObjectKey(Upload.name(ofPart: number)), .root, .anything)
        } catch {
            await close(file)
            throw error
        }
        await close(file)
        var fields = ResponseFields()
        if let version = source.version { fields.add("x-amz-copy-source-version-id", version.text) }
        var xml = XMLWriter()
        xml.root("CopyPartResult") { xml in
            xml.element("LastModified", Timestamp.extended(nanoseconds: placed.file.modified))
            xml.element("ETag", EntityTag.quoted(placed.file))
            if let sum { xml.element(sum.algorithm.element, Base64.encode(sum.value)) }
        }
        try await respond(.ok, fields, xml: xml)
    }

    // MARK: Giving up

    func abortUpload() async throws(S3Error) {
        let (bucket, actor) = try await open(.abortMultipartUpload)
        let upload = try await ruledUpload(bucket, actor)
        // First nobody finds it any more, so no further part comes.
        let number = try await end(upload)
        try await settle(max(number, try await removeUpload(upload.directory.file, upload.id, bucket.file)))
        respond(.noContent)
    }

    // MARK: Listing

    func listUploads() async throws(S3Error) {
        let (bucket, actor) = try await open(.listBucketMultipartUploads)
        guard grant != nil || actor == bucket.owner else { throw S3Error(.accessDenied) }
        let volume = volume
        var uploads: [Upload] = []
        if let home = try await self.uploads(of: bucket.file, make: false) {
            for (index, (id, directory)) in try await everyUpload(home.file).enumerated() {
                if index % Self.turnMax == Self.turnMax - 1 { await othersTurn() }
                let attributes = try await found { volume.attributes(ownCaller, directory) }
                let found = try await found {
                    volume.extendedAttributes(ownCaller, directory, prefixes: Upload.prefixes)
                }
                guard let attributes, let found, let upload = Upload(id, attributes, found) else { continue }
                // Others' uploads are no business of who may not put anything there.
                do throws(S3Error) { try await requireRule(upload, bucket, actor) } catch { continue }
                uploads.append(upload)
            }
        }
        let prefix = query.bytes("prefix") ?? []
        let delimiter = query.bytes("delimiter") ?? []
        let keyMarker = query.bytes("key-marker") ?? []
        let idMarker = query["upload-id-marker"] ?? ""
        let max = min(try query.number("max-uploads") ?? limits.keysMax, limits.keysMax)
        let isURL = query["encoding-type"] == "url"
        func text(_ key: [UInt8]) -> [UInt8] { isURL ? PercentCoding.encode(key, keepsSlash: true) : key }
        uploads.sort { $0.key == $1.key ? $0.id < $1.id : $0.key.lexicographicallyPrecedes($1.key) }
        uploads.removeAll { upload in
            guard upload.key.starts(with: prefix) else { return true }
            guard !keyMarker.isEmpty else { return false }
            if upload.key == keyMarker { return idMarker.isEmpty || upload.id <= idMarker }
            return upload.key.lexicographicallyPrecedes(keyMarker)
        }
        var shown: [Upload] = []
        var prefixes: [[UInt8]] = []
        var isTruncated = false
        /// The last that was told: an upload, or a common prefix.
        var last: (key: [UInt8], id: String?)?
        for upload in uploads {
            var common: [UInt8]?
            if !delimiter.isEmpty, upload.key.count >= prefix.count + delimiter.count {
                for end in (prefix.count + delimiter.count)...upload.key.count
                where upload.key[(end - delimiter.count)..<end].elementsEqual(delimiter) {
                    common = Array(upload.key[..<end])
                    break
                }
            }
            // All behind a prefix that the page before ended with has been told with it.
            if let common, prefixes.last == common || common == keyMarker { continue }
            guard shown.count + prefixes.count < max else {
                isTruncated = true
                break
            }
            if let common { prefixes.append(common) } else { shown.append(upload) }
            last = common.map { ($0, nil) } ?? (upload.key, upload.id)
        }
        var xml = XMLWriter()
        xml.root("ListMultipartUploadsResult") { xml in
            xml.element("Bucket", bucket.name)
            xml.element("KeyMarker", bytes: text(keyMarker))
            xml.element("UploadIdMarker", idMarker)
            if isTruncated, let last {
                xml.element("NextKeyMarker", bytes: text(last.key))
                if let id = last.id { xml.element("NextUploadIdMarker", id) }
            }
            xml.element("Prefix", bytes: text(prefix))
            if !delimiter.isEmpty { xml.element("Delimiter", bytes: text(delimiter)) }
            if isURL { xml.element("EncodingType", "url") }
            xml.element("MaxUploads", max)
            xml.element("IsTruncated", isTruncated)
            for upload in shown {
                xml.element("Upload") { xml in
                    xml.element("Key", bytes: text(upload.key))
                    xml.element("UploadId", upload.id)
                    writeOwner(upload.initiator, "Initiator", &xml)
                    writeOwner(upload.initiator, "Owner", &xml)
                    xml.element("StorageClass", "STANDARD")
                    xml.element("Initiated", Timestamp.extended(nanoseconds: upload.directory.born))
                    if let algorithm = upload.algorithm { xml.element("ChecksumAlgorithm", algorithm.word) }
                }
            }
            for prefix in prefixes { xml.element("CommonPrefixes") { $0.element("Prefix", bytes: text(prefix)) } }
        }
        try await respond(xml: xml)
    }

    /// Parts behind `after`, in order, and whether there are more.
    func parts(
        _ upload: Upload, after: Int, max: Int
    ) async throws(S3Error) -> (parts: [UploadedPart], hasMore: Bool) {
        let volume = volume
        var parts: [UploadedPart] = []
        var place: [UInt8]? = after == 0 ? [] : Upload.name(ofPart: after) + [0]
        while let from = place, parts.count <= max {
            place = try await value {
                volume.listPaths(ownCaller, below: upload.directory.file, from: from, prefix: [], limit: 256) {
                    path, file in
                    if file.type == .file, let number = Int(String(decoding: path, as: UTF8.self)) {
                        parts.append(UploadedPart(number: number, file: file))
                    }
                    return true
                }
            }
        }
        return parts.count > max ? (Array(parts.prefix(max)), true) : (parts, false)
    }

    func sum(ofPart file: FileID) async throws(S3Error) -> ObjectRecord.Sum? {
        let volume = volume
        let found = try await value {
            volume.extendedAttributes(ownCaller, file, prefixes: [Array(ObjectRecord.name.utf8)])
        }
        return Metadata(found).record.sum
    }

    func listParts() async throws(S3Error) {
        let (bucket, actor) = try await open(.listMultipartUploadParts)
        guard grant != nil else { throw S3Error(.accessDenied) }
        let upload = try await ruledUpload(bucket, actor)
        let max = min(try query.number("max-parts") ?? limits.keysMax, limits.keysMax)
        let marker = try query.number("part-number-marker") ?? 0
        let (parts, hasMore) = try await parts(upload, after: marker, max: max)
        var sums: [ObjectRecord.Sum?] = []
        for part in parts { sums.append(upload.algorithm == nil ? nil : try await sum(ofPart: part.file.file)) }
        var xml = XMLWriter()
        xml.root("ListPartsResult") { xml in
            xml.element("Bucket", bucket.name)
            xml.element("Key", bytes: request.key)
            xml.element("UploadId", upload.id)
            writeOwner(upload.initiator, "Initiator", &xml)
            writeOwner(upload.initiator, "Owner", &xml)
            xml.element("StorageClass", "STANDARD")
            xml.element("PartNumberMarker", marker)
            xml.element("NextPartNumberMarker", parts.last?.number ?? marker)
            xml.element("MaxParts", max)
            xml.element("IsTruncated", hasMore)
            if let algorithm = upload.algorithm {
                xml.element("ChecksumAlgorithm", algorithm.word)
                xml.element("ChecksumType", upload.isComposite ? "COMPOSITE" : "FULL_OBJECT")
            }
            for (part, sum) in zip(parts, sums) {
                xml.element("Part") { xml in
                    xml.element("PartNumber", part.number)
                    xml.element("LastModified", Timestamp.extended(nanoseconds: part.file.modified))
                    xml.element("ETag", EntityTag.quoted(part.file))
                    xml.element("Size", part.file.size)
                    if let sum { xml.element(sum.algorithm.element, Base64.encode(sum.value)) }
                }
            }
        }
        try await respond(xml: xml)
    }
}
