// modules: Bytes
// with: Sources/SMB/Pipe/RPCEndpoint.swift Sources/SMB/Pipe/Srvsvc.swift Sources/SMB/Message/UTF16Name.swift Sources/SMB/Message/SMB2.swift Sources/SMB/Authentication/NTLM.swift
// inputs: 5000000
// lines: 95
// covers: Sources/SMB/Pipe/RPCEndpoint.swift Sources/SMB/Pipe/Srvsvc.swift
import Bytes

/// As much of a share as its list shows.
struct SMBShare {
    var name: String
    var comment: String
    var volume: Int?
}

protocol SMBCatalog: Sendable {
    func share(named name: String) -> SMBShare?
    var shares: [SMBShare] { get }
}

struct TwoShares: SMBCatalog {
    var shares: [SMBShare] {
        [SMBShare(name: "a", comment: "first", volume: 1), SMBShare(name: "IPC$", comment: "", volume: nil)]
    }
    func share(named name: String) -> SMBShare? { shares.first { $0.name == name } }
}

private let bytesMax = 1 << 12

/// A byte says how long each of the writes to the pipe is.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var input = UnsafeRawBufferPointer(start: data, count: count)
    var endpoint = RPCEndpoint(service: Srvsvc(TwoShares(), serverName: "SERVER"))
    while let first = input.first {
        let rest = input.dropFirst()
        let piece = rest.prefix(Int(first) * 4)
        var bytes = 0
        for answer in endpoint.take(UnsafeRawBufferPointer(rebasing: piece), limit: 64, bytesMax: bytesMax) {
            precondition(answer.count <= 64 << 10, "an answer beyond all fragments")
            precondition(bytes < bytesMax, "an answer behind the last one that is kept")
            bytes += answer.count
        }
        input = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.count))
    }
    return 0
}
