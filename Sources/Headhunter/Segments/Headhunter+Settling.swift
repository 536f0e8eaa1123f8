import Bytes
import ObjectStore
import Runtime

/// After a start: segments that files name and of which the table does not know what they hold. On the volume's loop.
extension Headhunter {
    private static let marksSlice = 256

    /// Segments that files name, of which the table does not know whether they got to the store: those without a
    /// stage file are there, or something is wrong. Without the log that knows better their bytes are given to nobody then, and
    /// all others serve.
    func settleSegments(_ named: [UInt64: [SegmentRange]]) async throws(VolumeError) {
        var staged: [UInt64: CheckpointHeader.StagedSegment] = [:]
        for entry in checkpoints.header.staged { staged[entry.segment] = entry }
        var next: UInt64 = 0
        while true {
            let from = next
            let marked = try await read { (view) throws(Missing) -> [UInt64] in
                try SegmentTable.marked(view, SegmentTable.stagedTag, from: from, limit: Self.marksSlice)
            }
            guard let last = marked.last else { return }
            for segment in marked where segments.stage(segment) == nil {
                do throws(VolumeError) {
                    try await settle(segment, named[segment] ?? [], staged[segment])
                } catch {
                    // What our own log names was lost here, and may come back: nobody writes over that.
                    guard case .damaged(let why) = error, options.isReadOnly || named[segment] == nil else {
                        throw error
                    }
                    damage.append(why)
                    // Whoever opens it next must not believe these bytes for want of somebody who knows better.
                    data.refused[segment] =
                        staged[segment] ?? CheckpointHeader.StagedSegment(segment: segment, size: 0, checksum: 0)
                }
            }
            guard last < .max else { return }
            next = last + 1
        }
    }

    private static let partBytes: UInt64 = 8 << 20

    /// `staged` is what the header says of the segment, if it is one that was there before the header was.
    func settle(
        _ segment: UInt64, _ named: [SegmentRange], _ staged: CheckpointHeader.StagedSegment?
    ) async throws(VolumeError) {
        let name = objectName(ObjectNaming.segment, segment)
        let checksums: BlockChecksums
        let size: UInt64
        do throws(StoreError) {
            guard let found = try await store.head(name) else {
                let live = try await liveBytes(segment)
                guard live == 0 else {
                    throw .corrupt("\(live) bytes of files are in it, and it is neither staged nor in the store")
                }
                if !options.isReadOnly { try await forgetSegment(segment) }
                return
            }
            guard found <= UInt64(SegmentFormat.sizeMax), staged.map({ $0.size == found }) ?? true else {
                throw .corrupt("it has \(found) bytes, which is not what was stored")
            }
            size = found
            var comparison = RangeComparison(named)
            var sums = BlockChecksums()
            var place: UInt64 = 0
            while place < size {
                let end = min(place + Self.partBytes, size)
                let block = try await store.get(name, range: place..<end)
                sums.update(block.bytes)
                comparison.update(block.bytes)
                extendLifetime(block)
                place = end
            }
            checksums = sums
            if let missing = comparison.missing {
                throw .corrupt("the bytes at \(missing.offset) are not what the log says")
            }
            if let staged, BlockChecksums.sum(sums.all) != staged.checksum {
                throw .corrupt("its bytes are not those that were stored")
            }
        } catch {
            throw Self.volumeError(error, "\(name)")
        }
        if options.isReadOnly {
            data.unsealed[segment] = DataState.Unsealed(size: Int(size), checksums: checksums.all)
            return
        }
        _ = try await seal(
            segment, size: size,
            heat: { (change) throws(Missing) in
                try SegmentTable.read(change, segment).flatMap { Heat(rawValue: $0.heat) } ?? .small
            }, checksums: checksums.all)
    }

    private func liveBytes(_ segment: UInt64) async throws(StoreError) -> UInt64 {
        do throws(VolumeError) {
            return try await read { (view) throws(Missing) -> UInt64 in
                try SegmentTable.read(view, segment)?.live ?? 0
            }
        } catch { throw .unavailable("\(error)") }
    }

    private func forgetSegment(_ segment: UInt64) async throws(StoreError) {
        do throws(VolumeError) {
            var left = 1
            while left > 0 {
                left = try await change(isUrgent: true) { (change) throws(Missing) -> Int in
                    let left = try SegmentTable.remove(change, segment)
                    if left == 0 { SegmentTable.unmark(change, SegmentTable.stagedTag, segment) }
                    return left
                }.0
            }
        } catch { throw .unavailable("\(error)") }
    }
}
