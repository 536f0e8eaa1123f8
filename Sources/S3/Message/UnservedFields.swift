import HTTP

/// Fields that ask for what is not done: an answer as if it were would be a lie, and the API gets new ones each year.
enum UnservedFields {
    /// Of all that begin so only these are served.
    private static let families: [(prefix: StaticString, served: [StaticString])] = [
        (
            "x-amz-checksum-",
            [
                "x-amz-checksum-crc32", "x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme", "x-amz-checksum-sha1",
                "x-amz-checksum-sha256", "x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type",
            ]
        ),
        (
            "x-amz-object-lock-",
            [
                "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold",
            ]
        ),
        ("x-amz-server-side-encryption", []), ("x-amz-copy-source-server-side-encryption", []),
        ("x-amz-if-", []), ("x-amz-object-if-", []), ("x-amz-rename-", []), ("x-amz-fwd-", []),
        ("x-amz-request-route", []),
        ("x-amz-write-offset-bytes", []), ("x-amz-website-redirect-location", []), ("x-amz-bucket-namespace", []),
    ]

    /// `name` is in lower case.
    static func isServed(_ name: String) -> Bool {
        families.allSatisfy { family in
            !name.hasPrefix(family.prefix.description) || family.served.contains { $0.description == name }
        }
    }

    static func check(_ fields: HeaderFields) throws(S3Error) {
        for index in 0..<fields.count
        where fields.hasPrefix("x-amz-", at: index) && !fields.hasPrefix("x-amz-meta-", at: index) {
            // Some clients send fields that say nothing.
            if fields.valueBytes(at: index).isEmpty { continue }
            for family in families where fields.hasPrefix(family.prefix, at: index) {
                if family.served.contains(where: { fields.isNamed($0, at: index) }) { continue }
                throw S3Error(.notImplemented, details: [("Header", fields.name(at: index))])
            }
        }
    }

    /// Conditions and places that only reading knows: what changes something by them would change it without.
    static func checkOfChange(_ fields: HeaderFields) throws(S3Error) {
        for name in ["if-modified-since", "if-unmodified-since", "content-range"]
        where fields.all(name).contains(where: { !$0.isEmpty }) {
            throw S3Error(.notImplemented, details: [("Header", name)])
        }
    }
}
