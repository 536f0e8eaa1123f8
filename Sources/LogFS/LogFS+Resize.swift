import Glibc
import Headhunter

/// Changing what ranges a file has. Each call first flushes what was written to the file before.
extension LogFS {
    private struct Work {
        var isDone: Bool
        var inode: Inode
        var place: UInt64
    }

    /// Does work on a file that nobody else may work on meanwhile, after its data has been flushed.
    func exclusively<Value>(_ inode: UInt64, _ body: () async throws(Failure) -> Value) async throws(Failure) -> Value {
        while true {
            _ = try await flush(inode)
            guard let pieces = files.begin(inode, flushing: false) else {
                await files.whenFree(inode)
                continue
            }
            guard pieces.isEmpty else {
                files.end(inode)
                continue
            }
            let result: Result<Value, Failure>
            do throws(Failure) { result = .success(try await body()) } catch { result = .failure(error) }
            files.end(inode)
            return try result.get()
        }
    }

    /// Sets the size: cuts the file, or lets it end in a hole.
    @discardableResult
    public func resize(
        _ id: FileID, to size: UInt64, now: Int64
    ) async throws(Failure) -> (inode: Inode, number: UInt64) {
        guard size <= Limits.fileBytesMax else { throw .file(.fileTooBig) }
        return try await exclusively(id.inode) { () throws(Failure) in
            var (work, number) = try await run { self.resizeStep($0, id, size, now) }
            let inode = work.inode
            while !work.isDone {
                (work, number) = try await run { self.tailStep($0, id.inode) }
            }
            return (inode, number)
        }
    }

    private func resizeStep(_ reader: Int, _ id: FileID, _ size: UInt64, _ now: Int64) -> Attempt<Work> {
        change(reader) { (edit) throws(Halt) in
            var inode = try edit.inode(id)
            guard inode.type == .file else { throw .refused(inode.isDirectory ? .isDirectory : .wrongType) }
            let old = inode.size
            var isDone = true
            inode.modified = now
            inode.touch(now)
            if size < old {
                if inode.has(Inode.isInline) {
                    inode.size = size
                    if size == 0 {
                        edit.delete(edit.scratch.key(inode.fork | KeyLayout.forkSpace, .inline))
                        inode.flags &= ~Inode.isInline
                    } else {
                        try edit.withInline(inode, size: Int(min(size, UInt64(Limits.inlineBytesMax)))) { _ in }
                    }
                    inode.allocated = min(inode.allocated, size)
                } else if size == 0, inode.has(Inode.hasExtents) {
                    // However long it was: a new fork, and the old one is reclaimed later.
                    edit.abandon(inode)
                    inode.fork = try edit.fork()
                    inode.flags &= ~Inode.hasExtents
                    inode.allocated = 0
                } else if inode.has(Inode.hasExtents) {
                    isDone = try edit.cut(&inode, size)
                }
            }
            inode.size = size
            edit.store(inode)
            try edit.countBytes(inode, Int64(clamping: size) - Int64(clamping: old))
            return Work(isDone: isDone, inode: inode, place: size)
        }
    }

    /// Takes away some more of what lies behind a file that was cut.
    private func tailStep(_ reader: Int, _ number: UInt64) -> Attempt<Work> {
        change(reader) { (edit) throws(Halt) in
            let key = edit.scratch.key(0, .tail, number)
            guard let from = try edit.get(key)?.u64(1), var inode = try edit.inode(number) else {
                edit.delete(edit.scratch.key(0, .tail, number))
                return Work(isDone: true, inode: Inode(), place: 0)
            }
            let isDone = try edit.cut(&inode, from)
            edit.store(inode)
            return Work(isDone: isDone, inode: inode, place: from)
        }
    }

    /// After a start: cuts that were not finished.
    func finishTails() async throws(Failure) {
        while true {
            let found = try await run { reader in
                self.read(reader) { (records) throws(Halt) in try records.numbers(.tail, from: 0, limit: 1) }
            }.value
            guard let inode = found.first else { return }
            while try await !run({ self.tailStep($0, inode) }).value.isDone {}
        }
    }

    /// After a start: bytes that were referenced for an extent that did not come.
    func payDebts() async throws(Failure) {
        while true {
            let isDone = try await run { reader in
                self.change(reader) { (edit) throws(Halt) -> Bool in
                    guard let inode = try edit.numbers(.debt, from: 0, limit: 1).first else { return true }
                    let key = edit.scratch.key(0, .debt, inode)
                    guard let value = try edit.get(key) else { return true }
                    var releases = Releases()
                    releases.add(value.u64(1), value.u64(9))
                    edit.delete(edit.scratch.key(0, .debt, inode))
                    try edit.release(releases)
                    return false
                }
            }.value
            if isDone { return }
        }
    }

    /// Makes a range a hole; the size stays. In steps from the front.
    public func punch(
        _ id: FileID, at offset: UInt64, length: UInt64, now: Int64
    ) async throws(Failure) -> UInt64 {
        guard offset <= Limits.fileBytesMax, length <= Limits.fileBytesMax - offset else { throw .file(.fileTooBig) }
        return try await exclusively(id.inode) { () throws(Failure) in
            var place = offset
            var number: UInt64 = 0
            var isDone = false
            while !isDone {
                let from = place
                let step = try await run { reader in
                    self.change(reader) { (edit) throws(Halt) -> Work in
                        var inode = try edit.inode(id)
                        guard inode.type == .file else { throw .refused(inode.isDirectory ? .isDirectory : .wrongType) }
                        let end = min(offset + length, inode.size)
                        inode.modified = now
                        inode.touch(now)
                        var covered = end
                        if from < end, inode.has(Inode.isInline) {
                            try edit.withInline(inode, size: Int(min(inode.size, UInt64(Limits.inlineBytesMax)))) {
                                let last = min(Int(clamping: end), Limits.inlineBytesMax)
                                if Int(clamping: from) < last { memset($0 + Int(from), 0, last - Int(from)) }
                            }
                        } else if from < end, inode.has(Inode.hasExtents) {
                            var budget = Self.coverPerChange
                            var releases = Releases()
                            covered = try edit.cover(inode.fork, from, end, budget: &budget, &releases)
                            inode.allocated -= releases.bytes
                            try edit.release(releases)
                        }
                        edit.store(inode)
                        return Work(isDone: covered >= end, inode: inode, place: covered)
                    }
                }
                number = step.number
                place = step.value.place
                isDone = step.value.isDone
            }
            return number
        }
    }

    public enum Seek: Sendable {
        case data, hole
    }

    /// The first byte from `offset` on that is data, or that is in a hole (the end of the file is one). `.noEntry`:
    /// there is none. `.busy` while something is not flushed.
    public func seek(_ request: Request, _ id: FileID, from offset: UInt64, _ what: Seek) -> Attempt<UInt64> {
        guard files.pieces(id.inode).isEmpty else { return .busy }
        return read(request.reader) { (records) throws(Halt) in
            let inode = try records.inode(id)
            guard inode.type == .file else { throw .refused(.wrongType) }
            guard offset < inode.size else { throw .refused(.noEntry) }
            if inode.has(Inode.isInline) { return what == .data ? offset : inode.size }
            guard inode.has(Inode.hasExtents) else {
                if what == .data { throw .refused(.noEntry) }
                return offset
            }
            var place = offset
            while true {
                let extents = try records.extents(inode.fork, place, inode.size, limit: View.scanBudget)
                if what == .data {
                    guard let first = extents.first else { throw .refused(.noEntry) }
                    return max(offset, first.start)
                }
                for extent in extents {
                    guard extent.start <= place else { return place }
                    place = extent.end
                }
                guard extents.count == View.scanBudget else { return min(place, inode.size) }
            }
        }
    }
}

extension Editing {
    /// Takes away what lies behind `size`, as far as one change goes; what remains is written down as the file's tail.
    func cut(_ inode: inout Inode, _ size: UInt64) throws(Halt) -> Bool {
        var budget = LogFS.coverPerChange
        var releases = Releases()
        let covered = try cover(inode.fork, size, .max, budget: &budget, &releases)
        inode.allocated -= releases.bytes
        try release(releases)
        let key = scratch.key(0, .tail, inode.number)
        guard covered < .max else {
            delete(key)
            return true
        }
        scratch.value.put(KeyLayout.version, at: 0)
        scratch.value.put(size, at: 1)
        put(key, UnsafeRawBufferPointer(start: scratch.value, count: 9))
        return false
    }
}
