// modules: Bytes Crypto
// with: Sources/SMB/Connection/Negotiation.swift Sources/SMB/Security/SessionKeys.swift Sources/SMB/Message/Header.swift Sources/SMB/Message/Requests.swift Sources/SMB/Message/SMB2.swift Sources/SMB/Message/SMBRequest.swift Sources/SMB/Files/CreateContexts.swift Sources/SMB/Message/UTF16Name.swift Sources/SMB/Message/NTStatus.swift
// inputs: 5000000
// lines: 95
// covers: Sources/SMB/Connection/Negotiation.swift
import Bytes
import Crypto

/// Whether signing is demanded, and encryption allowed, says the first byte; a negotiation of the old protocol or of ours
/// follows, and perhaps the second that it leads to.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first else { return 0 }
    var terms = Negotiation.Terms(guid: 7, requiresSigning: first & 1 != 0, allowsEncryption: first & 2 != 0)
    if first & 4 != 0 { terms.dialectMax = first & 8 != 0 ? .v302 : .v202 }
    var negotiation = Negotiation()
    var bytes = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    if first & 16 != 0 {
        let length = min(Int(first >> 5) * 16 + 35, bytes.count)
        let old = UnsafeRawBufferPointer(rebasing: bytes[..<length])
        guard (try? negotiation.negotiateOld(old, terms)) != nil else { return 0 }
        answer(negotiation, terms)
        precondition((try? negotiation.negotiateOld(old, terms)) == nil, "the old one twice")
        bytes = UnsafeRawBufferPointer(rebasing: bytes[length...])
    }
    guard bytes.count >= Header.bytes, let request = try? NegotiateRequest(reading: Element(bytes)) else { return 0 }
    let isOver = negotiation.dialect != nil
    guard (try? negotiation.negotiate(request, terms)) != nil else {
        precondition(isOver || negotiation.dialect == nil, "refused, and agreed upon")
        return 0
    }
    precondition(!isOver, "it was negotiated twice")
    guard let dialect = negotiation.dialect else { preconditionFailure("agreed upon nothing") }
    precondition(dialect <= terms.dialectMax && request.dialects.contains(dialect.rawValue), "nobody asked for that")
    precondition(negotiation.encryption == nil || terms.allowsEncryption && dialect.isThree)
    precondition(negotiation.clientGUID == request.clientGUID && negotiation.clientDialects == request.dialects)
    precondition(negotiation.serverMode.contains(.signingRequired) == terms.requiresSigning)
    negotiation.hash(bytes)
    answer(negotiation, terms)
    precondition((try? negotiation.negotiate(request, terms)) == nil, "twice")
    return 0
}

private func answer(_ negotiation: Negotiation, _ terms: Negotiation.Terms) {
    withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { memory in
        var writer = Writer(UnsafeMutableRawBufferPointer(memory))
        writer.zeros(Header.bytes)
        negotiation.write(
            terms, time: 1, hint: [1, 2, 3], salt: [UInt8](repeating: 4, count: 32), into: &writer, from: 0)
        precondition(!writer.overflowed && negotiation.dataMax >= 65_536)
    }
}
