import Bytes
import LogFS

extension LogFileSystem {
    public func open(_ request: Request, _ file: FileID) -> Attempt<Attributes> {
        guard let id = inner(file) else { return .refused(.stale) }
        return shown(files.open(inner(request), id), request.reader)
    }

    /// See `LogFS.open`.
    func open(_ file: FileID, unchangedSince newest: UInt64) -> Bool {
        guard let id = inner(file) else { return false }
        return files.open(id, unchangedSince: newest)
    }

    public func close(_ request: Request, _ file: FileID) -> Attempt<Void> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.close(inner(request), id), request.reader) { $0 }
    }

    public func read(
        _ request: Request, _ file: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<Int> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.read(inner(request), id, at: offset, into: buffer), request.reader, id) { $0 }
    }

    public func lend(
        _ request: Request, _ file: FileID, at offset: UInt64, count: Int
    ) -> Attempt<[BlockPart]?> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.lend(inner(request), id, at: offset, count: count), request.reader, id) { $0 }
    }

    public func readAll(
        _ file: FileID, at offset: UInt64, into buffer: SendableBuffer
    ) async throws(FileError) -> Int {
        guard let id = inner(file) else { throw .stale }
        let files = files
        return try await onLoop { () async throws(Failure) in
            try await files.readAll(id, at: offset, into: buffer.bytes)
        }
    }

    public func write(
        _ request: Request, _ file: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) -> Attempt<Changed> {
        guard let id = inner(file) else { return .refused(.stale) }
        let attempt = files.write(inner(request), id, at: offset, bytes)
        guard case .done = attempt else {
            // Never shown: there was no write.
            return outer(attempt, request.reader, id) { _ in
                Changed(before: nil, after: Attributes(file: file, type: .file))
            }
        }
        return outer(files.attributes(inner(request), id), request.reader) { Changed(before: nil, after: outer($0)) }
    }

    public func flush(_ file: FileID) async throws(FileError) -> UInt64 {
        guard let id = inner(file) else { throw .stale }
        let files = files
        do throws(FileError) {
            return try await onLoop { () async throws(Failure) in try await files.flush(id.inode) }
        } catch {
            flushFailed()
            throw error
        }
    }

    public func resize(
        _ request: Request, _ file: FileID, to size: UInt64, _ others: NewAttributes
    ) async throws(FileError) -> (changed: Changed, number: UInt64) {
        guard let id = inner(file) else { throw .stale }
        let files = files
        let request = inner(request)
        var rest = inner(others)
        rest.guardChanged = nil
        let new = rest
        let hasMore = { () -> Bool in
            var others = others
            others.size = nil
            return !others.isEmpty
        }()
        let (inode, number) = try await onLoop { () async throws(Failure) in
            // The last change remembers the request: a repeated one is answered only when all of it was done.
            let isDone =
                hasMore
                ? try await files.run { reader in
                    files.isRepeated(LogFS::Request(reader: reader, now: request.now, token: request.token))
                }.value : false
            if !isDone {
                let sized = try await files.resize(
                    id, to: size, now: request.now, token: hasMore ? nil : request.token)
                guard hasMore else { return (sized.inode, sized.number) }
            }
            let set = try await files.run { reader in
                files.setAttributes(LogFS::Request(reader: reader, now: request.now, token: request.token), id, new)
            }
            return (set.value, set.number)
        }
        return (Changed(before: nil, after: outer(inode)), number)
    }
}
