import COpenSSL

/// AES in a mode that encrypts and proves, under one key, in place. The context is made once and kept; only the nonce
/// changes. Belongs to one thread at a time.
public final class AuthenticatedCipher {
    public enum Algorithm: Sendable, Equatable {
        case aes128CCM
        case aes128GCM
        case aes256CCM
        case aes256GCM

        public var keyBytes: Int {
            switch self {
            case .aes128CCM, .aes128GCM: 16
            case .aes256CCM, .aes256GCM: 32
            }
        }

        public var isCCM: Bool { self == .aes128CCM || self == .aes256CCM }

        fileprivate var cipher: OpaquePointer? {
            switch self {
            case .aes128CCM: EVP_aes_128_ccm()
            case .aes128GCM: EVP_aes_128_gcm()
            case .aes256CCM: EVP_aes_256_ccm()
            case .aes256GCM: EVP_aes_256_gcm()
            }
        }
    }

    public static let tagBytes = 16

    public let nonceBytes: Int
    private let algorithm: Algorithm
    private let context: OpaquePointer
    private let encrypts: Int32
    private let key: [UInt8]

    public init(_ algorithm: Algorithm, key: [UInt8], nonceBytes: Int, encrypts: Bool) {
        precondition(key.count == algorithm.keyBytes, "a key of this cipher")
        guard let context = EVP_CIPHER_CTX_new() else { preconditionFailure("no memory for a cipher") }
        self.algorithm = algorithm
        self.context = context
        self.nonceBytes = nonceBytes
        self.encrypts = encrypts ? 1 : 0
        self.key = key
        precondition(
            EVP_CipherInit_ex(context, algorithm.cipher, nil, nil, nil, self.encrypts) == 1
                && EVP_CIPHER_CTX_ctrl(context, Int32(EVP_CTRL_AEAD_SET_IVLEN), Int32(nonceBytes), nil) == 1,
            "OpenSSL refuses a cipher")
        if algorithm.isCCM {
            precondition(
                EVP_CIPHER_CTX_ctrl(context, Int32(EVP_CTRL_AEAD_SET_TAG), Int32(Self.tagBytes), nil) == 1,
                "OpenSSL refuses the length of a tag")
        }
        precondition(EVP_CipherInit_ex(context, nil, nil, key, nil, self.encrypts) == 1, "OpenSSL refuses a key")
    }

    deinit { EVP_CIPHER_CTX_free(context) }

    /// Encrypts `bytes` where they are and answers the proof for them and for `associated`.
    public func seal(
        _ bytes: UnsafeMutableRawBufferPointer, nonce: UnsafeRawBufferPointer, associated: UnsafeRawBufferPointer,
        tag: UnsafeMutableRawBufferPointer
    ) {
        begin(nonce)
        precondition(
            prove(associated, of: bytes.count) && run(UnsafeRawBufferPointer(bytes), into: bytes),
            "a cipher that was set up encrypts")
        finish(tag)
    }

    // MARK: Sealing piece by piece

    /// CCM takes what it encrypts as one piece; the others take as many as there are, and one that lies elsewhere is not copied first.
    public var takesPieces: Bool { !algorithm.isCCM }

    public func begin(_ nonce: UnsafeRawBufferPointer) {
        precondition(encrypts == 1 && nonce.count == nonceBytes, "a seal's arguments")
        precondition(start(nonce), "a cipher that was set up begins again")
    }

    /// More of what is proved and not encrypted: all of it before the first `seal`.
    public func associate(_ bytes: UnsafeRawBufferPointer) {
        precondition(takesPieces && prove(bytes, of: 0), "a cipher that was set up proves")
    }

    /// Encrypts one more piece to where it is to lie.
    public func seal(_ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) {
        precondition(takesPieces && bytes.count == target.count, "a piece's arguments")
        precondition(run(bytes, into: target), "a cipher that was set up encrypts")
    }

    public func finish(_ tag: UnsafeMutableRawBufferPointer) {
        precondition(tag.count == Self.tagBytes, "room for a tag")
        var count: Int32 = 0
        var rest: UInt8 = 0
        precondition(
            EVP_CipherFinal_ex(context, &rest, &count) == 1
                && EVP_CIPHER_CTX_ctrl(
                    context, Int32(EVP_CTRL_AEAD_GET_TAG), Int32(Self.tagBytes), tag.baseAddress) == 1,
            "a cipher answers its tag")
    }

    /// Decrypts `bytes` where they are. False: they are not what was sealed, and mean nothing now.
    public func open(
        _ bytes: UnsafeMutableRawBufferPointer, nonce: UnsafeRawBufferPointer, associated: UnsafeRawBufferPointer,
        tag: UnsafeRawBufferPointer
    ) -> Bool {
        precondition(encrypts == 0 && nonce.count == nonceBytes && tag.count == Self.tagBytes, "an opening's arguments")
        let expected = UnsafeMutableRawPointer(mutating: tag.baseAddress)
        guard
            EVP_CIPHER_CTX_ctrl(
                context, Int32(EVP_CTRL_AEAD_SET_TAG), Int32(Self.tagBytes), expected) == 1, start(nonce),
            prove(associated, of: bytes.count), run(UnsafeRawBufferPointer(bytes), into: bytes)
        else { return false }
        // CCM compares the tag with the data; the last step is GCM's.
        if algorithm.isCCM { return true }
        var count: Int32 = 0
        var rest: UInt8 = 0
        return EVP_CIPHER_CTX_ctrl(
            context, Int32(EVP_CTRL_AEAD_SET_TAG), Int32(Self.tagBytes), expected) == 1
            && EVP_CipherFinal_ex(context, &rest, &count) == 1
    }

    private func start(_ nonce: UnsafeRawBufferPointer) -> Bool {
        EVP_CipherInit_ex(
            context, nil, nil, algorithm.isCCM ? key : nil, nonce.baseAddress?.assumingMemoryBound(to: UInt8.self),
            encrypts) == 1
    }

    private func prove(_ associated: UnsafeRawBufferPointer, of length: Int) -> Bool {
        var count: Int32 = 0
        // CCM has to know how much there will be before anything else.
        if algorithm.isCCM, EVP_CipherUpdate(context, nil, &count, nil, Int32(clamping: length)) != 1 { return false }
        guard let base = associated.baseAddress else { return true }
        return EVP_CipherUpdate(
            context, nil, &count, base.assumingMemoryBound(to: UInt8.self), Int32(clamping: associated.count)) == 1
    }

    private func run(_ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Bool {
        var count: Int32 = 0
        return EVP_CipherUpdate(
            context, target.baseAddress?.assumingMemoryBound(to: UInt8.self), &count,
            bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(clamping: bytes.count)) == 1
    }
}

/// AES-128-GMAC: GCM over nothing but what it proves (NIST SP 800-38D). Belongs to one thread at a time.
public final class GaloisCode {
    private let cipher: AuthenticatedCipher
    public static let nonceBytes = 12
    public static let count = 16

    public init(key: [UInt8]) {
        cipher = AuthenticatedCipher(.aes128GCM, key: key, nonceBytes: Self.nonceBytes, encrypts: true)
    }

    public func code(
        _ bytes: UnsafeRawBufferPointer, nonce: UnsafeRawBufferPointer, into code: UnsafeMutableRawBufferPointer
    ) {
        begin(nonce)
        update(bytes)
        finish(into: code)
    }

    public func begin(_ nonce: UnsafeRawBufferPointer) { cipher.begin(nonce) }
    public func update(_ bytes: UnsafeRawBufferPointer) { cipher.associate(bytes) }
    public func finish(into code: UnsafeMutableRawBufferPointer) { cipher.finish(code) }
}
