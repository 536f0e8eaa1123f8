import Crypto
import HTTP
import Namespace
import Runtime
import XML

/// The end of an upload: a file that has the parts' bytes, one behind the other, takes the object's name in one change.
extension S3Call {
    private struct Named {
        var number: Int
        var tag: String
        var sum: (algorithm: ChecksumAlgorithm, value: String)?
    }

    func completeUpload() async throws(S3Error) {
        let (bucket, actor) = try await open(.putObject)
        let key = try ObjectKey(request.key)
        let named = try namedParts(try await document())
        let upload: Upload
        do throws(S3Error) { upload = try await findUpload(bucket) } catch {
            guard error.code == .noSuchUpload, try await answerAgain(bucket, key, actor) else { throw error }
            return
        }
        guard service.completing.withLock({ $0.insert(upload.directory.file).inserted }) else {
            throw S3Error(.operationAborted, "This upload is being completed.")
        }
        defer { service.completing.withLock { _ = $0.remove(upload.directory.file) } }
        // A crash came between the object and the end of its upload.
        if try await answerAgain(bucket, key, actor) {
            _ = try? await removeUpload(upload.directory.file, upload.id, bucket.file)
            return
        }
        let existing = try await checkPlace(bucket, key, actor)
        let expected = try Conditions(request).expected(existing)
        let (parts, metadata, seal) = try await check(named, upload)
        let file = try await nameless(bucket, key, metadata.mode)
        let placed: StoredObject
        do throws(S3Error) {
            do throws(FileError) {
                _ = try await volume.join(parts.map(\.file.file), to: file, now: now)
            } catch {
                throw error == .stale ? S3Error(.invalidPart) : S3Error(file: error)
            }
            placed = try await place(file, metadata, seal, bucket, key, actor, expected, of: upload)
        } catch {
            await close(file)
            throw error
        }
        await close(file)
        try await respondComplete(bucket, placed.file, metadata.record, placed.version)
        // The object has what the parts had: nobody waits for their removal, or misses it.
        _ = try? await removeUpload(upload.directory.file, upload.id, bucket.file)
    }

    /// A client that did not get the answer asks again: the object says which upload has made it.
    private func answerAgain(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential
    ) async throws(S3Error) -> Bool {
        guard let id = query["uploadId"], Upload.isID(id),
            let file = try await object(bucket, key, actor), file.seal != nil
        else { return false }
        let volume = volume
        let found = try await value {
            volume.extendedAttributes(ownCaller, file.file, prefixes: Metadata.prefixes)
        }
        let record = Metadata(found).record
        guard record.uploadID == id.lowercased() else { return false }
        // It is there, and perhaps not safe yet.
        try await settle(volume.newestChange(at: file.file))
        let version = CurrentVersion(file: file, record: record).id
        try await respondComplete(bucket, file, record, bucket.settings.versioning == .none ? nil : version)
        return true
    }

    private func respondComplete(
        _ bucket: Bucket, _ file: Attributes, _ record: ObjectRecord, _ version: VersionID?
    ) async throws(S3Error) {
        var xml = XMLWriter()
        xml.root("CompleteMultipartUploadResult") { xml in
            xml.element("Location", address + request.head.path)
            xml.element("Bucket", bucket.name)
            xml.element("Key", bytes: request.key)
            xml.element("ETag", EntityTag.quoted(file))
            if let sum = record.sum {
                xml.element(sum.algorithm.element, sumText(sum, parts: record.partSizes.count))
                xml.element("ChecksumType", sum.isComposite ? "COMPOSITE" : "FULL_OBJECT")
            }
        }
        var fields = ResponseFields()
        addVersion(version, to: &fields)
        try await respond(.ok, fields, xml: xml)
    }

    private func namedParts(_ root: XMLElement) throws(S3Error) -> [Named] {
        guard root.name == "CompleteMultipartUpload", !root.children.isEmpty, root.children.count <= limits.partsMax
        else { throw S3Error(.malformedXML) }
        var named: [Named] = []
        named.reserveCapacity(root.children.count)
        for element in root.children {
            guard element.name == "Part", let text = element.text("PartNumber"), let number = Int(text), number >= 1,
                let tag = element.text("ETag")
            else { throw S3Error(.malformedXML) }
            if let last = named.last, number <= last.number { throw S3Error(.invalidPartOrder) }
            var part = Named(number: number, tag: Self.unquoted(tag), sum: nil)
            // There may be ten thousand of them, and most say no more.
            if element.children.count > 2 {
                try element.requireOnly(
                    "PartNumber", "ETag", "Size", "LastModified", "ChecksumCRC32", "ChecksumCRC32C", "ChecksumSHA1",
                    "ChecksumSHA256", "ChecksumCRC64NVME")
                for algorithm in ChecksumAlgorithm.allCases {
                    if let value = element.text(algorithm.element.description) { part.sum = (algorithm, value) }
                }
            }
            named.append(part)
        }
        return named
    }

    private static func unquoted(_ tag: String) -> String {
        let bytes = tag.utf8
        guard bytes.contains(UInt8(ascii: "\"")) else { return tag }
        return String(decoding: bytes.filter { $0 != UInt8(ascii: "\"") }, as: UTF8.self)
    }

    /// The parts as they lie there, and what is said of all of them together.
    private func check(
        _ named: [Named], _ upload: Upload
    ) async throws(S3Error) -> (parts: [UploadedPart], metadata: Metadata, seal: ContentSeal) {
        let there = try await parts(upload, after: 0, max: limits.partsMax).parts
        var byNumber: [Int: UploadedPart] = [:]
        for part in there { byNumber[part.number] = part }
        var parts: [UploadedPart] = []
        var size: UInt64 = 0
        let digest = Digest(.md5)
        for (index, name) in named.enumerated() {
            guard let part = byNumber[name.number], let seal = part.file.seal, EntityTag.of(part.file) == name.tag
            else {
                throw S3Error(
                    .invalidPart,
                    details: [
                        ("UploadId", upload.id), ("PartNumber", "\(name.number)"), ("ETag", name.tag),
                    ])
            }
            if index + 1 < named.count, part.file.size < limits.partBytesMin {
                throw S3Error(
                    .entityTooSmall,
                    details: [
                        ("ProposedSize", "\(part.file.size)"), ("MinSizeAllowed", "\(limits.partBytesMin)"),
                        ("PartNumber", "\(name.number)"), ("ETag", name.tag),
                    ])
            }
            digest.update(Self.bytes(seal))
            size += part.file.size
            parts.append(part)
        }
        guard size <= limits.objectBytesMax else { throw RequestBody.tooLarge(limits.objectBytesMax) }
        if let text = request.value("x-amz-mp-object-size"), text != "\(size)" {
            throw S3Error(
                .invalidRequest, "The provided 'x-amz-mp-object-size' header does not match what was computed.")
        }
        var metadata = upload.metadata
        metadata.record.uploadID = upload.id
        metadata.record.partSizes = parts.map(\.file.size)
        try await addSums(named, parts, upload, &metadata.record)
        return (parts, metadata, EntityTag.seal(digest.finish(), parts: parts.count))
    }

    private static func bytes(_ seal: ContentSeal) -> [UInt8] {
        [seal.high, seal.low].flatMap { word in
            (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * $0)) }
        }
    }

    /// Values of parts are kept as long as they are few.
    private static var partSumBytesMax: Int { 40 << 10 }

    /// Of an upload that was begun without an algorithm: what is told is compared, or refused, all the same.
    private func checkSums(_ named: [Named], _ parts: [UploadedPart]) async throws(S3Error) {
        for algorithm in ChecksumAlgorithm.allCases {
            guard let told = request.value(algorithm.field) else { continue }
            var sums: [(value: [UInt8], length: UInt64)] = []
            for part in parts {
                guard let sum = try await sum(ofPart: part.file.file), sum.algorithm == algorithm else {
                    throw S3Error(
                        .invalidRequest, "The upload was begun without the checksum algorithm \(algorithm.word).")
                }
                sums.append((sum.value, part.file.size))
            }
            let composite = sums.flatMap(\.value).withUnsafeBytes { Checksum.of(algorithm, $0) }
            guard
                told == "\(Base64.encode(composite))-\(parts.count)"
                    || Checksum.combine(algorithm, sums).map({ Base64.encode($0) }) == told
            else { throw Self.wrongSum(algorithm) }
        }
        for (name, part) in zip(named, parts) {
            guard let told = name.sum else { continue }
            guard let sum = try await sum(ofPart: part.file.file), sum.algorithm == told.algorithm,
                told.value == Base64.encode(sum.value)
            else { throw S3Error(.invalidPart, details: [("PartNumber", "\(name.number)")]) }
        }
    }

    private static func wrongSum(_ algorithm: ChecksumAlgorithm) -> S3Error {
        S3Error(.badDigest, "The \(algorithm.word) you specified did not match the calculated checksum.")
    }

    private func addSums(
        _ named: [Named], _ parts: [UploadedPart], _ upload: Upload, _ record: inout ObjectRecord
    ) async throws(S3Error) {
        guard let algorithm = upload.algorithm else { return try await checkSums(named, parts) }
        if let word = request.value("x-amz-checksum-type")?.uppercased(),
            word != (upload.isComposite ? "COMPOSITE" : "FULL_OBJECT")
        {
            throw S3Error(.invalidRequest, "The upload was begun with another type of checksum than \(word).")
        }
        var sums: [(value: [UInt8], length: UInt64)] = []
        for (name, part) in zip(named, parts) {
            guard let sum = try await sum(ofPart: part.file.file), sum.algorithm == algorithm else {
                throw S3Error(.invalidPart)
            }
            if let told = name.sum, told.algorithm != algorithm || told.value != Base64.encode(sum.value) {
                throw S3Error(.invalidPart, details: [("PartNumber", "\(name.number)")])
            }
            sums.append((sum.value, part.file.size))
        }
        let value: [UInt8]
        if upload.isComposite {
            value = sums.flatMap(\.value).withUnsafeBytes { Checksum.of(algorithm, $0) }
        } else {
            guard let combined = Checksum.combine(algorithm, sums) else { throw S3Error(.internalError) }
            value = combined
        }
        let sum = ObjectRecord.Sum(algorithm: algorithm, isComposite: upload.isComposite, value: value)
        if let told = request.value(algorithm.field), told != sumText(sum, parts: parts.count),
            told != Base64.encode(value)
        {
            throw Self.wrongSum(algorithm)
        }
        record.sum = sum
        if sums.count * algorithm.count <= Self.partSumBytesMax { record.partSums = sums.map(\.value) }
    }
}
