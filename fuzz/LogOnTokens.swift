// modules: Bytes
// with: Sources/SMB/Authentication/SPNEGO.swift Sources/SMB/Authentication/DER.swift Sources/SMB/Authentication/NTLM.swift Sources/SMB/Message/UTF16Name.swift Sources/SMB/Message/SMB2.swift
// inputs: 5000000
// lines: 95
// covers: Sources/SMB/Authentication/SPNEGO.swift Sources/SMB/Authentication/DER.swift Sources/SMB/Authentication/NTLM.swift
import Bytes

/// Tokens of SPNEGO and of NTLM, the one inside the other or alone.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    read(input)
    switch SPNEGO.Token(reading: input) {
    case .initiation(let initiation):
        precondition(initiation.mechanisms.count <= SPNEGO.mechanismsMax)
        initiation.token.withUnsafeBytes { read($0) }
        answer(initiation.token, initiation.mechanisms.first)
    case .continuation(let continuation):
        continuation.token.withUnsafeBytes { read($0) }
        answer(continuation.token, nil)
    case nil: break
    }
    return 0
}

/// Ours can be read, whatever it carries, and however long it is.
private func answer(_ token: [UInt8], _ mechanism: [UInt8]?) {
    for count in [0, 1, 0x90, 0x1_0001] where count == 0 || token.count < 8 {
        let (token, proof) = (token + [UInt8](repeating: 1, count: count), Array(token.prefix(16)))
        let bytes = SPNEGO.response(.incomplete, mechanism: mechanism, token: token, proof: proof)
        let again = bytes.withUnsafeBytes { SPNEGO.Token(reading: $0) }
        precondition(
            again == .continuation(SPNEGO.Continuation(token: token, proof: proof)), "what we write is not what is read"
        )
    }
    for takesTickets in [false, true] {
        let hint = SPNEGO.hint(takesTickets: takesTickets)
        precondition(hint.withUnsafeBytes { SPNEGO.Token(reading: $0) } != nil, "nobody can read what we begin with")
    }
}

/// A challenge with these pairs is whole.
private func challenge(_ pairs: [(id: UInt16, value: [UInt8])]) {
    var info: [UInt8] = []
    for pair in pairs where pair.id != NTLM.Pair.end { info.pair(pair.id, pair.value) }
    info.pair(NTLM.Pair.end, [])
    guard info.count < 0x8000 else { return }
    var stamp: [UInt8] = []
    stamp.u64(1)
    let bytes = NTLM.Challenge(flags: .unicode, challenge: stamp, target: [1, 2], info: info).encoded()
    precondition(bytes.count == 56 + 2 + info.count && bytes.suffix(info.count) == info[...], "a challenge is cut")
    let again = NTLM.pairs(info)
    precondition(again?.map(\.id) == pairs.map(\.id) && again?.map(\.value) == pairs.map(\.value), "other pairs")
}

private func read(_ bytes: UnsafeRawBufferPointer) {
    _ = try? NTLM.Negotiate(reading: bytes)
    if let message = try? NTLM.Authenticate(reading: bytes) {
        _ = NTLM.pairs(message.response)
        _ = UTF16Name.string(message.user)
    }
    if let pairs = NTLM.pairs(bytes) { challenge(pairs) }
}
