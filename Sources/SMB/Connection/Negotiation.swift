import Bytes
import Crypto

/// What client and server have agreed on. Without I/O: a request goes in, an answer comes out.
package struct Negotiation {
    package enum Refusal: Error, Equatable {
        case status(NTStatus)
        /// The connection ends without an answer.
        case end
    }

    package struct Terms {
        package var guid: UInt128
        package var requiresSigning: Bool
        package var allowsEncryption: Bool
        package var dialectMax = Dialect.v311

        package init(guid: UInt128, requiresSigning: Bool, allowsEncryption: Bool) {
            self.guid = guid
            self.requiresSigning = requiresSigning
            self.allowsEncryption = allowsEncryption
        }
    }

    package private(set) var dialect: Dialect?
    package private(set) var clientGUID: UInt128 = 0
    package private(set) var clientMode: SecurityMode = []
    package private(set) var clientCapabilities: Capabilities = []
    package private(set) var clientDialects: [UInt16] = []
    package private(set) var capabilities: Capabilities = []
    package private(set) var serverMode: SecurityMode = .signingEnabled
    package private(set) var signing = SigningAlgorithm.hmacSHA256
    package private(set) var encryption: EncryptionAlgorithm?
    /// [MS-SMB2] 3.1.4.4: over the negotiation's two messages.
    package private(set) var preauth = [UInt8](repeating: 0, count: 64)
    private var hasSigningContext = false
    private var hasEncryptionContext = false
    /// An old client asked which of the new dialects it may begin with.
    private(set) var isOpenEnded = false

    package init() {}

    package var dataMax: Int {
        guard let dialect, dialect > .v202 else { return SMB2.singleCreditMax }
        return SMB2.dataMax
    }

    var hasMultiCredit: Bool { capabilities.contains(.largeMTU) }

    mutating func hash(_ message: UnsafeRawBufferPointer) { preauth = ChainedDigest.sha512(preauth, message) }

    // MARK: The old negotiation

    private static let oldHeaderBytes = 32
    private static let oldNegotiate: UInt8 = 0x72

    /// SMB's first negotiation, which lists dialects by name (of [MS-SMB] 2.2.4.5.1 only what is needed to find ours).
    package mutating func negotiateOld(_ bytes: UnsafeRawBufferPointer, _ terms: Terms) throws(Refusal) {
        guard dialect == nil, !isOpenEnded, bytes.count >= Self.oldHeaderBytes + 3, bytes[4] == Self.oldNegotiate else {
            throw .end
        }
        let names = UnsafeRawBufferPointer(rebasing: bytes[(Self.oldHeaderBytes + 3)...])
        if Self.contains(names, "SMB 2.???"), terms.dialectMax > .v202 {
            isOpenEnded = true
            serverMode = terms.requiresSigning ? [.signingEnabled, .signingRequired] : .signingEnabled
            capabilities = .largeMTU
        } else if Self.contains(names, "SMB 2.002") {
            choose(.v202, terms)
        } else {
            throw .end
        }
    }

    /// Each name is the byte 2, text, and a zero.
    private static func contains(_ names: UnsafeRawBufferPointer, _ name: StaticString) -> Bool {
        names.split(separator: 0).contains { part in
            part.first == 2
                && part.dropFirst().elementsEqual(
                    UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        }
    }

    // MARK: The negotiation

    private mutating func choose(_ dialect: Dialect, _ terms: Terms) {
        self.dialect = dialect
        serverMode = terms.requiresSigning ? [.signingEnabled, .signingRequired] : .signingEnabled
        capabilities = []
        if dialect > .v202 { capabilities.formUnion([.largeMTU, .leasing]) }
        signing = dialect.isThree ? .aesCMAC : .hmacSHA256
    }

    package mutating func negotiate(_ request: NegotiateRequest, _ terms: Terms) throws(Refusal) {
        // A second negotiation is somebody else's.
        guard dialect == nil else { throw .end }
        guard !request.dialects.isEmpty else { throw .status(.invalidParameter) }
        var best: Dialect?
        for value in request.dialects {
            guard let known = Dialect(rawValue: value), known <= terms.dialectMax else { continue }
            best = max(best ?? known, known)
        }
        guard let best else { throw .status(.notSupported) }
        if isOpenEnded { isOpenEnded = false }
        clientGUID = request.clientGUID
        clientMode = request.securityMode
        clientCapabilities = request.capabilities
        clientDialects = request.dialects
        if best == .v311 { try takeContexts(request.contexts, terms) }
        let (signing, encryption) = (self.signing, self.encryption)
        choose(best, terms)
        if best == .v311 {
            if hasSigningContext { self.signing = signing }
            self.encryption = encryption
        } else if best.isThree, terms.allowsEncryption, request.capabilities.contains(.encryption) {
            capabilities.insert(.encryption)
            self.encryption = .aes128CCM
        }
    }

    private mutating func takeContexts(_ contexts: [NegotiateContext], _ terms: Terms) throws(Refusal) {
        var hasPreauth = false
        for context in contexts {
            switch context {
            case .preauthIntegrity(let algorithms, _):
                guard !hasPreauth else { throw .status(.invalidParameter) }
                hasPreauth = true
                guard algorithms.contains(1) else { throw .status(NTStatus(rawValue: 0xC05D_0000)) }
            case .encryption(let list):
                guard !hasEncryptionContext else { throw .status(.invalidParameter) }
                hasEncryptionContext = true
                guard terms.allowsEncryption else { continue }
                // In the client's order of preference.
                encryption = list.lazy.compactMap { EncryptionAlgorithm(rawValue: $0) }.first
            case .signing(let list):
                guard !hasSigningContext else { throw .status(.invalidParameter) }
                hasSigningContext = true
                signing = list.lazy.compactMap { SigningAlgorithm(rawValue: $0) }.first ?? .aesCMAC
            case .invalid: throw .status(.invalidParameter)
            case .other: continue
            }
        }
        guard hasPreauth else { throw .status(.invalidParameter) }
    }

    /// [MS-SMB2] 2.2.4.
    package func write(
        _ terms: Terms, time: UInt64, hint: [UInt8], salt: [UInt8], into writer: inout Writer, from header: Int
    ) {
        writer.u16LE(65)
        writer.u16LE(serverMode.rawValue)
        writer.u16LE(isOpenEnded ? Dialect.wildcard : dialect?.rawValue ?? 0)
        let countPlace = writer.reserve(2)
        writer.u64LE(UInt64(truncatingIfNeeded: terms.guid))
        writer.u64LE(UInt64(truncatingIfNeeded: terms.guid >> 64))
        writer.u32LE(capabilities.rawValue)
        let size = UInt32(isOpenEnded ? SMB2.dataMax : dataMax)
        writer.u32LE(size)
        writer.u32LE(size)
        writer.u32LE(size)
        writer.u64LE(time)
        writer.u64LE(0)
        writer.u16LE(UInt16(Header.bytes + 64))
        writer.u16LE(UInt16(hint.count))
        let contextPlace = writer.reserve(4)
        hint.withUnsafeBytes { writer.bytes($0) }
        guard dialect == .v311 else { return }
        var contexts: [NegotiateContext] = [.preauthIntegrity(algorithms: [1], salt: salt)]
        if hasEncryptionContext { contexts.append(.encryption([encryption?.rawValue ?? 0])) }
        if hasSigningContext { contexts.append(.signing([signing.rawValue])) }
        writer.zeros(-(writer.position - header) & 7)
        writer.patch(u16LE: UInt16(contexts.count), at: countPlace)
        writer.patch(u32LE: UInt32(writer.position - header), at: contextPlace)
        for (index, context) in contexts.enumerated() {
            if index > 0 { writer.zeros(-(writer.position - header) & 7) }
            context.writeUnaligned(into: &writer)
        }
    }
}
