import Glibc
import Headhunter

/// What a file is made with.
public struct NewFile {
    public var type: FileType
    public var mode: UInt16
    public var uid: UInt32
    public var gid: UInt32
    public var attributes: UInt32 = 0
    /// See `setAccessList`.
    public var accessList: [UInt8]?
    /// Extended attributes that it has from the first moment on.
    public var own: [Attribute] = []
    /// Of a device.
    public var device: UInt64 = 0
    public var accessed: Int64?
    public var modified: Int64?
    /// Of a symbolic link.
    public var target: UnsafeRawBufferPointer?
    /// Of a file: it begins as a hole.
    public var size: UInt64 = 0
    /// Of a directory that is made only for what will lie in it.
    public var isImplied = false
    /// What has the name in another case is in the way, too.
    public var ignoresCase = false
    /// Further ways to write the name, which are in the way if case is ignored.
    public var spellings: [[UInt8]] = []

    public init(type: FileType, mode: UInt16, uid: UInt32, gid: UInt32) {
        self.type = type
        self.mode = mode
        self.uid = uid
        self.gid = gid
    }
}

/// What `create` did, with the records as they are now.
public struct Created: Sendable {
    public var inode: Inode
    public var directory: Inode
    /// False: there was a file of this name, and that was allowed.
    public var isNew: Bool
}

extension LogFS {
    /// Makes a file, directory, symbolic link, fifo, socket or device. `mayExist`: a regular file that is there is
    /// the answer, unchanged.
    public func create(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile,
        mayExist: Bool = false
    ) -> Attempt<Created> {
        let epoch = headhunter.epoch
        let glance = glance
        let attempt = change(request.reader) { (edit) throws(Halt) -> Created in
            edit.expectNames(directory, name)
            if let answer = try edit.answer(request) { return try edit.created(answer, directory) }
            var home = try edit.directory(directory)
            try LogFS.check(name)
            if let entry = try edit.entry(home.number, name) {
                guard mayExist, entry.type == .file, new.type == .file, let found = try edit.inode(entry.inode) else {
                    throw .refused(.exists)
                }
                return Created(inode: found, directory: home, isNew: false)
            }
            if new.ignoresCase, try edit.isTaken(home.number, name, new.spellings) { throw .refused(.exists) }
            guard home.links > 0 else { throw .refused(.stale) }
            try needSpace()
            let slot = try edit.slot(home.number)
            var inode = Inode()
            inode.number = try edit.number(&home)
            inode.type = new.type
            inode.mode = new.mode & 0o7777
            inode.uid = new.uid
            inode.gid = new.gid
            inode.attributes = new.attributes
            inode.device = new.device
            inode.links = 1
            inode.born = request.now
            inode.accessed = new.accessed ?? request.now
            inode.modified = new.modified ?? request.now
            inode.changed = request.now
            inode.change = edit.writer.changeFloor
            inode.generation = epoch
            inode.parent = home.number
            inode.fork = inode.number
            inode.cookie = edit.cookie(&home)
            if let list = new.accessList { try edit.setAccessList(&inode, list) }
            try edit.putAttributes(&inode, new.own)
            switch new.type {
            case .directory:
                guard edit.writer.totals.depth(slot) < Limits.depthMax else { throw .refused(.tooDeep) }
                inode.links = 2
                inode.nextCookie = LogFS.firstCookie
                if new.isImplied { inode.flags |= Inode.isImplied }
                home.links += 1
                edit.writer.effects.append(.made(inode.number, parent: slot))
            case .symlink:
                guard let target = new.target, target.count > 0 else { throw .refused(.invalid) }
                guard target.count <= Limits.targetBytesMax else { throw .refused(.nameTooLong) }
                inode.size = UInt64(target.count)
                edit.putTarget(inode, target)
            case .file:
                guard new.size <= Limits.fileBytesMax else { throw .refused(.fileTooBig) }
                inode.size = new.size
            case .fifo, .socket, .characterDevice, .blockDevice: break
            }
            edit.store(inode)
            edit.putEntry(home.number, name, Entry(inode: inode.number, cookie: inode.cookie, type: inode.type))
            home.modified = request.now
            edit.touch(&home, request.now)
            let isDirectory = inode.type == .directory
            edit.count(
                &home, slot,
                Totals(
                    files: isDirectory ? 0 : 1, directories: isDirectory ? 1 : 0, bytes: Int64(clamping: inode.size)))
            edit.store(home)
            try edit.remember(request, inode.number)
            return Created(inode: inode, directory: home, isNew: true)
        }
        return created(attempt, since: glance, request.reader)
    }

    /// A file that was there may have been written to.
    func created(_ attempt: Attempt<Created>, since glance: Glance, _ reader: Int) -> Attempt<Created> {
        guard glance.isDirty, case .done(var made, let number) = attempt else { return attempt }
        made.inode = completed(made.inode, since: glance, reader)
        return .done(made, number: number)
    }

    /// Lets an empty file with one name be a symbolic link from now on, or a link lead elsewhere: its number, its name and what
    /// else is known of it stay. `.busy` while somebody is at work on its data.
    public func makeLink(_ request: Request, _ id: FileID, _ target: UnsafeRawBufferPointer) -> Attempt<Inode> {
        files.locked(id.inode) { state in
            guard state == nil else { return .busy }
            let attempt = change(request.reader) { (edit) throws(Halt) -> Inode in
                if try edit.answer(request) != nil { return try edit.inode(id) }
                guard target.count > 0 else { throw .refused(.invalid) }
                guard target.count <= Limits.targetBytesMax else { throw .refused(.nameTooLong) }
                var inode = try edit.inode(id)
                if inode.type == .symlink {
                    edit.deleteTarget(inode)
                } else {
                    inode = try edit.freeFile(id)
                    guard inode.size == 0, inode.links == 1, !inode.hasStreams, !inode.isStream else {
                        throw .refused(.invalid)
                    }
                    if inode.has(Inode.isInline | Inode.hasExtents) {
                        edit.abandon(inode)
                        inode.fork = try edit.fork()
                        inode.flags &= ~(Inode.isInline | Inode.hasExtents)
                        inode.allocated = 0
                    }
                    inode.seal = nil
                    try edit.retype(&inode, .symlink, request.now)
                    // Where there is a list, the mode is in step with it.
                    if !inode.hasAccessList { inode.mode = 0o777 }
                }
                try needSpace()
                edit.putTarget(inode, target)
                let grown = Int64(target.count) - Int64(clamping: inode.size)
                inode.size = UInt64(target.count)
                inode.modified = request.now
                edit.touch(&inode, request.now)
                edit.store(inode)
                try edit.countBytes(inode, grown)
                try edit.remember(request, inode.number)
                return inode
            }
            // A write that found a file before this goes in nowhere after it.
            if case .done = attempt { files.stop() }
            return attempt
        }
    }

    /// The target of a symbolic link.
    public func target(_ request: Request, _ id: FileID) -> Attempt<[UInt8]> {
        read(request.reader) { (records) throws(Halt) in
            let inode = try records.inode(id)
            guard inode.type == .symlink else { throw .refused(.wrongType) }
            var target: [UInt8] = []
            for index in 0..<LogFS.targetPartsMax {
                let key = records.scratch.key(inode.fork | KeyLayout.forkSpace, .target, index: UInt8(index))
                guard let part = try records.get(key) else { break }
                guard part.isRecord(atLeast: 1) else { throw .wrong(inode.fork | KeyLayout.forkSpace, .target) }
                target.append(contentsOf: part.from(1))
            }
            return target
        }
    }

    static let targetPartBytes = 3000
    static let targetPartsMax = 2
}

extension Editing {
    /// Whether there is a name that is the same one to who makes no difference between cases and spellings. That there is none
    /// in the very same case is known.
    fileprivate func isTaken(
        _ directory: UInt64, _ name: UnsafeRawBufferPointer, _ spellings: [[UInt8]]
    ) throws(Halt) -> Bool {
        if try foldedOnly(directory, name, writer.foldedHash, found: { _ in }) != nil { return true }
        for spelling in spellings where spelling.count <= Limits.nameBytesMax {
            let found = spelling.withUnsafeBytes { bytes in
                Result { () throws(Halt) in try folded(directory, bytes, writer.foldedHash, found: { _ in }) }
            }
            if try found.get() != nil { return true }
        }
        return false
    }

    func putTarget(_ inode: Inode, _ target: UnsafeRawBufferPointer) {
        var index: UInt8 = 0
        var place = 0
        while place < target.count {
            let part = UnsafeRawBufferPointer(
                rebasing: target[place..<min(place + LogFS.targetPartBytes, target.count)])
            scratch.value.put(KeyLayout.version, at: 0)
            if let source = part.baseAddress { memcpy(scratch.value + 1, source, part.count) }
            put(
                scratch.key(inode.fork | KeyLayout.forkSpace, .target, index: index),
                UnsafeRawBufferPointer(start: scratch.value, count: 1 + part.count))
            place += part.count
            index += 1
        }
    }

    func deleteTarget(_ inode: Inode) {
        for index in 0..<((Int(inode.size) + LogFS.targetPartBytes - 1) / LogFS.targetPartBytes) {
            delete(scratch.key(inode.fork | KeyLayout.forkSpace, .target, index: UInt8(index)))
        }
    }

    /// What has one name is of another type from now on, which is a change of its directory: clients that keep its listing know by that.
    /// The caller stores the inode's record.
    fileprivate func retype(_ inode: inout Inode, _ type: FileType, _ now: Int64) throws(Halt) {
        let home = inode.parent | KeyLayout.directorySpace
        guard let value = try get(scratch.key(home, .cookie, inode.cookie)),
            let entry = Entry(cookie: inode.cookie, value), entry.inode == inode.number
        else { throw .wrong(home, .cookie) }
        let name = Array(Entry.name(value))
        inode.type = type
        name.withUnsafeBytes {
            putEntry(inode.parent, $0, Entry(inode: inode.number, cookie: inode.cookie, type: type))
        }
        guard var directory = try self.inode(inode.parent) else { return }
        directory.modified = now
        touch(&directory, now)
        store(directory)
    }

    fileprivate func created(_ answer: UInt64, _ directory: FileID) throws(Halt) -> Created {
        guard let inode = try inode(answer) else { throw .refused(.stale) }
        return Created(inode: inode, directory: try self.directory(directory), isNew: true)
    }
}
