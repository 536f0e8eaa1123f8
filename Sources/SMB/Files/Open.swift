import Namespace
import Runtime

/// A file, directory or pipe that a session has open.
final class Open: @unchecked Sendable {
    let handle: FileHandle
    /// Changes when a handle that outlived its connection is taken up again.
    private(set) unowned var tree: Tree
    let volume: Volume?
    let sharing: FileSharing?
    let file: FileID
    let type: FileType
    /// Rights of this open, which later changes of the file's access list do not touch.
    let granted: AccessMask
    /// Of a named stream: the file that it belongs to, and its name as stored.
    var stream: (base: FileID, name: [UInt8])?
    /// Among the opens of the volume; nil: it is closed, or a pipe.
    var id: OpenID?
    /// Where the file is; shared with all opens that came by the same name.
    let place: FilePlace
    /// Of the name that it came by.
    var leaseKey: LeaseKey?
    /// What it was opened with, whatever was granted.
    var broughtKey: LeaseKey?
    /// The oplock's level, in the protocol's numbers; a lease has 0xFF.
    var oplock: UInt8 = 0
    var position: UInt64 = 0
    var mode: UInt32 = 0
    var scan: DirectoryScan?
    var pipe: Pipe?
    /// Its name goes with it: that is left to be done.
    var mustRemove = false
    /// Exchanges that wait for changes of this directory, the oldest first.
    var watching: [Watching] = []
    /// The number that its client gave it.
    var createGUID: UInt128?
    /// Nil: it ends with its connection.
    var durability: Durability?
    /// The last number that each of the client's places for lock requests has seen; nil: none ([MS-SMB2] 3.3.5.14).
    var lockSequences: [UInt32: UInt8] = [:]
    /// How it came to be, for a request that comes again.
    var action = CreateAction.opened
    /// Exchanges that wait for a lock.
    var locking: [(exchange: Exchange, use: UInt64)] = []
    /// Since the handle's watch was set up.
    var hasWatch = false

    struct Watching {
        let exchange: Exchange
        let use: UInt64
        let outputMax: Int
    }

    init(
        _ handle: FileHandle, _ tree: Tree, _ volume: Volume?, _ file: FileID, _ type: FileType, _ granted: AccessMask,
        _ place: FilePlace, _ id: OpenID?
    ) {
        self.handle = handle
        self.tree = tree
        self.volume = volume
        sharing = tree.sharing
        self.file = file
        self.type = type
        self.granted = granted
        self.place = place
        self.id = id
    }

    /// What attributes, times and rights are asked of: a stream has those of its file.
    var subject: FileID { stream?.base ?? file }
    var isDirectory: Bool { type == .directory }
    var lockOwner: LockOwner { LockOwner(.handle, client: handle.persistent, id: handle.volatile) }

    /// By whom leases are not broken: the open's own lease, or an oplock that it would have.
    var actor: LeaseKey { leaseKey ?? Self.oplockKey(handle) }

    /// Oplocks have no client's key: they get one that no client has.
    static func oplockKey(_ handle: FileHandle) -> LeaseKey {
        LeaseKey(client: UInt128(handle.persistent) << 64 | UInt128(handle.volatile), key: .max)
    }

    /// Taken up again by another session.
    func moved(to tree: Tree) { self.tree = tree }

    /// Nobody closes it any more: the session or its tree ends.
    func abandon(_ stream: SMBStream) {
        stream.finishWatching(self, .notifyCleanup)
        stream.forgetCreation(self)
        end(on: stream.loop)
    }

    /// Ends it with all that it holds. There is nobody to tell when this has to wait.
    @discardableResult
    func end(on loop: EventLoop) -> Task<Void, Never>? {
        guard let volume else { return nil }
        let path = place.path
        let removes = sharing?.close(self, on: loop) ?? false
        let (file, isDirectory, sharing, stream) = (file, isDirectory, sharing, self.stream)
        return loop.task { () async in
            let caller = Caller(.root, Request(reader: loop.index, now: sharing?.wall ?? 0))
            if removes, let parent = path.parent, let name = path.name {
                let isDone =
                    if let stream {
                        await Self.attempt {
                            stream.name.withUnsafeBytes { volume.removeStream(caller, of: stream.base, $0) }
                        }
                    } else {
                        await Self.attempt {
                            name.withUnsafeBytes { volume.remove(caller, in: parent, $0, isDirectory: isDirectory) }
                        }
                    }
                if isDone, stream == nil {
                    sharing?.post(.removed, isDirectory ? .directoryName : .fileName, path, on: loop)
                }
            }
            _ = await Self.attempt { volume.close(caller, file) }
        }
    }

    private static func attempt<Value>(_ body: () -> Attempt<Value>) async -> Bool {
        for _ in 0..<Exchange.attemptsMax {
            switch body() {
            case .done: return true
            case .refused: return false
            case .lacks(let lack): do throws(FileError) { try await lack.supplied() } catch { return false }
            }
        }
        return false
    }
}
