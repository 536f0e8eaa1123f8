import Bytes
import ObjectStore
import Runtime

/// The replay log in the store: sends runs of records as slots, several at a time, and knows up to which record all are
/// there. On the volume's loop.
///
/// A slot's name is made by create-if-absent, so an owner who was taken over finds its next name taken by a fence. Slots
/// are deleted only by an owner who has been that for longer than anybody answers for slots without having asked whether
/// the volume is still his: a slot that was deleted can not be made again by one who slept.
final class StoreLog: @unchecked Sendable {
    /// How long the last proof of being the owner is good for.
    static let proofNanoseconds: UInt64 = 30_000_000_000
    /// From its start on an owner deletes no slots for this long.
    static let restNanoseconds: UInt64 = 4 * proofNanoseconds
    private static let deletesMax = 16

    private struct Flight {
        var number: UInt64
        var last: UInt64
        var isStored = false
    }

    private let headhunter: Unowned
    private struct Unowned { unowned let value: Headhunter }
    private var volume: Headhunter { headhunter.value }

    /// The number of the next slot.
    private(set) var next: UInt64
    /// All records up to this one that the newest header does not cover are in the store.
    private(set) var stored: UInt64 = 0
    private var queue: [LogBatch] = []
    private var flights: [Flight] = []
    /// Slots that exist, in order; those of owners before have no records that matter after the next checkpoint.
    private var kept: [(number: UInt64, last: UInt64)]
    private var isDeleting = false
    private let since: UInt64

    /// `next`: behind all slots of owners before; `old`: those.
    init(_ headhunter: Headhunter, next: UInt64, old: [UInt64]) {
        self.headhunter = Unowned(value: headhunter)
        self.next = next
        kept = old.map { ($0, 0) }
        since = headhunter.world.clock.monotonic()
    }

    var isIdle: Bool { queue.isEmpty && flights.isEmpty }

    /// Takes over batches in the log's order.
    func send(_ batches: [LogBatch]) {
        queue.append(contentsOf: batches)
        pump()
    }

    /// Records below this one are in a checkpoint: what has not been sent of them needs no sending.
    func covered(below first: UInt64) {
        queue.removeAll { $0.last < first }
    }

    private func pump() {
        while flights.count < Slot.inFlightMax, !queue.isEmpty {
            let batch = queue.removeFirst()
            let slot = Slot(
                kind: .records, number: next, epoch: volume.epoch, first: batch.first, stored: volume.reach,
                count: batch.count, length: batch.block.count - Slot.headerSize, volume: volume.volume)
            slot.finish(batch.block)
            flights.append(Flight(number: next, last: batch.last))
            kept.append((next, batch.last))
            next += 1
            volume.loop.task { await self.put(slot.number, batch.block) }
        }
    }

    private func put(_ number: UInt64, _ block: Block) async {
        let volume = volume
        let name = volume.objectName(ObjectNaming.slot, number)
        var hasTried = false
        while volume.checkpoints.failure == nil {
            do throws(StoreError) {
                // What a try sent that was given up may have arrived since: that would be no other owner.
                try await volume.store.put(name, .blocks([block]), condition: .absent, mayBeOurs: hasTried)
                try await volume.proveOwnership()
                return arrived(number)
            } catch {
                if let failure = volume.patience(error, "writing \(name)") { return volume.failStoring(failure) }
                hasTried = true
            }
            await volume.loop.sleep(nanoseconds: Headhunter.retryNanoseconds)
        }
    }

    private func arrived(_ number: UInt64) {
        guard let index = flights.firstIndex(where: { $0.number == number }) else { return }
        flights[index].isStored = true
        while let first = flights.first, first.isStored {
            stored = max(stored, first.last)
            flights.removeFirst()
        }
        pump()
        volume.pumpStoring()
    }

    /// Deletes slots of which no header that is left needs a record: `first` is where the older of them begins.
    func clean(below first: UInt64) {
        let volume = volume
        guard !isDeleting, volume.world.clock.monotonic() - since > Self.restNanoseconds else { return }
        let inFlight = flights.first?.number ?? next
        let doomed = kept.prefix { $0.last < first && $0.number < inFlight }.map(\.number)
        guard !doomed.isEmpty else { return }
        isDeleting = true
        volume.loop.task {
            var deleted = 0
            while deleted < doomed.count {
                let part = doomed[deleted..<min(deleted + Self.deletesMax, doomed.count)]
                // In order, part by part: what is left by a crash is a run without a gap.
                let all = await withTaskGroup(of: Bool.self) { group in
                    for number in part { group.addTask { await self.delete(number) } }
                    return await group.reduce(true) { $0 && $1 }
                }
                guard all else { break }
                deleted += part.count
            }
            self.kept.removeFirst(deleted)
            self.isDeleting = false
        }
    }

    private func delete(_ number: UInt64) async -> Bool {
        do throws(StoreError) {
            try await volume.store.delete(volume.objectName(ObjectNaming.slot, number))
            return true
        } catch {
            // Met again after the next checkpoint.
            return false
        }
    }
}
