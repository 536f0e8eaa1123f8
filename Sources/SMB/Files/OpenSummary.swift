import Namespace

/// What commands show of an open. Opens belong to their loops; this may be read anywhere.
struct OpenSummary: Sendable {
    let share: String
    /// Of the share, where paths begin.
    let root: FileID?
    let volume: Volume?
    let held: OpenHandle?
    let file: FileID
    let stream: (base: FileID, name: [UInt8])?
    let pipe: String?
    let oplock: UInt8
    let isDurable: Bool

    /// On the open's loop.
    init(_ open: Open) {
        share = open.tree.share.name
        root = open.tree.root
        volume = open.volume
        held = open.held
        file = open.file
        stream = open.stream
        pipe = open.pipe?.name
        oplock = open.oplock
        isDurable = open.durability != nil
    }
}
