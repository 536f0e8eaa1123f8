import Crypto
import HTTP
import Namespace
import Runtime
import XML

/// What a copy is made of.
struct CopySource {
    var bucket: Bucket
    var file: Attributes
    var metadata: Metadata
    var version: VersionID?
}

/// Copies share the bytes of their source: nothing is read or written but the file's records.
extension S3Call {
    /// The source that `x-amz-copy-source` names, held to its conditions.
    func copySource() async throws(S3Error) -> CopySource {
        let text = request.value("x-amz-copy-source") ?? ""
        let rest = text.utf8[...]
        if let mark = rest.firstIndex(of: UInt8(ascii: "?")) {
            // A question mark may be a part of the key, too.
            let parameter = String(rest[mark...]) ?? ""
            if parameter.hasPrefix("?versionId=") {
                return try await copySource(Array(rest[..<mark]), version: String(parameter.dropFirst(11)))
            }
        }
        return try await copySource(Array(rest), version: nil)
    }

    private func copySource(_ text: [UInt8], version wanted: String?) async throws(S3Error) -> CopySource {
        guard var path = PercentCoding.decode(text) else {
            throw S3Error(.invalidArgument, "Invalid copy source encoding.")
        }
        if path.first == UInt8(ascii: "/") { path.removeFirst() }
        guard let slash = path.firstIndex(of: UInt8(ascii: "/")), slash > 0, slash + 1 < path.count else {
            throw S3Error(
                .invalidArgument, "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
        }
        let name = Array(path[(slash + 1)...])
        let (bucket, actor) = try await openSource(
            String(decoding: path[..<slash], as: UTF8.self), name, ofVersion: wanted?.isEmpty == false)
        let key = try ObjectKey.ifPath(name)
        let volume = volume
        for _ in 0..<Self.triesMax {
            let found = try await version(bucket, key, actor, wanted)
            let (file, metadata) = (found.file, found.metadata)
            try checkRead(metadata.record, actor)
            if file.type == .file {
                _ = try await value { volume.mayRead(caller(actor), file.file) }
                // Who kept writes to himself may have had some.
                guard try await admitReader(file.file, ByteRange(offset: 0, length: file.size)),
                    try await isSame(file)
                else { continue }
            }
            try Conditions(request, prefix: "x-amz-copy-source-").check(file, isCopy: true)
            return CopySource(bucket: bucket, file: file, metadata: metadata, version: found.id)
        }
        throw S3Error(.operationAborted, "The source changed meanwhile.")
    }

    func copyObject() async throws(S3Error) {
        let (bucket, actor) = try await open(.putObject)
        guard request.value("x-amz-copy-source-range") == nil else {
            throw S3Error(.notImplemented, "A part of an object is copied to a part of an upload.")
        }
        let key = try ObjectKey(request.key)
        var metadata = try Metadata(request, limits: limits)
        let source = try await copySource()
        let takesMetadata = try directive("x-amz-metadata-directive")
        let takesTags = try directive("x-amz-tagging-directive")
        let existing = try await checkPlace(bucket, key, actor)
        if let existing, existing.file == source.file.file, !takesMetadata, !takesTags {
            throw S3Error(
                .invalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                    + "object's metadata, storage class, website redirect location or encryption attributes.")
        }
        let expected = try Conditions(request).expected(existing)
        try checkLock(metadata.lock, bucket, request.key, actor)
        guard !key.isDirectory, source.file.type == .file else {
            throw S3Error(.notImplemented, "Directories are made by PUT; they are not copied.")
        }
        if !takesMetadata {
            metadata.attributes = source.metadata.attributes
            metadata.record.headers = source.metadata.record.headers
        }
        if !takesTags { metadata.record.tags = source.metadata.record.tags }
        try checkMetadata(metadata.record, bucket, request.key)
        let placed = try await copy(source, &metadata, bucket, key, actor, expected)
        var xml = XMLWriter()
        xml.root("CopyObjectResult") { xml in
            xml.element("LastModified", Timestamp.extended(nanoseconds: placed.file.modified))
            xml.element("ETag", EntityTag.quoted(placed.file))
            if let sum = metadata.record.sum {
                xml.element(sum.algorithm.element, sumText(sum, parts: metadata.record.partSizes.count))
                xml.element("ChecksumType", sum.isComposite ? "COMPOSITE" : "FULL_OBJECT")
            }
        }
        var fields = ResponseFields()
        addVersion(placed.version, to: &fields)
        if let version = source.version { fields.add("x-amz-copy-source-version-id", version.text) }
        try await respond(.ok, fields, xml: xml)
    }

    func sumText(_ sum: ObjectRecord.Sum, parts: Int) -> String {
        Base64.encode(sum.value) + (sum.isComposite && parts > 0 ? "-\(parts)" : "")
    }

    private func directive(_ name: String) throws(S3Error) -> Bool {
        switch request.value(name) {
        case nil, "COPY": return false
        case "REPLACE": return true
        case let other?:
            throw S3Error(
                .invalidArgument, "Unknown \(name).", details: [("ArgumentName", name), ("ArgumentValue", other)])
        }
    }

    private func copy(
        _ source: CopySource, _ metadata: inout Metadata, _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential,
        _ expected: ExpectedFile
    ) async throws(S3Error) -> StoredObject {
        guard source.file.size <= limits.putBytesMax else {
            throw S3Error(
                .invalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: "
                    + "\(limits.putBytesMax)")
        }
        metadata.record.forgetContent()
        let record = source.metadata.record
        if source.file.seal != nil {
            metadata.record.sum = record.sum
            metadata.record.partSizes = record.partSizes
            metadata.record.partSums = record.partSums
        }
        if let word = request.value("x-amz-checksum-algorithm") {
            guard let algorithm = ChecksumAlgorithm(word: word) else {
                throw S3Error(.invalidRequest, "Checksum algorithm provided is unsupported.")
            }
            if metadata.record.sum?.algorithm != algorithm {
                var checksum = Checksum(algorithm)
                try await scan(source.file.file, ByteRange(offset: 0, length: source.file.size)) {
                    checksum.update($0)
                }
                metadata.record.sum = ObjectRecord.Sum(
                    algorithm: algorithm, isComposite: false, value: checksum.finish())
                metadata.record.partSums = []
            }
        }
        let file = try await nameless(bucket, key, metadata.mode)
        do throws(S3Error) {
            try await clone(source.file, ByteRange(offset: 0, length: source.file.size), to: file)
            var seal = source.file.seal
            if seal == nil, bucket.settings.versioning != .none {
                // A version is known by what is in it: the number counts only with a seal.
                let digest = Digest(.md5)
                try await scan(file, ByteRange(offset: 0, length: source.file.size)) { digest.update($0) }
                seal = EntityTag.seal(digest.finish())
            }
            let placed = try await place(file, metadata, seal, bucket, key, actor, expected)
            await close(file)
            return placed
        } catch {
            await close(file)
            throw error
        }
    }

    /// Lets a nameless file have a range of the source, as it was when it was looked at.
    func clone(_ source: Attributes, _ range: ByteRange, to file: FileID) async throws(S3Error) {
        let volume = volume
        do throws(FileError) {
            if range.length > 0 {
                _ = try await volume.clone(
                    ownCaller.request, from: source.file, at: range.offset, length: range.length, to: file, at: 0)
            }
        } catch {
            throw error == .stale ? S3Error(.operationAborted, "The source changed meanwhile.") : S3Error(file: error)
        }
        let after = try await value { volume.attributes(ownCaller, source.file) }
        guard after.change == source.change else {
            throw S3Error(.operationAborted, "The source changed meanwhile.")
        }
    }
}
