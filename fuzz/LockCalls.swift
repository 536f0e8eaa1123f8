// modules: Bytes
// part: Runtime Sources/Runtime/Network/SocketAddress.swift
// part: RPC Sources/RPC/Client/SocketAddress+Host.swift Sources/RPC/Message/CallHeader.swift Sources/RPC/Message/RecordMark.swift Sources/RPC/Message/Reply.swift Sources/RPC/XDR/XDRMessage.swift Sources/RPC/Security/SystemCredential.swift Sources/RPC/GSS/GSSMessages.swift
// part: Namespace fuzz/stubs/FileID.swift Sources/Namespace/Locks/LockRange.swift Sources/Namespace/Locks/LockOwner.swift Sources/Namespace/FileSystem/FileError.swift
// with: Sources/NFS/V3/NFS3.swift Sources/NFS/Lock/LockMessages.swift Sources/NFS/Lock/LockRequest.swift Sources/NFS/Lock/LockHosts.swift Sources/NFS/Monitor/HostRecord.swift Sources/NFS/Handles/FileHandle.swift
// inputs: 5000000
// lines: 95
// covers: Sources/NFS/Lock/LockRequest.swift Sources/NFS/Monitor/HostRecord.swift Sources/NFS/Handles/FileHandle.swift
import Bytes
import Namespace
import RPC

/// Calls of the lock manager as the server takes them, with their answers; file handles; and what a volume keeps of a host. The first
/// byte chooses.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let choice = input.first else { return 0 }
    let rest = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    switch choice {
    case 0..<128: lockCall(choice, rest)
    case 128..<192: handle(rest)
    default: record(Array(rest))
    }
    return 0
}

nonisolated(unsafe) private let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 8)

private func lockCall(_ choice: UInt8, _ message: UnsafeRawBufferPointer) {
    guard let procedure = LockProcedure(rawValue: UInt32(choice & 31)) else { return }
    let version: UInt32 = [1, 3, 4, 4][Int(choice >> 5)]
    var reader = Reader(message)
    guard let request = try? LockRequest(procedure, version: version, reading: &reader) else { return }
    precondition(
        request.caller.count <= LockManager.hostMax && request.owner.count <= LockManager.objectMax
            && request.file.count <= LockManager.objectMax && request.cookie.count <= LockManager.objectMax,
        "more than may come")
    precondition(request.range.first == request.offset && request.range.last >= request.range.first, "another range")
    precondition(request.hasWideNumbers || request.offset <= UInt64(UInt32.max), "a number wider than the version's")
    _ = procedure.result
    let owner = LockOwner(.posix, client: 1, id: 2)
    let holder = Namespace::LockHolder(owner: owner, range: request.range, mode: request.mode)
    let refusals: [LockRefusal] = [.held(holder), .deadlock, .tooMany, .timeout, .grace, .noReclaim]
    let errors: [FileError] = [
        .stale, .noEntry, .readOnly, .tooManyLocks, .accessDenied, .grace, .inputOutput("x"), .notPermitted, .noSpace,
        .sharingViolation, .locked,
    ]
    for status in refusals.map({ LockStatus($0) }) + errors.map({ LockStatus($0) }) {
        for holder in [
            nil, LockReply.Holder(isExclusive: true, process: 1, owner: request.owner, range: request.range),
        ] {
            var writer = Writer(memory)
            LockReply(status, holder: holder).write(procedure, to: request, into: &writer)
            precondition(!writer.overflowed, "an answer is longer than anything that was asked")
            var again = Reader(writer.written)
            guard let cookie = try? again.inPlace(limit: LockManager.objectMax), cookie.elementsEqual(request.cookie),
                let word = try? again.u32(), let said = LockStatus(rawValue: word)
            else { preconditionFailure("an answer that nobody can read") }
            precondition(version == 4 || said.rawValue <= LockStatus.deadlock.rawValue, "a status that version has not")
        }
    }
}

private let key = HandleKey(1, 2)

private func handle(_ bytes: UnsafeRawBufferPointer) {
    _ = FileHandle.export(inArguments: bytes)
    precondition(HandleKey(Array(bytes)).map { $0.bytes == Array(bytes) } ?? (bytes.count != HandleKey.bytes))
    guard let claimed = FileHandle(claimed: bytes) else {
        precondition(!FileHandle.isGenuine(bytes, key.hash), "what is no handle is one of ours")
        return
    }
    let plain = FileHandle(
        export: claimed.export, snapshot: claimed.snapshot, volume: claimed.volume, file: claimed.file)
    precondition(plain == claimed)
    var writer = Writer(memory)
    plain.write(into: &writer, key.hash)
    let made = UnsafeRawBufferPointer(rebasing: writer.written.dropFirst(4))
    precondition(FileHandle.export(inArguments: writer.written) == claimed.export, "another export")
    precondition(FileHandle(claimed: made) == claimed && FileHandle.isGenuine(made, key.hash), "not what was written")
    // All but the code is what it was; it is ours only if that is, too.
    precondition(made.dropLast(8).elementsEqual(bytes.dropLast(8)))
    precondition(FileHandle.isGenuine(bytes, key.hash) == made.elementsEqual(bytes), "a forged handle is taken")
}

private func record(_ bytes: [UInt8]) {
    guard let found = HostRecord(bytes) else { return }
    precondition(found.name.count <= LockManager.nameMax, "a name longer than any")
    precondition(HostRecord(found.bytes) == found, "it changes from time to time")
    precondition(HostRecord(found.host) == found, "another host")
}
