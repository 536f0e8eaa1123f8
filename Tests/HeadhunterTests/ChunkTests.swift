import Headhunter
import Testing

/// Memory for bytes to come: asked for ahead of them, within what is allowed, and given back by and by.
struct ChunkTests {
    private static let mebibyte = 1 << 20

    private static func segments(mebibytes: Int) -> Segments {
        let segments = Segments(
            volume: VolumeIdentity(high: 1, low: 2), epoch: 1, flushBytes: 64 * mebibyte,
            memoryMax: mebibytes * mebibyte, stagedMax: 1 << 30, durable: 0,
            recent: RecentChunks(bytes: 0, lender: DataCache(bytes: 0)))
        segments.add(number: 1)
        return segments
    }

    /// Appends `count` MiB; answers how often chunks were asked for. Nil: there was no room.
    private static func append(_ segments: Segments, _ count: Int, prepares: Bool) -> Int? {
        let piece = [UInt8](repeating: 0x5A, count: mebibyte)
        var asked = 0
        for _ in 0..<count {
            guard let placed = piece.withUnsafeBytes({ segments.append($0, heat: .large, now: 1) }) else { return nil }
            guard placed.work.lacksChunks else { continue }
            asked += 1
            if prepares { segments.prepare() }
        }
        return asked
    }

    @Test func whoWritesMuchFindsChunksReady() throws {
        let segments = Self.segments(mebibytes: 128)
        #expect(try #require(Self.append(segments, 1, prepares: true)) == 1)
        #expect(1...2 ~= segments.chunksReady)
        _ = try #require(Self.append(segments, 40, prepares: true))
        #expect(8...16 ~= segments.chunksReady)
        // From here on there is always one, and nobody is asked for each.
        for _ in 0..<15 {
            #expect(segments.chunksReady > 0)
            #expect(try #require(Self.append(segments, 1, prepares: true)) <= 1)
        }
    }

    @Test func nobodyIsAskedTwice() throws {
        let segments = Self.segments(mebibytes: 128)
        #expect(try #require(Self.append(segments, 40, prepares: false)) == 1)
        #expect(segments.chunksReady == 0)
        segments.prepare()
        #expect(segments.chunksReady == 16)
    }

    @Test func noMoreThanThereIsRoomFor() throws {
        let segments = Self.segments(mebibytes: 24)
        _ = try #require(Self.append(segments, 20, prepares: false))
        segments.prepare()
        #expect(segments.chunksReady == 3)
        #expect(Self.append(segments, 8, prepares: true) == nil)
        segments.prepare()
        // Of the last MiB an append may need as much again.
        #expect(segments.chunksReady <= 1)
    }

    @Test func whatIsNotNeededGoesBack() throws {
        let segments = Self.segments(mebibytes: 128)
        _ = try #require(Self.append(segments, 40, prepares: true))
        let ready = segments.chunksReady
        // As much came as is kept.
        segments.rest()
        #expect(segments.chunksReady == ready)
        _ = try #require(Self.append(segments, 2, prepares: false))
        segments.rest()
        #expect(segments.chunksReady <= 2)
        segments.rest()
        #expect(segments.chunksReady == 0)
        _ = try #require(Self.append(segments, 10, prepares: true))
        #expect(segments.chunksReady > 0)
        segments.rest(forGood: true)
        #expect(segments.chunksReady == 0)
    }
}
