import Bytes

/// An authentication flavor beyond AUTH_NONE and AUTH_SYS: RPCSEC_GSS, for which all of this is made.
///
/// The dispatch hands each call of the flavor to `admit` before anything else. What comes back says who calls and how
/// arguments and results are protected. Programs see neither: they read plain arguments and write plain results.
public protocol SecurityFlavor: AnyObject, Sendable {
    var number: UInt32 { get }

    /// Never waits: what takes a thread of its own (making a context may) answers `.handshake`, and is given the call
    /// to answer from a task.
    func admit(_ call: SecuredCall) -> Admission
}

/// A call as its flavor sees it; the memory is valid during the call of `admit` only.
public struct SecuredCall {
    public let header: CallHeader
    /// From the transaction's number to the end of the credential: what a GSS verifier signs (RFC 2203 5.3.1).
    public let signedHeader: UnsafeRawBufferPointer
    /// Behind the verifier, protected as the credential says.
    public let arguments: UnsafeRawBufferPointer
}

public enum Admission {
    case accepted(Identity, any CallProtection)
    case rejected(AuthError)
    /// The call is dropped without an answer, as a replay outside of its window has to be (RFC 2203 5.3.3.1).
    case dropped
    /// The call is the flavor's own business: it makes, continues or destroys a context. It is held and given to
    /// the function, which answers it by `RPCCall.reply(verifier:)` from any task of the loop, or at once.
    case handshake(@Sendable (RPCCall) -> Void)
}

/// How one call and its answer are protected: a context, the call's sequence number and its service.
public protocol CallProtection: AnyObject, Sendable {
    /// The plain arguments (RFC 2203 5.3.2). `body` is answered with them, in memory of any kind. False: they are not what the
    /// client protected, and are refused as garbage (RFC 2203 5.3.3.4.2, 5.3.3.4.3).
    func unwrap(_ arguments: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool

    /// The verifier of the answer (RFC 2203 5.3.3.2). False: there can be none any more, `body` was not called.
    func withVerifier(_ body: (Authenticator) -> Void) -> Bool

    /// Whether results are wrapped; without it they go out as they were written.
    var wrapsResults: Bool { get }

    /// The results as they travel, at most `wrappedOverheadMax` bytes longer.
    func wrap(_ results: UnsafeRawBufferPointer, into writer: inout Writer)
    var wrappedOverheadMax: Int { get }
}
