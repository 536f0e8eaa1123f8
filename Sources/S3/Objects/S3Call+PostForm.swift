import Crypto
import HTTP
import Logging
import Namespace
import XML

/// Uploads by a form of a page, signed by somebody who let its reader do just that.
extension S3Call {
    func postForm() async throws(S3Error) {
        guard let body, let type = request.field("content-type"), let decoder = FormDecoder(contentType: type) else {
            throw S3Error(.malformedPOST, "A bucket takes forms by POST: multipart/form-data with a boundary.")
        }
        body.wantMD5()
        let (fields, fileName, fileType) = try await body.form(decoder, firstBlock: volume.placeBytesMax + 1)
        var form: [String: String] = [:]
        for field in fields {
            let name = field.name.lowercased()
            guard form[name] == nil else { throw S3Error(.malformedPOST, "The field \(name) is there twice.") }
            form[name] = field.value
        }
        guard let pattern = form["key"], !pattern.isEmpty else {
            throw S3Error(.invalidArgument, "Bucket POST must contain a field named 'key'.")
        }
        form["bucket"] = request.bucket
        self.form = form
        let policy = try signIn(form)
        let name = Array(pattern.replacing("${filename}", with: fileName).utf8)
        let (bucket, actor) = try await open(.putObject, key: name)
        let key = try ObjectKey(name)
        guard !key.isDirectory else { throw S3Error(.invalidArgument, "The key of a form's file is no directory's.") }
        var metadata = try Metadata(form: form, fileType: fileType, limits: limits)
        try checkLock(metadata.lock, bucket, name, actor)
        try checkMetadata(metadata.record, bucket, name)
        _ = try await checkPlace(bucket, key, actor)
        if let policy { try body.whenComplete { (length) throws(S3Error) in try policy.check(length: length) } }
        let placed = try await take(body, &metadata, bucket, key, actor, .anything)
        try await respond(toForm: form, bucket, name, placed)
    }

    /// In whose name the form is sent; nil: nobody's, and then the bucket must be open to all.
    private func signIn(_ form: [String: String]) throws(S3Error) -> PostPolicy? {
        guard let text = form["policy"] else { return nil }
        let authenticator = service.authenticator(on: loop, now: now)
        let token = form["x-amz-security-token"].flatMap { $0.isEmpty ? nil : $0 }
        let wanted: String
        let given: String
        let grant: AccessGrant
        if let algorithm = form["x-amz-algorithm"] {
            guard algorithm == "AWS4-HMAC-SHA256", let credential = form["x-amz-credential"],
                let signature = form["x-amz-signature"], form["x-amz-date"] != nil
            else {
                throw S3Error(.invalidArgument, "The form's signature needs a credential, a date and the signature.")
            }
            let parts = credential.split(separator: "/")
            guard parts.count >= 5, parts[parts.count - 1] == "aws4_request", parts[parts.count - 2] == "s3",
                parts[parts.count - 3] == authenticator.region
            else { throw S3Error(.invalidArgument, "The form's credential is malformed.") }
            let accessKey = parts[..<(parts.count - 4)].joined(separator: "/")
            grant = try authenticator.grant(accessKey, token: token)
            let key = authenticator.keys.key(
                accessKey, grant.secret.revealed, day: String(parts[parts.count - 4]), region: authenticator.region)
            wanted = Hexadecimal.encode(HMAC.of(.sha256, key: key, text))
            given = signature
        } else {
            guard let accessKey = form["awsaccesskeyid"], let signature = form["signature"] else {
                throw S3Error(.accessDenied, "A form with a policy needs its signature.")
            }
            grant = try authenticator.grant(accessKey, token: token)
            wanted = Base64.encode(HMAC.of(.sha1, key: Array(grant.secret.revealed.utf8), text))
            given = signature
        }
        guard isEqualInConstantTime(Array(wanted.utf8), Array(given.utf8)) else {
            throw S3Error(.signatureDoesNotMatch, details: [("StringToSign", text), ("SignatureProvided", given)])
        }
        try act(as: grant)
        let policy = try PostPolicy(text)
        try policy.check(form, now: authenticator.now)
        return policy
    }

    private func respond(
        toForm form: [String: String], _ bucket: Bucket, _ key: [UInt8], _ stored: StoredObject
    ) async throws(S3Error) {
        var fields = ResponseFields()
        let path = String(decoding: PercentCoding.encode(key, keepsSlash: true), as: UTF8.self)
        let tag = EntityTag.quoted(stored.file)
        fields.add("etag", tag)
        addVersion(stored.version, to: &fields)
        let location = address + (request.isVirtualHost ? "/\(path)" : "/\(bucket.name)/\(path)")
        fields.add("location", location)
        if let address = form["success_action_redirect"] ?? form["redirect"], address.hasPrefix("http") {
            var redirect = ResponseFields()
            let mark = address.contains("?") ? "&" : "?"
            let query = [("bucket", Array(bucket.name.utf8)), ("key", key), ("etag", Array(tag.utf8))].map {
                name, value in
                "\(name)=" + String(decoding: PercentCoding.encode(value, keepsSlash: false), as: UTF8.self)
            }.joined(separator: "&")
            if redirect.add("location", address + mark + query) {
                redirect.add("etag", tag)
                return respond(.seeOther, redirect)
            }
        }
        switch form["success_action_status"] {
        case "200": respond(.ok, fields)
        case "201":
            var xml = XMLWriter()
            xml.element("PostResponse") { xml in
                xml.element("Location", location)
                xml.element("Bucket", bucket.name)
                xml.element("Key", bytes: key)
                xml.element("ETag", tag)
            }
            try await respond(.created, fields, xml: xml)
        default: respond(.noContent, fields)
        }
    }
}
