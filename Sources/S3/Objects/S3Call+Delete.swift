import HTTP
import Namespace
import XML

/// Removing objects, one or many.
extension S3Call {
    func deleteObject() async throws(S3Error) {
        let (bucket, actor) = try await open(.deleteObject)
        let number: UInt64
        do throws(S3Error) {
            number = try await remove(request.key, bucket, actor, match: request.value("if-match"))
        } catch {
            // What can not be there is not there.
            guard error.code == .noSuchKey, request.value("if-match") == nil else { throw error }
            number = volume.newestChange
        }
        try await settle(number)
        respond(.noContent)
    }

    /// Answers the number of the change; refused as `.noSuchKey` when there is no such object.
    private func remove(
        _ key: [UInt8], _ bucket: Bucket, _ actor: Credential, match: String?
    ) async throws(S3Error) -> UInt64 {
        let key = try ObjectKey.ifPath(key)
        let volume = volume
        guard let home = try await locate(bucket.file, key.parents, caller(actor)),
            let file = try await locate(home.file, [key.name], caller(actor))
        else { throw S3Error(.noSuchKey) }
        let isDirectory = file.type == .directory
        guard isDirectory == key.isDirectory, !file.isImplied, isDirectory || file.type == .file else {
            throw S3Error(.noSuchKey)
        }
        if let match, !EntityTag.list(match, has: EntityTag.of(file)) { throw Conditions.failed("If-Match") }
        let name = key.name
        var number: UInt64
        do throws(FileError) {
            number = try await supplied {
                name.withUnsafeBytes { volume.remove(caller(actor), in: home.file, $0, isDirectory: isDirectory) }
            }.number
        } catch {
            guard error == .notEmpty else { throw S3Error(file: error) }
            // Other objects lie in it: it stays for them, and is no object itself any more.
            if let kept = try await replace(Metadata(), of: file.file, actor) { _ = kept }
            return try await done { volume.setImplied(caller(actor), file.file, true) }.number
        }
        number = max(number, try await removeEmptyParents(bucket, key, actor))
        return number
    }

    static var deletesMax: Int { 1000 }

    func deleteObjects() async throws(S3Error) {
        let bucket = try await findBucket(request.bucket)
        guard grant != nil || !bucket.settings.policyText.isEmpty || bucket.settings.cannedACL == .publicReadWrite
        else {
            throw S3Error(.accessDenied)
        }
        guard let body, request.field("content-md5") != nil || body.algorithm != nil || body.length == 0 else {
            throw S3Error(
                .invalidRequest, "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
        }
        let root = try await document()
        guard root.name == "Delete" else { throw S3Error(.malformedXML) }
        let objects = root.all("Object")
        guard !objects.isEmpty, objects.count <= Self.deletesMax else { throw S3Error(.malformedXML) }
        let isQuiet = root.text("Quiet") == "true"
        var keys: [(key: String, match: String?, version: String?)] = []
        for object in objects {
            guard let key = object.text("Key"), !key.isEmpty else { throw S3Error(.malformedXML) }
            keys.append((key, object.text("ETag"), object.text("VersionId")))
        }
        var number: UInt64 = 0
        var xml = XMLWriter()
        xml.raw("<DeleteResult xmlns=\"\(XMLWriter.namespace)\">")
        for (index, (key, match, version)) in keys.enumerated() {
            if index % Self.turnMax == Self.turnMax - 1 { await othersTurn() }
            do throws(S3Error) {
                if let version, !version.isEmpty, version != "null" { throw S3Error(.noSuchVersion) }
                let name = Array(key.utf8)
                number = max(
                    number, try await remove(name, bucket, try actor(.deleteObject, bucket, name), match: match))
            } catch {
                guard error.code == .noSuchKey, match == nil else {
                    xml.element("Error") { xml in
                        xml.element("Key", key)
                        xml.element("Code", error.code.rawValue)
                        xml.element("Message", error.message)
                    }
                    continue
                }
            }
            guard !isQuiet else { continue }
            xml.element("Deleted") { $0.element("Key", key) }
        }
        xml.raw("</DeleteResult>")
        try await settle(number)
        respond(xml: xml)
    }
}
