import Bytes
import ObjectStore
import Runtime

/// The replay log in the store: sends runs of records as slots, several at a time, and knows up to which record all are
/// there. On the volume's loop.
///
/// A slot's name is made by create-if-absent, so an owner who was taken over finds the first name that it still needs taken by
/// a fence, which nobody deletes. A slot is sent when the data that its records name is in the store: who reads it behind a
/// fence finds that data, too.
final class StoreLog: @unchecked Sendable {
    private static let deletesMax = 16

    private struct Flight {
        var number: UInt64
        var last: UInt64
        var isStored = false
    }

    /// The number of the next slot.
    private(set) var next: UInt64
    /// All records up to this one that the newest header does not cover are in the store.
    private(set) var stored: UInt64 = 0
    private var queue: [LogBatch] = []
    private var flights: [Flight] = []
    /// Slots that exist, in order; those of owners before have no records that matter after the next checkpoint.
    private var kept: [(number: UInt64, last: UInt64)]
    private(set) var isDeleting = false

    /// `next`: behind all slots of owners before; `old`: those, fences aside.
    init(next: UInt64, old: [UInt64]) {
        self.next = next
        kept = old.map { ($0, 0) }
    }

    /// Of what has not been sent yet.
    var queuedBytes: Int { queue.reduce(0) { $0 + $1.block.count } }

    /// Takes over batches in the log's order.
    func send(_ batches: [LogBatch], _ volume: Headhunter) {
        queue.append(contentsOf: batches)
        pump(volume)
    }

    /// Records below this one are in a checkpoint: what has not been sent of them needs no sending.
    func covered(below first: UInt64) { queue.removeAll { $0.last < first } }

    /// The run ends: what has not been sent never will be.
    func end() { queue.removeAll() }

    private func pump(_ volume: Headhunter) {
        while flights.count < Slot.inFlightMax, !queue.isEmpty {
            let batch = queue.removeFirst()
            let slot = Slot(
                kind: .records, number: next, epoch: volume.epoch, first: batch.first, stored: volume.reach,
                count: batch.count, length: batch.block.count - Slot.headerSize, volume: volume.volume)
            slot.finish(batch.block)
            flights.append(Flight(number: next, last: batch.last))
            kept.append((next, batch.last))
            next += 1
            volume.loop.task { await self.put(slot.number, batch.block, volume) }
        }
    }

    private func put(_ number: UInt64, _ block: Block, _ volume: Headhunter) async {
        let name = volume.objectName(ObjectNaming.slot, number)
        var hasTried = false
        var trying = Trying()
        defer { volume.ease(&trying) }
        while volume.checkpoints.failure == nil {
            do throws(StoreError) {
                // What a try sent that was given up may have arrived since: that would be no other owner.
                try await volume.store.put(name, .blocks([block]), condition: .absent, mayBeOurs: hasTried)
                return arrived(number, volume)
            } catch {
                var error = error
                if error == .exists {
                    do throws(StoreError) {
                        if try await isOldFence(name, volume) {
                            // Who took the volume before us keeps others out by it, too: it stays.
                            kept.removeAll { $0.number == number }
                            if flights.contains(where: { $0.number == number }) { volume.restartStoring(self) }
                            return
                        }
                    } catch let other { error = other }
                }
                if let failure = volume.patience(error, "writing \(name)", &trying) {
                    return volume.failStoring(failure)
                }
                hasTried = true
            }
            await volume.loop.sleep(nanoseconds: trying.next())
        }
    }

    /// Of one that took the volume before us, and got no further before we did: its fence stands in our way, and means others.
    private func isOldFence(_ name: ObjectName, _ volume: Headhunter) async throws(StoreError) -> Bool {
        let block = try await volume.store.get(name)
        defer { extendLifetime(block) }
        guard let slot = try? Slot(reading: block.bytes) else { return false }
        return slot.kind == .fence && slot.volume == volume.volume && slot.epoch < volume.epoch
    }

    /// Begins anew behind whatever such a one may still put in our way. What is on its way counts for nothing.
    func skip() {
        queue.removeAll()
        // A fence may stand there: it is nobody's to delete.
        let numbers = Set(flights.filter { !$0.isStored }.map(\.number))
        kept.removeAll { numbers.contains($0.number) }
        flights.removeAll()
        next += Slot.gap
    }

    private func arrived(_ number: UInt64, _ volume: Headhunter) {
        guard let index = flights.firstIndex(where: { $0.number == number }) else { return }
        flights[index].isStored = true
        while let first = flights.first, first.isStored {
            stored = max(stored, first.last)
            flights.removeFirst()
        }
        pump(volume)
        volume.pumpStoring()
    }

    /// Deletes slots of which no header that is left needs a record: `first` is where the older of them begins.
    func clean(below first: UInt64, _ volume: Headhunter) {
        guard !isDeleting else { return }
        let inFlight = flights.first?.number ?? next
        let doomed = kept.prefix { $0.last < first && $0.number < inFlight }.map(\.number)
        guard !doomed.isEmpty else { return }
        isDeleting = true
        volume.loop.task {
            var deleted = 0
            while deleted < doomed.count, !volume.standsStill {
                let part = doomed[deleted..<min(deleted + Self.deletesMax, doomed.count)]
                let all = await withTaskGroup(of: Bool.self) { group in
                    for number in part { group.addTask { await Self.delete(number, volume) } }
                    return await group.reduce(true) { $0 && $1 }
                }
                guard all else { break }
                deleted += part.count
            }
            let gone = Set(doomed.prefix(deleted))
            self.kept.removeAll { gone.contains($0.number) }
            self.isDeleting = false
        }
    }

    private static func delete(_ number: UInt64, _ volume: Headhunter) async -> Bool {
        do throws(StoreError) {
            try await volume.store.delete(volume.objectName(ObjectNaming.slot, number))
            return true
        } catch {
            // Met again after the next checkpoint.
            return false
        }
    }
}
