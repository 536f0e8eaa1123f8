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
    case .initiation(let initiation): initiation.token.withUnsafeBytes { read($0) }
    case .continuation(let continuation): continuation.token.withUnsafeBytes { read($0) }
    case nil: break
    }
    return 0
}

private func read(_ bytes: UnsafeRawBufferPointer) {
    _ = try? NTLM.Negotiate(reading: bytes)
    if let message = try? NTLM.Authenticate(reading: bytes) {
        _ = NTLM.pairs(message.response)
        _ = UTF16Name.string(message.user)
    }
    _ = NTLM.pairs(bytes)
}
