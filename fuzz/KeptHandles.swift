// modules: Bytes
// with: Sources/SMB/Files/KeptHandle.swift Sources/SMB/Authentication/NTLM.swift
// inputs: 5000000
// lines: 95
// covers: Sources/SMB/Files/KeptHandle.swift

/// As much of an open as is kept.
struct FileHandle {
    var persistent: UInt64
    var volatile: UInt64
}

struct Durability {
    var guid: UInt128?
}

struct Share {
    var name: String
}

struct Tree {
    var share: Share
}

final class Open {
    let handle: FileHandle
    let tree: Tree
    let mode: UInt32
    let lockSequences: [UInt32: UInt8]

    init(_ kept: KeptHandle) {
        handle = FileHandle(persistent: 0, volatile: kept.volatile)
        tree = Tree(share: Share(name: kept.share))
        mode = kept.mode
        lockSequences = kept.lockSequences
    }
}

/// What a volume gives back after a restart, whoever wrote it: it is refused, or is what would be written again.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = Array(UnsafeRawBufferPointer(start: data, count: count))
    guard let kept = KeptHandle(input) else { return 0 }
    precondition(
        kept.user.utf8.count <= 1024 && kept.share.utf8.count <= 1024
            && kept.lockSequences.count <= KeptHandle.sequencesMax)
    let open = KeptHandle(Open(kept), user: kept.user, client: kept.client, Durability(guid: kept.guid))
    precondition(open == kept, "another handle than the one that was kept")
    guard let record = kept.record else { preconditionFailure("what was read can not be written") }
    precondition(KeptHandle(record) == kept, "it changes from time to time")
    // Longer names are nobody's.
    let name = String(repeating: "u", count: 1025)
    for (user, share) in [(name, "s"), ("u", name)] {
        precondition(KeptHandle(volatile: 1, client: 2, user: user, share: share, guid: nil, mode: 0).record == nil)
    }
    return 0
}
