import HTTP

/// Which request is which.
extension S3Call {
    func dispatch() async throws(S3Error) {
        try UnservedFields.check(request.head.fields)
        if request.bucket.isEmpty { return try await dispatchService() }
        if request.key.isEmpty { return try await dispatchBucket() }
        try await dispatchObject()
    }

    private func dispatchService() async throws(S3Error) {
        switch request.method {
        case .get, .head:
            try refuseUnknownParts(but: Self.emptyInListings)
            try await listBuckets()
        default: throw S3Error(.methodNotAllowed)
        }
    }

    /// Parts of a bucket that are named by a parameter and that nothing is kept of.
    private static let unservedBucketParts: [StaticString] = [
        "accelerate", "analytics", "encryption", "intelligent-tiering", "inventory", "logging",
        "metrics", "notification", "ownershipControls", "publicAccessBlock",
        "replication", "requestPayment", "website", "metadataTable", "session", "abac", "metadataConfiguration",
        "metadataInventoryTable", "metadataJournalTable", "metadataAnnotationTable",
    ]
    /// Those that are served, each by its own methods: by no other one is the bucket itself meant.
    private static let bucketParts: [StaticString] = [
        "location", "acl", "tagging", "uploads", "versions", "policy", "policyStatus", "cors", "versioning",
        "object-lock", "lifecycle", "delete",
    ]

    private func refuse(_ parts: [StaticString]) throws(S3Error) {
        for part in parts where query.has(part) { throw S3Error(.methodNotAllowed) }
    }

    /// Parameters of listings that clients send without a value, too.
    private static let emptyInListings: Set<String> = [
        "delimiter", "prefix", "marker", "encoding-type", "max-keys", "start-after", "continuation-token",
        "fetch-owner", "list-type", "max-buckets", "bucket-region",
    ]
    /// Of the reading of objects.
    private static let emptyInReads: Set<String> = [
        "partNumber", "response-cache-control", "response-content-disposition", "response-content-encoding",
        "response-content-language", "response-content-type", "response-expires",
    ]

    /// By a parameter without a value some part is meant that nobody here knows, and not what it would be a part of.
    private func refuseUnknownParts(but known: Set<String> = []) throws(S3Error) {
        for parameter in query.parameters where parameter.value.isEmpty && !parameter.name.isEmpty {
            let name = String(decoding: parameter.name, as: UTF8.self)
            guard known.contains(name) || name.lowercased().hasPrefix("x-amz-") else {
                throw S3Error(.notImplemented, details: [("Parameter", name)])
            }
        }
    }

    /// Pages put a word or a stamp behind an address to have it looked at anew: those are in links, and are no names of parts.
    private func refuseUnknownPartsOfRead() throws(S3Error) {
        guard request.value("authorization") != nil else { return }
        let words = query.parameters.filter { $0.value.isEmpty }.map { String(decoding: $0.name, as: UTF8.self) }
        for name in words where !Self.emptyInReads.contains(name) && !name.lowercased().hasPrefix("x-amz-") {
            guard name.first?.isLowercase == true,
                name.utf8.allSatisfy({ $0 == 0x2d || (0x41...0x7a).contains($0) && $0 != 0x5f })
            else { continue }
            throw S3Error(.notImplemented, details: [("Parameter", name)])
        }
    }

    private func dispatchBucket() async throws(S3Error) {
        switch request.method {
        case .get:
            if query.has("location") { return try await bucketLocation() }
            if query.has("acl") { return try await getBucketACL() }
            if query.has("tagging") { return try await getBucketTagging() }
            if query.has("uploads") { return try await listUploads() }
            if query.has("versions") { return try await listVersions() }
            if query.has("policy") { return try await getPolicy() }
            if query.has("policyStatus") { return try await getPolicyStatus() }
            if query.has("cors") { return try await getCORS() }
            if query.has("versioning") { return try await getVersioning() }
            if query.has("object-lock") { return try await getBucketLock() }
            if query.has("lifecycle") { return try await getLifecycle() }
            for part in Self.unservedBucketParts where query.has(part) { return try await getUnserved(part) }
            try refuse(Self.bucketParts)
            try refuseUnknownParts(but: Self.emptyInListings)
            try await listObjects()
        case .head:
            try refuseUnknownParts(but: Self.emptyInListings)
            try await headBucket()
        case .put:
            if query.has("acl") { return try await putBucketACL() }
            if query.has("tagging") { return try await putBucketTagging() }
            if query.has("policy") { return try await putPolicy() }
            if query.has("cors") { return try await putCORS() }
            if query.has("versioning") { return try await putVersioning() }
            if query.has("object-lock") { return try await putBucketLock() }
            if query.has("lifecycle") { return try await putLifecycle() }
            for part in Self.unservedBucketParts where query.has(part) { throw S3Error(.notImplemented) }
            try refuse(Self.bucketParts)
            try refuseUnknownParts()
            try await createBucket()
        case .delete:
            if query.has("tagging") { return try await deleteBucketTagging() }
            if query.has("policy") { return try await deleteDocument(BucketSettings.policy, .deleteBucketPolicy) }
            if query.has("cors") { return try await deleteDocument(BucketSettings.cors, .putBucketCORS) }
            if query.has("lifecycle") {
                return try await deleteDocument(BucketSettings.lifecycle, .putLifecycleConfiguration)
            }
            for part in Self.unservedBucketParts where query.has(part) { return try await deleteUnserved(part) }
            try refuse(Self.bucketParts)
            try refuseUnknownParts()
            try await deleteBucket()
        case .post:
            if query.has("delete") { return try await deleteObjects() }
            for part in Self.unservedBucketParts where query.has(part) { throw S3Error(.notImplemented) }
            try refuse(Self.bucketParts)
            try refuseUnknownParts()
            try await postForm()
        case .options: try await preflight()
        default: throw S3Error(.methodNotAllowed)
        }
    }

    private static let unservedObjectParts: [StaticString] = [
        "torrent", "restore", "select", "select-type", "renameObject", "encryption", "annotation", "append",
    ]
    /// As of buckets.
    private static let objectParts: [StaticString] = [
        "acl", "tagging", "attributes", "retention", "legal-hold", "uploads",
    ]

    private func dispatchObject() async throws(S3Error) {
        for part in Self.unservedObjectParts where query.has(part) { throw S3Error(.notImplemented) }
        guard query.bytes("versionId")?.isEmpty != true else {
            throw S3Error(.invalidArgument, "Version id cannot be the empty string")
        }
        switch request.method {
        case .get:
            if query.has("uploadId") { return try await listParts() }
            if query.has("acl") { return try await getObjectACL() }
            if query.has("tagging") { return try await getObjectTagging() }
            if query.has("attributes") { return try await getObjectAttributes() }
            if query.has("retention") { return try await getRetention() }
            if query.has("legal-hold") { return try await getLegalHold() }
            try refuse(Self.objectParts)
            try refuseUnknownPartsOfRead()
            try await getObject()
        case .head:
            try refuseUnknownPartsOfRead()
            try await getObject()
        case .put:
            if query.has("uploadId") || query.has("partNumber") { return try await uploadPart() }
            if query.has("acl") { return try await putObjectACL() }
            if query.has("tagging") { return try await putObjectTagging() }
            if query.has("retention") { return try await putRetention() }
            if query.has("legal-hold") { return try await putLegalHold() }
            try refuse(Self.objectParts)
            guard !query.has("versionId") else {
                throw S3Error(.invalidArgument, "This operation does not accept a version-id.")
            }
            try refuseUnknownParts()
            try UnservedFields.checkOfChange(request.head.fields)
            if request.value("x-amz-copy-source") != nil { return try await copyObject() }
            try await putObject()
        case .post:
            if query.has("uploads") { return try await createUpload() }
            if query.has("uploadId") { return try await completeUpload() }
            throw S3Error(.notImplemented)
        case .delete:
            if query.has("uploadId") { return try await abortUpload() }
            if query.has("tagging") { return try await deleteObjectTagging() }
            try refuse(Self.objectParts)
            try refuseUnknownParts()
            try UnservedFields.checkOfChange(request.head.fields)
            guard request.value("if-none-match") == nil else { throw S3Error(.notImplemented) }
            try await deleteObject()
        case .options: try await preflight()
        default: throw S3Error(.methodNotAllowed)
        }
    }
}
