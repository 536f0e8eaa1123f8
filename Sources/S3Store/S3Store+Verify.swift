import ObjectStore
import Runtime
import Transfer

extension S3Store {
    private static let verifyNanoseconds: UInt64 = 15_000_000_000

    /// Whether the bucket is there for us: asked once, before anything is promised.
    public func verify() async throws(StoreProblem) {
        var extras = Extras()
        extras.purpose = .listing
        extras.query = [
            ("list-type", "2"), ("encoding-type", "url"), ("max-keys", "1"), ("prefix", options.prefix),
        ]
        let tried = "listing the bucket \(options.bucket) at \(options.endpoint)"
        // Credentials that can not be fetched say more than a request without them.
        _ = try await credentials.current()
        let answer = await send(.get, "", Self.verifyNanoseconds, over: reads, extras)
        if let failure = answer.failure { throw StoreProblem(tried, at: options.endpoint, failure) }
        guard answer.status != 200 else {
            guard S3Listing(answer.bodyBytes) != nil else {
                throw StoreProblem(
                    tried: tried, answer: "status 200, but no listing of S3",
                    advice: "is it the address of an S3 store?")
            }
            return
        }
        let what = S3Answer(answer)
        throw StoreProblem(tried: tried, answer: what.text(answer.status), advice: advice(answer.status, what))
    }

    private func advice(_ status: Int, _ what: S3Answer) -> String {
        if let region = what.region, region != options.region {
            return "the bucket is in the region \(region): say so with region, not \(options.region)"
        }
        switch what.code {
        case "NoSuchBucket": return "make the bucket \(options.bucket), or name one that there is"
        case "InvalidAccessKeyId": return "the store does not know this access key: look at \(source.description)"
        case "SignatureDoesNotMatch":
            return "the secret is not that of the access key, or the region is not \(options.region): look at "
                + source.description
        case "RequestTimeTooSkewed": return "set this host's clock"
        case "AccessDenied": return "let this access key list, read and write the bucket \(options.bucket)"
        case "AuthorizationHeaderMalformed": return "is the region \(options.region)?"
        default:
            return status == 301 || status == 307
                ? "the bucket is elsewhere: is the region \(options.region), is \(options.endpoint) its address?"
                : status == 404
                    ? "is there a bucket \(options.bucket), and is \(options.endpoint) an S3 store?"
                    : "look at the store's own log"
        }
    }
}

extension S3Store {
    /// What the store's clock says, in seconds since 1970.
    public func time() async -> Int64? {
        var extras = Extras()
        extras.purpose = .listing
        extras.query = [("list-type", "2"), ("max-keys", "1")]
        let answer = await send(.get, "", Self.verifyNanoseconds, over: reads, extras)
        return answer.headers["Date"].flatMap { Timestamp.http($0) }
    }
}
