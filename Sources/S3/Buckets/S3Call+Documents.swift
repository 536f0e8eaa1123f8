import HTTP
import Namespace
import XML

/// Policies and rules for browsers: kept as they were sent, checked when they are.
extension S3Call {
    func getPolicy() async throws(S3Error) {
        let bucket = try await open(.getBucketPolicy).bucket
        try requireOwner(bucket)
        guard !bucket.settings.policyText.isEmpty else { throw S3Error(.noSuchBucketPolicy) }
        try await respond(
            .ok, ResponseFields(contentType: "application/json"), text: bucket.settings.policyText)
    }

    func getPolicyStatus() async throws(S3Error) {
        let bucket = try await open(.getBucketPolicyStatus).bucket
        try requireOwner(bucket)
        guard !bucket.settings.policyText.isEmpty else { throw S3Error(.noSuchBucketPolicy) }
        let policy = try BucketPolicy(bucket.settings.policyText, bucket: bucket.name)
        var xml = XMLWriter()
        xml.root("PolicyStatus") { $0.element("IsPublic", policy.isPublic) }
        try await respond(xml: xml)
    }

    private func requireOwner(_ bucket: Bucket) throws(S3Error) {
        guard let grant, grant.credential.uid == bucket.directory.uid || grant.credential.uid == 0 else {
            throw S3Error(.accessDenied)
        }
    }

    func putPolicy() async throws(S3Error) {
        let (bucket, actor) = try await open(.putBucketPolicy)
        guard let body else { throw S3Error(.missingRequestBody) }
        let bytes = try await body.whole(max: BucketPolicy.bytesMax + 1)
        _ = try BucketPolicy(bytes, bucket: bucket.name)
        try await set(BucketSettings.policy, bytes, bucket, actor)
        respond(.noContent)
    }

    func getCORS() async throws(S3Error) {
        let bucket = try await open(.getBucketCORS).bucket
        try requireOwner(bucket)
        guard !bucket.settings.corsText.isEmpty else { throw S3Error(.noSuchCORSConfiguration) }
        try await respond(.ok, ResponseFields(contentType: "application/xml"), text: bucket.settings.corsText)
    }

    private static var rulesBytesMax: Int { 64 << 10 }

    func putCORS() async throws(S3Error) {
        let (bucket, actor) = try await open(.putBucketCORS)
        guard let body else { throw S3Error(.missingRequestBody) }
        let bytes = try await body.whole(max: Self.rulesBytesMax)
        _ = try CORSRules(try XMLElement(bytes))
        try await set(BucketSettings.cors, bytes, bucket, actor)
        respond()
    }

    func deleteDocument(_ name: String, _ action: S3Action) async throws(S3Error) {
        let (bucket, actor) = try await open(action)
        try await set(name, nil, bucket, actor)
        respond(.noContent)
    }

    /// What a browser asks before it sends a request of another site's page.
    func preflight() async throws(S3Error) {
        guard let origin = request.value("origin"), let method = request.value("access-control-request-method") else {
            throw S3Error(.invalidRequest, "Insufficient information. Origin request header needed.")
        }
        let bucket = try await findBucket(request.bucket)
        let refusal = S3Error(.accessDenied, "CORSResponse: This CORS request is not allowed.")
        guard !bucket.settings.corsText.isEmpty else {
            throw S3Error(.accessDenied, "CORSResponse: CORS is not enabled for this bucket.")
        }
        let headers = (request.value("access-control-request-headers") ?? "").lowercased().split(separator: ",")
            .map { part in String(part.filter { $0 != " " }) }
        let rules = try CORSRules(try XMLElement(bucket.settings.corsText))
        guard let rule = rules.rule(origin, method, headers: headers) else { throw refusal }
        crossOrigin = (rule, origin)
        var fields = ResponseFields()
        if !headers.isEmpty { fields.add("access-control-allow-headers", headers.joined(separator: ", ")) }
        respond(.ok, fields)
    }
}
