import HTTP
import Namespace
import Runtime

/// `If-Match` and its like, of the object itself or of a copy's source.
struct Conditions {
    private let match: String?
    private let noneMatch: String?
    private let modifiedSince: Int64?
    private let unmodifiedSince: Int64?

    init(_ request: S3Request, prefix: String = "") {
        match = request.value(prefix + "if-match")
        noneMatch = request.value(prefix + "if-none-match")
        modifiedSince = request.value(prefix + "if-modified-since").flatMap(Timestamp.http)
        unmodifiedSince = request.value(prefix + "if-unmodified-since").flatMap(Timestamp.http)
    }

    /// For reading (RFC 9110 13.2.2); a copy has no "not modified".
    func check(_ file: Attributes, isCopy: Bool = false) throws(S3Error) {
        let tag = EntityTag.of(file)
        let seconds = file.modified / 1_000_000_000
        if let match {
            guard EntityTag.list(match, has: tag) else { throw Self.failed("If-Match") }
        } else if let unmodifiedSince, seconds > unmodifiedSince {
            throw Self.failed("If-Unmodified-Since")
        }
        if let noneMatch {
            if EntityTag.list(noneMatch, has: tag) {
                throw isCopy ? Self.failed("If-None-Match") : Self.notModified(file)
            }
        } else if let modifiedSince, seconds <= modifiedSince {
            throw isCopy ? Self.failed("If-Modified-Since") : Self.notModified(file)
        }
    }

    /// What a cache keeps goes with it (RFC 9110 15.4.5).
    private static func notModified(_ file: Attributes) -> S3Error {
        S3Error(
            .notModified,
            details: [
                ("etag", EntityTag.quoted(file)), ("last-modified", HTTPDate.format(file.modified / 1_000_000_000)),
            ])
    }

    static func failed(_ condition: String) -> S3Error {
        S3Error(.preconditionFailed, details: [("Condition", condition)])
    }

    /// For writing: what must hold when the object is put in its place.
    func expected(_ existing: Attributes?) throws(S3Error) -> ExpectedFile {
        if let noneMatch {
            guard noneMatch == "*" else {
                throw S3Error(.notImplemented, "If-None-Match of a write takes * only.")
            }
            guard existing == nil else { throw Self.failed("If-None-Match") }
            return .nothing
        }
        if let match {
            guard let existing else { throw S3Error(.noSuchKey) }
            guard EntityTag.list(match, has: EntityTag.of(existing)) else { throw Self.failed("If-Match") }
            return .file(existing.file, change: existing.change)
        }
        return .anything
    }
}
