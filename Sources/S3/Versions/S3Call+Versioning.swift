import HTTP
import Namespace
import Runtime
import XML

/// An object, or a version of one, as a request has found it.
struct FoundVersion: Sendable {
    var file: Attributes
    var metadata: Metadata
    /// Nil: the bucket was never told of versions.
    var id: VersionID?
    /// It has its key's name, and does not lie on the shelf.
    var isNewest = true
}

/// Versions as requests name them.
extension S3Call {
    // MARK: The bucket's word

    func getVersioning() async throws(S3Error) {
        let bucket = try await open(.getBucketVersioning).bucket
        var xml = XMLWriter()
        xml.root("VersioningConfiguration") { xml in
            if bucket.settings.versioning != .none { xml.element("Status", bucket.settings.versioning.rawValue) }
        }
        try await respond(xml: xml)
    }

    func putVersioning() async throws(S3Error) {
        let (bucket, actor) = try await open(.putBucketVersioning)
        let root = try await document()
        guard root.name == "VersioningConfiguration" else { throw S3Error(.malformedXML) }
        try root.requireOnly("Status", "MfaDelete")
        if let mfa = root.text("MfaDelete"), mfa != "Disabled" {
            throw S3Error(.notImplemented, "MFA delete is not implemented.")
        }
        guard let word = root.text("Status"), let versioning = Versioning(rawValue: word), versioning != .none else {
            throw S3Error(
                .malformedXML, "The Versioning element must be specified: its Status is Enabled or Suspended.")
        }
        guard !volume.fileSystem.isForeign(bucket.file) else {
            throw S3Error(.notImplemented, "A directory that is mounted into the volume keeps no versions.")
        }
        try await set(BucketSettings.versioning, Array(word.utf8), bucket, actor) { (settings) throws(S3Error) in
            guard versioning == .enabled || settings.lock == nil else {
                throw S3Error(
                    .invalidBucketState,
                    "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
                )
            }
        }
        respond()
    }

    // MARK: Finding

    /// The version that the request asks for, or the newest.
    func version(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential
    ) async throws(S3Error) -> FoundVersion {
        try await version(bucket, key, actor, query["versionId"])
    }

    func version(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential, _ wanted: String?
    ) async throws(S3Error) -> FoundVersion {
        for _ in 0..<Self.triesMax {
            let file = try await object(bucket, key, actor)
            guard let wanted, !wanted.isEmpty else {
                guard let file else { throw try await missing(bucket, key, actor) }
                guard let metadata = try await metadata(of: file) else { continue }
                return found(file, metadata, bucket)
            }
            guard let id = VersionID(wanted) else {
                throw S3Error(
                    .invalidArgument, "Invalid version id specified",
                    details: [("ArgumentName", "versionId"), ("ArgumentValue", wanted)])
            }
            if let file {
                guard let metadata = try await metadata(of: file) else { continue }
                let here = found(file, metadata, bucket)
                if here.id ?? .null == id { return here }
            }
            let shelved = try await shelved(bucket, key.bytes, id)
            if shelved?.isMark != false, isStranger(bucket, actor) { throw S3Error(.accessDenied) }
            guard let shelved else {
                throw S3Error(.noSuchVersion, details: [("VersionId", wanted)])
            }
            // Who may not go there by name does not get there by number.
            _ = try await locate(
                bucket.file, key.parents, grant == nil ? caller(bucket.owner) : caller(actor))
            if shelved.isMark {
                var error = S3Error(.methodNotAllowed, "The specified method is not allowed against this resource.")
                error.fields = [
                    ("x-amz-delete-marker", "true"), ("x-amz-version-id", wanted),
                    ("last-modified", HTTPDate.format(shelved.file.modified / 1_000_000_000)),
                ]
                throw error
            }
            guard let metadata = try await metadata(of: shelved.file) else { continue }
            return FoundVersion(file: shelved.file, metadata: metadata, id: id, isNewest: false)
        }
        throw S3Error(.operationAborted)
    }

    private func metadata(of file: Attributes) async throws(S3Error) -> Metadata? {
        let volume = volume
        return try await found {
            volume.extendedAttributes(ownCaller, file.file, prefixes: Metadata.prefixes)
        }.map { Metadata($0) }
    }

    private func found(_ file: Attributes, _ metadata: Metadata, _ bucket: Bucket) -> FoundVersion {
        let id = CurrentVersion(file: file, record: metadata.record).id
        return FoundVersion(file: file, metadata: metadata, id: bucket.settings.versioning == .none ? nil : id)
    }

    /// Who may list a bucket learns that the key is not there, others only that they may not know.
    private func missing(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential
    ) async throws(S3Error) -> S3Error {
        if isStranger(bucket, actor) { return S3Error(.accessDenied) }
        var error = S3Error(.noSuchKey)
        if let newest = try await newestShelved(bucket, key.bytes), newest.isMark {
            error.fields = [("x-amz-delete-marker", "true"), ("x-amz-version-id", newest.id.text)]
        }
        return error
    }

    private func isStranger(_ bucket: Bucket, _ actor: Credential) -> Bool {
        grant == nil && actor == .nobody && ![.publicRead, .publicReadWrite].contains(bucket.settings.cannedACL)
    }

    func addVersion(_ id: VersionID?, to fields: inout ResponseFields) {
        if let id { fields.add("x-amz-version-id", id.text) }
    }
}
