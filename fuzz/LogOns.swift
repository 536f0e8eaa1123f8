// modules: Bytes Logging Crypto
// part: Namespace Sources/Namespace/Identity/NTHash.swift
// with: Sources/SMB/Authentication/NTLMAcceptor.swift Sources/SMB/Authentication/MechanismSeals.swift Sources/SMB/Authentication/NTLM.swift Sources/SMB/Message/UTF16Name.swift Sources/SMB/Message/SMB2.swift
// inputs: 5000000
// lines: 95
// covers: Sources/SMB/Authentication/NTLMAcceptor.swift
import Bytes
import Crypto
import Namespace

struct SMBUser {
    var name: String
    var ntHash: [UInt8]
}

private let alice = SMBUser(name: "Alice", ntHash: NTHash.of("password"))
private let challenge: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
private let hello = Array("NTLMSSP\0".utf8) + [1, 0, 0, 0] + [0x15, 0x82, 0x08, 0xE2]

private func find(_ name: String) -> SMBUser? {
    switch name.lowercased() {
    case "alice": alice
    case "nosecret": SMBUser(name: "nosecret", ntHash: [])
    default: nil
    }
}

/// An answer to a challenge. Nobody is let in by it; with the right proof in its place, which the first byte may ask for, Alice is.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = Array(UnsafeRawBufferPointer(start: data, count: count))
    guard let first = input.first else { return 0 }
    var token = Array(input.dropFirst())
    var acceptor = NTLMAcceptor(serverName: "SERVER")
    if first & 4 != 0 {
        // Whatever comes first is a beginning, or nothing.
        if case .accepted = acceptor.accept(token, random: challenge, time: 9, user: find) {
            preconditionFailure("accepted before there was a challenge")
        }
    }
    guard case .challenge(let asked) = acceptor.accept(hello, random: challenge, time: 9, user: find) else {
        preconditionFailure("no challenge")
    }
    var isProven = false
    if first & 1 != 0 { isProven = prove(&token, asked, isWhole: first & 2 != 0) }
    switch acceptor.accept(token, random: challenge, time: 9, user: find) {
    case .accepted(let user, let name, let key):
        precondition(key.count == 16)
        precondition(user == nil && name.isEmpty || isProven && user?.name == "Alice", "somebody was let in")
        let seal = acceptor.seals?.sign([1, 2, 3], isServer: true)
        precondition(user == nil || seal?.count == 16)
        _ = acceptor.seals?.sign([1, 2, 3], isServer: false)
    case .challenge, .refused, .malformed: break
    }
    if case .accepted = acceptor.accept(token, random: challenge, time: 9, user: find) {
        preconditionFailure("an answer was good for two challenges")
    }
    return 0
}

/// Puts the right proof of Alice's secret into the token, and, if asked, the one over all three messages. Whether there was room.
private func prove(_ token: inout [UInt8], _ asked: [UInt8], isWhole: Bool) -> Bool {
    guard let message = token.withUnsafeBytes({ try? NTLM.Authenticate(reading: $0) }), message.response.count > 16,
        let name = UTF16Name.string(message.user)
    else { return false }
    let place = (0..<4).reduce(0) { $0 | Int(token[24 + $1]) << (8 * $1) }
    let key = MessageCode.hmacMD5(alice.ntHash, UTF16Name.bytes(UTF16Name.upper(name)) + message.domain)
    let proof = MessageCode.hmacMD5(key, challenge + message.response.dropFirst(16))
    token.replaceSubrange(place..<(place + 16), with: proof)
    guard isWhole, token.count >= 88 else { return true }
    let base = MessageCode.hmacMD5(key, proof)
    var session = base
    if message.flags.contains(.keyExchange), message.encryptedKey.count == 16 {
        var cipher = RC4(key: base)
        session = cipher.apply(message.encryptedKey)
    }
    for index in 72..<88 { token[index] = 0 }
    token.replaceSubrange(72..<88, with: MessageCode.hmacMD5(session, hello + asked + token))
    return true
}
