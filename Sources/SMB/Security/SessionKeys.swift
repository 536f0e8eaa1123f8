import Bytes
import Crypto

/// [MS-SMB2] 2.2.3.1.7.
package enum SigningAlgorithm: UInt16, Sendable {
    case hmacSHA256 = 0
    case aesCMAC = 1
    case aesGMAC = 2
}

/// [MS-SMB2] 2.2.3.1.2.
package enum EncryptionAlgorithm: UInt16, Sendable {
    case aes128CCM = 1
    case aes128GCM = 2
    case aes256CCM = 3
    case aes256GCM = 4

    var cipher: AuthenticatedCipher.Algorithm {
        switch self {
        case .aes128CCM: .aes128CCM
        case .aes128GCM: .aes128GCM
        case .aes256CCM: .aes256CCM
        case .aes256GCM: .aes256GCM
        }
    }

    var nonceBytes: Int { cipher.isCCM ? 11 : 12 }
}

/// What a session signs, proves and encrypts with ([MS-SMB2] 3.3.5.5.3): contexts made once for its life.
final class SessionKeys {
    private enum Signer {
        case code(MessageCode)
        case galois(GaloisCode)
    }

    private let signer: Signer
    private let sealer: AuthenticatedCipher?
    private let opener: AuthenticatedCipher?
    private var nonce: UInt64 = 0
    /// For protocols inside, such as DCE/RPC's own security.
    let application: [UInt8]

    var canEncrypt: Bool { sealer != nil }

    /// `preauth`: the hash over all that led here, for the dialect 3.1.1.
    init(
        session key: [UInt8], _ dialect: Dialect, _ signing: SigningAlgorithm, _ encryption: EncryptionAlgorithm?,
        preauth: [UInt8]
    ) {
        let base = Array((key + [UInt8](repeating: 0, count: 16)).prefix(16))
        guard dialect.isThree else {
            signer = .code(MessageCode(.hmacSHA256, key: base))
            sealer = nil
            opener = nil
            application = base
            return
        }
        let isLatest = dialect == .v311
        func derived(_ label: String, _ oldLabel: String, _ oldContext: String, _ key: [UInt8], _ count: Int) -> [UInt8]
        {
            KeyDerivation.counter(
                key, label: Array((isLatest ? label : oldLabel).utf8) + [0],
                context: isLatest ? preauth : Array(oldContext.utf8) + [0], count: count)
        }
        let signingKey = derived("SMBSigningKey", "SMB2AESCMAC", "SmbSign", base, 16)
        signer =
            switch signing {
            case .hmacSHA256: .code(MessageCode(.hmacSHA256, key: signingKey))
            case .aesCMAC: .code(MessageCode(.aesCMAC, key: signingKey))
            case .aesGMAC: .galois(GaloisCode(key: signingKey))
            }
        application = derived("SMBAppKey", "SMB2APP", "SmbRpc", base, 16)
        guard let encryption else {
            sealer = nil
            opener = nil
            return
        }
        let cipher = encryption.cipher
        let whole = cipher.keyBytes == 32 ? key : base
        sealer = AuthenticatedCipher(
            cipher, key: derived("SMBS2CCipherKey", "SMB2AESCCM", "ServerOut", whole, cipher.keyBytes),
            nonceBytes: encryption.nonceBytes, encrypts: true)
        opener = AuthenticatedCipher(
            cipher, key: derived("SMBC2SCipherKey", "SMB2AESCCM", "ServerIn ", whole, cipher.keyBytes),
            nonceBytes: encryption.nonceBytes, encrypts: false)
    }

    // MARK: Signing

    private static let zeros = [UInt8](repeating: 0, count: 32)

    /// The code of a message, as if its own signature were zero; its end may lie elsewhere, in `parts`.
    private func code(
        _ message: UnsafeRawBufferPointer, _ parts: [BlockPart], isServer: Bool,
        into code: UnsafeMutableRawBufferPointer
    ) {
        let lead = UnsafeRawBufferPointer(rebasing: message[..<Header.signatureOffset])
        let rest = UnsafeRawBufferPointer(rebasing: message[Header.bytes...])
        Self.zeros.withUnsafeBytes { zeros in
            let signature = UnsafeRawBufferPointer(rebasing: zeros[..<Header.signatureBytes])
            switch signer {
            case .code(let mac):
                mac.begin()
                mac.update(lead)
                mac.update(signature)
                mac.update(rest)
                for part in parts { mac.update(part.bytes) }
                mac.finish(into: code)
            case .galois(let galois):
                let command = message.loadUnaligned(fromByteOffset: 12, as: UInt16.self)
                let isCancel = UInt16(littleEndian: command) == Command.cancel.rawValue
                var nonce: (UInt64, UInt32) = (
                    message.loadUnaligned(fromByteOffset: 24, as: UInt64.self),
                    UInt32((isServer ? 1 : 0) | (isCancel ? 2 : 0)).littleEndian
                )
                withUnsafeBytes(of: &nonce) { galois.begin(UnsafeRawBufferPointer(rebasing: $0[..<12])) }
                galois.update(lead)
                galois.update(signature)
                galois.update(rest)
                for part in parts { galois.update(part.bytes) }
                galois.finish(into: code)
            }
        }
        extendLifetime(parts)
    }

    /// Signs an element where it lies, and what follows it in `parts`.
    func sign(_ message: UnsafeMutableRawBufferPointer, _ parts: [BlockPart] = []) {
        withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { scratch in
            code(UnsafeRawBufferPointer(message), parts, isServer: true, into: room(scratch))
            UnsafeMutableRawBufferPointer(rebasing: message[Header.signatureOffset..<Header.bytes]).copyMemory(
                from: UnsafeRawBufferPointer(rebasing: scratch[..<Header.signatureBytes]))
        }
    }

    /// Whether the client signed the element.
    func isSigned(_ message: UnsafeRawBufferPointer) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { scratch in
            code(message, [], isServer: false, into: room(scratch))
            return equalsInConstantTime(
                UnsafeRawBufferPointer(rebasing: message[Header.signatureOffset..<Header.bytes]),
                UnsafeRawBufferPointer(rebasing: scratch[..<Header.signatureBytes]))
        }
    }

    private func room(_ scratch: UnsafeMutableRawBufferPointer) -> UnsafeMutableRawBufferPointer {
        switch signer {
        case .code(let mac): UnsafeMutableRawBufferPointer(rebasing: scratch[..<mac.count])
        case .galois: UnsafeMutableRawBufferPointer(rebasing: scratch[..<GaloisCode.count])
        }
    }

    // MARK: Encryption

    /// Encrypts what follows the transform header in `packet`, and completes the header. No nonce is used twice. The end of what is encrypted
    /// may lie elsewhere, in `parts`, which its place in `packet` is as long as.
    func seal(_ packet: UnsafeMutableRawBufferPointer, _ parts: [BlockPart] = []) {
        guard let sealer else { preconditionFailure("a session without a cipher encrypts nothing") }
        nonce += 1
        let place = UnsafeMutableRawBufferPointer(
            rebasing: packet[TransformHeader.nonceOffset..<(TransformHeader.nonceOffset + 16)])
        place.storeBytes(of: nonce.littleEndian, as: UInt64.self)
        place.storeBytes(of: 0, toByteOffset: 8, as: UInt64.self)
        let number = UnsafeRawBufferPointer(rebasing: place[..<sealer.nonceBytes])
        let associated = UnsafeRawBufferPointer(
            rebasing: packet[TransformHeader.associatedOffset..<TransformHeader.bytes])
        let tag = UnsafeMutableRawBufferPointer(
            rebasing: packet[TransformHeader.tagOffset..<(TransformHeader.tagOffset + 16)])
        let content = UnsafeMutableRawBufferPointer(rebasing: packet[TransformHeader.bytes...])
        var end = content.count - parts.reduce(0) { $0 + $1.count }
        precondition(end >= 0, "room for what is encrypted")
        if parts.isEmpty || !sealer.takesPieces {
            for part in parts {
                UnsafeMutableRawBufferPointer(rebasing: content[end...]).copyMemory(from: part.bytes)
                end += part.count
            }
            sealer.seal(content, nonce: number, associated: associated, tag: tag)
        } else {
            sealer.begin(number)
            sealer.associate(associated)
            let head = UnsafeMutableRawBufferPointer(rebasing: content[..<end])
            sealer.seal(UnsafeRawBufferPointer(head), into: head)
            for part in parts {
                sealer.seal(
                    part.bytes, into: UnsafeMutableRawBufferPointer(rebasing: content[end..<(end + part.count)]))
                end += part.count
            }
            sealer.finish(tag)
        }
        extendLifetime(parts)
    }

    /// Decrypts what follows the transform header, where it lies. False: it was not sealed by this session's client.
    func open(_ packet: UnsafeMutableRawBufferPointer) -> Bool {
        guard let opener else { return false }
        let nonce = TransformHeader.nonceOffset
        return opener.open(
            UnsafeMutableRawBufferPointer(rebasing: packet[TransformHeader.bytes...]),
            nonce: UnsafeRawBufferPointer(rebasing: packet[nonce..<(nonce + opener.nonceBytes)]),
            associated: UnsafeRawBufferPointer(
                rebasing: packet[TransformHeader.associatedOffset..<TransformHeader.bytes]),
            tag: UnsafeRawBufferPointer(
                rebasing: packet[TransformHeader.tagOffset..<(TransformHeader.tagOffset + 16)]))
    }
}
