import CShim
import Namespace
import Runtime

/// Owners, modes, times, lists, extended attributes.
extension Passthrough {
    public func setAttributes(_ request: Request, _ file: FileID, _ new: NewAttributes) -> Attempt<Changed> {
        once(request) { () throws(Halt) in
            let found = try find(file)
            if let before = try repeated(request) {
                return (Changed(before: nil, after: try attributes(found)), before.number)
            }
            return try turn(found) { (found) throws(Halt) in
                if let time = new.ifChanged, time != found.status.changed { throw .refused(.notSynchronized) }
                if let basis = new.basis, try self.basis(found) != basis { throw .lacks(Lack {}) }
                guard !new.isEmpty else { return (Changed(before: nil, after: try attributes(found)), 0) }
                try set(new, found)
                return (Changed(before: nil, after: try again(found)), changed([file], request, file))
            }
        }
    }

    /// What is kept of a file is looked at and changed in one step: of two changes none is lost, none made from what is not so any more.
    func turn<Value>(_ found: Named, _ body: (Named) throws(Halt) -> Value) throws(Halt) -> Value {
        try turns[Int(truncatingIfNeeded: found.status.inode % UInt64(turns.count))].withLock { (_) throws(Halt) in
            try body((found.file, try host { () throws(HostError) in try found.file.status() }))
        }
    }

    private func basis(_ found: Named) throws(Halt) -> AccessBasis {
        let file = try attributes(found)
        return AccessBasis(file, file.hasACL ? try list(found) : nil)
    }

    func set(_ new: NewAttributes, _ found: Named) throws(Halt) {
        let type = FileType(mode: found.status.mode)
        try host { () throws(HostError) in
            var record = try Self.record(found)
            var kept = record
            let isListed = record.acl.map { UInt32($0.mode) == found.status.mode & 0o7777 } ?? false
            let changesList = new.mode != nil && type != .symlink && (new.acl != nil || isListed)
            if changesList { try Self.close(found) }
            let uid = new.uid ?? .max
            let gid = new.gid ?? .max
            if uid != .max && uid != found.status.uid || gid != .max && gid != found.status.gid {
                try check(shim_host_chown(found.file.descriptor, uid, gid))
            }
            if let mode = new.mode, type != .symlink {
                if changesList, let bytes = new.acl?.bytes ?? record.acl?.bytes {
                    record.acl = (bytes, mode & 0o7777)
                    try Self.keep(record, found.file)
                    kept = record
                }
                try check(shim_host_chmod(found.file.descriptor, UInt32(mode & 0o7777)))
            }
            if let dos = new.dos { record.dos = dos }
            if let born = new.born { record.born = born }
            let hasHome = type == .file || type == .directory
            if record != kept {
                // Links and devices have nowhere to keep such a thing.
                guard hasHome else { throw HostError(EOPNOTSUPP) }
                try Self.keep(record, found.file)
            }
            if new.accessed != nil || new.modified != nil {
                try check(shim_host_times(found.file.descriptor, new.accessed ?? .min, new.modified ?? .min))
                if var sealed = record.seal, let modified = new.modified,
                    sealed.modified == found.status.modified, sealed.size == found.status.size
                {
                    // The content is what it was.
                    sealed.modified = modified
                    record.seal = sealed
                    try Self.keep(record, found.file)
                }
            }
        }
    }

    public func acl(_ request: Request, _ file: FileID) -> Attempt<ACL?> {
        look { () throws(Halt) in try list(try find(file)) }
    }

    private func list(_ found: Named) throws(Halt) -> ACL? {
        let record = try host { () throws(HostError) in try Self.record(found) }
        guard let list = record.acl, UInt32(list.mode) == found.status.mode & 0o7777 else { return nil }
        do { return try list.bytes.withUnsafeBytes { try ACL(stored: $0) } } catch {
            // What can not be read lets nobody in.
            throw .refused(.inputOutput("an access list that this program can not read"))
        }
    }

    public func setACL(_ request: Request, _ file: FileID, _ acl: ACL?, mode: UInt16) -> Attempt<Changed> {
        once(request) { () throws(Halt) in
            let found = try find(file)
            let type = FileType(mode: found.status.mode)
            guard type == .file || type == .directory else { throw .refused(.notSupported) }
            if let before = try repeated(request) {
                return (Changed(before: nil, after: try attributes(found)), before.number)
            }
            try turn(found) { (found) throws(Halt) in
                try host { () throws(HostError) in try Self.keep(acl, mode: mode, found) }
            }
            return (Changed(before: nil, after: try again(found)), changed([file], request, file))
        }
    }

    /// A list holds for its own mode only: while they are not in step nobody but the owner gets in, also behind a crash.
    private static func close(_ found: Named) throws(HostError) {
        try check(shim_host_chmod(found.file.descriptor, found.status.mode & 0o700))
    }

    private static func keep(_ acl: ACL?, mode: UInt16, _ found: Named) throws(HostError) {
        var record = try Self.record(found)
        record.acl = acl.map { ($0.bytes, mode & 0o7777) }
        try close(found)
        try Self.keep(record, found.file)
        try check(shim_host_chmod(found.file.descriptor, UInt32(mode & 0o7777)))
    }

    // MARK: Extended attributes

    /// The server's own are kept among the user's, under a name of ours.
    private static let user = Array("user.".utf8)
    private static let own = Array("proxyfs.".utf8)
    private static let ownHere = Array("user.proxyfs.own.".utf8)
    private static let ours = Array("user.proxyfs.".utf8)
    private static let attributeBytesMax = 64 * 1024

    static func inner(_ name: [UInt8]) throws(Halt) -> [UInt8] {
        guard !name.contains(0), !name.isEmpty else { throw .refused(.badName) }
        if name.starts(with: own) {
            let inner = ownHere + name.dropFirst(own.count)
            guard inner.count <= nameBytesMax else { throw .refused(.nameTooLong) }
            return inner
        }
        guard name.count <= nameBytesMax else { throw .refused(.nameTooLong) }
        guard name.starts(with: user), !name.starts(with: ours), name.count > user.count else {
            throw .refused(.notSupported)
        }
        return name
    }

    private static func outer(_ name: [UInt8]) -> [UInt8]? {
        if name.starts(with: ownHere) { return own + name.dropFirst(ownHere.count) }
        return name.starts(with: user) && !name.starts(with: ours) ? name : nil
    }

    public func extendedAttributes(
        _ request: Request, _ file: FileID, prefixes: [[UInt8]]
    ) -> Attempt<[ExtendedAttribute]> {
        look { () throws(Halt) in
            let found = try find(file)
            return try host { () throws(HostError) in
                var result = 0
                let names = [CChar](unsafeUninitializedCapacity: Self.attributeBytesMax) { buffer, count in
                    result = shim_host_attributes(found.file.descriptor, buffer.baseAddress, buffer.count)
                    count = max(0, result)
                }
                if result == -Int(ENOTSUP) { return [] }
                try check(result)
                var attributes: [ExtendedAttribute] = []
                for inner in names.split(separator: 0) {
                    let inner = inner.map { UInt8(bitPattern: $0) }
                    guard let outer = Self.outer(inner), prefixes.contains(where: { outer.starts(with: $0) }),
                        let value = try found.file.attribute(
                            inner, limit: Self.attributeBytesMax)
                    else { continue }
                    attributes.append(ExtendedAttribute(name: outer, value: value))
                }
                return attributes.sorted { $0.name.lexicographicallyPrecedes($1.name) }
            }
        }
    }

    public func setExtendedAttribute(
        _ request: Request, _ file: FileID, _ name: UnsafeRawBufferPointer, _ value: [UInt8]?
    ) -> Attempt<Attributes> {
        attempt { () throws(Halt) in
            let found = try find(file)
            let inner = try Self.inner(Array(name))
            guard value?.count ?? 0 <= Self.attributeBytesMax else { throw .refused(.attributeTooBig) }
            do throws(HostError) { try found.file.setAttribute(inner, value) } catch {
                // The host's word for attributes that do not fit beside the file.
                throw .refused(error.code == ENOSPC ? .attributeTooBig : error.fileError)
            }
            return (try again(found), changed([file]))
        }
    }
}
