import Bytes
import ObjectStore
import Runtime

/// The log as its slots in the store tell it. The fence comes first: behind it, what was read is all that anybody can have
/// been told of.
struct StoreLogRecovery {
    private static let readsMax = 16
    private static let fenceTriesMax = 10
    /// An owner that goes on writing takes the next numbers before we do: it runs into a fence so far ahead, and those in
    /// between are filled at leisure.
    private static let fenceAhead: UInt64 = 64

    /// The records from the first one that the header does not cover, without a gap.
    let records: [[UInt8]]
    let first: UInt64
    /// Every record up to this one was in the store, with its data.
    let stored: UInt64
    /// Where the next owner's slots begin.
    let next: UInt64

    /// The number that follows the last record.
    var end: UInt64 { first + UInt64(records.count) }

    /// Fences off all owners before `epoch`, and reads.
    init(
        _ store: ObjectStore, _ prefix: String, _ header: CheckpointHeader, epoch: UInt64, random: any RandomSource
    ) async throws(VolumeError) {
        let numbers = try await Self.fence(store, prefix, header, epoch, random)
        try await self.init(reading: numbers, store, prefix, header)
    }

    /// Reads, and fences nobody off: for who answers for nothing.
    init(reading store: ObjectStore, _ prefix: String, _ header: CheckpointHeader) async throws(VolumeError) {
        try await self.init(reading: try await Self.slots(store, prefix).map(\.number), store, prefix, header)
    }

    /// Answers the slots that there are, now that no owner before can add to them.
    private static func fence(
        _ store: ObjectStore, _ prefix: String, _ header: CheckpointHeader, _ epoch: UInt64, _ random: any RandomSource
    ) async throws(VolumeError) -> [UInt64] {
        let firstSlot = header.firstSlot ?? 0
        var numbers = try await slots(store, prefix).map(\.number)
        var end = max(numbers.last ?? 0, firstSlot) + 1
        var isFenced = false
        for attempt in 0..<fenceTriesMax where !isFenced {
            // What the owner before may have on its way is among these.
            let newest = max(numbers.last { $0 < end } ?? 0, firstSlot)
            let window = newest > UInt64(Slot.inFlightMax) ? newest - UInt64(Slot.inFlightMax) : 0
            let there = Set(numbers)
            let missing = ((window + 1)...end).filter { $0 >= firstSlot && !there.contains($0) }
            // The farthest first: what comes behind it counts for nothing.
            let made = try await fence(missing.reversed(), store, prefix, epoch, random, header.volume)
            if attempt == 0, !made.contains(end) {
                end += fenceAhead
            } else {
                isFenced = true
            }
            // Again: a slot may have come before its fence, and none can come any more.
            numbers = try await slots(store, prefix).map(\.number)
        }
        guard isFenced else { throw .unavailable("the owner of the volume goes on writing its log") }
        return numbers
    }

    private init(
        reading numbers: [UInt64], _ store: ObjectStore, _ prefix: String, _ header: CheckpointHeader
    ) async throws(VolumeError) {
        let firstSlot = header.firstSlot ?? 0
        var reading = Reading(header: header)
        let wanted = numbers.filter { $0 >= firstSlot }
        var index = 0
        while index < wanted.count {
            let part = Array(wanted[index..<min(index + Self.readsMax, wanted.count)])
            for found in try await Self.blocks(store, prefix, part) {
                try reading.take(found.number, found.block, ObjectNaming.name(prefix, ObjectNaming.slot, found.number))
            }
            index += part.count
        }
        guard reading.stored < reading.next else {
            throw .damaged(
                "the replay log in the store ends before record \(reading.next), but record \(reading.stored) was stored"
            )
        }
        records = reading.records
        first = header.logFirst
        stored = reading.stored
        next = max(numbers.last ?? 0, firstSlot) + Slot.gap
    }

    /// What slots hold, taken in order. No I/O.
    struct Reading {
        private let header: CheckpointHeader
        private var epoch: UInt64 = 0
        private var isBroken = false
        private(set) var records: [[UInt8]] = []
        private(set) var stored: UInt64
        var next: UInt64 { header.logFirst + UInt64(records.count) }

        init(header: CheckpointHeader) {
            self.header = header
            stored = header.logFirst - 1
        }

        mutating func take(_ number: UInt64, _ block: Block, _ name: ObjectName) throws(VolumeError) {
            defer { extendLifetime(block) }
            let slot: Slot
            do throws(Slot.Malformed) { slot = try Slot(reading: block.bytes) } catch {
                switch error {
                case .notASlot: throw .damaged("\(name) is not a part of a replay log")
                case .checksum: throw .damaged("\(name): checksum of the replay log's part does not match")
                case .version(let version): throw .unknownFormat("\(name) has format version \(version)")
                }
            }
            guard slot.number == number, slot.volume == header.volume else {
                throw .damaged("\(name) belongs to another volume or place")
            }
            let end = slot.epoch < header.slotsEpoch ? min(slot.end, header.slotsEnd) : slot.end
            // Before anything is left out: what was stored when it was sent is so whatever became of it. When a slot is lost, a taker's fence
            // comes in its place, and what follows looks late.
            if slot.kind == .records, end > slot.first { stored = max(stored, min(slot.stored, end - 1)) }
            // An owner that was fenced off had it on its way, and has told nobody.
            guard slot.epoch >= epoch else { return }
            epoch = slot.epoch
            guard slot.kind == .records, end > slot.first else { return }
            guard !isBroken, end > next else { return }
            guard slot.first <= next else {
                isBroken = true
                return
            }
            let from = next
            let fine = slot.forEach(block.bytes) { number, record in
                if number >= from, number < end { records.append(Array(record)) }
                return true
            }
            guard fine else { throw .damaged("\(name) holds what no server writes") }
        }
    }

    /// Decides where the log ends, as `LogRecovery.run` does for files: records that nobody can have been told of end it when
    /// the data that they name is not there.
    func run(
        _ log: LogRecovery, holds: (_ range: SegmentRange, _ isUnsure: Bool) -> Bool,
        _ visit: (_ number: UInt64, _ record: UnsafeRawBufferPointer) -> Bool
    ) throws(LogRecovery.Problem) -> LogRecovery.Ending {
        var ending = try log.nothing(from: first)
        for (index, record) in records.enumerated() {
            let number = first + UInt64(index)
            let isUnsure = number > stored
            if let range = record.withUnsafeBytes({ log.missing($0, isUnsure: isUnsure, holds) }) {
                guard !isUnsure else {
                    ending.torn = true
                    break
                }
                guard log.isReadOnly else { throw .data(range, record: number) }
                ending.problems.append(.data(range, record: number))
            }
            guard record.withUnsafeBytes({ visit(number, $0) }) else {
                throw .malformed(path: log.directory, offset: 0)
            }
            ending.next = number + 1
            ending.bytes += record.count
            ending.unsure.append(record)
        }
        return ending
    }

    // MARK: Objects

    /// All slots there are, in order.
    static func slots(
        _ store: ObjectStore, _ prefix: String
    ) async throws(VolumeError) -> [(number: UInt64, isFence: Bool)] {
        var slots: [(number: UInt64, isFence: Bool)] = []
        var after: String?
        do throws(StoreError) {
            while true {
                let page = try await store.list(
                    prefix: ObjectNaming.prefix(prefix, ObjectNaming.slot), after: after, limit: 1_000)
                for entry in page.entries {
                    guard let number = ObjectNaming.number(entry.name, prefix, ObjectNaming.slot) else { continue }
                    slots.append((number, entry.size <= UInt64(Slot.fenceSize)))
                }
                guard page.isTruncated, let last = page.entries.last else { break }
                after = last.name.text
            }
        } catch { throw Headhunter.volumeError(error, "looking for the replay log in the store") }
        return slots.sorted { $0.number < $1.number }
    }

    /// Answers the numbers that got a fence; the others have something already.
    private static func fence(
        _ numbers: [UInt64], _ store: ObjectStore, _ prefix: String, _ epoch: UInt64, _ random: any RandomSource,
        _ volume: VolumeIdentity
    ) async throws(VolumeError) -> Set<UInt64> {
        var made: Set<UInt64> = []
        for number in numbers {
            let name = ObjectNaming.name(prefix, ObjectNaming.slot, number)
            let fence = Slot.fence(number, epoch: epoch, random: random.next(), volume: volume)
            do throws(StoreError) {
                try await store.put(name, .blocks([fence]), condition: .absent)
                made.insert(number)
            } catch {
                guard error == .exists else { throw Headhunter.volumeError(error, "writing \(name)") }
            }
        }
        return made
    }

    private struct Found: Sendable {
        var number: UInt64
        var block = Block(capacity: 0)
        var failure: StoreError?
    }

    private static func block(_ store: ObjectStore, _ prefix: String, _ number: UInt64) async -> Found {
        var found = Found(number: number)
        do throws(StoreError) {
            found.block = try await store.get(ObjectNaming.name(prefix, ObjectNaming.slot, number))
        } catch { found.failure = error }
        return found
    }

    /// In the order of their numbers.
    private static func blocks(
        _ store: ObjectStore, _ prefix: String, _ numbers: [UInt64]
    ) async throws(VolumeError) -> [Found] {
        let results = await withTaskGroup(of: Found.self) { group in
            for number in numbers { group.addTask { await block(store, prefix, number) } }
            var results: [Found] = []
            for await result in group { results.append(result) }
            return results.sorted { $0.number < $1.number }
        }
        for found in results {
            guard let failure = found.failure else { continue }
            throw Headhunter.volumeError(
                failure, "reading \(ObjectNaming.name(prefix, ObjectNaming.slot, found.number))")
        }
        return results
    }
}
