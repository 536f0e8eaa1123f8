import CShim
import Namespace
import Runtime

/// Names: looking them up, and changing them.
extension Passthrough {
    public func attributes(_ request: Request, _ file: FileID) -> Attempt<Attributes> {
        look { () throws(Halt) in try attributes(try find(file)) }
    }

    public func lookup(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Attributes> {
        look { () throws(Halt) in
            let home = try self.directory(directory)
            if name.elementsEqual([0x2e]) { return try attributes(home) }
            if name.elementsEqual([0x2e, 0x2e]) {
                if directory == root { return try attributes(home) }
                // An open directory that was moved out of reach has nothing above it.
                guard let above = state.withLock({ $0.places[directory]?.directory }) else { throw .refused(.stale) }
                return try attributes(try find(above))
            }
            // What can not be an entry's name is none.
            guard !name.isEmpty, !name.contains(0x2f), !name.contains(0) else { throw .refused(.noEntry) }
            let name = try Self.checked(name)
            guard !Self.isHidden(name), let found = try child(name, of: home.file) else { throw .refused(.noEntry) }
            see(found, in: directory, name)
            return try attributes(found)
        }
    }

    public func lookupFolded(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer,
        found: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Attributes> {
        switch lookup(request, in: directory, name) {
        case .refused(.noEntry): break
        case .done(let file, _):
            found(name)
            return .done(file, number: 0)
        case let other: return other
        }
        return look { () throws(Halt) in
            let wanted = try Self.checked(name)
            let answer = try answer(
                .folded(directory, wanted),
                { () throws(Halt) in
                    let home = try self.directory(directory, .waiting)
                    let reader = try self.host { () throws(HostError) in
                        try home.file.reopen(Self.listing)
                    }
                    var cookie: UInt64 = 0
                    while true {
                        let entries = try self.host { () throws(HostError) in try Self.entries(reader, after: cookie) }
                        guard let last = entries.last else { throw .refused(.noEntry) }
                        for entry in entries where !Self.isHidden(entry.name) {
                            if FoldedName.areEqual(entry.name, wanted) { return .name(entry.name) }
                        }
                        cookie = last.cookie
                    }
                })
            guard case .name(let stored) = answer else { throw .refused(.noEntry) }
            let home = try self.directory(directory)
            guard let there = try child(stored, of: home.file) else { throw .refused(.noEntry) }
            see(there, in: directory, stored)
            let attributes = try attributes(there)
            stored.withUnsafeBytes { found($0) }
            return attributes
        }
    }

    public func target(_ request: Request, of link: FileID) -> Attempt<[UInt8]> {
        look { () throws(Halt) in
            let found = try find(link)
            guard FileType(mode: found.status.mode) == .symlink else { throw .refused(.wrongType) }
            return try host { () throws(HostError) in
                var result = 0
                let target = [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
                    result = buffer.withMemoryRebound(to: CChar.self) {
                        shim_host_target(found.file.descriptor, $0.baseAddress, $0.count)
                    }
                    count = max(0, result)
                }
                try check(result)
                return target
            }
        }
    }

    public func list(
        _ request: Request, _ directory: FileID, after cookie: UInt64, limit: Int, attributes: Bool,
        _ visit: (Entry, UnsafeRawBufferPointer) -> Bool
    ) -> Attempt<Bool> {
        look { () throws(Halt) in
            guard limit > 0 else { throw .refused(.invalid) }
            let answer = try answer(
                .list(directory, cookie: cookie, attributes: attributes),
                { () throws(Halt) in try self.page(directory, cookie, attributes) })
            guard case .entries(let entries, let isEnd) = answer else { throw .refused(.stale) }
            for (index, entry) in entries.enumerated() {
                guard index < limit else { return false }
                let shown = Entry(
                    file: entry.file, type: entry.type, cookie: entry.cookie, attributes: entry.attributes)
                guard entry.name.withUnsafeBytes({ visit(shown, $0) }) else { return false }
            }
            return isEnd
        }
    }

    /// Entries of one listing, at most.
    private static let listingMax = 256

    private func page(_ directory: FileID, _ cookie: UInt64, _ isFull: Bool) throws(Halt) -> Answer {
        let home = try self.directory(directory, .waiting)
        let reader = try host { () throws(HostError) in try home.file.reopen(Self.listing) }
        var listed: [Listed] = []
        var cookie = cookie
        while listed.isEmpty {
            let entries = try host { () throws(HostError) in
                do throws(HostError) { return try Self.entries(reader, after: cookie) } catch {
                    // The host knows the position no more.
                    throw error.code == EINVAL && cookie != 0 ? HostError(ESTALE) : error
                }
            }
            guard !entries.isEmpty else { return .entries([], isEnd: true) }
            for entry in entries {
                if listed.count == Self.listingMax { break }
                cookie = entry.cookie
                if Self.isHidden(entry.name) { continue }
                var shown = Listed(
                    name: entry.name, file: FileID(subvolume: subvolume, inode: entry.inode, generation: 0),
                    type: FileType(mode: UInt32(entry.type) << 12), cookie: entry.cookie)
                if isFull || entry.type == 0 {
                    // What came and went again is not shown.
                    guard let found = try child(entry.name, of: home.file, .waiting) else { continue }
                    see(found, in: directory, entry.name)
                    let attributes = try self.attributes(found)
                    (shown.file, shown.type) = (attributes.file, attributes.type)
                    if isFull { shown.attributes = attributes }
                }
                listed.append(shown)
            }
        }
        return .entries(listed, isEnd: false)
    }

    // MARK: Changing

    public func create(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile, uid: UInt32,
        gid: UInt32, _ disposition: Disposition
    ) -> Attempt<Created> {
        once(request) { () throws(Halt) in
            let home = try self.directory(directory)
            if let before = try repeated(request) {
                let made = Created(
                    file: try known(before.file, new.type),
                    directory: Changed(before: nil, after: try attributes(home)), isNew: true)
                return (made, before.number)
            }
            let name = try Self.checked(name)
            guard !Self.isHidden(name) else { throw .refused(.badName) }
            var new = new
            if case .verified(let verifier) = disposition {
                // Where the client will put times in its next request (RFC 1813 3.3.8).
                new.accessed = Int64(verifier & 0x7fff_ffff) * 1_000_000_000
                new.modified = Int64(verifier >> 32 & 0x7fff_ffff) * 1_000_000_000
            }
            if let there = try child(name, of: home.file) {
                return (try existing(there, home, directory, name, new, disposition), 0)
            }
            let made: HostFile
            do throws(HostError) { made = try Self.make(name, in: home.file, new, uid: uid, gid: gid) } catch {
                if error.code == EEXIST { throw .refused(.delay) }
                throw .refused(error.fileError)
            }
            let found = (file: made, status: try host { () throws(HostError) in try made.status() })
            see(found, in: directory, name)
            let file = FileID(found.status, subvolume: subvolume)
            let number = changed([directory, file], request, file)
            let after = (home.file, try host { () throws(HostError) in try home.file.status() })
            return (
                Created(
                    file: try attributes(found), directory: Changed(before: nil, after: try attributes(after)),
                    isNew: true), number
            )
        }
    }

    private func existing(
        _ there: Named, _ home: Named, _ directory: FileID, _ name: [UInt8], _ new: NewFile, _ disposition: Disposition
    ) throws(Halt) -> Created {
        let file = try attributes(there)
        switch disposition {
        case .exclusive: throw .refused(.exists)
        case .openOrCreate: guard file.type == .file, new.type == .file else { throw .refused(.exists) }
        case .verified:
            guard file.type == .file, file.accessed == new.accessed, file.modified == new.modified, file.size == 0
            else { throw .refused(.exists) }
        }
        see(there, in: directory, name)
        return Created(file: file, directory: Changed(before: nil, after: try attributes(home)), isNew: false)
    }

    /// A new file with all that it is to have; until it has, nobody but its owner may use it.
    static func make(
        _ name: [UInt8]?, in directory: HostFile, _ new: NewFile, uid: UInt32, gid: UInt32
    ) throws(HostError) -> HostFile {
        guard !new.target.contains(0), new.target.count < 4096 else { throw HostError(ENAMETOOLONG) }
        guard new.type != .symlink || !new.target.isEmpty else { throw HostError(EINVAL) }
        var record = HostRecord()
        record.dos = new.dos
        if let acl = new.acl { record.acl = (acl.bytes, new.mode & 0o7777) }
        let mode = UInt32(new.mode & 0o7777)
        let file = try new.target.terminated { target throws(HostError) in
            var what = shim_host_new(
                mode: new.type.modeBits | (new.acl == nil ? mode : mode & 0o700), uid: uid, gid: gid, major: new.major,
                minor: new.minor, target: target)
            guard let name else { return try HostFile(shim_host_create_nameless(directory.descriptor, &what)) }
            return try HostFile(name.terminated { shim_host_create(directory.descriptor, $0, &what) })
        }
        do throws(HostError) {
            if !record.isEmpty, new.type == .file || new.type == .directory {
                try file.setAttribute(HostRecord.name, record.bytes)
                if new.acl != nil { try check(shim_host_chmod(file.descriptor, mode)) }
            }
            if new.size > 0 {
                guard new.size <= UInt64(Int64.max) else { throw HostError(EFBIG) }
                try check(shim_host_truncate(file.descriptor, new.size))
            }
            if new.accessed != nil || new.modified != nil {
                try check(shim_host_times(file.descriptor, new.accessed ?? .min, new.modified ?? .min))
            }
        } catch {
            if let name {
                _ = name.terminated {
                    shim_host_remove(directory.descriptor, $0, new.type == .directory ? 1 : 0)
                }
            }
            throw error
        }
        return file
    }

    public func remove(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) -> Attempt<Removed> {
        once(request) { () throws(Halt) in
            let home = try self.directory(directory)
            if let before = try repeated(request) {
                let gone = Attributes(
                    file: FileID(subvolume: subvolume, inode: 0, generation: 0), type: isDirectory ? .directory : .file)
                return (
                    Removed(file: gone, directory: Changed(before: nil, after: try attributes(home))), before.number
                )
            }
            let name = try Self.checked(name)
            guard !Self.isHidden(name), let found = try child(name, of: home.file) else { throw .refused(.noEntry) }
            var file = try attributes(found)
            if isDirectory, file.type != .directory { throw .refused(.notDirectory) }
            if !isDirectory, file.type == .directory { throw .refused(.isDirectory) }
            try host { () throws(HostError) in
                try check(name.terminated { shim_host_remove(home.file.descriptor, $0, isDirectory ? 1 : 0) })
            }
            state.withLock { state in name.withUnsafeBytes { state.places.forget(file.file, in: directory, $0) } }
            let number = changed([directory], request, file.file)
            // The name was found a moment ago; what has gone with it is said by the file itself.
            let left = try host { () throws(HostError) in try found.file.status() }
            file = Attributes(left, HostRecord(), subvolume: subvolume)
            if file.type == .directory { file.links = 0 }
            let after = (home.file, try host { () throws(HostError) in try home.file.status() })
            return (Removed(file: file, directory: Changed(before: nil, after: try attributes(after))), number)
        }
    }

    public func rename(
        _ request: Request, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode
    ) -> Attempt<Renamed> {
        once(request) { () throws(Halt) in
            let from = try self.directory(source)
            let to = source == target ? from : try self.directory(target)
            if let before = try repeated(request) {
                let moved = Renamed(
                    file: try known(before.file), other: nil,
                    source: Changed(before: nil, after: try attributes(from)),
                    target: Changed(before: nil, after: try attributes(to)))
                return (moved, before.number)
            }
            let name = try Self.checked(name)
            let newName = try Self.checked(newName)
            guard !Self.isHidden(name), let moving = try child(name, of: from.file) else { throw .refused(.noEntry) }
            guard !Self.isHidden(newName) else { throw .refused(.badName) }
            let other = try child(newName, of: to.file)
            if other == nil, mode == .exchange { throw .refused(.noEntry) }
            if mode == .replace, let other {
                let isDirectory = FileType(mode: other.status.mode) == .directory
                if isDirectory != (FileType(mode: moving.status.mode) == .directory) {
                    throw .refused(isDirectory ? .isDirectory : .notDirectory)
                }
            }
            let how: Int32 = mode == .noReplace ? 1 : mode == .exchange ? 2 : 0
            do throws(HostError) {
                try check(
                    name.terminated { name in
                        newName.terminated {
                            shim_host_rename(from.file.descriptor, name, to.file.descriptor, $0, how)
                        }
                    })
            } catch {
                // The kernel's word for a directory that was to go below itself.
                if error.code == EINVAL, FileType(mode: moving.status.mode) == .directory { throw .refused(.loop) }
                if error.code == EEXIST, mode == .replace { throw .refused(.notEmpty) }
                throw .refused(error.fileError)
            }
            let moved = FileID(moving.status, subvolume: subvolume)
            let replaced = other.map { FileID($0.status, subvolume: subvolume) }
            if moved != replaced {
                state.withLock { state in
                    name.withUnsafeBytes { state.places.forget(moved, in: source, $0) }
                    newName.withUnsafeBytes { new in
                        if let replaced { state.places.forget(replaced, in: target, new) }
                        state.places.see(moved, in: target, new)
                    }
                    if mode == .exchange, let replaced {
                        name.withUnsafeBytes { state.places.see(replaced, in: source, $0) }
                    }
                }
            }
            let number = changed([source, target], request, moved)
            return (
                Renamed(
                    file: try again(moving), other: try other.map { (other) throws(Halt) in try again(other) },
                    source: Changed(before: nil, after: try again(from)),
                    target: Changed(before: nil, after: try again(to))), number
            )
        }
    }

    /// As it is by now; of one that has gone since, which it was.
    private func known(_ file: FileID, _ type: FileType = .file) throws(Halt) -> Attributes {
        do throws(Halt) { return try attributes(try find(file)) } catch {
            guard case .refused = error else { throw error }
            return Attributes(file: file, type: type)
        }
    }

    /// As it is by now.
    func again(_ found: Named) throws(Halt) -> Attributes {
        try attributes((found.file, try host { () throws(HostError) in try found.file.status() }))
    }

    public func link(
        _ request: Request, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Created> {
        once(request) { () throws(Halt) in
            let home = try self.directory(directory)
            if let before = try repeated(request) {
                let linked = Created(
                    file: try known(file), directory: Changed(before: nil, after: try attributes(home)), isNew: true)
                return (linked, before.number)
            }
            let found = try find(file)
            guard FileType(mode: found.status.mode) != .directory else { throw .refused(.isDirectory) }
            let name = try Self.checked(name)
            guard !Self.isHidden(name) else { throw .refused(.badName) }
            try host { () throws(HostError) in
                try check(name.terminated { shim_host_link(found.file.descriptor, home.file.descriptor, $0) })
            }
            state.withLock { state in
                if state.places[file] == nil { name.withUnsafeBytes { state.places.see(file, in: directory, $0) } }
            }
            let number = changed([directory, file], request, file)
            return (
                Created(
                    file: try again(found), directory: Changed(before: nil, after: try again(home)), isNew: true),
                number
            )
        }
    }

    public func whereabouts(_ request: Request, of file: FileID) -> Attempt<Whereabouts?> {
        look { () throws(Halt) in
            if file == root { return nil }
            _ = try find(file)
            return state.withLock { $0.places[file] }.map { Whereabouts(directory: $0.directory, name: $0.name) }
        }
    }
}
