import LogFS

extension LogFileSystem {
    public func stream(_ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.stream(inner(request), of: id, name), request.reader, id) { outer($0) }
    }

    public func createStream(
        _ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Attributes> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.createStream(inner(request), of: id, name), request.reader, id) { outer($0) }
    }

    public func removeStream(_ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Void> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.removeStream(inner(request), of: id, name), request.reader, id) { $0 }
    }

    public func renameStream(
        _ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer, to newName: UnsafeRawBufferPointer,
        replaces: Bool
    ) -> Attempt<Void> {
        guard let id = inner(file) else { return .refused(.stale) }
        let attempt = files.renameStream(inner(request), of: id, name, to: newName, replaces: replaces)
        return outer(attempt, request.reader, id) { $0 }
    }

    public func streams(
        _ request: Request, of file: FileID, after name: UnsafeRawBufferPointer
    ) -> Attempt<[(name: [UInt8], stream: Attributes)]> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.streams(inner(request), of: id, after: name), request.reader, id) { found in
            found.map { ($0.name, outer($0.inode)) }
        }
    }

    public func owner(_ request: Request, ofStream file: FileID) -> Attempt<Attributes?> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.owner(inner(request), ofStream: id), request.reader, id) { $0.map { outer($0) } }
    }

    public func streamBytes(_ request: Request, of file: FileID) -> Attempt<UInt64> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.streamBytes(inner(request), of: id), request.reader, id) { $0 }
    }

    public func punch(
        _ request: Request, _ file: FileID, at offset: UInt64, length: UInt64
    ) async throws(FileError) -> UInt64 {
        guard let id = inner(file) else { throw .stale }
        let files = files
        // Earlier writes come first, or they would fill the hole again.
        _ = try await flush(file)
        return try await onLoop { () async throws(Failure) in
            try await files.punch(id, at: offset, length: length, now: request.now)
        }
    }

    public func clone(
        _ request: Request, _ source: FileID, at offset: UInt64, length: UInt64, to target: FileID, at place: UInt64
    ) async throws(FileError) -> UInt64 {
        guard let from = inner(source), let to = inner(target) else { throw .stale }
        let files = files
        // What is shared is what is stored.
        _ = try await flush(source)
        if target != source { _ = try await flush(target) }
        return try await onLoop { () async throws(Failure) in
            try await files.clone(from: from, at: offset, length: length, to: to, at: place, now: request.now)
        }
    }

    public func seek(_ request: Request, _ file: FileID, from offset: UInt64, data: Bool) -> Attempt<UInt64> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.seek(inner(request), id, from: offset, data ? .data : .hole), request.reader, id) { $0 }
    }
}
