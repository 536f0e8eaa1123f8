import Glibc
import Headhunter

/// Changing what ranges a file has. Each call first flushes what was written to the file before.
extension LogFS {
    private struct Step {
        var isDone: Bool
        var inode: Inode
        var place: UInt64
    }

    /// Does work on a file that nobody else may work on meanwhile, after its data has been flushed.
    func exclusively<Value>(_ inode: UInt64, _ body: () async throws(Failure) -> Value) async throws(Failure) -> Value {
        files.claim(inode)
        defer { files.unclaim(inode) }
        repeat { try await flush(inode) } while !files.begin(inode, .ranges)
        let result: Result<Value, Failure>
        do throws(Failure) { result = .success(try await body()) } catch { result = .failure(error) }
        files.end(inode)
        return try result.get()
    }

    /// Sets the size: cuts the file, or lets it end in a hole. On the volume's loop.
    @discardableResult
    public func resize(
        _ id: FileID, to size: UInt64, now: Int64, token: RequestToken? = nil
    ) async throws(Failure) -> Resized {
        guard size <= Limits.fileBytesMax else { throw .file(.fileTooBig) }
        return try await exclusively(id.inode) { () throws(Failure) in
            let (step, number) = try await run { reader in
                self.resizeStep(Request(reader: reader, now: now, token: token), id, size)
            }
            if !step.isDone {
                files.setTail(id.inode, true)
                try await finishTail(id.inode)
            }
            return Resized(inode: step.inode, number: step.isDone ? number : headhunter.log.last)
        }
    }

    public struct Resized: Sendable {
        public var inode: Inode
        public var number: UInt64
    }

    /// The same at once: `.busy` where it takes several steps, or the file has data that is not flushed.
    public func resize(_ request: Request, _ id: FileID, to size: UInt64) -> Attempt<Inode> {
        guard size <= Limits.fileBytesMax else { return .refused(.fileTooBig) }
        return files.locked(id.inode) { state in
            guard state == nil else { return .busy }
            let attempt = resizeStep(request, id, size, whole: true)
            guard case .done(let step, let number) = attempt else { return attempt.with(Inode()) }
            return step.isDone ? .done(step.inode, number: number) : .busy
        }
    }

    /// `whole`: do nothing if one change is not enough.
    private func resizeStep(
        _ request: Request, _ id: FileID, _ size: UInt64, whole: Bool = false
    ) -> Attempt<Step> {
        let now = request.now
        return change(request.reader) { (edit) throws(Halt) in
            var inode = try edit.regularFile(id)
            if try edit.answer(request) != nil {
                return Step(isDone: true, inode: inode, place: size)
            }
            inode = try edit.freeFile(id)
            let old = inode.size
            var isDone = true
            inode.modified = now
            edit.touch(&inode, now)
            inode.seal = nil
            inode.size = size
            if size < old {
                if inode.has(Inode.isInline) {
                    if size == 0 {
                        edit.delete(edit.scratch.key(inode.fork | KeyLayout.forkSpace, .inline))
                        inode.flags &= ~Inode.isInline
                    } else {
                        try edit.withInline(inode, size: Int(min(inode.allocated, size))) { _ in }
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
            guard isDone || !whole else {
                edit.bare.abandon()
                return Step(isDone: false, inode: inode, place: size)
            }
            edit.store(inode)
            try edit.countBytes(inode, Int64(clamping: size) - Int64(clamping: old))
            try edit.remember(request, inode.number)
            return Step(isDone: isDone, inode: inode, place: size)
        }
    }

    /// Takes away some more of what lies behind a file that was cut.
    private func tailStep(_ reader: Int, _ number: UInt64) -> Attempt<Step> {
        change(reader) { (edit) throws(Halt) in
            var tail: UInt64?
            if let value = try edit.get(edit.scratch.key(0, .tail, number)) {
                guard let place = value.recordNumber else { throw .wrong(0, .tail) }
                tail = place
            }
            guard let tail, var inode = try edit.inode(number) else {
                edit.delete(edit.scratch.key(0, .tail, number))
                return Step(isDone: true, inode: Inode(), place: 0)
            }
            let isDone = try edit.cut(&inode, tail)
            edit.store(inode)
            return Step(isDone: isDone, inode: inode, place: tail)
        }
    }

    /// Whoever calls works on the file. After a failure the file keeps its mark, and whoever works on it next begins
    /// with this: what was cut off must not come back when it grows, nor be cut once more after it has.
    func finishTail(_ inode: UInt64) async throws(Failure) {
        while try await !run({ self.tailStep($0, inode) }).value.isDone {}
        files.setTail(inode, false)
    }

    /// After a start: cuts that were not finished. One that can not be finished now is left to whoever works on the file.
    func finishTails() async throws(Failure) {
        var next: UInt64 = 0
        while true {
            let from = next
            let found = try await run { reader in
                self.read(reader) { (records) throws(Halt) in try records.numbers(.tail, from: from, limit: 1) }
            }.value
            guard let inode = found.first else { return }
            files.setTail(inode, true)
            do throws(Failure) { try await finishTail(inode) } catch {
                guard case .volume(.damaged) = error else { throw error }
            }
            guard inode < .max else { return }
            next = inode + 1
        }
    }

    /// Makes a range a hole; the size stays. In steps from the front. On the volume's loop.
    @discardableResult
    public func punch(
        _ id: FileID, at offset: UInt64, length: UInt64, now: Int64
    ) async throws(Failure) -> UInt64 {
        guard offset <= Limits.fileBytesMax, length <= Limits.fileBytesMax - offset else { throw .file(.fileTooBig) }
        return try await exclusively(id.inode) { () throws(Failure) in
            // What remains of a file that was in the tree is as short as before; its holes show in a segment only.
            try await moveInline(id)
            var place = offset
            while true {
                let from = place
                let (step, number) = try await run { reader in
                    self.change(reader) { (edit) throws(Halt) -> Step in
                        var inode = try edit.freeFile(id)
                        let end = min(offset + length, inode.size)
                        var covered = end
                        if from < end {
                            var fork = ForkEdit(edit, inode.fork)
                            covered = try fork.cover(from, end)
                            try fork.finish(&inode)
                        }
                        inode.modified = now
                        edit.touch(&inode, now)
                        inode.seal = nil
                        edit.store(inode)
                        return Step(isDone: covered >= end, inode: inode, place: covered)
                    }
                }
                guard !step.isDone else { return number }
                place = step.place
            }
        }
    }

    /// The same for a file that must be the one that was meant, and a regular one.
    func moveInline(_ id: FileID) async throws(Failure) {
        try await run { reader in
            self.read(reader) { (records) throws(Halt) in _ = try records.regularFile(id) }
        }
        try await moveInline(id.inode)
    }

    public enum Seek: Sendable {
        case data, hole
    }

    /// The first byte from `offset` on that is data, or that is in a hole (the end of the file is one). `.noEntry`:
    /// there is none. `.busy` while something is not flushed.
    ///
    /// It looks at so many extents at a time, because writers wait meanwhile. What it has passed when a part of the tree is missing
    /// is kept for the call that comes again.
    public func seek(_ request: Request, _ id: FileID, from offset: UInt64, _ what: Seek) -> Attempt<UInt64> {
        guard !files.isDirty(id.inode) else { return busy(request.reader, id.inode) }
        var walk = memos[request.reader].walk
        memos[request.reader].walk = nil
        if walk?.id != id || walk?.offset != offset || walk?.what != what { walk = nil }
        var going = walk ?? SeekWalk(id: id, offset: offset, what: what)
        while true {
            let attempt = read(request.reader) { (records) throws(Halt) in try going.step(records) }
            switch attempt {
            case .done(let place?, _): return .done(place, number: 0)
            case .done: continue
            case .missing: memos[request.reader].walk = going
            default: break
            }
            return attempt.with(0)
        }
    }
}

/// A search for data or a hole, in steps.
struct SeekWalk {
    let id: FileID
    let offset: UInt64
    let what: LogFS.Seek
    /// All up to here is data, in the file as it was.
    private var place: UInt64
    private var change: UInt64?

    init(id: FileID, offset: UInt64, what: LogFS.Seek) {
        self.id = id
        self.offset = offset
        self.what = what
        place = offset
    }

    /// Nil: it goes on.
    mutating func step(_ records: Reading) throws(Halt) -> UInt64? {
        let inode = try records.regularFile(id)
        if change != inode.change {
            place = offset
            change = inode.change
        }
        guard offset < inode.size else { throw .refused(.noEntry) }
        if inode.has(Inode.isInline) {
            // Its bytes are one run from the start.
            if offset < inode.allocated { return what == .data ? offset : min(inode.allocated, inode.size) }
            if what == .data { throw .refused(.noEntry) }
            return offset
        }
        guard inode.has(Inode.hasExtents) else {
            if what == .data { throw .refused(.noEntry) }
            return offset
        }
        let extents = try records.extents(inode.fork, place, inode.size, limit: View.scanBudget)
        if what == .data {
            guard let first = extents.first else { throw .refused(.noEntry) }
            return max(offset, first.start)
        }
        for extent in extents {
            guard extent.start <= place else { return place }
            place = extent.end
        }
        return extents.count == View.scanBudget && place < inode.size ? nil : min(place, inode.size)
    }
}

extension Editing {
    /// Takes away what lies behind `size`, as far as one change goes; what remains is written down as the file's tail.
    fileprivate func cut(_ inode: inout Inode, _ size: UInt64) throws(Halt) -> Bool {
        var fork = ForkEdit(self, inode.fork)
        let covered = try fork.cover(size, .max)
        try fork.finish(&inode)
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
