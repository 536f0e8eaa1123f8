/// Why a TLS connection did not come about or ended.
public enum TLSFailure: Error, Hashable, Sendable {
    /// The peer does not speak TLS, speaks a version that we do not, or broke the protocol: OpenSSL's error code.
    case handshake(code: UInt)
    /// The peer's certificate is missing, expired, or from nobody we trust: OpenSSL's verification result.
    case untrusted(code: Int)
    /// A record after the handshake was damaged or forged.
    case record(code: UInt)
    /// The peer closed the stream below TLS without saying so: what came may have been cut.
    case truncated
    /// A certificate, a key or a list of authorities could not be read, or they do not belong together.
    case configuration(String)
}
