import Bytes
import Glibc
import Runtime
import Synchronization

/// The data of files on its way to the store.
///
/// Appending copies bytes into the memory of an open segment and is over. The edge writes that memory to the segment's
/// stage file, in order, syncs it when somebody waits for that, and hands a sealed segment to the store. Bytes stay in
/// memory until they are synced, so that a file whose sync failed can be written again from what is known to be good.
package final class Segments: Sendable {
    static let chunkSize = 1 << 20
    /// The edge is called for so much.
    private static let worthBytes = 4 * chunkSize
    /// Chunks made ready for who is writing much.
    private static let aheadMax = 16
    private static let refusalsMax = 64

    /// One segment that is not in the store yet.
    package final class Stage: @unchecked Sendable {
        package let number: UInt64
        let heat: Heat
        // Behind the mutex:
        /// Chunk i holds the bytes from i * chunkSize on; nil once they are durable in the file and memory was short.
        var chunks: [Block?] = []
        package var size = SegmentFormat.headerSize
        var isSealed = false
        package var written = 0
        package var synced = 0
        /// Set by the edge's one job in flight, under the mutex.
        package var file: (any DiskFile)?
        /// Of all bytes, made as they came: readers compare what they read from the file with them.
        var checksums = BlockChecksums()
        /// A write or a sync failed: what lies above `synced` in the file is unknown.
        package var isSuspect = false
        var nameIsVolatile = false
        /// `State.nameFailures` when the file was made.
        var nameFailures = 0
        /// What a recovery found in the file that is not what durable records say.
        var wrong: [Range<Int>] = []
        /// When the first byte came.
        let since: UInt64
        // Of the edge's one job in flight:
        var path = ""
        /// The same file, past the system's cache.
        var direct: (any DiskFile)?
        /// The file system wants more than our alignment, or the process has too many files open.
        var refusesDirect = false
        var attempt = 0

        init(number: UInt64, heat: Heat, since: UInt64) {
            self.number = number
            self.heat = heat
            self.since = since
        }

        /// All there will ever be is in the file. Behind the mutex, as the next.
        var isWhole: Bool { isSealed && written == size }

        /// Up to where the file can be read and compared: a block that may still grow can not, and of a file whose sync has failed only what
        /// an earlier one made durable. The rest is in memory.
        var readableEnd: Int {
            if isWhole, !isSuspect { return size }
            let end = isSuspect ? synced : written
            return end / SegmentFormat.blockSize * SegmentFormat.blockSize
        }
    }

    struct State {
        var open: [Stage?] = Array(repeating: nil, count: Heat.allCases.count)
        /// All that are not in the store, open ones included, by number.
        var stages: [UInt64: Stage] = [:]
        /// Numbers for segments to come.
        var numbers: [UInt64] = []
        /// Bytes of a segment that were handed out and that no change names yet: as long as there are any, the segment
        /// is not dead, whatever the table says.
        var promised: [UInt64: UInt64] = [:]
        /// Bytes in chunks.
        var memory = 0
        /// Chunks to come, which the system has put memory behind.
        var spare: [Block] = []
        /// Bytes of all stages: what the store lacks.
        var staged = 0
        /// Times that the folder of the stages could not be synced. That is told once: who made a file before and syncs the folder
        /// behind it hears that all is well.
        var nameFailures = 0
        /// Callers who were turned away and have not waited for room yet.
        var refusals = 0
        /// Bytes of files that are kept though the store has them.
        var kept = 0
        /// Bytes that came since the last look at what is kept for more, and chunks taken for them.
        var arrived = 0
        var taken = 0
        var isAtRest = true
        var isPreparing = false
        /// Since the last call of the edge: it is asked once.
        var edgeIsAsked = false
        /// The data of all records up to this number is durable.
        var durable: UInt64

        /// Who has taken many takes more.
        var ahead: Int { min(taken, Segments.aheadMax) }

        mutating func noteRefusal() { refusals = min(refusals + 1, Segments.refusalsMax) }

        func hasData(below level: LogLevel) -> Bool {
            stages.values.contains { (level == .durable ? $0.synced : $0.written) < $0.size }
        }
    }

    let state: Mutex<State>
    /// Held while the folder of the stages is synced; `state` may be taken inside.
    let folder = Guarded(())
    let volume: VolumeIdentity
    let epoch: UInt64
    let flushBytes: Int
    let memoryMax: Int
    /// Bytes that may wait for the store: the local disk is not to be filled by data that it can not take as fast.
    let stagedMax: Int
    /// Takes over the chunks of long files that leave.
    private let recent: RecentChunks

    /// `durable`: the data that records up to this number name is.
    package init(
        volume: VolumeIdentity, epoch: UInt64, flushBytes: Int, memoryMax: Int, stagedMax: Int, durable: UInt64,
        recent: RecentChunks
    ) {
        self.recent = recent
        state = Mutex(State(durable: durable))
        self.volume = volume
        self.epoch = epoch
        self.flushBytes = min(max(flushBytes, Self.chunkSize), SegmentFormat.sizeMax)
        self.memoryMax = memoryMax
        self.stagedMax = max(stagedMax, 2 * self.flushBytes)
    }

    /// Up to which record the data is durable that records name, `last` being the newest. Data is appended before the record that
    /// names it gets its number, so what is durable after a number was read covers that number.
    func durable(of last: UInt64) -> UInt64 {
        state.withLock { state in
            if !state.hasData(below: .durable) { state.durable = max(state.durable, last) }
            return state.durable
        }
    }

    /// What the edge is to do behind bytes that were taken in.
    package struct Work {
        /// There is enough to write.
        package var isAsked: Bool
        /// `prepare`, on a thread of the pool.
        package var lacksChunks: Bool
    }

    /// Nil: no memory or no number is left; the edge has to work first.
    package func append(
        _ bytes: UnsafeRawBufferPointer, heat: Heat, now: UInt64
    ) -> (range: SegmentRange, work: Work)? {
        precondition(bytes.count > 0 && bytes.count <= SegmentFormat.appendBytesMax)
        return state.withLock { state in
            guard state.memory + bytes.count + Self.chunkSize <= memoryMax, hasStage(state, bytes.count) else {
                state.noteRefusal()
                return nil
            }
            let index = Int(heat.rawValue)
            var isWorth = false
            if let stage = state.open[index], stage.size + bytes.count > flushBytes {
                stage.isSealed = true
                state.open[index] = nil
                isWorth = true
            }
            let stage: Stage
            if let open = state.open[index] {
                stage = open
            } else {
                guard let number = state.numbers.popLast() else {
                    state.noteRefusal()
                    return nil
                }
                stage = Stage(number: number, heat: heat, since: now)
                state.open[index] = stage
                state.stages[number] = stage
                let first = chunk(&state, stage)
                SegmentFormat.writeHeader(first.base, number: number, heat: heat, epoch: epoch, volume: volume)
                stage.checksums.update(UnsafeRawBufferPointer(start: first.base, count: stage.size))
                state.staged += stage.size
            }
            state.staged += bytes.count
            state.arrived += bytes.count
            let offset = stage.size
            var sum = CRC32C()
            var rest = bytes
            while !rest.isEmpty {
                let place = stage.size % Self.chunkSize
                let chunk = place == 0 || stage.chunks.isEmpty ? self.chunk(&state, stage) : self.last(stage)
                // A chunk ends where a block does.
                let count = min(rest.count, stage.checksums.room)
                if let source = rest.baseAddress { memcpy(chunk.base + place, source, count) }
                stage.checksums.add(UnsafeRawBufferPointer(start: chunk.base + place, count: count), to: &sum)
                chunk.count = place + count
                stage.size += count
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
            state.promised[stage.number, default: 0] += UInt64(bytes.count)
            // Some full chunks are worth a write; less waits for somebody who wants it durable.
            isWorth = isWorth || offset / Self.worthBytes != stage.size / Self.worthBytes
            let ask = isWorth && !state.edgeIsAsked
            if ask { state.edgeIsAsked = true }
            let lacksChunks = !state.isPreparing && 4 * state.spare.count < 3 * state.ahead
            if lacksChunks { state.isPreparing = true }
            let range = SegmentRange(
                segment: stage.number, offset: UInt32(offset), length: UInt32(bytes.count), checksum: sum.value)
            return (range, Work(isAsked: ask, lacksChunks: lacksChunks))
        }
    }

    /// For a segment to come. Rising, because the last one is taken first.
    package func add(number: UInt64) { state.withLock { $0.numbers.insert(number, at: 0) } }

    private func hasStage(_ state: State, _ count: Int) -> Bool {
        state.staged + state.kept + count + SegmentFormat.headerSize <= stagedMax
    }

    /// A header is needed for room.
    var keepsMuch: Bool { state.withLock { $0.kept > stagedMax / 2 } }

    /// Files that were kept are gone.
    func dropped(_ bytes: Int) { state.withLock { $0.kept -= bytes } }

    /// Only the store can make room.
    var isStageFull: Bool { state.withLock { !hasStage($0, SegmentFormat.appendBytesMax) } }

    /// Bytes that the store does not have yet, and when the oldest of them came.
    var lag: (bytes: Int, since: UInt64?) {
        state.withLock { ($0.staged, $0.stages.values.lazy.map(\.since).min()) }
    }

    private func chunk(_ state: inout State, _ stage: Stage) -> Block {
        let block = state.spare.popLast() ?? Block(capacity: Self.chunkSize)
        stage.chunks.append(block)
        state.memory += Self.chunkSize
        state.taken += 1
        return block
    }

    private func last(_ stage: Stage) -> Block {
        guard let block = stage.chunks.last, let block else { preconditionFailure("an open chunk was dropped") }
        return block
    }

    /// Bytes that were handed out are named by a change now, or will never be.
    func settle(_ segment: UInt64, _ length: UInt64) {
        state.withLock { state in
            guard let promised = state.promised[segment] else { return }
            state.promised[segment] = promised > length ? promised - length : nil
        }
    }

    func isPromised(_ segment: UInt64) -> Bool { state.withLock { $0.promised[segment] != nil } }

    /// Whether an `append` may have been turned away.
    var isFull: Bool {
        state.withLock {
            $0.numbers.isEmpty || $0.memory + SegmentFormat.appendBytesMax + Self.chunkSize > memoryMax
                || !hasStage($0, SegmentFormat.appendBytesMax)
        }
    }

    /// Whether a caller was turned away. It is his to ask, and he may have: there was no room then, and may be now.
    func takeRefusal() -> Bool {
        state.withLock { state in
            guard state.refusals > 0 else { return false }
            state.refusals -= 1
            return true
        }
    }

    /// Copies bytes that are in memory; false when some of them are not.
    func read(_ segment: UInt64, _ offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        state.withLock { state in
            guard let stage = state.stages[segment], offset + buffer.count <= stage.size else { return false }
            var done = 0
            while done < buffer.count {
                let place = (offset + done) % Self.chunkSize
                guard let block = stage.chunks[(offset + done) / Self.chunkSize] else { return false }
                let count = min(buffer.count - done, Self.chunkSize - place)
                if let target = buffer.baseAddress { memcpy(target + done, block.base + place, count) }
                done += count
            }
            return true
        }
    }

    /// The bytes where they lie: what was appended is not written to again. False when some of them are not in memory.
    func lend(_ segment: UInt64, _ offset: Int, _ count: Int, to parts: inout [BlockPart]) -> Bool {
        state.withLock { state in
            guard let stage = state.stages[segment], offset + count <= stage.size else { return false }
            let kept = parts.count
            var done = 0
            while done < count {
                let place = (offset + done) % Self.chunkSize
                guard let block = stage.chunks[(offset + done) / Self.chunkSize] else {
                    parts.removeLast(parts.count - kept)
                    return false
                }
                let some = min(count - done, Self.chunkSize - place)
                parts.append(BlockPart(block, offset: place, count: some))
                done += some
            }
            return true
        }
    }

    /// Of a segment that has no record yet, so one that was made in this process.
    func heat(of segment: UInt64) -> Heat { state.withLock { $0.stages[segment]?.heat ?? .small } }

    package func stage(_ segment: UInt64) -> Stage? { state.withLock { $0.stages[segment] } }

    /// Takes in what a recovery found.
    func adopt(_ stages: [Stage]) {
        state.withLock { state in
            for stage in stages {
                state.stages[stage.number] = stage
                state.staged += stage.size
            }
        }
    }

    /// What comes later goes to other segments. Answers all that are sealed and not in the store.
    @discardableResult
    func sealAll() -> [Stage] {
        state.withLock { state in
            for index in state.open.indices {
                state.open[index]?.isSealed = true
                state.open[index] = nil
            }
            return state.stages.values.filter(\.isSealed).sorted { $0.number < $1.number }
        }
    }

    /// The same of those whose first byte came before a moment. Answers whether there was one.
    func sealAll(before moment: UInt64) -> Bool {
        state.withLock { state in
            var isAny = false
            for index in state.open.indices {
                guard let stage = state.open[index], stage.since < moment else { continue }
                stage.isSealed = true
                state.open[index] = nil
                isAny = true
            }
            return isAny
        }
    }

    /// Puts memory behind chunks to come, where nobody waits for it: met page by page while bytes arrive it was seen to take 5 ms for each.
    package func prepare() {
        let lacking = state.withLock { state in
            let room = (memoryMax - state.memory) / Self.chunkSize
            return min(state.ahead, room) - state.spare.count
        }
        for _ in 0..<max(0, lacking) {
            let block = Block(capacity: Self.chunkSize)
            Expanse.backPatiently(block.base, Self.chunkSize)
            state.withLock { $0.spare.append(block) }
        }
        state.withLock { $0.isPreparing = false }
    }

    /// Chunks that have memory and no bytes yet.
    package var chunksReady: Int { state.withLock { $0.spare.count } }

    /// Memory of chunks that are durable goes when half of what is allowed is taken, the oldest segments' first. What is being
    /// written is not durable; who makes another file counts on all that is there.
    package func dropSynced() {
        let gone = state.withLock { state in
            var gone: [Block] = []
            for number in state.stages.keys.sorted() where state.memory > memoryMax / 2 {
                guard let stage = state.stages[number], !stage.isSuspect else { continue }
                let whole = stage.isSealed && stage.synced == stage.size
                for index in stage.chunks.indices where whole || (index + 1) * Self.chunkSize <= stage.synced {
                    drop(&state, stage, index, &gone)
                }
            }
            return gone
        }
        extendLifetime(gone)
    }

    /// What nobody has any more is written to again: that memory is there, and new memory is not before it is met. The rest is added to `gone`,
    /// to be freed behind the lock.
    private func drop(_ state: inout State, _ stage: Stage, _ index: Int, _ gone: inout [Block]) {
        var old: Block?
        swap(&old, &stage.chunks[index])
        guard old != nil else { return }
        state.memory -= Self.chunkSize
        if stage.heat == .large, let chunk = old.take() { old = recent.insert(stage.number, index, chunk) }
        guard var free = old.take() else { return }
        // Who reads or sends it still holds it.
        let spareBytes = (state.spare.count + 1) * Self.chunkSize
        if spareBytes <= memoryMax / 2, state.memory + spareBytes <= memoryMax, isKnownUniquelyReferenced(&free) {
            free.count = 0
            state.spare.append(free)
        } else {
            gone.append(free)
        }
    }

    /// The segment is in the store. `keepsFile`: until a header has it.
    func forget(_ stage: Stage, keepsFile: Bool) {
        var gone: [Block] = []
        state.withLock { state in
            state.stages[stage.number] = nil
            state.staged -= stage.size
            if keepsFile { state.kept += stage.size }
            for index in stage.chunks.indices { drop(&state, stage, index, &gone) }
            stage.chunks.removeAll()
            // Not closed here: a read may be under way, and its file must not become another one's.
            stage.file = nil
            stage.direct = nil
        }
        extendLifetime(gone)
    }

    /// Called now and then: keeps as much memory for bytes to come as came since the last call, and gives the rest back. Memory that
    /// went and is met again is cleared page by page while a writer waits, which can take milliseconds for each MiB.
    package func rest(forGood: Bool = false) {
        var gone: [Block] = []
        let isIdle = state.withLock { state -> Bool in
            let wanted = forGood ? 0 : state.arrived / Self.chunkSize
            state.arrived = 0
            state.taken = 0
            let surplus = max(0, state.spare.count - wanted)
            gone = Array(state.spare[..<surplus])
            state.spare.removeFirst(surplus)
            defer { state.isAtRest = wanted == 0 }
            return wanted == 0 && !state.isAtRest
        }
        gone.removeAll()
        if isIdle { Block.giveBackMemory() }
    }
}
