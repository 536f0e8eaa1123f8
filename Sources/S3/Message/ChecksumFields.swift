import Crypto

extension ChecksumAlgorithm {
    /// As in `x-amz-checksum-algorithm` and in XML.
    var word: String {
        switch self {
        case .crc32: "CRC32"
        case .crc32c: "CRC32C"
        case .crc64nvme: "CRC64NVME"
        case .sha1: "SHA1"
        case .sha256: "SHA256"
        }
    }

    /// The header that has its value.
    var field: String {
        switch self {
        case .crc32: "x-amz-checksum-crc32"
        case .crc32c: "x-amz-checksum-crc32c"
        case .crc64nvme: "x-amz-checksum-crc64nvme"
        case .sha1: "x-amz-checksum-sha1"
        case .sha256: "x-amz-checksum-sha256"
        }
    }

    /// The XML element.
    var element: StaticString {
        switch self {
        case .crc32: "ChecksumCRC32"
        case .crc32c: "ChecksumCRC32C"
        case .crc64nvme: "ChecksumCRC64NVME"
        case .sha1: "ChecksumSHA1"
        case .sha256: "ChecksumSHA256"
        }
    }

    init?(word: String) {
        let word = word.uppercased()
        guard let found = Self.allCases.first(where: { $0.word == word }) else { return nil }
        self = found
    }
}

/// What a request says of the checksum of its body.
enum ChecksumFields {
    /// The algorithm, the value if it is in a header, and the name of the trailer if it is there.
    static func expected(
        _ request: S3Request
    ) throws(S3Error) -> (algorithm: ChecksumAlgorithm?, value: [UInt8]?, trailer: String?) {
        var found: (algorithm: ChecksumAlgorithm, value: [UInt8])?
        for algorithm in ChecksumAlgorithm.allCases {
            guard let text = request.field(algorithm.field) else { continue }
            guard found == nil else {
                throw S3Error(
                    .invalidRequest,
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
            }
            // In the requests that begin or end an upload it is that of the whole, a composite with a number behind it.
            if request.query.has("uploadId"), !request.query.has("partNumber") { continue }
            found = (algorithm, try value(text, algorithm, algorithm.field))
        }
        let trailers = (request.value("x-amz-trailer") ?? "").lowercased().split(separator: ",")
            .map { $0.filter { $0 != " " } }
        var trailer: ChecksumAlgorithm?
        for name in trailers {
            guard let algorithm = ChecksumAlgorithm.allCases.first(where: { $0.field == name }) else {
                throw S3Error(.invalidRequest, "The value specified in the x-amz-trailer header is not supported")
            }
            guard trailer == nil, found == nil else {
                throw S3Error(
                    .invalidRequest,
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
            }
            trailer = algorithm
        }
        return (found?.algorithm ?? trailer, found?.value, trailer?.field)
    }

    static func value(
        _ text: String, _ algorithm: ChecksumAlgorithm, _ field: String
    ) throws(S3Error) -> [UInt8] {
        guard let value = Base64.decode(text), value.count == algorithm.count else {
            throw S3Error(.invalidRequest, "Value for \(field) header is invalid.")
        }
        return value
    }
}
