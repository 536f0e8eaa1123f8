import Glibc
import Headhunter

public enum XattrMode: Sendable {
    case set
    /// Refused if it is there.
    case create
    /// Refused if it is not.
    case replace
}

/// Extended attributes: names are bytes without a zero, values may be long. Their records lie under a fork that a file
/// gets with its first one. Long values lie in parts behind the record.
extension LogFS {
    static func checkAttribute(_ name: UnsafeRawBufferPointer) throws(Halt) {
        guard name.count <= Limits.xattrNameBytesMax else { throw .refused(.nameTooLong) }
        guard let base = name.baseAddress, name.count > 0, memchr(base, 0, name.count) == nil else {
            throw .refused(.badName)
        }
    }

    public func attribute(_ request: Request, _ id: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<[UInt8]> {
        read(request.reader) { (records) throws(Halt) in
            try Self.checkAttribute(name)
            let inode = try records.inode(id)
            guard inode.extras != 0 else { throw .refused(.noAttribute) }
            let fork = inode.extras | KeyLayout.forkSpace
            guard let length = try records.attributeLength(fork, name) else { throw .refused(.noAttribute) }
            return try records.longValue(fork, .xattr, .xattrPart, name, length)
        }
    }

    /// All attributes whose names begin with one of `prefixes`, in byte order, with their values.
    public func attributes(_ request: Request, _ id: FileID, prefixes: [[UInt8]]) -> Attempt<[Attribute]> {
        read(request.reader) { (records) throws(Halt) in
            let inode = try records.inode(id)
            guard inode.extras != 0 else { return [] }
            let fork = inode.extras | KeyLayout.forkSpace
            var found: [Attribute] = []
            var lengths: [Int] = []
            for prefix in prefixes {
                try records.names(inode.extras, .xattr, from: prefix) { (name, value) throws(Halt) in
                    guard let record = LongValue(value, max: Limits.xattrValueBytesMax) else {
                        throw .wrong(fork, .xattr)
                    }
                    found.append(Attribute(name: Array(name), value: Array(record.head)))
                    lengths.append(record.length)
                }
            }
            for index in found.indices where found[index].value.count < lengths[index] {
                let (name, length) = (found[index].name, lengths[index])
                found[index].value = try name.withUnsafeBytes { name in
                    Result { () throws(Halt) in try records.longValue(fork, .xattr, .xattrPart, name, length) }
                }.get()
            }
            return found
        }
    }

    /// Shows the names, in byte order, behind `name` (empty: from the first on), until `visit` answers false.
    public func listAttributes(
        _ request: Request, _ id: FileID, after name: UnsafeRawBufferPointer, limit: Int = Limits.listingMax,
        _ visit: (UnsafeRawBufferPointer, _ valueBytes: Int) -> Void
    ) -> Attempt<Bool> {
        var found: [(name: [UInt8], bytes: Int)] = []
        let attempt = read(request.reader) { (records) throws(Halt) -> Bool in
            found.removeAll()
            let inode = try records.inode(id)
            guard inode.extras != 0 else { return false }
            return try records.names(inode.extras, .xattr, after: name, limit: limit) { (name, value) throws(Halt) in
                guard let record = LongValue(value, max: Limits.xattrValueBytesMax) else {
                    throw .wrong(inode.extras | KeyLayout.forkSpace, .xattr)
                }
                found.append((Array(name), record.length))
            }
        }
        if case .done = attempt {
            for entry in found { entry.name.withUnsafeBytes { visit($0, entry.bytes) } }
        }
        return attempt
    }

    @discardableResult
    public func setAttribute(
        _ request: Request, _ id: FileID, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        _ mode: XattrMode = .set
    ) -> Attempt<Inode> {
        let glance = glance
        let attempt = change(request.reader) { (edit) throws(Halt) -> Inode in
            if try edit.answer(request) != nil { return try edit.inode(id) }
            try Self.checkAttribute(name)
            guard value.count <= Limits.xattrValueBytesMax else { throw .refused(.attributeTooBig) }
            // A lock comes by `setLock`, or it could come between a write and its flush.
            var inode = try edit.inode(id)
            guard inode.isDirectory || !name.elementsEqual(Self.lockName) else { throw .refused(.invalid) }
            let old = try edit.removeAttribute(inode, name)
            if mode == .create, old != nil { throw .refused(.exists) }
            if mode == .replace, old == nil { throw .refused(.noAttribute) }
            let bytes = UInt32(name.count + value.count)
            let others = inode.xattrBytes - min(inode.xattrBytes, old ?? 0)
            guard others + bytes <= Limits.xattrBytesMax else { throw .refused(.tooManyAttributes) }
            try needSpace()
            if inode.extras == 0 { inode.extras = try edit.fork() }
            inode.xattrBytes = others + bytes
            edit.putAttribute(inode.extras | KeyLayout.forkSpace, name, value)
            if name.elementsEqual(Self.lockName) { inode.flags |= Inode.isLocked }
            edit.touch(&inode, request.now)
            edit.store(inode)
            try edit.remember(request, inode.number)
            return inode
        }
        return complete(attempt, since: glance, request.reader)
    }

    /// Sets, replaces or takes away a file's lock, if nothing has happened to the file since its counter was `changed`. `.busy` while
    /// it has data that is not flushed: what is locked is what was seen.
    public func setLock(_ request: Request, _ id: FileID, _ value: [UInt8]?, since changed: UInt64) -> Attempt<Inode> {
        stoppingAll(request.reader, id) {
            change(request.reader) { (edit) throws(Halt) -> Inode in
                var inode = try edit.regularFile(id)
                guard inode.change == changed else { throw .refused(.stale) }
                try Self.lockName.withUnsafeBytes { name in
                    Result { () throws(Halt) in
                        let old = try edit.removeAttribute(inode, name)
                        inode.xattrBytes -= min(inode.xattrBytes, old ?? 0)
                        inode.flags &= ~Inode.isLocked
                        guard let value else { return }
                        let bytes = UInt32(name.count + value.count)
                        guard value.count <= Limits.xattrValueBytesMax, inode.xattrBytes + bytes <= Limits.xattrBytesMax
                        else { throw .refused(.tooManyAttributes) }
                        if inode.extras == 0 { inode.extras = try edit.fork() }
                        value.withUnsafeBytes { edit.putAttribute(inode.extras | KeyLayout.forkSpace, name, $0) }
                        inode.xattrBytes += bytes
                        inode.flags |= Inode.isLocked
                    }
                }.get()
                edit.touch(&inode, request.now)
                edit.store(inode)
                return inode
            }
        }
    }

    @discardableResult
    public func removeAttribute(_ request: Request, _ id: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Inode> {
        let glance = glance
        let attempt = change(request.reader) { (edit) throws(Halt) -> Inode in
            if try edit.answer(request) != nil { return try edit.inode(id) }
            try Self.checkAttribute(name)
            var inode = try edit.inode(id)
            guard let old = try edit.removeAttribute(inode, name) else { throw .refused(.noAttribute) }
            inode.xattrBytes -= min(inode.xattrBytes, old)
            if name.elementsEqual(Self.lockName) { inode.flags &= ~Inode.isLocked }
            edit.touch(&inode, request.now)
            edit.store(inode)
            try edit.remember(request, inode.number)
            return inode
        }
        return complete(attempt, since: glance, request.reader)
    }
}

extension Records {
    func attributeLength(_ id: UInt64, _ name: UnsafeRawBufferPointer) throws(Halt) -> Int? {
        guard let value = try get(scratch.key(id, .xattr, name)) else { return nil }
        guard let record = LongValue(value, max: Limits.xattrValueBytesMax) else { throw .wrong(id, .xattr) }
        return record.length
    }

    /// Records of a fork that are named, in byte order.
    func names(
        _ fork: UInt64, _ kind: KeyLayout.Kind, after name: UnsafeRawBufferPointer, limit: Int,
        _ visit: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(Halt) -> Void
    ) throws(Halt) -> Bool {
        let id = fork | KeyLayout.forkSpace
        guard name.count <= Limits.nameBytesMax else { throw .refused(.nameTooLong) }
        let bare = scratch.key(id, kind, name)
        // Behind the name itself comes the name with a zero.
        var start = bare
        if name.count > 0 {
            scratch.base.storeBytes(of: 0, toByteOffset: bare.count, as: UInt8.self)
            start = UnsafeRawBufferPointer(start: scratch.base, count: bare.count + 1)
        }
        return try scan(from: start, budget: min(limit, Limits.listingMax)) { (key, value) throws(Halt) in
            guard key.isKey(id, kind) else { return false }
            try visit(key.from(KeyLayout.prefixCount), value)
            return true
        }
    }
}

extension Records {
    /// Records of a fork whose names begin with `prefix`.
    fileprivate func names(
        _ fork: UInt64, _ kind: KeyLayout.Kind, from prefix: [UInt8],
        _ visit: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(Halt) -> Void
    ) throws(Halt) {
        let id = fork | KeyLayout.forkSpace
        let start = prefix.withUnsafeBytes { scratch.key(id, kind, $0) }
        try scan(from: start, budget: .max) { (key, value) throws(Halt) in
            guard key.isKey(id, kind), key.from(KeyLayout.prefixCount).starts(with: prefix) else { return false }
            try visit(key.from(KeyLayout.prefixCount), value)
            return true
        }
    }
}

extension Editing {
    /// What the attribute counted, if there was one; the inode's record is the caller's.
    func removeAttribute(_ inode: Inode, _ name: UnsafeRawBufferPointer) throws(Halt) -> UInt32? {
        guard inode.extras != 0 else { return nil }
        let fork = inode.extras | KeyLayout.forkSpace
        guard let length = try attributeLength(fork, name) else { return nil }
        delete(scratch.key(fork, .xattr, name))
        for index in 0..<LongValue.parts(length) { delete(scratch.key(fork, .xattrPart, name, index: UInt8(index))) }
        return UInt32(name.count + length)
    }

    func putAttribute(_ fork: UInt64, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        putLongValue(fork, .xattr, .xattrPart, name, value)
    }
}
