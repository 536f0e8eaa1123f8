import CShim
import Namespace
import Runtime

/// How files are found by their identities: by the names that lead to them, each time anew.
extension Passthrough {
    /// How a file is found: with what the kernel has in memory, or whatever it takes.
    enum Manner {
        case atOnce
        case waiting
    }

    typealias Named = (file: HostFile, status: shim_host_status)

    /// The file, to be named only, or as it was opened, and what it is.
    func find(_ file: FileID, _ manner: Manner = .atOnce) throws(Halt) -> Named {
        let (open, path) = state.withLock { ($0.opens[file]?.file, $0.places.path(of: file)) }
        if let open { return (open, try host { () throws(HostError) in try open.status() }) }
        guard file.subvolume == subvolume else { throw .refused(.stale) }
        if let path, let found = try walk(path, manner), FileID(found.status, subvolume: subvolume) == file {
            return found
        }
        return try search(file, manner)
    }

    /// Nil: the names lead nowhere by now.
    private func walk(_ path: [[UInt8]], _ manner: Manner) throws(Halt) -> Named? {
        var place = base
        var index = 0
        repeat {
            var part: [UInt8] = []
            while index < path.count, part.isEmpty || part.count + path[index].count < Self.pathBytesMax {
                if !part.isEmpty { part.append(UInt8(ascii: "/")) }
                part += path[index]
                index += 1
            }
            guard let next = try step(place, part, manner) else { return nil }
            place = next
        } while index < path.count
        let end = place
        return (end, try host { () throws(HostError) in try end.status() })
    }

    /// What one path leads to; nil: nothing.
    func step(_ directory: HostFile, _ path: [UInt8], _ manner: Manner) throws(Halt) -> HostFile? {
        if manner == .atOnce {
            switch directory.find(path, cached: true) {
            case .success(let file): return file
            case .failure(.wouldWait):
                // The pool looks first; then the kernel knows.
                guard state.withLock({ $0.warmed.remove(path) }) != nil else {
                    throw lack { [state] in
                        _ = directory.find(path, cached: false)
                        state.withLock { state in
                            if state.warmed.count >= Self.warmedMax { state.warmed.removeAll() }
                            state.warmed.insert(path)
                        }
                    }
                }
            case .failure(let error):
                if error.isAbsent { return nil }
                throw .refused(error.fileError)
            }
        }
        switch directory.find(path, cached: false) {
        case .success(let file): return file
        case .failure(let error):
            if error.isAbsent { return nil }
            throw .refused(error.fileError)
        }
    }

    @discardableResult
    func host<Value>(_ body: () throws(HostError) -> Value) throws(Halt) -> Value {
        do throws(HostError) { return try body() } catch { throw .refused(error.fileError) }
    }

    /// A directory that is to be used by its names.
    func directory(_ file: FileID, _ manner: Manner = .atOnce) throws(Halt) -> Named {
        let found = try find(file, manner)
        guard FileType(mode: found.status.mode) == .directory else { throw .refused(.notDirectory) }
        return found
    }

    /// What a name of the directory leads to; nil: nothing.
    func child(_ name: [UInt8], of directory: HostFile, _ manner: Manner = .atOnce) throws(Halt) -> Named? {
        guard let file = try step(directory, name, manner) else { return nil }
        return (file, try host { () throws(HostError) in try file.status() })
    }

    func attributes(_ found: Named) throws(Halt) -> Attributes {
        let record = try host { () throws(HostError) in try Self.record(found) }
        return Attributes(found.status, record, subvolume: subvolume)
    }

    static func record(_ found: Named) throws(HostError) -> HostRecord {
        let type = FileType(mode: found.status.mode)
        guard type == .file || type == .directory else { return HostRecord() }
        // Most files have none: a look at the length costs no memory.
        guard try found.file.attribute(HostRecord.name, limit: 0) != nil,
            let bytes = try found.file.attribute(HostRecord.name, limit: HostRecord.bytesMax)
        else { return HostRecord() }
        return HostRecord(bytes)
    }

    func see(_ found: Named, in directory: FileID, _ name: [UInt8]) {
        let file = FileID(found.status, subvolume: subvolume)
        state.withLock { state in name.withUnsafeBytes { state.places.see(file, in: directory, $0) } }
    }

    /// A name that can be an entry's, and is not one of those that are kept for ourselves.
    static func checked(_ name: UnsafeRawBufferPointer) throws(Halt) -> [UInt8] {
        guard name.count <= nameBytesMax else { throw .refused(.nameTooLong) }
        guard !name.isEmpty, !name.contains(0x2f), !name.contains(0) else { throw .refused(.badName) }
        let bytes = Array(name)
        if bytes == [0x2e] || bytes == [0x2e, 0x2e] { throw .refused(.badName) }
        return bytes
    }

    static func isHidden(_ name: [UInt8]) -> Bool { name.starts(with: hidden) }

    // MARK: Searching

    /// The file was moved by others, or is of an earlier life of this program: everything is looked through, now and then.
    private func search(_ file: FileID, _ manner: Manner) throws(Halt) -> Named {
        let now = world.clock.monotonic()
        let (isRecent, isKnown, isBusy) = state.withLock { state in
            (
                state.searched.map { now &- $0 < Self.searchNanoseconds } ?? false, state.places[file] != nil,
                state.isSearching
            )
        }
        // One that was here a moment ago may have been moved: a client asks again until the next search has told.
        if isRecent { throw .refused(isKnown ? .delay : .stale) }
        if manner == .atOnce {
            throw isBusy
                ? .lacks(Lack { [loop] () async throws(FileError) in await loop.sleep(nanoseconds: 20_000_000) })
                : lack { self.searchAll(for: file) }
        }
        if isBusy { throw .refused(.delay) }
        searchAll(for: file)
        guard let path = state.withLock({ $0.places.path(of: file) }), let found = try walk(path, .waiting),
            FileID(found.status, subvolume: subvolume) == file
        else { throw .refused(.stale) }
        return found
    }

    /// Goes through all directories, the upper ones first. In the pool.
    private func searchAll(for file: FileID) {
        let mayBegin = state.withLock { state in
            defer { state.isSearching = true }
            return !state.isSearching
        }
        guard mayBegin else { return }
        var isFound = false
        var seen = 0
        // Directories are remembered as the way to what lies in them; files only as long as that leaves room.
        var open = [root]
        var next = 0
        while next < open.count, !isFound, open.count < PlaceTable.placesMax / 2 {
            let home = open[next]
            next += 1
            // What can not be read is not there; what was removed meanwhile neither.
            try? forEachEntry(of: home) { (found, name) throws(Halt) in
                let id = FileID(found.status, subvolume: subvolume)
                let isDirectory = FileType(mode: found.status.mode) == .directory
                if id == file { isFound = true }
                if isDirectory { open.append(id) }
                if isDirectory || id == file || seen < searchSeenMax {
                    see(found, in: home, name)
                    seen += 1
                }
            }
        }
        let now = world.clock.monotonic()
        state.withLock { state in
            state.isSearching = false
            if isFound { return }
            state.searched = now
            if let place = state.places[file] {
                place.name.withUnsafeBytes { state.places.forget(file, in: place.directory, $0) }
            }
        }
    }

    /// Every entry of a directory that is there at the time of the look. In the pool.
    func forEachEntry(
        of directory: FileID, _ body: (Named, [UInt8]) throws(Halt) -> Void
    ) throws(Halt) {
        let home = try self.directory(directory, .waiting)
        let reader = try host { () throws(HostError) in try home.file.reopen(Self.listing) }
        var cookie: UInt64 = 0
        while true {
            let entries = try host { () throws(HostError) in try Self.entries(reader, after: cookie) }
            guard let last = entries.last else { return }
            for entry in entries where !Self.isHidden(entry.name) {
                if let found = try child(entry.name, of: home.file, .waiting) { try body(found, entry.name) }
            }
            cookie = last.cookie
        }
    }

    struct HostEntry {
        var name: [UInt8]
        var inode: UInt64
        var type: Int32
        var cookie: UInt64
    }

    /// One block of entries, without `.` and `..`, unless they are all there is; none: the end.
    static func entries(_ directory: HostFile, after cookie: UInt64) throws(HostError) -> [HostEntry] {
        var cookie = cookie
        var entries: [HostEntry] = []
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(SHIM_HOST_BLOCK), alignment: 16)
        defer { block.deallocate() }
        while entries.isEmpty {
            let count = try check(shim_host_list(directory.descriptor, cookie, block.baseAddress, block.count))
            guard count > 0 else { break }
            var offset = 0
            var entry = shim_host_entry()
            while shim_host_next(block.baseAddress, count, &offset, &entry) == 1 {
                cookie = entry.cookie
                let name = [UInt8](String.bytes(entry.name))
                if name == [0x2e] || name == [0x2e, 0x2e] { continue }
                entries.append(HostEntry(name: name, inode: entry.inode, type: entry.type, cookie: entry.cookie))
            }
        }
        return entries
    }
}

extension String {
    /// What a C string has, whatever it means.
    static func bytes(_ text: UnsafePointer<CChar>?) -> UnsafeRawBufferPointer {
        guard let text else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(start: text, count: strlen(text))
    }
}
