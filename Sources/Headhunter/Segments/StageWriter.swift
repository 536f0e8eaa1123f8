import Bytes
import Runtime
import Synchronization

/// Writes staged segments to their files, on a thread of the pool; one run at a time.
///
/// A stage file is a segment's future object, byte for byte. After a failed write or sync nothing is known of what that
/// file got since its last sync: another file is made from the part that was synced and from memory.
package struct StageWriter {
    let disk: any Disk
    let directory: String
    let segments: Segments
    /// What is small is kept here for readers.
    let written: DataCache
    /// The file becomes the object as it is, and nobody reads it back soon.
    let isFinal: Bool

    package init(disk: any Disk, directory: String, segments: Segments, written: DataCache, isFinal: Bool) {
        (self.disk, self.directory, self.segments) = (disk, directory, segments)
        (self.written, self.isFinal) = (written, isFinal)
    }

    /// What was left over may not make the next file's number overflow.
    private static let attemptsMax = 1 << 32
    private static let startBytesMin = 256 << 10
    /// With more than this to write the disk is slower than the writers: the system's cache takes it.
    private static let directBytesMax = 80 << 20
    /// Written at once, so that a disk with many parts has work for them.
    private static let directChunksMax = 8

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
    package func write(_ stage: Segments.Stage, upTo end: Int, sync: Bool) throws(Errno) {
        if !segments.state.withLock({ _ in stage.isSuspect }) {
            do throws(Errno) {
                return try attempt(stage, end, sync)
            } catch {
                if error == .canceled { throw error }
                segments.state.withLock { _ in stage.isSuspect = true }
            }
        }
        try replace(stage, end)
    }

    /// Syncs what `file` had up to `end` when this was asked for, while more may be written to it. Not beside another sync: the file
    /// tells one of them what went wrong.
    package func sync(_ stage: Segments.Stage, _ file: any DiskFile, upTo end: Int) {
        let outcome: Errno?
        do throws(Errno) {
            try file.sync()
            try syncName(stage)
            outcome = nil
        } catch { outcome = error }
        segments.state.withLock { _ in
            // Another file may have taken its place meanwhile, or be about to.
            guard stage.file === file, !stage.isSuspect else { return }
            guard let outcome else {
                stage.nameIsVolatile = false
                stage.synced = max(stage.synced, end)
                return
            }
            stage.isSuspect = outcome != .canceled
        }
    }

    private func syncName(_ stage: Segments.Stage) throws(Errno) {
        let (isVolatile, before) = segments.state.withLock { _ in (stage.nameIsVolatile, stage.nameFailures) }
        if isVolatile { try syncDirectory(made: before) }
    }

    /// For the name of a file that was made when the folder had failed `before` times. One at a time: a failure is told once, and whoever is
    /// told that all is well has to find it counted.
    private func syncDirectory(made before: Int) throws(Errno) {
        let failure = segments.folder.withLock { _ -> Errno? in
            do throws(Errno) { try disk.syncDirectory(directory) } catch {
                if error != .canceled { segments.state.withLock { $0.nameFailures += 1 } }
                return error
            }
            return segments.state.withLock { $0.nameFailures } == before ? nil : .io
        }
        if let failure { throw failure }
    }

    private func attempt(_ stage: Segments.Stage, _ end: Int, _ sync: Bool) throws(Errno) {
        let file: any DiskFile
        if let open = stage.file {
            file = open
        } else {
            let made = try make(stage)
            file = made.file
            segments.state.withLock { _ in
                stage.file = file
                stage.nameIsVolatile = true
                stage.nameFailures = made.nameFailures
            }
            stage.path = made.path
        }
        try copy(stage, from: stage.written, upTo: end, to: file) { done in
            segments.state.withLock { _ in stage.written = done }
        }
        guard sync, end > segments.state.withLock({ _ in stage.synced }) else { return }
        try file.sync()
        try syncName(stage)
        segments.state.withLock { _ in
            stage.nameIsVolatile = false
            stage.synced = end
        }
    }

    private func make(
        _ stage: Segments.Stage
    ) throws(Errno) -> (file: any DiskFile, path: String, nameFailures: Int) {
        let before = segments.state.withLock { $0.nameFailures }
        let path = directory + "/" + Self.fileName(stage.number, stage.attempt)
        stage.attempt += 1
        return (try disk.open(path, [.write, .create, .exclusive]), path, before)
    }

    /// Past the system's cache: a copy there costs several times what the write does, what is small is soon overwritten, and what is
    /// long is still in our memory. False: it has to be written by way of that cache.
    private func writeDirectly(
        _ stage: Segments.Stage, _ chunks: [Block], at offset: UInt64
    ) throws(Errno) -> Bool {
        guard !chunks.isEmpty else { return false }
        do throws(Errno) {
            let direct = if let open = stage.direct { open } else { try disk.open(stage.path, [.write, .direct]) }
            stage.direct = direct
            try direct.write(chunks.map(\.bytes), at: offset)
            return true
        } catch {
            guard error == .invalid || stage.direct == nil else { throw error }
            stage.refusesDirect = true
            return false
        }
    }

    /// The chunks from `place` on that lie before `end` as a whole, as many as are written at once.
    private func wholeChunks(_ stage: Segments.Stage, from place: Int, upTo end: Int) -> [Block] {
        guard !stage.refusesDirect, place % Segments.chunkSize == 0, end - place <= Self.directBytesMax else {
            return []
        }
        let first = place / Segments.chunkSize
        let count = min((end - place) / Segments.chunkSize, Self.directChunksMax)
        return segments.state.withLock { _ in (first..<first + count).map { inMemory(stage, $0) } }
    }

    private func inMemory(_ stage: Segments.Stage, _ index: Int) -> Block {
        guard let block = stage.chunks[index] else { preconditionFailure("bytes that are not durable left the memory") }
        return block
    }

    /// From memory to the file, chunk by chunk.
    private func copy(
        _ stage: Segments.Stage, from start: Int, upTo end: Int, to file: any DiskFile, _ progress: (Int) -> Void
    ) throws(Errno) {
        var place = start
        while place < end {
            let whole = isFinal && file === stage.file ? wholeChunks(stage, from: place, upTo: end) : []
            defer { extendLifetime(whole) }
            if try writeDirectly(stage, whole, at: UInt64(place)) {
                for chunk in whole {
                    took(stage, chunk.bytes, at: place)
                    place += chunk.count
                }
                progress(place)
                continue
            }
            let within = place % Segments.chunkSize
            let count = min(end - place, Segments.chunkSize - within)
            let block = segments.state.withLock { _ in inMemory(stage, place / Segments.chunkSize) }
            defer { extendLifetime(block) }
            let bytes = UnsafeRawBufferPointer(start: block.base + within, count: count)
            try file.write(bytes, at: UInt64(place))
            // The disk has work while the next bytes come, and the sync at the end less.
            if count >= Self.startBytesMin { file.startWriting(at: UInt64(place), count) }
            took(stage, bytes, at: place)
            place += count
            progress(place)
        }
    }

    private func took(_ stage: Segments.Stage, _ bytes: UnsafeRawBufferPointer, at place: Int) {
        if bytes.count == Segments.chunkSize, stage.heat != .large {
            written.insert(stage.number, first: place / SegmentFormat.blockSize, bytes)
        }
    }

    /// Makes another file: the part that was synced and is no longer in memory from the old one, the rest from memory,
    /// all of it synced. Only then does it take the old one's place.
    private func replace(_ stage: Segments.Stage, _ end: Int) throws(Errno) {
        let old = stage.file
        let oldPath = stage.path
        let (synced, known) = segments.state.withLock { _ in (stage.synced, stage.checksums.complete) }
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
            guard checksums.complete.starts(with: known.prefix(checksums.complete.count)) else { throw Errno.io }
            try copy(stage, from: place, upTo: goal, to: made.file) { _ in }
            try made.file.sync()
            try syncDirectory(made: made.nameFailures)
        } catch {
            try? disk.remove(made.path)
            throw error
        }
        // At once: who sees that all is synced uploads the file that the path names.
        segments.state.withLock { _ in
            stage.file = made.file
            stage.direct = nil
            stage.path = made.path
            stage.nameIsVolatile = false
            stage.isSuspect = false
            stage.written = goal
            stage.synced = goal
        }
        if !oldPath.isEmpty { try? disk.remove(oldPath) }
    }
}
