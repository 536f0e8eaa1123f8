/// Why a request can not be understood. Where two readers could disagree on where it ends, it is refused: that is how
/// one request is smuggled inside another. After each of these the connection closes.
public enum RequestFault: Error, Equatable, Sendable {
    case requestLine
    case method
    case target
    case targetTooLong
    case version
    case headTooLarge
    case tooManyFields
    /// A line that ends without a carriage return.
    case bareLineFeed
    /// A field that continues on the next line.
    case foldedField
    case fieldName
    case fieldValue
    /// HTTP/1.1 without exactly one Host, one that is no host, or another one than the target names.
    case host
    case contentLength
    case severalContentLengths
    case contentLengthWithTransferEncoding
    case transferEncoding
    case unknownTransferEncoding
    case expectation
    case chunkSize
    case chunkEnd
    case trailer

    public var status: Status {
        switch self {
        case .targetTooLong: .targetTooLong
        case .headTooLarge, .tooManyFields: .fieldsTooLarge
        case .version: .versionNotSupported
        case .unknownTransferEncoding: .notImplemented
        case .expectation: .expectationFailed
        default: .badRequest
        }
    }
}
