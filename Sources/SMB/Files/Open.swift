import Bytes
import Namespace
import Runtime

/// A file, directory or pipe that a session has open.
final class Open: @unchecked Sendable {
    let handle: FileHandle
    /// Changes when a handle that outlived its connection is taken up again.
    private(set) var tree: Tree
    /// Nil, as `held`: a pipe.
    let volume: Volume?
    /// What the volume knows it by: its rights, share mode, locks and lease.
    let held: OpenHandle?
    let file: FileID
    let type: FileType
    /// Of a named stream: the file that it belongs to, and its name as stored.
    var stream: (base: FileID, name: [UInt8])?
    /// The oplock's level, in the protocol's numbers; a lease has 0xFF.
    var oplock: UInt8 = 0
    var position: UInt64 = 0
    var mode: UInt32 = 0
    var scan: DirectoryScan?
    /// Of its extended attributes, as far as they were asked for one by one.
    var attributesShown = 0
    var pipe: Pipe?
    /// Set up by the first request for changes; it stays as it is until the handle is closed.
    var watch: WatchID?
    /// What the first request had room for: more than that is not kept for later ones.
    var watchedBytes = 0
    /// Exchanges that wait for changes of this directory, the oldest first.
    var watching: [Watching] = []
    /// The number that its client gave it.
    var createGUID: UInt128?
    /// Nothing has been done with it yet: the request that made it may come again ([MS-SMB2] 3.3.5.9.10).
    var isUntouched = true
    /// Of an application that may go on at another client.
    var application: ApplicationInstances.Membership?
    /// Nil: it ends with its connection.
    var durability: Durability?
    /// Of a durable one whose client is there.
    var presence: DurableHandles.Presence?
    /// The last number that each of the client's places for lock requests has seen; nil: none ([MS-SMB2] 3.3.5.14).
    var lockSequences: [UInt32: UInt8] = [:]
    /// The latest that its client counted failures of connections to ([MS-SMB2] 3.3.5.2.10).
    var channelSequence: UInt16 = 0
    /// What its client said that the file will take, for as long as it is open. Nothing is reserved: it is shown as taken.
    var allocation: UInt64 = 0
    /// The time of the last write that was set by it: what it writes from then on changes that no more ([MS-FSCC] 2.4.7).
    var writeTime: Int64?
    /// How it came to be, for a request that comes again.
    var action = CreateAction.opened
    /// Exchanges that wait for a lock.
    var locking: [(exchange: Exchange, use: UInt64)] = []

    struct Watching {
        let exchange: Exchange
        let use: UInt64
        let outputMax: Int
    }

    init(_ handle: FileHandle, _ tree: Tree, _ volume: Volume, _ opened: OpenedFile) {
        self.handle = handle
        self.tree = tree
        self.volume = volume
        held = opened.handle
        file = opened.handle.file
        type = opened.file.type
    }

    /// One of before the server was started. Only files outlive it.
    init(_ handle: FileHandle, _ tree: Tree, _ volume: Volume, _ awaited: AwaitedOpen) {
        self.handle = handle
        self.tree = tree
        self.volume = volume
        held = awaited.handle
        file = awaited.handle.file
        type = .file
        stream = awaited.stream
    }

    init(_ handle: FileHandle, _ tree: Tree, _ pipe: Pipe) {
        self.handle = handle
        self.tree = tree
        volume = nil
        held = nil
        file = FileID(subvolume: 0, inode: 0, generation: 0)
        type = .fifo
        self.pipe = pipe
    }

    /// Rights of this open, which later changes of the file's access list do not touch.
    var granted: AccessMask { held?.granted ?? .all }
    /// What attributes, times and rights are asked of: a stream has those of its file.
    var subject: FileID { stream?.base ?? file }
    var isDirectory: Bool { type == .directory }
    /// Of its lease or oplock, whatever was granted of it.
    var leaseKey: LeaseKey? { held?.lease }

    /// Taken up again by another session.
    func moved(to tree: Tree) { self.tree = tree }

    /// Nobody closes it any more: the session or its tree ends.
    func abandon(_ stream: SMBStream) {
        stream.finishWatching(self, .notifyCleanup)
        stream.forgetCreation(self)
        end(on: stream.loop)
    }

    /// Ends it with all that it holds; what can not be done at once follows. There is nobody to tell.
    func end(on loop: EventLoop) {
        guard let volume, let held else { return }
        if let watch { volume.endWatch(watch) }
        watch = nil
        volume.closePatiently(held, on: loop)
    }
}
