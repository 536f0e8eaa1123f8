import CShim
import Namespace
import Runtime

/// What object protocols need: content that appears whole, listings by path.
extension Passthrough {
    public var placeBytesMax: Int { 256 * 1024 }
    public var placeAttributesMax: Int { 64 }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, uid: UInt32, gid: UInt32, attributes: [ExtendedAttribute], seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile> {
        attempt { () throws(Halt) in
            try requireRoom()
            let home = try self.directory(directory)
            let name = try Self.checked(name)
            guard !Self.isHidden(name), new.type == .file else { throw .refused(.badName) }
            guard content.count <= placeBytesMax, attributes.count <= placeAttributesMax else {
                throw .refused(.invalid)
            }
            let other = try expect(expected, name, home)
            let draft = try draft(home, new, uid, gid)
            do throws(Halt) {
                for attribute in attributes {
                    if let error = set(draft.file, attribute) { throw .refused(error) }
                }
                try host { () throws(HostError) in
                    let put = try check(
                        shim_host_write(draft.file.descriptor, content.baseAddress, content.count, 0))
                    guard put == content.count else { throw HostError(ENOSPC) }
                }
                return try settle(draft, in: directory, home, name, other, seal)
            } catch {
                discard(draft, home)
                throw error
            }
        }
    }

    public func createNameless(
        _ request: Request, near directory: FileID, _ new: NewFile, uid: UInt32, gid: UInt32
    ) -> Attempt<Attributes> {
        attempt { () throws(Halt) in
            let home = try self.directory(directory)
            guard new.type == .file else { throw .refused(.invalid) }
            let file = try host { () throws(HostError) in
                try Self.make(nil, in: home.file, new, uid: uid, gid: gid)
            }
            let found = (file: file, status: try host { () throws(HostError) in try file.status() })
            let attributes = try attributes(found)
            let hasRoom = state.withLock { state -> Bool in
                guard state.opens.count < Self.opensMax else { return false }
                state.opens[attributes.file] = Open(file: file, count: 1, isWritable: true)
                return true
            }
            guard hasRoom else { throw .refused(.delay) }
            return (attributes, changed([attributes.file]))
        }
    }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile> {
        attempt { () throws(Halt) in
            let home = try self.directory(directory)
            let name = try Self.checked(name)
            guard !Self.isHidden(name) else { throw .refused(.badName) }
            guard let open = state.withLock({ $0.opens[file] }) else { throw .refused(.stale) }
            let other = try expect(expected, name, home)
            return try settle(Draft(file: open.file, name: nil), in: directory, home, name, other, seal)
        }
    }

    /// A file that is being made.
    private struct Draft {
        var file: HostFile
        /// Where there are no files without a name.
        var name: [UInt8]?
    }

    private func hiddenName() -> [UInt8] { Self.hidden + Array(String(world.random.next(), radix: 16).utf8) }

    private func draft(_ home: Named, _ new: NewFile, _ uid: UInt32, _ gid: UInt32) throws(Halt) -> Draft {
        do throws(HostError) {
            return Draft(file: try Self.make(nil, in: home.file, new, uid: uid, gid: gid), name: nil)
        } catch {
            guard error.code == EOPNOTSUPP || error.code == EISDIR else { throw .refused(error.fileError) }
            let name = hiddenName()
            return try host { () throws(HostError) in
                Draft(file: try Self.make(name, in: home.file, new, uid: uid, gid: gid), name: name)
            }
        }
    }

    private func discard(_ draft: Draft, _ home: Named) {
        _ = draft.name?.terminated { shim_host_remove(home.file.descriptor, $0, 0) }
    }

    private func set(_ file: HostFile, _ attribute: ExtendedAttribute) -> FileError? {
        do throws(Halt) {
            let inner = try Self.inner(attribute.name)
            do throws(HostError) { try file.setAttribute(inner, attribute.value) } catch {
                return error.code == ENOSPC ? .attributeTooBig : error.fileError
            }
            return nil
        } catch {
            if case .refused(let error) = error { return error }
            return .invalid
        }
    }

    /// What has the name, when it is what was expected.
    private func expect(_ expected: ExpectedFile, _ name: [UInt8], _ home: Named) throws(Halt) -> Named? {
        let there = try child(name, of: home.file)
        if let there, FileType(mode: there.status.mode) == .directory { throw .refused(.isDirectory) }
        switch expected {
        case .anything: break
        case .nothing: if there != nil { throw .refused(.exists) }
        case .file(let file, let change), .judged(let file, let change):
            guard let there else { throw .refused(.noEntry) }
            let found = try attributes(there)
            guard found.file == file, found.change == change else { throw .refused(.stale) }
        }
        return there
    }

    /// The file takes its name, in one step.
    private func settle(
        _ draft: Draft, in directory: FileID, _ home: Named, _ name: [UInt8], _ other: Named?, _ seal: ContentSeal?
    ) throws(Halt) -> (PlacedFile, UInt64) {
        try host { () throws(HostError) in
            let status = try draft.file.status()
            var record = try Self.record((draft.file, status))
            record.seal = seal.map { ($0, status.modified, status.size) }
            if seal != nil || !record.isEmpty { try Self.keep(record, draft.file) }
            // A name that is taken can only be taken over by another name.
            let link = draft.name ?? (other == nil ? name : hiddenName())
            if draft.name == nil {
                try check(link.terminated { shim_host_link(draft.file.descriptor, home.file.descriptor, $0) })
            }
            if link != name {
                do throws(HostError) {
                    try check(
                        link.terminated { link in
                            name.terminated {
                                shim_host_rename(
                                    home.file.descriptor, link, home.file.descriptor, $0, other == nil ? 1 : 0)
                            }
                        })
                } catch {
                    _ = link.terminated { shim_host_remove(home.file.descriptor, $0, 0) }
                    throw error
                }
            }
        }
        let found = (file: draft.file, status: try host { () throws(HostError) in try draft.file.status() })
        let file = FileID(found.status, subvolume: subvolume)
        state.withLock { state in
            name.withUnsafeBytes { name in
                if let other { state.places.forget(FileID(other.status, subvolume: subvolume), in: directory, name) }
                state.places.see(file, in: directory, name)
            }
            state.unsyncedBytes += found.status.size
        }
        let number = changed([directory, file])
        return (
            PlacedFile(
                file: try attributes(found), other: try other.map { (other) throws(Halt) in try again(other) },
                directory: Changed(before: nil, after: try again(home))), number
        )
    }

    public func join(_ sources: [FileID], to file: FileID, now: Int64) async throws(FileError) -> UInt64 {
        try await blocking { () throws(Halt) in
            let target = try self.data(file, Self.writing, .waiting)
            for source in sources {
                let from = try self.data(source, Self.reading, .waiting)
                let end = try self.host { () throws(HostError) in try target.file.status() }.size
                try self.host { () throws(HostError) in
                    try check(
                        shim_host_copy(from.file.descriptor, 0, from.status.size, target.file.descriptor, end))
                }
            }
            return self.changed([file])
        }
    }

    public func clone(
        from source: FileID, at sourceOffset: UInt64, length: UInt64, to target: FileID, at targetOffset: UInt64,
        now: Int64
    ) async throws(FileError) -> UInt64 {
        try await clone(
            Request(reader: 0, now: now), source, at: sourceOffset, length: length, to: target, at: targetOffset)
    }

    // MARK: Directories

    public func setImplied(_ request: Request, _ directory: FileID, _ isImplied: Bool) -> Attempt<Attributes> {
        attempt { () throws(Halt) in
            let found = try self.directory(directory)
            try turn(found) { (found) throws(Halt) in
                try host { () throws(HostError) in
                    var record = try Self.record(found)
                    record.isImplied = isImplied
                    try Self.keep(record, found.file)
                }
            }
            return (try again(found), changed([directory]))
        }
    }

    public func createImplied(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, mode: UInt16, uid: UInt32,
        gid: UInt32
    ) -> Attempt<Created> {
        let new = NewFile(type: .directory, mode: mode)
        switch create(request, in: directory, name, new, uid: uid, gid: gid, .exclusive) {
        case .done(var created, let number):
            guard case .done(let marked, let later) = setImplied(request, created.file.file, true) else {
                return .done(created, number: number)
            }
            created.file = marked
            return .done(created, number: max(number, later))
        case let other: return other
        }
    }

    public func totals(_ request: Request, below directory: FileID) -> Attempt<DirectoryTotals> {
        look { () throws(Halt) in
            let answer = try answer(
                .totals(directory),
                { () throws(Halt) in
                    var totals = DirectoryTotals(files: 0, directories: 0, bytes: 0)
                    var open = [directory]
                    while let next = open.popLast() {
                        try self.forEachEntry(of: next) { (found, name) throws(Halt) in
                            self.see(found, in: next, name)
                            switch FileType(mode: found.status.mode) {
                            case .directory:
                                totals.directories += 1
                                open.append(FileID(found.status, subvolume: self.subvolume))
                            default:
                                totals.files += 1
                                totals.bytes &+= found.status.size
                            }
                        }
                    }
                    return .totals(totals)
                })
            guard case .totals(let totals) = answer else { throw .refused(.stale) }
            return totals
        }
    }

    // MARK: Listing by path

    /// Names of one directory that are put in order.
    private static let sortedMax = 1 << 20

    public func listPaths(
        _ request: Request, below directory: FileID, from start: [UInt8], prefix: [UInt8], limit: Int,
        _ visit: (_ path: UnsafeRawBufferPointer, Attributes) -> Bool
    ) -> Attempt<[UInt8]?> {
        look { () throws(Halt) in
            guard limit > 0 else { throw .refused(.invalid) }
            let limit = min(limit, 256)
            let answer = try answer(
                .paths(directory, from: start, prefix: prefix, limit: limit),
                { () throws(Halt) in try self.paths(directory, start, prefix, limit) })
            guard case .paths(let paths, let next) = answer else { throw .refused(.stale) }
            // A directory's own path is followed by what lies in it.
            for entry in paths where !entry.path.withUnsafeBytes({ visit($0, entry.file) }) { return entry.path + [0] }
            return next
        }
    }

    private struct Pending {
        var path: [UInt8]
        var file: Attributes
    }

    /// In the byte order of whole paths: a directory counts with the slash at its end, so all below it comes right behind it.
    private func paths(
        _ directory: FileID, _ start: [UInt8], _ prefix: [UInt8], _ limit: Int
    ) throws(Halt) -> Answer {
        // The next one is the last of the array.
        var pending = try sorted(directory, [], start, prefix)
        var found: [(path: [UInt8], file: Attributes)] = []
        while let next = pending.popLast() {
            let isWanted = !next.path.lexicographicallyPrecedes(start) && next.path.starts(with: prefix)
            if isWanted {
                if found.count == limit { return .paths(found, next: next.path) }
                found.append((next.path, next.file))
            }
            guard next.file.type == .directory else { continue }
            do throws(Halt) { pending += try sorted(next.file.file, next.path, start, prefix) } catch {
                // It went meanwhile, or nobody may read it: it is shown with nothing below it.
                guard case .refused = error else { throw error }
            }
        }
        return .paths(found, next: nil)
    }

    private func sorted(
        _ directory: FileID, _ path: [UInt8], _ start: [UInt8], _ prefix: [UInt8]
    ) throws(Halt) -> [Pending] {
        var all: [Pending] = []
        try forEachEntry(of: directory) { (entry, name) throws(Halt) in
            guard all.count < Self.sortedMax else { throw .refused(.fileTooBig) }
            self.see(entry, in: directory, name)
            let file = try self.attributes(entry)
            let isDirectory = file.type == .directory
            let whole = path + name + (isDirectory ? [0x2f] : [])
            // Nothing below it is wanted either.
            let canMatch = whole.starts(with: prefix) || isDirectory && prefix.starts(with: whole)
            let isBehind = !whole.lexicographicallyPrecedes(start) || isDirectory && start.starts(with: whole)
            if canMatch, isBehind { all.append(Pending(path: whole, file: file)) }
        }
        return all.sorted { $1.path.lexicographicallyPrecedes($0.path) }
    }
}
