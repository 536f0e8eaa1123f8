// modules: Bytes
// part: RPC Sources/RPC/Message/CallHeader.swift Sources/RPC/Message/RecordMark.swift Sources/RPC/Message/Reply.swift Sources/RPC/XDR/XDRMessage.swift Sources/RPC/Security/SystemCredential.swift Sources/RPC/GSS/GSSMessages.swift
// part: NFS Sources/NFS/V3/NFS3.swift Sources/NFS/V3/NFS3+Types.swift Sources/NFS/V3/NFS3+Arguments.swift Sources/NFS/V3/NFS3+Results.swift Sources/NFS/V3/NFS3Request.swift Sources/NFS/Mount/MountMessages.swift Sources/NFS/Lock/LockMessages.swift Sources/NFS/Monitor/MonitorMessages.swift Sources/NFS/ACL/ACLMessages.swift Sources/NFS/Quota/QuotaMessages.swift
// with: Tests/WireSamples/WireType.swift Tests/WireSamples/WireCheck.swift
// inputs: 5000000
// lines: 95
// decodes: 7reading
// covers: Sources/RPC/Message Sources/RPC/XDR Sources/RPC/GSS/GSSMessages.swift Sources/RPC/Security/SystemCredential.swift Sources/NFS/V3 Sources/NFS/Mount/MountMessages.swift Sources/NFS/Lock/LockMessages.swift Sources/NFS/Monitor/MonitorMessages.swift Sources/NFS/ACL/ACLMessages.swift Sources/NFS/Quota/QuotaMessages.swift

/// See `WireCheck`, which the tests use on the corpus.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    WireCheck.check(UnsafeRawBufferPointer(start: data, count: count))
    return 0
}
