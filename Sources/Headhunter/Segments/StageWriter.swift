import Bytes
import Runtime
import Synchronization

/// Writes staged segments to their files, on a thread of the pool; one run at a time.
///
/// A stage file is a segment's future object, byte for byte. After a failed write or sync nothing is known of what that
/// file got since its last sync: another file is made from the part that was synced and from memory.
struct StageWriter {
    let disk: any Disk
    let directory: String
    let segments: Segments
    /// What is small is kept here for readers.
    let written: DataCache
    /// The file becomes the object as it is, and nobody reads it back soon.
    let isFinal: Bool

    /// What was left over may not make the next file's number overflow.
    private static let attemptsMax = 1 << 32
    private static let startBytesMin = 256 << 10
    /// With more than this to write the disk is slower than the writers: the system's cache takes it.
    private static let directBytesMax = 32 << 20

    static func fileName(_ segment: UInt64, _ attempt: Int) -> String {
        let digits = String(segment, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits + "-" + String(attempt) + ".stage"
    }

    static func number(_ name: String) -> (segment: UInt64, attempt: Int)? {
        guard name.hasSuffix(".stage"), name.utf8.count > 23 else { return nil }
        let parts = name.dropLast(6).split(separator: "-", maxSplits: 1)
        guard parts.count == 2, let segment = ObjectNaming.number(parts[0]),
            parts[1].utf8.allSatisfy({ 48...57 ~= $0 }), let attempt = Int(parts[1]), 0..<attemptsMax ~= attempt
        else { return nil }
        return (segment, attempt)
    }

    /// Writes what `stage` has up to `end`, and syncs it if asked.
    func write(_ stage: Segments.Stage, upTo end: Int, sync: Bool) throws(Errno) {
        if !stage.isSuspect {
            do throws(Errno) {
                return try attempt(stage, end, sync)
            } catch {
                if error == .canceled { throw error }
                stage.isSuspect = true
            }
        }
        try replace(stage, end)
    }

    private func attempt(_ stage: Segments.Stage, _ end: Int, _ sync: Bool) throws(Errno) {
        let file: any DiskFile
        if let open = stage.file {
            file = open
        } else {
            let made = try make(stage)
            file = made.file
            segments.state.withLock { _ in stage.file = file }
            stage.path = made.path
            stage.nameIsVolatile = true
        }
        try copy(stage, from: stage.written, upTo: end, to: file, &stage.checksums) { done in
            segments.state.withLock { _ in stage.written = done }
        }
        segments.state.withLock { _ in stage.publish(stage.checksums, upTo: stage.written) }
        guard sync, end > segments.state.withLock({ _ in stage.synced }) else { return }
        try file.sync()
        if stage.nameIsVolatile {
            try disk.syncDirectory(directory)
            stage.nameIsVolatile = false
        }
        segments.state.withLock { _ in stage.synced = end }
    }

    private func make(_ stage: Segments.Stage) throws(Errno) -> (file: any DiskFile, path: String) {
        let path = directory + "/" + Self.fileName(stage.number, stage.attempt)
        stage.attempt += 1
        return (try disk.open(path, [.write, .create, .exclusive]), path)
    }

    /// What is small, or written here and there, is soon overwritten: a copy of it in the system's cache costs ten times what the
    /// write does. Long files are left to that cache, which is larger than ours. False: it has to be written by way of that.
    private func writeDirectly(
        _ stage: Segments.Stage, _ file: any DiskFile, _ bytes: UnsafeRawBufferPointer, at offset: UInt64
    ) throws(Errno) -> Bool {
        guard isFinal, stage.heat != .large, file === stage.file else { return false }
        do throws(Errno) {
            let direct = if let open = stage.direct { open } else { try disk.open(stage.path, [.write, .direct]) }
            stage.direct = direct
            try direct.write(bytes, at: offset)
            return true
        } catch {
            // The file system wants more than our alignment, or the process has too many files open.
            guard error == .invalid || stage.direct == nil else { throw error }
            return false
        }
    }

    /// From memory to the file, chunk by chunk.
    private func copy(
        _ stage: Segments.Stage, from start: Int, upTo end: Int, to file: any DiskFile,
        _ checksums: inout BlockChecksums, _ progress: (Int) -> Void
    ) throws(Errno) {
        var place = start
        while place < end {
            let index = place / Segments.chunkSize
            let within = place % Segments.chunkSize
            let count = min(end - place, Segments.chunkSize - within)
            guard let block = segments.state.withLock({ _ in stage.chunks[index] }) else {
                preconditionFailure("bytes that are not durable left the memory")
            }
            let bytes = UnsafeRawBufferPointer(start: block.base + within, count: count)
            defer { extendLifetime(block) }
            var isWritten = false
            if count == Segments.chunkSize, end - place <= Self.directBytesMax {
                isWritten = try writeDirectly(stage, file, bytes, at: UInt64(place))
            }
            if !isWritten {
                try file.write(bytes, at: UInt64(place))
                // The disk has work while the next bytes come, and the sync at the end less.
                if count >= Self.startBytesMin { file.startWriting(at: UInt64(place), count) }
            }
            checksums.update(bytes)
            if count == Segments.chunkSize, stage.heat != .large {
                written.insert(stage.number, first: place / SegmentFormat.blockSize, bytes)
            }
            place += count
            progress(place)
        }
    }

    /// Makes another file: the part that was synced and is no longer in memory from the old one, the rest from memory,
    /// all of it synced. Only then does it take the old one's place.
    private func replace(_ stage: Segments.Stage, _ end: Int) throws(Errno) {
        let old = stage.file
        let oldPath = stage.path
        let synced = segments.state.withLock { _ in stage.synced }
        let goal = max(end, synced)
        let made = try make(stage)
        var checksums = BlockChecksums()
        do throws(Errno) {
            var place = 0
            let buffer = Block(capacity: Segments.chunkSize)
            defer { extendLifetime(buffer) }
            while place < synced, segments.state.withLock({ _ in stage.chunks[place / Segments.chunkSize] }) == nil {
                let target = UnsafeMutableRawBufferPointer(
                    start: buffer.base, count: min(synced - place, Segments.chunkSize))
                guard let old, try old.read(into: target, at: UInt64(place)) == target.count else { throw .io }
                try made.file.write(UnsafeRawBufferPointer(target), at: UInt64(place))
                checksums.update(UnsafeRawBufferPointer(target))
                place += target.count
            }
            // What the old file gave back is what was once written to it, or nothing of it is taken over.
            let known = stage.checksums.complete
            guard checksums.complete.starts(with: known.prefix(checksums.complete.count)) else { throw Errno.io }
            try copy(stage, from: place, upTo: goal, to: made.file, &checksums) { _ in }
            try made.file.sync()
            try disk.syncDirectory(directory)
        } catch {
            try? disk.remove(made.path)
            throw error
        }
        // At once: who sees that all is synced uploads the file that the path names.
        segments.state.withLock { _ in
            stage.file = made.file
            stage.direct = nil
            stage.path = made.path
            stage.checksums = checksums
            stage.publish(checksums, upTo: goal)
            stage.nameIsVolatile = false
            stage.isSuspect = false
            stage.written = goal
            stage.synced = goal
        }
        if !oldPath.isEmpty { try? disk.remove(oldPath) }
    }
}
