import CShim

/// A certificate with its issuers, and its key, both as PEM text.
public struct TLSCertificate: Sendable, Equatable {
    public var chain: String
    public var key: String

    public init(chain: String, key: String) {
        self.chain = chain
        self.key = key
    }

    /// A new P-256 key with a certificate that signs itself. `names`: host names and addresses.
    public static func selfSigned(names: [String], days: Int = 365) throws(TLSFailure) -> TLSCertificate {
        guard !names.isEmpty, !names.contains(where: { $0.isEmpty || $0.utf8.contains { $0 == 0x2c || $0 <= 0x20 } })
        else { throw .configuration("a certificate needs names, without commas and blanks") }
        var chain: UnsafeMutablePointer<CChar>?
        var key: UnsafeMutablePointer<CChar>?
        guard shim_tls_self_signed(names.joined(separator: ","), Int32(clamping: days), &chain, &key) == 0,
            let chain, let key
        else { throw .configuration("the certificate could not be made") }
        defer {
            shim_tls_free(chain)
            shim_tls_free(key)
        }
        return TLSCertificate(chain: String(cString: chain), key: String(cString: key))
    }
}

public struct TLSServerOptions: Sendable {
    /// The first serves clients that ask for no name or for an unknown one; the others those that ask for a name
    /// that they carry.
    public var certificates: [TLSCertificate]
    /// Protocols that may be agreed on, the most wanted first. A client that offers none of them goes without.
    public var applicationProtocols: [String] = []
    /// Authorities, as PEM, whose clients are trusted; nil: clients are not asked for certificates.
    public var clientAuthorities: String?
    /// Refuses clients without a certificate.
    public var clientCertificateRequired = false

    public init(certificates: [TLSCertificate]) { self.certificates = certificates }
}

/// TLS 1.2 and later for the connections of a listener. `reload` may be called at any time, from any thread:
/// connections that live keep what they began with, later ones begin with the new.
public final class TLSServer: Sendable {
    private let current: Guarded<TLSContext>

    public init(_ options: TLSServerOptions) throws(TLSFailure) { current = Guarded(try TLSContext(options)) }

    /// Throws, and keeps what was there, when the new is not usable.
    public func reload(_ options: TLSServerOptions) throws(TLSFailure) {
        let fresh = try TLSContext(options)
        current.withLock { $0 = fresh }
    }

    var context: TLSContext { current.withLock { $0 } }
}

public struct TLSClientOptions: Sendable {
    /// Whom we want to reach: asked for by SNI and looked for in the certificate. Host name or address.
    public var serverName: String
    /// Authorities as PEM; nil: those of the system.
    public var authorities: String?
    /// False: any certificate will do. For tests and for peers that are known by other means.
    public var verifies = true
    /// What we show when we are asked for a certificate.
    public var certificate: TLSCertificate?
    public var applicationProtocols: [String] = []

    public init(serverName: String) { self.serverName = serverName }
}

/// TLS for outgoing connections.
public final class TLSClient: Sendable {
    let context: TLSContext
    let serverName: String

    public init(_ options: TLSClientOptions) throws(TLSFailure) {
        context = try TLSContext(options)
        serverName = options.serverName
    }
}

/// OpenSSL's context; it does not change once it is made.
final class TLSContext: @unchecked Sendable {
    let pointer: OpaquePointer

    convenience init(_ options: TLSServerOptions) throws(TLSFailure) {
        guard !options.certificates.isEmpty else { throw .configuration("a TLS server needs a certificate") }
        let verify =
            options.clientAuthorities == nil
            ? SHIM_TLS_VERIFY_NONE
            : options.clientCertificateRequired ? SHIM_TLS_VERIFY_REQUIRED : SHIM_TLS_VERIFY_IF_GIVEN
        guard options.clientAuthorities != nil || !options.clientCertificateRequired else {
            throw .configuration("client certificates are required, but no authority for them is named")
        }
        try self.init(
            isServer: true, options.certificates, trust: options.clientAuthorities, verify: Int32(verify),
            options.applicationProtocols)
    }

    convenience init(_ options: TLSClientOptions) throws(TLSFailure) {
        try self.init(
            isServer: false, options.certificate.map { [$0] } ?? [], trust: options.authorities,
            verify: Int32(options.verifies ? SHIM_TLS_VERIFY_REQUIRED : SHIM_TLS_VERIFY_NONE),
            options.applicationProtocols)
    }

    private init(
        isServer: Bool, _ certificates: [TLSCertificate], trust: String?, verify: Int32, _ protocols: [String]
    ) throws(TLSFailure) {
        var alpn: [UInt8] = []
        for name in protocols {
            guard (1...255).contains(name.utf8.count) else {
                throw .configuration("the name of an application protocol has 1 to 255 bytes")
            }
            alpn.append(UInt8(name.utf8.count))
            alpn.append(contentsOf: name.utf8)
        }
        var problem = SHIM_TLS_MEMORY
        // The texts must stay where they are while C reads them: one array holds them all.
        var texts: [UInt8] = []
        var ends: [Int] = []
        for text in certificates.flatMap({ [$0.chain, $0.key] }) {
            texts.append(contentsOf: text.utf8)
            ends.append(texts.count)
        }
        let trustText = trust.map { Array($0.utf8) } ?? []
        let made: OpaquePointer? = texts.withUnsafeBytes { texts in
            trustText.withUnsafeBytes { trustText in
                func part(_ index: Int) -> (UnsafePointer<CChar>?, Int) {
                    let start = index == 0 ? 0 : ends[index - 1]
                    let base = texts.baseAddress.map { ($0 + start).assumingMemoryBound(to: CChar.self) }
                    return (base, ends[index] - start)
                }
                let identities = certificates.indices.map { index in
                    let (chain, key) = (part(2 * index), part(2 * index + 1))
                    return shim_tls_identity(chain: chain.0, chain_count: chain.1, key: key.0, key_count: key.1)
                }
                return shim_tls_context_create(
                    isServer ? 1 : 0, identities, identities.count,
                    trustText.baseAddress?.assumingMemoryBound(to: CChar.self), trustText.count,
                    trust == nil && !isServer ? 1 : 0, verify, alpn, alpn.count, &problem)
            }
        }
        guard let made else { throw .configuration(Self.describe(problem)) }
        pointer = made
    }

    deinit { shim_tls_context_release(pointer) }

    private static func describe(_ problem: shim_tls_problem) -> String {
        switch problem {
        case SHIM_TLS_CHAIN: "the certificate chain is not readable PEM"
        case SHIM_TLS_KEY: "the key is not readable PEM without a password"
        case SHIM_TLS_MISMATCH: "the key does not belong to the certificate"
        case SHIM_TLS_TRUST: "the authorities are not readable PEM"
        case SHIM_TLS_ALPN: "the application protocols are not usable"
        default: "OpenSSL could not make a context"
        }
    }
}

extension TLSClient {
    /// For implementations of `Network`: the client's end of TLS over `lower`.
    package func transport(over lower: Transport, loop: EventLoop) -> Transport {
        TLSTransport(client: self, over: lower, loop: loop)
    }
}
