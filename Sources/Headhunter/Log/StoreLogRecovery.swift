import Bytes
import ObjectStore
import Runtime

/// The log as its slots in the store tell it. The fence comes first: behind it, what was read is all that anybody can have
/// been told of.
struct StoreLogRecovery {
    private static let readsMax = 16
    private static let fenceTriesMax = 100

    /// All slots there are, in order.
    let numbers: [UInt64]
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
        let firstSlot = header.firstSlot ?? 0
        var numbers: [UInt64] = []
        var isFenced = false
        for _ in 0..<Self.fenceTriesMax where !isFenced {
            numbers = try await Self.numbers(store, prefix)
            let newest = max(numbers.last ?? 0, firstSlot)
            // What the owner before may have on its way, the number behind the last one included.
            let window = newest > UInt64(Slot.inFlightMax) ? newest - UInt64(Slot.inFlightMax) : 0
            let missing = ((window + 1)...(newest + 1)).filter { $0 >= firstSlot && !numbers.contains($0) }
            isFenced = true
            for number in missing {
                let fence = Slot.fence(number, epoch: epoch, random: random.next(), volume: header.volume)
                guard try await Self.create(store, prefix, number, fence) else {
                    isFenced = false
                    break
                }
            }
        }
        guard isFenced else { throw .unavailable("the owner of the volume goes on writing its log") }
        // Again: a slot may have come before its fence.
        numbers = try await Self.numbers(store, prefix)
        var reading = Reading(header: header)
        let wanted = numbers.filter { $0 >= firstSlot }
        var index = 0
        while index < wanted.count {
            let part = Array(wanted[index..<min(index + Self.readsMax, wanted.count)])
            for (number, block) in try await Self.blocks(store, prefix, part) {
                try reading.take(number, block, ObjectNaming.name(prefix, ObjectNaming.slot, number))
            }
            index += part.count
        }
        guard reading.stored < reading.next else {
            throw .damaged(
                "the replay log in the store ends before record \(reading.next), but record \(reading.stored) was stored")
        }
        self.numbers = numbers
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
            // An owner that was fenced off had it on its way, and has told nobody.
            guard slot.epoch >= epoch else { return }
            epoch = slot.epoch
            guard slot.kind == .records else { return }
            let end = slot.epoch < header.epoch ? min(slot.end, header.slotsEnd) : slot.end
            guard end > slot.first else { return }
            stored = max(stored, min(slot.stored, end - 1))
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
                guard isUnsure else { throw .data(range, record: number) }
                ending.torn = true
                break
            }
            guard record.withUnsafeBytes({ visit(number, $0) }) else {
                throw .malformed(path: log.directory, offset: 0)
            }
            ending.next = number + 1
            ending.unsure.append(record)
        }
        return ending
    }

    // MARK: Objects

    static func numbers(_ store: ObjectStore, _ prefix: String) async throws(VolumeError) -> [UInt64] {
        do throws(StoreError) {
            return try await store.names(prefix: ObjectNaming.prefix(prefix, ObjectNaming.slot))
                .compactMap { ObjectNaming.number($0, prefix, ObjectNaming.slot) }.sorted()
        } catch { throw Headhunter.volumeError(error, "looking for the replay log in the store") }
    }

    /// False: somebody else has the number.
    private static func create(
        _ store: ObjectStore, _ prefix: String, _ number: UInt64, _ block: Block
    ) async throws(VolumeError) -> Bool {
        let name = ObjectNaming.name(prefix, ObjectNaming.slot, number)
        do throws(StoreError) {
            try await store.put(name, .blocks([block]), condition: .absent)
            return true
        } catch {
            guard error == .exists else { throw Headhunter.volumeError(error, "writing \(name)") }
            return false
        }
    }

    private static func blocks(
        _ store: ObjectStore, _ prefix: String, _ numbers: [UInt64]
    ) async throws(VolumeError) -> [(UInt64, Block)] {
        let results = await withTaskGroup(of: (UInt64, Result<Block, StoreError>).self) { group in
            for number in numbers {
                group.addTask {
                    do throws(StoreError) {
                        return (number, .success(try await store.get(ObjectNaming.name(prefix, ObjectNaming.slot, number))))
                    } catch { return (number, .failure(error)) }
                }
            }
            var results: [(UInt64, Result<Block, StoreError>)] = []
            for await result in group { results.append(result) }
            return results.sorted { $0.0 < $1.0 }
        }
        var blocks: [(UInt64, Block)] = []
        for (number, result) in results {
            do throws(StoreError) { blocks.append((number, try result.get())) } catch {
                throw Headhunter.volumeError(error, "reading \(ObjectNaming.name(prefix, ObjectNaming.slot, number))")
            }
        }
        return blocks
    }
}
