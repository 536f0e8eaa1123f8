import Crypto
import HTTP
import Namespace
import Runtime
import XML

extension FileWork {
    /// Changes what the record says now, in one step: of two changes at a time, whatever their loops, none is lost.
    func edit(
        _ file: FileID, _ asking: Caller, _ change: (inout ObjectRecord) -> Void
    ) async throws(S3Error) -> UInt64 {
        let (volume, own) = (volume, ownCaller)
        let records = [Array(ObjectRecord.name.utf8)]
        do throws(FileError) {
            return try await supplied {
                // Both calls answer at once.
                service.records.withLock { _ -> Attempt<Void> in
                    let found: [ExtendedAttribute]
                    switch volume.extendedAttributes(own, file, prefixes: records) {
                    case .done(let attributes, _): found = attributes
                    case .refused(let error): return .refused(error)
                    case .lacks(let lack): return .lacks(lack)
                    }
                    var record = Metadata(found).record
                    change(&record)
                    let set = volume.setExtendedAttribute(
                        asking, file, ObjectRecord.name, record.isEmpty ? nil : record.encoded)
                    switch set {
                    case .done(_, let number): return .done((), number: number)
                    case .refused(let error): return .refused(error)
                    case .lacks(let lack): return .lacks(lack)
                    }
                }
            }.number
        } catch {
            guard error == .noAttribute else { throw S3Error(file: error) }
            return volume.newestChange(at: file)
        }
    }
}

/// Tags, access lists and attributes of objects.
extension S3Call {
    /// The object with all that is said of it, when who asks may know.
    private func described(
        _ action: S3Action
    ) async throws(S3Error) -> (file: Attributes, metadata: Metadata, actor: Credential, fields: ResponseFields) {
        let (bucket, actor) = try await open(action)
        let key = try ObjectKey.ifPath(request.key)
        let volume = volume
        let found = try await version(bucket, key, actor)
        let (file, metadata) = (found.file, found.metadata)
        try checkRead(metadata.record, actor)
        if file.type == .file, action.rawValue.hasPrefix("s3:Get") {
            let reader = grant == nil ? caller(bucket.owner) : caller(actor)
            _ = try await value { volume.mayRead(reader, file.file) }
        }
        var fields = ResponseFields()
        addVersion(found.id, to: &fields)
        return (file, metadata, actor, fields)
    }

    private func edit(
        _ file: Attributes, _ actor: Credential, _ change: (inout ObjectRecord) -> Void
    ) async throws(S3Error) {
        try await settle(try await edit(file.file, caller(actor), change))
    }

    func getObjectTagging() async throws(S3Error) {
        let (_, metadata, _, fields) = try await described(.getObjectTagging)
        var xml = XMLWriter()
        Tag.write(metadata.record.tags, into: &xml)
        try await respond(.ok, fields, xml: xml)
    }

    func putObjectTagging() async throws(S3Error) {
        let (file, _, actor, fields) = try await described(.putObjectTagging)
        let tags = try Tag.parse(try await document(), max: Tag.objectMax)
        try await edit(file, actor) { $0.tags = tags }
        respond(.ok, fields)
    }

    func deleteObjectTagging() async throws(S3Error) {
        let (file, _, actor, fields) = try await described(.deleteObjectTagging)
        try await edit(file, actor) { $0.tags = [] }
        respond(.noContent, fields)
    }

    func getObjectACL() async throws(S3Error) {
        let (file, metadata, _, fields) = try await described(.getObjectAcl)
        try await respond(.ok, fields, xml: accessList(file.uid, metadata.record.acl))
    }

    func putObjectACL() async throws(S3Error) {
        let (file, _, actor, fields) = try await described(.putObjectAcl)
        let acl = try await requestedACL(file.uid)
        // Less first: no moment lets in more than both.
        if acl == .private { try await set(acl, file, actor) }
        try await edit(file, actor) { $0.acl = acl }
        if acl != .private { try await set(acl, file, actor) }
        respond(.ok, fields)
    }

    /// Gives a file or a directory the mode that the list speaks of: users of the volume are let in by that alone.
    func set(_ acl: CannedACL, _ file: Attributes, _ actor: Credential) async throws(S3Error) {
        let wanted = acl.mode(file)
        guard file.mode != wanted else { return }
        let volume = volume
        var new = NewAttributes()
        new.mode = wanted
        let change = new
        try await settle(try await done { volume.setAttributes(caller(actor), file.file, change) }.number)
    }

    func getObjectAttributes() async throws(S3Error) {
        var (file, metadata, _, fields) = try await described(.getObject)
        let names = request.head.fields.all("x-amz-object-attributes").joined(separator: ",").split(separator: ",")
            .map { part in String(part.filter { $0 != " " }) }
        let known: Set<String> = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
        guard !names.isEmpty, names.allSatisfy(known.contains) else {
            throw S3Error(.invalidArgument, "Invalid attribute name specified.")
        }
        let record = metadata.record
        let isSealed = file.seal != nil
        let parts = file.seal.map { Int($0.parts) } ?? 0
        var xml = XMLWriter()
        let max = try partsWanted()
        let after = try partMarker()
        xml.root("GetObjectAttributesResponse") { xml in
            if names.contains("ETag") { xml.element("ETag", EntityTag.of(file)) }
            if names.contains("Checksum"), let sum = record.sum, isSealed {
                xml.element("Checksum") { xml in
                    // Here a composite has no number behind it.
                    xml.element(sum.algorithm.element, Base64.encode(sum.value))
                    xml.element("ChecksumType", sum.isComposite ? "COMPOSITE" : "FULL_OBJECT")
                }
            }
            if names.contains("ObjectParts"), parts > 0, record.partSizes.count == parts {
                write(parts: record, after: after, max: max, &xml)
            }
            if names.contains("StorageClass") { xml.element("StorageClass", "STANDARD") }
            if names.contains("ObjectSize") { xml.element("ObjectSize", file.type == .file ? file.size : 0) }
        }
        fields.add("last-modified", HTTPDate.format(file.modified / 1_000_000_000))
        try await respond(.ok, fields, xml: xml)
    }

    private func number(_ name: String) throws(S3Error) -> Int? {
        guard let text = request.value(name) else { return nil }
        guard let value = Int(text), value >= 0 else {
            throw S3Error(.invalidArgument, details: [("ArgumentName", name), ("ArgumentValue", text)])
        }
        return value
    }

    private func partsWanted() throws(S3Error) -> Int { min(try number("x-amz-max-parts") ?? 1000, 1000) }
    private func partMarker() throws(S3Error) -> Int { try number("x-amz-part-number-marker") ?? 0 }

    private func write(parts record: ObjectRecord, after marker: Int, max: Int, _ xml: inout XMLWriter) {
        let total = record.partSizes.count
        // The marker is whatever the client says.
        let first = Swift.min(marker, total)
        let shown = first..<(first + Swift.min(max, total - first))
        xml.element("ObjectParts") { xml in
            xml.element("PartsCount", total)
            xml.element("PartNumberMarker", marker)
            xml.element("NextPartNumberMarker", shown.upperBound)
            xml.element("MaxParts", max)
            xml.element("IsTruncated", shown.upperBound < total)
            guard let sum = record.sum, record.partSums.count == total else { return }
            for index in shown {
                xml.element("Part") { xml in
                    xml.element("PartNumber", index + 1)
                    xml.element("Size", record.partSizes[index])
                    xml.element(sum.algorithm.element, Base64.encode(record.partSums[index]))
                }
            }
        }
    }
}
