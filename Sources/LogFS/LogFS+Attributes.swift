import Headhunter

/// What `setAttributes` is to change; nil: leave it.
public struct NewAttributes: Sendable {
    public var mode: UInt16?
    public var uid: UInt32?
    public var gid: UInt32?
    public var accessed: Int64?
    public var modified: Int64?
    public var born: Int64?
    public var attributes: UInt32?
    /// Refused unless the file was last changed at this time (NFS's guard).
    public var guardChanged: Int64?

    public init() {}
}

extension LogFS {
    /// All but the size, which is `resize`'s.
    public func setAttributes(_ request: Request, _ id: FileID, _ new: NewAttributes) -> Attempt<Inode> {
        let attempt = change(request.reader) { (edit) throws(Halt) -> Inode in
            var inode = try edit.inode(id)
            if let time = new.guardChanged, time != inode.changed { throw .refused(.invalid) }
            if let mode = new.mode { inode.mode = mode & 0o7777 }
            if let uid = new.uid { inode.uid = uid }
            if let gid = new.gid { inode.gid = gid }
            if let accessed = new.accessed { inode.accessed = accessed }
            if let modified = new.modified { inode.modified = modified }
            if let born = new.born { inode.born = born }
            if let attributes = new.attributes { inode.attributes = attributes }
            inode.touch(request.now)
            edit.store(inode)
            return inode
        }
        guard files.hasDirty, case .done(var inode, let number) = attempt else { return attempt }
        if new.modified != nil { files.setModified(inode) }
        files.overlay(&inode)
        return .done(inode, number: number)
    }
}
