import Bytes
import Runtime

/// Data, streams and holes go to whoever has the file.
extension MountTree {
    public func open(_ request: Request, _ file: FileID) -> Attempt<Attributes> {
        asked(file) { $0.open(request, file) }
    }

    public func close(_ request: Request, _ file: FileID) -> Attempt<Void> {
        // A file that is closed for the last time may go with it, which is a change.
        guard !isBase(file), hasMounts else { return base.close(request, file) }
        return asked(file) { $0.close(request, file) }
    }

    public func read(
        _ request: Request, _ file: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<Int> { asked(file) { $0.read(request, file, at: offset, into: buffer) } }

    public func lend(
        _ request: Request, _ file: FileID, at offset: UInt64, count: Int
    ) -> Attempt<[BlockPart]?> { asked(file) { $0.lend(request, file, at: offset, count: count) } }

    public func readAll(
        _ file: FileID, at offset: UInt64, into buffer: SendableBuffer
    ) async throws(FileError) -> Int {
        guard let home = home(file) else { throw .stale }
        return try await home.readAll(file, at: offset, into: buffer)
    }

    public func write(
        _ request: Request, _ file: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) -> Attempt<Changed> { changed(file) { $0.write(request, file, at: offset, bytes) } }

    public func flush(_ file: FileID) async throws(FileError) -> UInt64 {
        guard !isBase(file), hasMounts else { return try await base.flush(file) }
        guard let mount = mount(file.subvolume) else { throw .stale }
        let number = try await mount.fileSystem.flush(file)
        guard number > 0 else { return 0 }
        guard isThere(mount) else { throw .stale }
        return number | Self.foreignNumber
    }

    public func resize(
        _ request: Request, _ file: FileID, to size: UInt64, _ others: NewAttributes
    ) async throws(FileError) -> (changed: Changed, number: UInt64) {
        guard !isBase(file), hasMounts else { return try await base.resize(request, file, to: size, others) }
        guard let mount = mount(file.subvolume) else { throw .stale }
        guard !mount.isReadOnly else { throw .readOnly }
        let (changed, number) = try await mount.fileSystem.resize(request, file, to: size, others)
        guard number > 0 else { return (changed, 0) }
        guard isThere(mount) else { throw .stale }
        return (changed, number | Self.foreignNumber)
    }

    public func empty(_ request: Request, _ file: FileID) -> Attempt<Changed> {
        changed(file) { $0.empty(request, file) }
    }

    public func makeLink(_ request: Request, _ file: FileID, to target: [UInt8]) -> Attempt<Changed> {
        changed(file) { $0.makeLink(request, file, to: target) }
    }

    public func stream(_ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes> {
        asked(file) { $0.stream(request, of: file, name) }
    }

    public func createStream(
        _ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Attributes> { changed(file) { $0.createStream(request, of: file, name) } }

    public func removeStream(_ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Void> {
        changed(file) { $0.removeStream(request, of: file, name) }
    }

    public func renameStream(
        _ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer, to newName: UnsafeRawBufferPointer,
        replaces: Bool
    ) -> Attempt<Void> {
        changed(file) { $0.renameStream(request, of: file, name, to: newName, replaces: replaces) }
    }

    public func streams(
        _ request: Request, of file: FileID, after name: UnsafeRawBufferPointer
    ) -> Attempt<[(name: [UInt8], stream: Attributes)]> { asked(file) { $0.streams(request, of: file, after: name) } }

    public func owner(_ request: Request, ofStream file: FileID) -> Attempt<Attributes?> {
        asked(file) { $0.owner(request, ofStream: file) }
    }

    public func streamBytes(_ request: Request, of file: FileID) -> Attempt<UInt64> {
        asked(file) { $0.streamBytes(request, of: file) }
    }

    public func punch(
        _ request: Request, _ file: FileID, at offset: UInt64, length: UInt64
    ) async throws(FileError) -> UInt64 {
        try await changing(file) { (home) async throws(FileError) in
            try await home.punch(request, file, at: offset, length: length)
        }
    }

    public func seek(_ request: Request, _ file: FileID, from offset: UInt64, data: Bool) -> Attempt<UInt64> {
        asked(file) { $0.seek(request, file, from: offset, data: data) }
    }

    /// Between two file systems the bytes are copied.
    public func clone(
        _ request: Request, _ source: FileID, at offset: UInt64, length: UInt64, to target: FileID, at place: UInt64
    ) async throws(FileError) -> UInt64 {
        guard source.subvolume != target.subvolume else {
            return try await changing(target) { (home) async throws(FileError) in
                try await home.clone(request, source, at: offset, length: length, to: target, at: place)
            }
        }
        return try await copy(source, at: offset, length: length, to: target, at: place, now: request.now)
    }

    private static let copyBytes = 256 * 1024
    private static let copyAttemptsMax = 1000

    func copy(
        _ source: FileID, at offset: UInt64, length: UInt64, to target: FileID, at place: UInt64, now: Int64
    ) async throws(FileError) -> UInt64 {
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.copyBytes, alignment: 16)
        defer { block.deallocate() }
        let buffer = SendableBuffer(block)
        var done: UInt64 = 0
        while done < length {
            let part = SendableBuffer(
                UnsafeMutableRawBufferPointer(rebasing: block.prefix(Int(min(length - done, UInt64(block.count))))))
            let (from, isBeyond) = offset.addingReportingOverflow(done)
            guard !isBeyond else { break }
            let count = try await readAll(source, at: from, into: part)
            if count == 0 { break }
            try await put(target, at: place &+ done, buffer, count, now)
            done += UInt64(count)
        }
        return try await flush(target)
    }

    private func put(
        _ target: FileID, at place: UInt64, _ buffer: SendableBuffer, _ count: Int, _ now: Int64
    ) async throws(FileError) {
        for _ in 0..<Self.copyAttemptsMax {
            let bytes = UnsafeRawBufferPointer(rebasing: buffer.bytes.prefix(count))
            switch write(ownRequest(now), target, at: place, bytes) {
            case .done: return
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
        throw .delay
    }
}
