import Crypto
import Namespace

/// The client's side of NTLMv2, with everything that can be done wrong.
package struct NTLMClient {
    package var user = "Alice"
    package var secret = "password"
    package var domain = "WORKGROUP"
    package var hasProof = true
    package var breaksProof = false
    package var response: [UInt8]?
    /// Of the channel that it believes to be in.
    package var bindings: [UInt8]?
    package private(set) var session: [UInt8] = []

    package static func utf16(_ text: String) -> [UInt8] {
        text.utf16.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
    }

    package init() {}

    package static func number(_ value: Int, _ bytes: Int) -> [UInt8] {
        (0..<bytes).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    package static let flags: UInt32 = 0xE208_8215
    package static let negotiate =
        Array("NTLMSSP\0".utf8) + number(1, 4) + number(Int(flags), 4) + [UInt8](repeating: 0, count: 16)

    package mutating func answer(_ challenge: [UInt8]) -> [UInt8] {
        let hash = NTHash.of(secret)
        let key = MessageCode.hmacMD5(hash, Self.utf16(user.uppercased()) + Self.utf16(domain))
        let count = Int(challenge[40]) | Int(challenge[41]) << 8
        let offset = Int(challenge[44]) | Int(challenge[45]) << 8
        var info = Array(challenge[offset..<(offset + count)].dropLast(4))
        if hasProof { info += [6, 0, 4, 0, 2, 0, 0, 0] }
        if let bindings { info += [10, 0, UInt8(bindings.count), 0] + bindings }
        info += [0, 0, 0, 0]
        let blob =
            [1, 1, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 3, count: 8) + [UInt8](repeating: 5, count: 8) + [0, 0, 0, 0]
            + info + [0, 0, 0, 0]
        let proof = MessageCode.hmacMD5(key, Array(challenge[24..<32]) + blob)
        let base = MessageCode.hmacMD5(key, proof)
        session = [UInt8](repeating: 0xAB, count: 16)
        var cipher = RC4(key: base)
        let encrypted = cipher.apply(session)
        let parts = [[], response ?? (proof + blob), Self.utf16(domain), Self.utf16(user), [], encrypted]
        var fields: [UInt8] = []
        var payload: [UInt8] = []
        for part in parts {
            fields += Self.number(part.count, 2) + Self.number(part.count, 2) + Self.number(88 + payload.count, 4)
            payload += part
        }
        var message =
            Array("NTLMSSP\0".utf8) + Self.number(3, 4) + fields + Self.number(Int(Self.flags), 4)
            + [UInt8](repeating: 0, count: 8 + 16) + payload
        if hasProof {
            var code = MessageCode.hmacMD5(session, Self.negotiate + challenge + message)
            if breaksProof { code[3] ^= 1 }
            message.replaceSubrange(72..<88, with: code)
        }
        return message
    }
}
