import HTTP
import Namespace
import Runtime
import XML

/// Removing objects, one or many.
extension S3Call {
    /// What came of one removal.
    private struct Removal {
        var version: VersionID?
        /// A mark has come, or has gone.
        var isMark = false
        var number: UInt64
    }

    func deleteObject() async throws(S3Error) {
        let (bucket, actor) = try await open(.deleteObject)
        let removal: Removal
        do throws(S3Error) {
            removal = try await remove(
                request.key, bucket, actor, match: request.value("if-match"), version: query["versionId"])
        } catch {
            // What can not be there is not there.
            guard error.code == .noSuchKey, request.value("if-match") == nil else { throw error }
            removal = Removal(number: try await newestChange(bucket, try? ObjectKey.ifPath(request.key)))
        }
        try await settle(removal.number)
        var fields = ResponseFields()
        addVersion(removal.version, to: &fields)
        if removal.isMark { fields.add("x-amz-delete-marker", "true") }
        respond(.noContent, fields)
    }

    /// Refused as `.noSuchKey` when there is no such object.
    private func remove(
        _ name: [UInt8], _ bucket: Bucket, _ actor: Credential, match: String?, version: String?
    ) async throws(S3Error) -> Removal {
        let key = try ObjectKey.ifPath(name)
        if let version, !version.isEmpty {
            guard match == nil else {
                throw S3Error(.notImplemented, "If-Match is for the newest version, which has no versionId.")
            }
            return try await remove(key, bucket, actor, version)
        }
        if key.isDirectory { return Removal(number: try await removeDirectory(key, bucket, actor, match)) }
        // Before anybody learns whether there is something.
        try await checkRemoval(bucket, key, actor)
        let gone = try await deleteNewest(bucket, key, actor, match: match)
        return Removal(version: gone.mark, isMark: gone.mark != nil, number: gone.number)
    }

    private func remove(
        _ key: ObjectKey, _ bucket: Bucket, _ actor: Credential, _ text: String
    ) async throws(S3Error) -> Removal {
        guard let id = VersionID(text) else {
            throw S3Error(
                .invalidArgument, "Invalid version id specified",
                details: [("ArgumentName", "versionId"), ("ArgumentValue", text)])
        }
        if key.isDirectory {
            guard id == .null else { throw S3Error(.noSuchKey) }
            return Removal(number: try await removeDirectory(key, bucket, actor, nil))
        }
        try await checkRemoval(bucket, key, actor)
        let bypasses = try bypasses(bucket, key.bytes)
        let gone = try await deleteVersion(bucket, key, actor, id, bypasses: bypasses)
        // Without versions each object is its null version, and nothing is said of it.
        let shown = bucket.settings.versioning == .none ? nil : id
        let number: UInt64
        if let gone { number = gone.number } else { number = try await newestChange(bucket, key) }
        return Removal(version: shown, isMark: gone?.wasMark ?? false, number: number)
    }

    /// Who may put something there may remove what was there.
    private func checkRemoval(_ bucket: Bucket, _ key: ObjectKey, _ actor: Credential) async throws(S3Error) {
        do throws(S3Error) { _ = try await checkPlace(bucket, key, actor) } catch {
            guard error.code == .keyConflict else { throw error }
        }
    }

    /// Directories have no versions.
    private func removeDirectory(
        _ key: ObjectKey, _ bucket: Bucket, _ actor: Credential, _ match: String?
    ) async throws(S3Error) -> UInt64 {
        let volume = volume
        guard let home = try await locate(bucket.file, key.parents, caller(actor)),
            let file = try await locate(home.file, [key.name], caller(actor)), file.type == .directory, !file.isImplied
        else { throw S3Error(.noSuchKey) }
        if let match, !EntityTag.list(match, has: EntityTag.of(file)) { throw Conditions.failed("If-Match") }
        let name = key.name
        var number: UInt64
        do throws(FileError) {
            number = try await supplied {
                name.withUnsafeBytes { volume.remove(caller(actor), in: home.file, $0, isDirectory: true) }
            }.number
        } catch {
            guard error == .notEmpty else { throw S3Error(file: error) }
            // Other objects lie in it: it stays for them, and is no object itself any more.
            let asking = caller(actor)
            return try await done {
                service.records.withLock { _ -> Attempt<Void> in
                    do throws(Halt) {
                        _ = try Self.replace(Metadata(), of: file.file, volume, asking)
                        return .done((), number: try volume.setImplied(asking, file.file, true).change())
                    } catch { return Attempt(error) }
                }
            }.number
        }
        number = max(number, try await removeEmptyParents(bucket, key, actor))
        return number
    }

    static var deletesMax: Int { 1000 }

    func deleteObjects() async throws(S3Error) {
        let bucket = try await openBucket()
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
        try root.requireOnly("Object", "Quiet")
        let objects = root.all("Object")
        guard !objects.isEmpty, objects.count <= Self.deletesMax else { throw S3Error(.malformedXML) }
        let isQuiet = root.text("Quiet") == "true"
        var keys: [(key: String, match: String?, version: String?)] = []
        for object in objects {
            // Objects are removed by their tag alone: neither by their size nor by their time.
            try object.requireOnly("Key", "VersionId", "ETag")
            guard let key = object.text("Key"), !key.isEmpty else { throw S3Error(.malformedXML) }
            keys.append((key, object.text("ETag"), object.text("VersionId")))
        }
        var number: UInt64 = 0
        var xml = XMLWriter()
        xml.raw("<DeleteResult xmlns=\"\(XMLWriter.namespace)\">")
        for (index, (key, match, version)) in keys.enumerated() {
            if index % Self.turnMax == Self.turnMax - 1 { await othersTurn() }
            var removal = Removal(number: 0)
            do throws(S3Error) {
                let name = Array(key.utf8)
                let actor = try actor(.deleteObject, bucket, name, ofVersion: version?.isEmpty == false)
                removal = try await remove(name, bucket, actor, match: match, version: version)
                number = max(number, removal.number)
            } catch {
                guard error.code == .noSuchKey, match == nil else {
                    xml.element("Error") { xml in
                        xml.element("Key", key)
                        if let version, !version.isEmpty { xml.element("VersionId", version) }
                        xml.element("Code", error.code.rawValue)
                        xml.element("Message", error.message)
                    }
                    continue
                }
                // Whose removal that was may not be safe yet.
                number = max(number, try await newestChange(bucket, try? ObjectKey.ifPath(Array(key.utf8))))
            }
            guard !isQuiet else { continue }
            xml.element("Deleted") { xml in
                xml.element("Key", key)
                if let version, !version.isEmpty { xml.element("VersionId", version) }
                if removal.isMark {
                    xml.element("DeleteMarker", true)
                    if let id = removal.version { xml.element("DeleteMarkerVersionId", id.text) }
                }
            }
        }
        xml.raw("</DeleteResult>")
        try await settle(number)
        try await respond(xml: xml)
    }
}
