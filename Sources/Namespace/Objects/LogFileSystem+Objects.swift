import Headhunter
import LogFS

extension LogFileSystem {
    public var placeBytesMax: Int { LogFS.placeBytesMax }
    public var placeAttributesMax: Int { LogFS.placeAttributesMax }

    func inner(_ seal: ContentSeal?) -> LogFS::Seal? {
        seal.map { LogFS::Seal(high: $0.high, low: $0.low, parts: $0.parts) }
    }

    func inner(_ expected: ExpectedFile) -> LogFS::Expected? {
        switch expected {
        case .anything: .anything
        case .nothing: .nothing
        case .file(let id, let change): inner(id).map { .file($0, change: change) }
        case .judged(let id, let change): inner(id).map { .judged($0, change: change) }
        }
    }

    func inner(_ new: NewFile, _ uid: UInt32, _ gid: UInt32) -> LogFS::NewFile {
        var file = LogFS::NewFile(type: .file, mode: new.mode, uid: uid, gid: gid)
        file.accessed = new.accessed
        file.modified = new.modified
        file.attributes = new.dos
        return file
    }

    func outer(_ placed: LogFS::Placed) -> PlacedFile {
        PlacedFile(
            file: outer(placed.inode), other: placed.other.map { outer($0) },
            directory: Changed(before: nil, after: outer(placed.directory)))
    }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, uid: UInt32, gid: UInt32, attributes: [ExtendedAttribute], seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile> {
        guard let home = inner(directory), let wanted = inner(expected) else { return .refused(.stale) }
        let attempt = files.place(
            inner(request), in: home, name, content, inner(new, uid, gid),
            attributes: attributes.map { LogFS::Attribute(name: $0.name, value: $0.value) }, seal: inner(seal),
            expected: wanted)
        return flushed(outer(attempt, request.reader) { outer($0) }, request, expected)
    }

    /// The engine compares what was flushed; whoever expects a file has seen what was only written, too.
    func flushed<Value>(
        _ attempt: Attempt<Value>, _ request: Request, _ expected: ExpectedFile
    ) -> Attempt<Value> {
        guard case .refused(.stale) = attempt, let (file, change) = expected.compared,
            case .done(let shown, _) = attributes(request, file), shown.change == change
        else { return attempt }
        return .lacks(flushing(file))
    }

    public func createNameless(
        _ request: Request, near directory: FileID, _ new: NewFile, uid: UInt32, gid: UInt32
    ) -> Attempt<Attributes> {
        guard let home = inner(directory) else { return .refused(.stale) }
        return outer(
            files.createNameless(inner(request), near: home, inner(new, uid, gid)), request.reader
        ) { outer($0) }
    }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile
    ) -> Attempt<PlacedFile> {
        guard let home = inner(directory), let id = inner(file), let wanted = inner(expected) else {
            return .refused(.stale)
        }
        let attempt = files.place(inner(request), in: home, name, id, seal: inner(seal), expected: wanted)
        return flushed(outer(attempt, request.reader) { outer($0) }, request, expected)
    }

    public func join(_ sources: [FileID], to file: FileID, now: Int64) async throws(FileError) -> UInt64 {
        var parts: [LogFS::FileID] = []
        for source in sources {
            guard let id = inner(source) else { throw .stale }
            parts.append(id)
        }
        guard let target = inner(file) else { throw .stale }
        let (files, all) = (files, parts)
        return try await onLoop { () async throws(Failure) in try await files.join(all, to: target, now: now) }
    }

    public func clone(
        from source: FileID, at sourceOffset: UInt64, length: UInt64, to target: FileID, at targetOffset: UInt64,
        now: Int64
    ) async throws(FileError) -> UInt64 {
        guard let from = inner(source), let to = inner(target) else { throw .stale }
        let files = files
        return try await onLoop { () async throws(Failure) in
            try await files.clone(
                from: from, at: sourceOffset, length: length, to: to, at: targetOffset, now: now)
        }
    }

    public func extendedAttributes(
        _ request: Request, _ file: FileID, prefixes: [[UInt8]]
    ) -> Attempt<[ExtendedAttribute]> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.attributes(inner(request), id, prefixes: prefixes), request.reader) { found in
            // The engine's come prefix by prefix.
            found.map { ExtendedAttribute(name: $0.name, value: $0.value) }
                .sorted { $0.name.lexicographicallyPrecedes($1.name) }
        }
    }

    public func setExtendedAttribute(
        _ request: Request, _ file: FileID, _ name: UnsafeRawBufferPointer, _ value: [UInt8]?
    ) -> Attempt<Attributes> {
        guard let id = inner(file) else { return .refused(.stale) }
        let attempt =
            value.map { value in value.withUnsafeBytes { files.setAttribute(inner(request), id, name, $0) } }
            ?? files.removeAttribute(inner(request), id, name)
        return outer(attempt, request.reader, id) { outer($0) }
    }

    public func setImplied(_ request: Request, _ directory: FileID, _ isImplied: Bool) -> Attempt<Attributes> {
        guard let id = inner(directory) else { return .refused(.stale) }
        return outer(files.setImplied(inner(request), id, isImplied), request.reader) { outer($0) }
    }

    public func createImplied(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, mode: UInt16, uid: UInt32,
        gid: UInt32
    ) -> Attempt<Created> {
        guard let home = inner(directory) else { return .refused(.stale) }
        var new = LogFS::NewFile(type: .directory, mode: mode, uid: uid, gid: gid)
        new.isImplied = true
        return outer(files.create(inner(request), in: home, name, new), request.reader) {
            Created(
                file: outer($0.inode), directory: Changed(before: nil, after: outer($0.directory)), isNew: $0.isNew)
        }
    }

    public func listPaths(
        _ request: Request, below directory: FileID, from start: [UInt8], prefix: [UInt8], limit: Int,
        _ visit: (_ path: UnsafeRawBufferPointer, Attributes) -> Bool
    ) -> Attempt<[UInt8]?> {
        guard let id = inner(directory) else { return .refused(.stale) }
        let attempt = files.listPaths(
            inner(request), below: id, from: start, prefix: prefix, directories: true, limit: limit
        ) { listed, path in
            guard let inode = listed.inode else { return true }
            return visit(path, outer(inode))
        }
        return outer(attempt, request.reader) { $0 }
    }

    public var newestChange: UInt64 { files.headhunter.log.last }

    public func totals(_ request: Request, below directory: FileID) -> Attempt<DirectoryTotals> {
        guard let id = inner(directory) else { return .refused(.stale) }
        return outer(files.totals(inner(request), id), request.reader) {
            DirectoryTotals(
                files: UInt64(clamping: $0.files), directories: UInt64(clamping: $0.directories),
                bytes: UInt64(clamping: $0.bytes))
        }
    }
}
