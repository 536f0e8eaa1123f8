import Bytes
import ObjectStore
import Runtime
import Synchronization

/// Data of segments, wherever it is: in memory that was not synced yet, in the cache, in a stage file, in the store.
extension Headhunter {
    /// Blocks fetched at once when a read goes on where another one ended.
    private static let readAheadBlocks = 32

    /// Copies data that is in memory; false when it has to be fetched. Callable on any thread.
    public func tryReadData(segment: UInt64, offset: UInt32, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        cache(segment, offset, buffer) || segments.read(segment, Int(offset), into: buffer)
    }

    /// Adds the bytes where they lie to `parts`; false when they are not all in memory, or only in the cache of what was read, whose memory
    /// is used again. Callable on any thread.
    public func lendData(segment: UInt64, offset: UInt32, count: Int, to parts: inout [BlockPart]) -> Bool {
        recentChunks.lend(segment, Int(offset), count, to: &parts)
            || segments.lend(segment, Int(offset), count, to: &parts)
    }

    private func cache(_ segment: UInt64, _ offset: UInt32, _ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        dataCache.read(segment, Int(offset), into: buffer) || writtenCache.read(segment, Int(offset), into: buffer)
            || recentChunks.read(segment, Int(offset), into: buffer)
    }

    /// Reads data of a segment, wherever it is; what comes from the store has been checked. On the volume's loop.
    ///
    /// `isPassing`: it is part of a long read, and would only push others out of the cache. What comes from afar stays there all the same.
    public func readData(
        segment: UInt64, offset: UInt32, into buffer: UnsafeMutableRawBufferPointer, isPassing: Bool = false
    ) async throws(VolumeError) {
        let isKept = !isPassing || !store.capabilities.adoptsFiles
        guard buffer.count > 0 else { return }
        while true {
            if tryReadData(segment: segment, offset: offset, into: buffer) { return }
            guard let stage = segments.stage(segment) else { break }
            guard try await readStage(stage, Int(offset), buffer, isKept) else { continue }
            return
        }
        let header = checkpoints.header.number
        do throws(VolumeError) { try await readObject(segment, Int(offset), buffer, isKept) } catch {
            // Deleted by its owner: who asked finds what the file has now, if he looks again.
            if case .damaged = error, try await hasCaughtUp(segment, error, since: header) {
                throw .unavailable("the file has changed meanwhile")
            }
            throw error
        }
    }

    private struct Target: @unchecked Sendable { let buffer: UnsafeMutableRawBufferPointer }

    /// The blocks that hold a range, and some more if the one before is here: somebody reads on.
    private func blocks(_ segment: UInt64, _ offset: Int, _ count: Int, end: Int) -> Range<Int> {
        let size = SegmentFormat.blockSize
        let first = offset / size
        var last = (offset + count - 1) / size
        if first > 0,
            dataCache.contains(segment, first - 1) || writtenCache.contains(segment, first - 1)
                || recentChunks.contains(segment, byte: first * size - 1)
        {
            last = max(last, first + Self.readAheadBlocks - 1)
        }
        return first..<max(first, min(last + 1, (end + size - 1) / size))
    }

    /// From the stage file. False when the segment has moved on meanwhile.
    private func readStage(
        _ stage: Segments.Stage, _ offset: Int, _ buffer: UnsafeMutableRawBufferPointer, _ isKept: Bool
    ) async throws(VolumeError) -> Bool {
        let size = SegmentFormat.blockSize
        let (file, end, isWhole) = segments.state.withLock { _ in (stage.file, stage.readableEnd, stage.isWhole) }
        guard let file else { return false }
        func isWrong(_ range: Range<Int>) -> Bool { stage.wrong.contains { $0.overlaps(range) } }
        guard !isWrong(offset..<(offset + buffer.count)) else {
            throw .damaged("\(stage.path): the bytes at \(offset) are not what the log says")
        }
        guard offset + buffer.count <= end else {
            // Its first bytes have left the memory, its last ones have not got to the file as whole blocks.
            let first = Segments.chunkSize - offset % Segments.chunkSize
            guard first < buffer.count else {
                try await waitForData(.written)
                return false
            }
            for part in [buffer[..<first], buffer[first...]] {
                try await readData(
                    segment: stage.number, offset: UInt32(offset + part.startIndex),
                    into: UnsafeMutableRawBufferPointer(rebasing: part), isPassing: !isKept)
            }
            return true
        }
        let wanted = blocks(stage.number, offset, buffer.count, end: end)
        let from = wanted.lowerBound * size
        let count = min(wanted.upperBound * size, end) - from
        // Those of bytes that have come do not change.
        let checksums = segments.state.withLock { _ in stage.checksums[wanted] }
        let block = Block(capacity: count)
        block.count = count
        defer { extendLifetime(block) }
        let target = Target(buffer: UnsafeMutableRawBufferPointer(start: block.base, count: count))
        do throws(Errno) {
            let got = try await world.blocking.run(on: loop) { () throws(Errno) -> Int in
                try file.read(into: target.buffer, at: UInt64(from))
            }
            guard got == count else {
                if segments.stage(stage.number) == nil { return false }
                throw .io
            }
        } catch {
            if segments.stage(stage.number) == nil { return false }
            throw .unavailable("reading \(stage.path): \(error)")
        }
        try check(block.bytes, against: checksums[...], "\(stage.path)", from)
        // A block that may still grow is not kept, nor one with bytes that are not what the log says: nobody looks at those again.
        let kept = isWhole ? count : count / size * size
        if isKept, !isWrong(from..<(from + count)) {
            keep(stage.number, wanted.lowerBound, UnsafeRawBufferPointer(rebasing: block.bytes[..<kept]))
        }
        buffer.baseAddress?.copyMemory(from: block.base + (offset - from), byteCount: buffer.count)
        return true
    }

    private func keep(_ segment: UInt64, _ first: Int, _ bytes: UnsafeRawBufferPointer) {
        dataCache.insert(segment, first: first, bytes)
        recentChunks.giveBack()
    }

    private func check(
        _ bytes: UnsafeRawBufferPointer, against checksums: ArraySlice<UInt32>, _ name: String, _ start: Int
    ) throws(VolumeError) {
        let size = SegmentFormat.blockSize
        for (index, checksum) in checksums.enumerated() {
            let from = index * size
            let part = UnsafeRawBufferPointer(rebasing: bytes[from..<min(from + size, bytes.count)])
            guard CRC32C.of(part) == checksum else {
                throw .damaged("\(name): checksum of the block at \(start + from) does not match")
            }
        }
    }

    /// From the store: whole blocks, each compared with the table before a byte of it is given to anybody.
    private func readObject(
        _ segment: UInt64, _ offset: Int, _ buffer: UnsafeMutableRawBufferPointer, _ isKept: Bool
    ) async throws(VolumeError) {
        let size = SegmentFormat.blockSize
        let name = objectName(ObjectNaming.segment, segment)
        let needed = (offset + buffer.count + size - 1) / size
        try await settleStaged(segment)
        if let whole = data.unsealed[segment] {
            return try await readUnsealed(segment, offset, buffer, whole)
        }
        let found = try await read { (view) throws(Missing) -> (wanted: Range<Int>, checksums: [UInt32], whole: Int)? in
            guard let record = try SegmentTable.read(view, segment) else { return nil }
            let wanted = blocks(segment, offset, buffer.count, end: Int(record.size))
            var checksums: [UInt32] = []
            for block in wanted {
                guard let checksum = try SegmentTable.checksum(view, segment, block: block) else { break }
                checksums.append(checksum)
            }
            return (wanted, checksums, Int(record.size))
        }
        guard let (wanted, checksums, whole) = found, offset + buffer.count <= whole,
            wanted.lowerBound + checksums.count >= needed
        else {
            throw .damaged("\(name): the segment table does not have the bytes at \(offset)")
        }
        let start = wanted.lowerBound * size
        let end = min((wanted.lowerBound + checksums.count) * size, whole)
        let block: Block
        do throws(StoreError) {
            block = try await store.get(name, range: UInt64(start)..<UInt64(end))
        } catch {
            throw Self.volumeError(error, "reading \(name)")
        }
        defer { extendLifetime(block) }
        try check(block.bytes, against: checksums[...], "\(name)", start)
        if isKept { keep(segment, wanted.lowerBound, block.bytes) }
        buffer.baseAddress?.copyMemory(from: block.base + (offset - start), byteCount: buffer.count)
    }

    /// Of a segment that the table knows nothing of yet, and that was compared with the log when the volume was opened.
    private func readUnsealed(
        _ segment: UInt64, _ offset: Int, _ buffer: UnsafeMutableRawBufferPointer, _ whole: DataState.Unsealed
    ) async throws(VolumeError) {
        let size = SegmentFormat.blockSize
        let name = objectName(ObjectNaming.segment, segment)
        guard offset + buffer.count <= whole.size else { throw .damaged("\(name): there are no bytes at \(offset)") }
        let wanted = blocks(segment, offset, buffer.count, end: whole.size)
        let start = wanted.lowerBound * size
        let block: Block
        do throws(StoreError) {
            block = try await store.get(name, range: UInt64(start)..<UInt64(min(wanted.upperBound * size, whole.size)))
        } catch { throw Self.volumeError(error, "reading \(name)") }
        defer { extendLifetime(block) }
        try check(block.bytes, against: whole.checksums[wanted], "\(name)", start)
        keep(segment, wanted.lowerBound, block.bytes)
        buffer.baseAddress?.copyMemory(from: block.base + (offset - start), byteCount: buffer.count)
    }
}
