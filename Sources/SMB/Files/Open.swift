import Namespace
import Runtime

/// A file, directory or pipe that a session has open.
final class Open: @unchecked Sendable {
    let handle: FileHandle
    unowned let tree: Tree
    let volume: Volume?
    let file: FileID
    let type: FileType
    /// Rights of this open, which later changes of the file's access list do not touch.
    let granted: AccessMask
    /// Where it was opened, as stored: components below the root.
    var path: [[UInt8]]
    var parent: FileID?
    var isDeleteOnClose = false
    var position: UInt64 = 0
    var mode: UInt32 = 0
    var scan: DirectoryScan?
    var pipe: Pipe?
    /// Of the last write, by which the client wanted to be told apart.
    var channelSequence: UInt16 = 0

    init(
        _ handle: FileHandle, _ tree: Tree, _ volume: Volume?, _ file: FileID, _ type: FileType, _ granted: AccessMask,
        path: [[UInt8]], parent: FileID?
    ) {
        self.handle = handle
        self.tree = tree
        self.volume = volume
        self.file = file
        self.type = type
        self.granted = granted
        self.path = path
        self.parent = parent
    }

    var isDirectory: Bool { type == .directory }

    /// Nobody closes it any more: the session or its tree ends.
    func abandon() {
        guard let volume else { return }
        let caller = Caller(tree.session.credential, Request(reader: 0, now: 0))
        _ = volume.close(caller, file)
    }
}
