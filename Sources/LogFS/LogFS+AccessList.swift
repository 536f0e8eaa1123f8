import Headhunter

/// Access lists: bytes that mean nothing here, kept beside the extended attributes under a name that no client can give.
/// A file without one costs nothing: its record says so.
extension LogFS {
    /// Extended attributes whose names begin so are the server's own.
    public static let reservedPrefix: UInt8 = 1
    static let accessListName: [UInt8] = [reservedPrefix, 0x61, 0x63, 0x6C]

    /// Nil: there is none.
    public func accessList(_ request: Request, _ id: FileID) -> Attempt<[UInt8]?> {
        let attempt = Self.accessListName.withUnsafeBytes { attribute(request, id, $0) }
        switch attempt {
        case .done(let list, let number): return .done(list, number: number)
        case .refused(.noAttribute): return .done(nil, number: 0)
        case .refused(let error): return .refused(error)
        case .missing: return .missing
        case .full: return .full
        case .busy: return .busy
        case .failed(let error): return .failed(error)
        }
    }

    /// Sets or removes the list, and the mode that goes with it.
    public func setAccessList(
        _ request: Request, _ id: FileID, _ list: UnsafeRawBufferPointer?, mode: UInt16
    ) -> Attempt<Inode> {
        let glance = glance
        let attempt = change(request.reader) { (edit) throws(Halt) -> Inode in
            if try edit.answer(request) != nil { return try edit.inode(id) }
            if list != nil { try needSpace() }
            var inode = try edit.inode(id)
            try edit.setAccessList(&inode, list)
            // Set-ID bits that have gone meanwhile do not come back by a list.
            inode.mode = mode & 0o777 | mode & inode.mode & 0o7000
            edit.touch(&inode, request.now)
            edit.store(inode)
            try edit.remember(request, inode.number)
            return inode
        }
        return complete(attempt, since: glance, request.reader)
    }

    /// Where a file's first name is; nil: it has none. `.refused(.stale)` when the file is gone.
    public func whereabouts(_ request: Request, of id: FileID) -> Attempt<(directory: FileID, name: [UInt8])?> {
        read(request.reader) { (records) throws(Halt) in
            let inode = try records.inode(id)
            guard inode.links > 0, inode.number != LogFS.root else { return nil }
            let home = inode.parent | KeyLayout.directorySpace
            guard let value = try records.get(records.scratch.key(home, .cookie, inode.cookie)) else { return nil }
            guard Entry(cookie: inode.cookie, value) != nil else { throw .wrong(home, .cookie) }
            let name = Array(Entry.name(value))
            guard let directory = try records.inode(inode.parent) else { return nil }
            return (directory.id, name)
        }
    }
}

extension Inode {
    static let hasAccessListFlag: UInt32 = 32

    /// The mode is not all that there is to say of who may do what.
    public var hasAccessList: Bool { has(Self.hasAccessListFlag) }
}

extension Records {
    func accessList(of inode: Inode) throws(Halt) -> [UInt8]? {
        guard inode.hasAccessList else { return nil }
        let fork = inode.extras | KeyLayout.forkSpace
        let list = LogFS.accessListName.withUnsafeBytes { name in
            Result { () throws(Halt) -> [UInt8]? in
                guard let length = try attributeLength(fork, name) else { return nil }
                return try longValue(fork, .xattr, .xattrPart, name, length)
            }
        }
        return try list.get()
    }
}

extension Editing {
    /// The inode's record is the caller's to store.
    func setAccessList(_ inode: inout Inode, _ list: UnsafeRawBufferPointer?) throws(Halt) {
        // Made anew for each call: what it points to lives as long as this does.
        let name = LogFS.accessListName
        let old = try with(name) { (name) throws(Halt) in try removeAttribute(inode, name) }
        inode.xattrBytes -= min(inode.xattrBytes, old ?? 0)
        inode.flags &= ~Inode.hasAccessListFlag
        guard let list else { return }
        guard list.count <= Limits.xattrValueBytesMax else { throw .refused(.attributeTooBig) }
        let bytes = UInt32(name.count + list.count)
        guard inode.xattrBytes + bytes <= Limits.xattrBytesMax else { throw .refused(.tooManyAttributes) }
        if inode.extras == 0 { inode.extras = try fork() }
        inode.xattrBytes += bytes
        let fork = inode.extras | KeyLayout.forkSpace
        try with(name) { (name) throws(Halt) in putAttribute(fork, name, list) }
        inode.flags |= Inode.hasAccessListFlag
    }

    func setAccessList(_ inode: inout Inode, _ list: [UInt8]) throws(Halt) {
        let result = list.withUnsafeBytes { list in
            Result { () throws(Halt) in try setAccessList(&inode, list as UnsafeRawBufferPointer?) }
        }
        try result.get()
    }

    private func with<Value>(
        _ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(Halt) -> Value
    ) throws(Halt) -> Value {
        let result = bytes.withUnsafeBytes { name in Result { () throws(Halt) in try body(name) } }
        return try result.get()
    }
}
