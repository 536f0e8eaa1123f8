import Bytes

/// Why a caller is not known to us (RFC 5531 9, `auth_stat`).
public enum AuthError: UInt32, Error, Sendable, CaseIterable {
    case badCredential = 1
    case rejectedCredential = 2
    case badVerifier = 3
    case rejectedVerifier = 4
    case tooWeak = 5
    case invalidResponse = 6
    case failed = 7
    /// RPCSEC_GSS (RFC 2203 5.3.3.3): the context is gone, the client makes a new one.
    case gssCredentialProblem = 13
    case gssContextProblem = 14
}

/// The answer to a call as RFC 5531 9 has it, apart from the results themselves.
public enum ReplyStatus: Equatable, Sendable {
    case success
    case programUnavailable
    case programMismatch(low: UInt32, high: UInt32)
    case procedureUnavailable
    case garbageArguments
    case systemError
    case rpcMismatch(low: UInt32, high: UInt32)
    case authError(AuthError)

    /// The call was let in: the reply has a verifier.
    var isAccepted: Bool {
        switch self {
        case .success, .programUnavailable, .programMismatch, .procedureUnavailable, .garbageArguments, .systemError:
            true
        case .rpcMismatch, .authError: false
        }
    }
}

/// The beginning of a reply (RFC 5531 9, `reply_body`); the results follow.
public struct ReplyHeader: XDRMessage {
    /// With no verifier: what every successful reply of an unprotected call begins with.
    public static let successBytes = 24
    /// The longest.
    public static let bytesMax = 5 * 4 + 4 + CallHeader.authenticatorMax + 8

    public var xid: UInt32
    public var status: ReplyStatus
    /// In accepted replies.
    public var verifier: Authenticator

    public init(xid: UInt32, status: ReplyStatus, verifier: Authenticator = .none) {
        self.xid = xid
        self.status = status
        self.verifier = verifier
    }

    public func write(into writer: inout Writer) {
        writer.u32(xid)
        writer.u32(MessageType.reply.rawValue)
        switch status {
        case .rpcMismatch(let low, let high):
            writer.u32(1)
            writer.u32(0)
            writer.u32(low)
            writer.u32(high)
        case .authError(let error):
            writer.u32(1)
            writer.u32(1)
            writer.u32(error.rawValue)
        case .success: accepted(0, &writer)
        case .programUnavailable: accepted(1, &writer)
        case .programMismatch(let low, let high):
            accepted(2, &writer)
            writer.u32(low)
            writer.u32(high)
        case .procedureUnavailable: accepted(3, &writer)
        case .garbageArguments: accepted(4, &writer)
        case .systemError: accepted(5, &writer)
        }
    }

    private func accepted(_ status: UInt32, _ writer: inout Writer) {
        writer.u32(0)
        verifier.write(into: &writer)
        writer.u32(status)
    }

    public init(reading reader: inout Reader) throws(BytesError) {
        xid = try reader.u32()
        guard try reader.u32() == MessageType.reply.rawValue else { throw .malformed }
        verifier = .none
        switch try reader.u32() {
        case 0:
            verifier = try Authenticator(reading: &reader)
            switch try reader.u32() {
            case 0: status = .success
            case 1: status = .programUnavailable
            case 2: status = .programMismatch(low: try reader.u32(), high: try reader.u32())
            case 3: status = .procedureUnavailable
            case 4: status = .garbageArguments
            case 5: status = .systemError
            default: throw .malformed
            }
        case 1:
            switch try reader.u32() {
            case 0: status = .rpcMismatch(low: try reader.u32(), high: try reader.u32())
            case 1:
                guard let error = AuthError(rawValue: try reader.u32()) else { throw .malformed }
                status = .authError(error)
            default: throw .malformed
            }
        default: throw .malformed
        }
    }
}
