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
    /// Shown in the place of the change's own time, until the next one.
    public var shownChange: Int64?
    /// In step with `mode`; see `setAccessList`.
    public var accessList: [UInt8]?
    /// Refused as `.overtaken` unless the file has these: what the change was made from.
    public var basis: Basis?
    /// Refused unless the file was last changed at this time (NFS's guard).
    public var guardChanged: Int64?

    public init() {}

    /// What says who may do what with a file.
    public struct Basis: Equatable, Sendable {
        public var mode: UInt16
        public var uid: UInt32
        public var gid: UInt32
        public var accessList: [UInt8]?

        public init(mode: UInt16, uid: UInt32, gid: UInt32, accessList: [UInt8]?) {
            self.mode = mode
            self.uid = uid
            self.gid = gid
            self.accessList = accessList
        }
    }
}

extension LogFS {
    public func attributes(_ request: Request, _ id: FileID) -> Attempt<Inode> {
        var found = Inode()
        let attempt = attributes(request, id) { found = $0 }
        return attempt.with(found)
    }

    /// As `lookup` shows it.
    public func attributes(_ request: Request, _ id: FileID, _ show: (Inode) -> Void) -> Attempt<Void> {
        if files.hasDirty, let found = showOverlaid(request.reader, id, show) { return found }
        return read(request.reader) { (records) throws(Halt) in show(try records.inode(id)) }
    }

    /// Shows the file with what was written to it and is not in the tree; nil: there is nothing of the kind, and there was not while
    /// its record was read.
    package func showOverlaid(
        _ reader: Int, _ id: FileID, since glance: Glance? = nil, _ show: (Inode) -> Void
    ) -> Attempt<Void>? {
        if let found = overlaid(reader, id) {
            if case .done(let inode, _) = found { show(inode) }
            return found.with(())
        }
        // It may have been flushed after its record was read.
        guard let glance, files.flushCount != glance.flushes else { return nil }
        return read(reader) { (records) throws(Halt) in show(try records.inode(id)) }
    }

    /// Record and pieces of a file at one moment; nil: it has no pieces.
    private func overlaid(_ reader: Int, _ id: FileID) -> Attempt<Inode>? {
        files.locked(id.inode) { state -> Attempt<Inode>? in
            guard let state, !state.pieces.isEmpty else { return nil }
            let attempt = read(reader) { (records) throws(Halt) in try records.inode(id) }
            guard case .done(var inode, let number) = attempt else { return attempt }
            state.overlay.lay(over: &inode, floor: changeFloor)
            return .done(inode, number: number)
        }
    }

    /// What there was before a call looked at a file's record; `complete` adds what was written and not flushed.
    package struct Glance {
        let isDirty: Bool
        let flushes: UInt64
    }

    @inline(__always) package var glance: Glance { Glance(isDirty: files.hasDirty, flushes: files.flushCount) }

    /// The record that was read or made since `glance`, with what was written to the file and is not in the tree.
    @inline(__always)
    func complete(_ inode: Inode, since glance: Glance, _ reader: Int) -> Attempt<Inode> {
        guard glance.isDirty, inode.type == .file else { return .done(inode, number: 0) }
        if let found = overlaid(reader, inode.id) { return found }
        // It may have been flushed after its record was read.
        guard files.flushCount != glance.flushes else { return .done(inode, number: 0) }
        return read(reader) { (records) throws(Halt) in try records.inode(inode.id) }
    }

    @inline(__always)
    func complete(_ attempt: Attempt<Inode>, since glance: Glance, _ reader: Int) -> Attempt<Inode> {
        guard glance.isDirty, case .done(let inode, let number) = attempt else { return attempt }
        let found = complete(inode, since: glance, reader)
        guard case .done(let whole, _) = found else { return number == 0 ? found : attempt }
        return .done(whole, number: number)
    }

    /// Of a change that has been made: the record can be read, it was just written.
    func completed(_ inode: Inode, since glance: Glance, _ reader: Int) -> Inode {
        if case .done(let whole, _) = complete(inode, since: glance, reader) { whole } else { inode }
    }

    /// All but the size, which is `resize`'s.
    public func setAttributes(_ request: Request, _ id: FileID, _ new: NewAttributes) -> Attempt<Inode> {
        guard files.hasDirty else { return setRecord(request, id, new) }
        return files.locked(id.inode) { state in
            let attempt = setRecord(request, id, new)
            guard let state, case .done(var inode, let number) = attempt else { return attempt }
            if new.modified != nil { FileTable.keepModified(state) }
            state.overlay.lay(over: &inode, floor: changeFloor)
            return .done(inode, number: number)
        }
    }

    private func setRecord(_ request: Request, _ id: FileID, _ new: NewAttributes) -> Attempt<Inode> {
        change(request.reader) { (edit) throws(Halt) -> Inode in
            if try edit.answer(request) != nil { return try edit.inode(id) }
            var inode = try edit.inode(id)
            if let time = new.guardChanged, time != inode.changed { throw .refused(.invalid) }
            if let basis = new.basis {
                let list = try edit.accessList(of: inode)
                let now = NewAttributes.Basis(mode: inode.mode, uid: inode.uid, gid: inode.gid, accessList: list)
                guard now == basis else { throw .refused(.overtaken) }
            }
            if new.accessList != nil { try needSpace() }
            if let mode = new.mode { inode.mode = mode & 0o7777 }
            if let uid = new.uid { inode.uid = uid }
            if let gid = new.gid { inode.gid = gid }
            if let accessed = new.accessed { inode.accessed = accessed }
            if let modified = new.modified { inode.modified = modified }
            if let born = new.born { inode.born = born }
            if let attributes = new.attributes { inode.attributes = attributes }
            if let list = new.accessList { try edit.setAccessList(&inode, list) }
            edit.touch(&inode, request.now)
            inode.shownChange = new.shownChange
            edit.store(inode)
            try edit.remember(request, inode.number)
            return inode
        }
    }
}
