import Headhunter
import Runtime

/// Files that live on without a name, and what is left of files that are gone.
extension LogFS {
    /// Keys of one step: with the segments' records they stay within one change.
    private static let reclaimPerChange = 16
    private static let streamsPerChange = 4

    /// The file stays while it is open, whatever becomes of its names.
    public func open(_ request: Request, _ id: FileID) -> Attempt<Inode> {
        let glance = glance
        let attempt = readWithWriter(request.reader) { (records, writer) throws(Halt) -> Inode in
            let inode = try records.inode(id)
            writer.opens[id.inode, default: 0] += 1
            return inode
        }
        guard case .done(let inode, _) = attempt else { return attempt }
        return .done(completed(inode, since: glance, request.reader), number: 0)
    }

    /// The same of a file that a look has just found by a name, if it is as it was then: `newest` was the newest change before the look, and
    /// there is none since. False: it is not open.
    public func open(_ id: FileID, unchangedSince newest: UInt64) -> Bool {
        // What was written and not flushed has no number.
        if files.isDirty(id.inode) { return false }
        return withWriter { writer in
            // Every change holds this lock: none is under way.
            guard headhunter.log.last == newest else { return false }
            writer.opens[id.inode, default: 0] += 1
            return true
        }
    }

    /// Takes back one `open`. With the last one goes a file that has no name.
    public func close(_ request: Request, _ id: FileID) -> Attempt<Void> {
        let isDone = readWithWriter(request.reader) { (records, writer) throws(Halt) -> Bool in
            guard let count = writer.opens[id.inode] else { throw .refused(.invalid) }
            if count == 1, let inode = try records.inode(id.inode), inode.links == 0 { return false }
            writer.close(id.inode)
            return true
        }
        guard case .done(false, _) = isDone else { return isDone.with(()) }
        let attempt = change(request.reader) { (edit) throws(Halt) -> Inode? in
            guard let count = edit.writer.opens[id.inode] else { throw .refused(.invalid) }
            edit.writer.effects.append(.closed(id.inode))
            guard count == 1, let inode = try edit.inode(id.inode), inode.links == 0 else { return nil }
            edit.collect(inode)
            return inode
        }
        guard case .done(let gone, let number) = attempt else { return attempt.with(()) }
        if let gone { forget(gone) }
        return .done((), number: number)
    }

    /// After a start nobody has anything open.
    func collectOrphans() async throws(Failure) {
        var next: UInt64 = 0
        while true {
            let from = next
            let found = try await run { reader in
                self.read(reader) { (records) throws(Halt) in try records.numbers(.orphan, from: from, limit: 1) }
            }.value
            guard let number = found.first else { return }
            try await unlessDamaged { () async throws(Failure) in
                try await run { reader in
                    self.change(reader) { (edit) throws(Halt) in
                        if let inode = try edit.inode(number) {
                            edit.collect(inode)
                        } else {
                            edit.delete(edit.scratch.key(0, .orphan, number))
                        }
                    }
                }
            }
            guard number < .max else { return }
            next = number + 1
        }
    }

    /// One step of deleting what nobody's forks hold. False: there is nothing.
    public func reclaim(_ request: Request) -> Attempt<Bool> {
        change(request.reader) { (edit) throws(Halt) in
            guard let fork = try edit.numbers(.reclaim, from: 0, limit: 1).first else { return false }
            let id = fork | KeyLayout.forkSpace
            var keys: [[UInt8]] = []
            var released: [UInt64: UInt64] = [:]
            var streams: [UInt64] = []
            try edit.scan(from: edit.scratch.key(id, .inline), budget: Self.reclaimPerChange) {
                (key, value) throws(Halt) in
                guard key.keyNumber(at: 0) == id else { return false }
                if key[8] == KeyLayout.Kind.extent.rawValue {
                    guard let extent = Extent(key, value) else { throw .wrong(id, .extent) }
                    released[extent.segment, default: 0] += extent.length
                } else if key[8] == KeyLayout.Kind.stream.rawValue {
                    guard streams.count < Self.streamsPerChange else { return false }
                    guard let stream = value.recordNumber else { throw .wrong(id, .stream) }
                    streams.append(stream)
                }
                keys.append(Array(key))
                return true
            }
            for key in keys { key.withUnsafeBytes { edit.delete($0) } }
            for number in streams {
                if var stream = try edit.inode(number) { edit.end(&stream) }
            }
            for segment in released.keys.sorted() { try edit.release(segment, released[segment] ?? 0) }
            if keys.isEmpty { edit.delete(edit.scratch.key(0, .reclaim, fork)) }
            return true
        }
    }

    // MARK: Housekeeping

    /// Begins to flush, to settle and to reclaim in the background.
    public func start() {
        housekeeping.timer = headhunter.loop.schedule(after: options.housekeepingNanoseconds) {
            self.headhunter.loop.task { await self.keepHouse() }
        }
    }

    /// Brings everything into the tree. The engine's `close` makes it durable.
    public func stop() async throws(Failure) {
        housekeeping.isClosing = true
        if let timer = housekeeping.timer { headhunter.loop.cancel(timer) }
        try await flushAll()
    }

    private func keepHouse() async {
        // When the volume has failed or the disk is full, who waits for something is told by his own call.
        do throws(Failure) { try await flushAll() } catch {}
        do throws(Failure) {
            try await tidy()
            try await forgetTokens()
        } catch {}
        if !housekeeping.isClosing { start() }
    }

    private static let tokenClientsPerRound = 64

    /// Of some clients each time.
    private func forgetTokens() async throws(Failure) {
        for _ in 0..<Self.tokenClientsPerRound {
            let (now, client) = (clock.wall(), housekeeping.tokenClient)
            let next = try await run { self.expireTokens(Request(reader: $0, now: now), from: client) }.value
            housekeeping.tokenClient = next ?? 0
            if next == nil { return }
        }
    }

    /// Settles and reclaims until there is nothing left to do.
    public func tidy() async throws(Failure) {
        while try await run({ self.settle(Request(reader: $0, now: 0)) }).value { await Task.yield() }
        while try await run({ self.reclaim(Request(reader: $0, now: 0)) }).value { await Task.yield() }
    }
}

extension Editing {
    /// A file without a name is not open any more.
    func collect(_ inode: Inode) {
        delete(scratch.key(0, .orphan, inode.number))
        erase(inode)
    }
}
