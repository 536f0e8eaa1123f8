import Bytes
import Namespace
import Runtime

/// Copies on the server: chunk by chunk ([MS-SMB2] 3.3.5.15.6), or as shared extents.
extension Exchange {
    private static let chunksMax = 256
    private static let chunkBytesMax = 1 << 20
    private static let copyBytesMax = 16 << 20

    private struct Chunk {
        var source: UInt64
        var target: UInt64
        var count: UInt32
    }

    /// Below this a copy costs less than what is kept of a share.
    private static let shareMin: UInt32 = 64 << 10

    /// Where it begins, if the chunks lie behind each other in both files, and it is worth it.
    private static func run(_ chunks: [Chunk]) -> (source: UInt64, target: UInt64)? {
        guard let first = chunks.first, first.source <= offsetMax, first.target <= offsetMax else { return nil }
        var count: UInt64 = 0
        for chunk in chunks {
            guard chunk.source == first.source &+ count, chunk.target == first.target &+ count else { return nil }
            count += UInt64(chunk.count)
        }
        return count >= shareMin ? (first.source, first.target) : nil
    }

    private static func writeCopied(
        _ code: UInt32, _ file: FileHandle, _ chunks: UInt32, _ last: UInt32, _ total: UInt32, _ writer: inout Writer
    ) {
        write(code, file, &writer) { writer in
            writer.u32LE(chunks)
            writer.u32LE(last)
            writer.u32LE(total)
        }
    }

    func copyChunks(_ request: IoctlRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) -> NTStatus {
        guard request.outputMax >= 12 else { throw .status(.invalidParameter) }
        var chunks: [Chunk] = []
        var key = FileHandle.none
        do throws(BytesError) {
            var reader = Reader(request.input)
            key = FileHandle(persistent: try reader.u64LE(), volatile: try reader.u64LE())
            try reader.skip(8)
            let count = Int(try reader.u32LE())
            try reader.skip(4)
            for _ in 0..<min(count, Self.chunksMax + 1) {
                chunks.append(Chunk(source: try reader.u64LE(), target: try reader.u64LE(), count: try reader.u32LE()))
                try reader.skip(4)
            }
        } catch { throw .status(.invalidParameter) }
        let total = chunks.reduce(0) { $0 + Int($1.count) }
        guard chunks.count <= Self.chunksMax, total <= Self.copyBytesMax,
            chunks.allSatisfy({ $0.count > 0 && $0.count <= Self.chunkBytesMax })
        else { throw .answer(copyLimits(request.code, request.file)) }
        guard let source = session?.opens[key.volatile], source.handle == key, let from = source.volume else {
            throw .status(.objectNameNotFound)
        }
        guard !open.isDirectory, !source.isDirectory else { throw .status(.invalidDeviceRequest) }
        guard open.granted.contains(.writeData) || open.granted.contains(.appendData) else {
            throw .status(.accessDenied)
        }
        guard !source.granted.isDisjoint(with: [.readData, .execute]),
            request.code == ControlCode.copyChunkWrite || open.granted.contains(.readData)
        else { throw .status(.accessDenied) }
        let caller = caller(open)
        let (sourceFile, targetFile, code, handle) = (source.file, open.file, request.code, request.file)
        let list = chunks
        // Who may only append writes where the end is by then: that is looked at chunk by chunk, too.
        var run = from === volume && open.granted.contains(.writeData) ? Self.run(chunks) : nil
        if let known = run {
            // What a source has not is not shared: that is told chunk by chunk.
            let size = try value(volume.attributes(caller, sourceFile), volume).size
            if known.source > size || UInt64(total) > size - known.source { run = nil }
        }
        let shared = run
        for chunk in chunks {
            do throws(SMBHalt) {
                _ = try value(
                    from.mayRead(self.caller(source), sourceFile, at: chunk.source, count: Int(chunk.count)), from)
                _ = try value(
                    volume.mayWrite(caller, targetFile, at: chunk.target, count: UInt64(chunk.count)), volume)
            } catch {
                guard case .status(.fileLockConflict) = error else { throw error }
                let (code, handle) = (request.code, request.file)
                throw .answer(
                    SMBAnswer(.fileLockConflict) { Self.writeCopied(code, handle, 0, 0, 0, &$0) })
            }
        }
        throw .later { (exchange) async throws(SMBHalt) in
            if let run = shared {
                let number = try? await volume.clone(
                    caller, sourceFile, at: run.source, length: UInt64(total), to: targetFile, at: run.target)
                if let number {
                    exchange.settle(number, volume)
                    return SMBAnswer { writer in
                        Self.writeCopied(code, handle, UInt32(list.count), 0, UInt32(total), &writer)
                    }
                }
                // Whatever can not be shared is copied.
            }
            exchange.charge(Self.chunkBytesMax)
            let block = exchange.state.block(Self.chunkBytesMax)
            var done = 0
            var bytes = 0
            do throws(FileError) {
                for chunk in list {
                    let count = Int(chunk.count)
                    guard chunk.source <= Self.offsetMax, chunk.target <= Self.offsetMax else { throw .invalid }
                    let buffer = SendableBuffer(UnsafeMutableRawBufferPointer(start: block.base, count: count))
                    let got = try await from.readAll(sourceFile, at: chunk.source, into: buffer)
                    guard got == count else { throw .badCookie }
                    var isWritten = false
                    while !isWritten {
                        switch volume.write(
                            caller, targetFile, at: chunk.target,
                            UnsafeRawBufferPointer(start: block.base, count: count))
                        {
                        case .done: isWritten = true
                        case .refused(let error): throw error
                        case .lacks(let lack): try await lack.supplied()
                        }
                    }
                    done += 1
                    bytes += count
                }
            } catch {
                // A source that is shorter than the chunk says.
                let status: NTStatus = error == .badCookie ? .invalidViewSize : NTStatus(error)
                let (chunks, total) = (UInt32(done), UInt32(bytes))
                return SMBAnswer(status) { writer in
                    Self.writeCopied(code, handle, chunks, 0, total, &writer)
                }
            }
            return SMBAnswer { writer in
                Self.writeCopied(code, handle, UInt32(list.count), 0, UInt32(total), &writer)
            }
        }
    }

    /// [MS-FSCC] 2.3.7.
    func duplicateExtents(_ request: IoctlRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) -> NTStatus {
        var reader = Reader(request.input)
        let key: FileHandle
        let (offset, place, count): (UInt64, UInt64, UInt64)
        do throws(BytesError) {
            key = FileHandle(persistent: try reader.u64LE(), volatile: try reader.u64LE())
            (offset, place, count) = (try reader.u64LE(), try reader.u64LE(), try reader.u64LE())
        } catch { throw .status(.invalidParameter) }
        guard let source = session?.opens[key.volatile], source.handle == key else { throw .status(.invalidHandle) }
        guard source.volume === volume, !open.isDirectory, !source.isDirectory else {
            throw .status(.invalidParameter)
        }
        guard open.granted.contains(.writeData), source.granted.contains(.readData) else {
            throw .status(.accessDenied)
        }
        guard offset <= Self.offsetMax, place <= Self.offsetMax, count <= Self.offsetMax - max(offset, place) else {
            throw .status(.invalidParameter)
        }
        let caller = caller(open)
        let size = try value(volume.attributes(caller, source.file), volume).size
        let room = try value(volume.attributes(caller, open.file), volume).size
        // Clients set the size first; ranges that share bytes would be copied onto themselves ([MS-FSA] 2.1.5.9.4).
        guard count <= size, offset <= size - count, count <= room, place <= room - count,
            source.file != open.file || count == 0 || offset + count <= place || place + count <= offset
        else { throw .status(.notSupported) }
        _ = try value(volume.mayRead(self.caller(source), source.file, at: offset, count: Int(count)), volume)
        _ = try value(volume.mayWrite(caller, open.file, at: place, count: count), volume)
        let (from, to, code, handle) = (source.file, open.file, request.code, request.file)
        throw .later { (exchange) async throws(SMBHalt) in
            do throws(FileError) {
                let number = try await volume.clone(caller, from, at: offset, length: count, to: to, at: place)
                exchange.settle(number, volume)
            } catch { throw .status(NTStatus(error)) }
            return SMBAnswer { Self.write(code, handle, &$0) { _ in } }
        }
    }

    /// What a client is told that asks for too much at once ([MS-SMB2] 3.3.5.15.6.2).
    func copyLimits(_ code: UInt32, _ file: FileHandle) -> SMBAnswer {
        SMBAnswer(.invalidParameter) { writer in
            Self.writeCopied(
                code, file, UInt32(Self.chunksMax), UInt32(Self.chunkBytesMax), UInt32(Self.copyBytesMax), &writer)
        }
    }
}
