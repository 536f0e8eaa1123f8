import LogFS

/// Named streams, and holes. The rights are those of the open that the caller has.
extension Volume {
    public func stream(_ caller: Caller, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes> {
        fileSystem.stream(caller.request, of: file, name)
    }

    /// Whether two names are one to who makes no difference between cases.
    public static func isSameStream(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        a.withUnsafeBytes { a in b.withUnsafeBytes { b in FoldTable.areEqual(a, b) } }
    }

    /// `.exists`: there is one of this name, in whatever case.
    public func createStream(
        _ caller: Caller, of file: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Attributes> {
        if let passed = passed(caller, file, { $0.createStream($1, of: file, name) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            try requireFreeStreams(caller, file)
            return fileSystem.createStream(caller.request, of: file, name)
        }
    }

    public func removeStream(_ caller: Caller, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Void> {
        if let passed = passed(caller, file, { $0.removeStream($1, of: file, name) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            try requireFreeStreams(caller, file)
            return try removeFileStream(caller, of: file, name)
        }
    }

    /// Another name for a stream; its opens follow it. `replaces`: the stream that has that name, spelled just so, goes.
    public func renameStream(
        _ caller: Caller, of file: FileID, _ name: UnsafeRawBufferPointer, to newName: UnsafeRawBufferPointer,
        replaces: Bool
    ) -> Attempt<Void> {
        if let passed = passed(
            caller, file, { $0.renameStream($1, of: file, name, to: newName, replaces: replaces) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            try requireFreeStreams(caller, file)
            let moving = try fileSystem.stream(caller.request, of: file, name).get()
            let other = try stream(caller.request, of: file, newName)
            let trail = try trails(caller, of: file)
            let attempt = try renameFileStream(caller, of: file, name, to: newName, replaces: replaces)
            guard case .done = attempt, other?.file != moving.file else { return attempt }
            sharing.streamRenamed(moving.file, of: file, Array(name), to: Array(newName), over: other?.file)
            if let trail { sharing.post([(.modified, .streamName, trail)]) }
            return attempt
        }
    }

    /// Nil: there is none of this name.
    func stream(
        _ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> Attributes? {
        switch fileSystem.stream(request, of: file, name) {
        case .done(let stream, _): return stream
        case .refused(.noEntry): return nil
        case .refused(let error): throw .refused(error)
        case .lacks(let lack): throw .lacks(lack)
        }
    }

    /// What is locked, or an older version, keeps the streams that it has.
    func requireFreeStreams(_ caller: Caller, _ file: FileID) throws(Halt) {
        let found = try attributes(caller, of: file)
        if found.type != .directory { try requireFree(caller, found) }
    }

    /// Streams whose names come after `name`; none: there are no more.
    public func streams(
        _ caller: Caller, of file: FileID, after name: UnsafeRawBufferPointer
    ) -> Attempt<[(name: [UInt8], stream: Attributes)]> {
        fileSystem.streams(caller.request, of: file, after: name)
    }

    public func punch(
        _ caller: Caller, _ file: FileID, at offset: UInt64, length: UInt64
    ) async throws(FileError) -> UInt64 {
        guard !caller.isReadOnly, !isReadOnly else { throw .readOnly }
        // Whose file it is makes no difference: the mount says whether it may be changed.
        let number = try await fileSystem.punch(caller.request, file, at: offset, length: length)
        (guest(file)?.volume ?? self).changedLately(caller, file, [.lastWrite])
        return number
    }

    /// A change that took a while is done: leases that were granted since it was allowed, and watchers.
    private func changedLately(_ caller: Caller, _ file: FileID, _ what: WatchFilter) {
        sharing.changed(file, by: caller.handle?.lease)
        // What can not be found now is not waited for after the fact.
        try? notify(Caller(.root, caller.request), modified: file, what)
    }

    /// Copies a range without its bytes; `mayRead` and `mayWrite` have allowed it.
    public func clone(
        _ caller: Caller, _ source: FileID, at offset: UInt64, length: UInt64, to target: FileID, at place: UInt64
    ) async throws(FileError) -> UInt64 {
        guard !caller.isReadOnly, !isReadOnly else { throw .readOnly }
        let (end, isBeyond) = place.addingReportingOverflow(length)
        guard !isBeyond else { throw .fileTooBig }
        let home = guest(target)?.volume ?? self
        let number = try await home.growing(caller.request, target, to: length == 0 ? 0 : end) {
            () async throws(FileError) in
            try await fileSystem.clone(
                caller.request, source, at: offset, length: length, to: target, at: place)
        }
        home.changedLately(caller, target, [.size, .lastWrite])
        return number
    }

    public func seek(_ caller: Caller, _ file: FileID, from offset: UInt64, data: Bool) -> Attempt<UInt64> {
        fileSystem.seek(caller.request, file, from: offset, data: data)
    }
}
