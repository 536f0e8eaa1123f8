import HTTP
import Namespace
import XML

/// The rules by which objects end, as they were sent, and what they mean for one.
extension S3Call {
    func getLifecycle() async throws(S3Error) {
        let bucket = try await open(.getLifecycleConfiguration).bucket
        guard !bucket.settings.lifecycleText.isEmpty else { throw S3Error(.noSuchLifecycle) }
        var fields = ResponseFields(contentType: "application/xml")
        addIdentity(&fields)
        exchange.respond(.ok, fields, bucket.settings.lifecycleText)
    }

    func putLifecycle() async throws(S3Error) {
        let (bucket, actor) = try await open(.putLifecycleConfiguration)
        guard let body else { throw S3Error(.missingRequestBody) }
        let bytes = try await body.whole(max: LifecycleRules.bytesMax)
        _ = try LifecycleRules(try XMLElement(bytes))
        guard !volume.fileSystem.isForeign(bucket.file) else {
            throw S3Error(.notImplemented, "What is mounted into the volume has no rules.")
        }
        try await set(BucketSettings.lifecycle, bytes, bucket, actor)
        respond()
    }

    /// When the newest version will end by itself.
    func addExpiry(of found: FoundVersion, _ bucket: Bucket, _ key: ObjectKey, to fields: inout ResponseFields) {
        guard !bucket.settings.lifecycleText.isEmpty, found.file.type == .file, !found.file.isShelved,
            let root = try? XMLElement(bucket.settings.lifecycleText), let rules = try? LifecycleRules(root),
            let end = rules.end(
                key.bytes, tags: found.metadata.record.tags, size: found.file.size, modified: found.file.modified)
        else { return }
        let id = String(decoding: PercentCoding.encode(Array(end.rule.utf8), keepsSlash: false), as: UTF8.self)
        fields.add("x-amz-expiration", "expiry-date=\"\(HTTPDate.format(end.seconds))\", rule-id=\"\(id)\"")
    }
}
