import Bytes
import Headhunter
import Testing

/// Which chunks of what was written lately stay in memory.
struct RecentChunksTests {
    private static let chunkBytes = 1 << 20

    private static func insert(_ recent: RecentChunks, _ segment: UInt64, _ count: Int) {
        for index in 0..<count {
            let chunk = Block(capacity: chunkBytes)
            chunk.count = chunkBytes
            chunk.base.storeBytes(of: mark(segment, index), as: UInt8.self)
            extendLifetime(recent.insert(segment, index, chunk))
        }
    }

    /// The first byte of each chunk, so that one can be told from another.
    private static func mark(_ segment: UInt64, _ index: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: segment &* 16 &+ UInt64(index))
    }

    private static func isItself(_ recent: RecentChunks, _ segment: UInt64, _ index: Int) -> Bool {
        var byte: UInt8 = 0
        guard withUnsafeMutableBytes(of: &byte, { recent.read(segment, index * chunkBytes, into: $0) }) else {
            return false
        }
        return byte == mark(segment, index)
    }

    private static func kept(_ recent: RecentChunks, _ segment: UInt64, of count: Int) -> [Int] {
        (0..<count).filter { recent.contains(segment, byte: $0 * chunkBytes) }
    }

    /// A file that was written and read, and written anew: the new bytes are there, not those that nobody can ask for any more.
    @Test func theNewestStaysBesideWhatWasRead() {
        let recent = RecentChunks(bytes: 8 * Self.chunkBytes, lender: DataCache(bytes: 0))
        for segment in 1...6 as ClosedRange<UInt64> {
            Self.insert(recent, segment, 5)
            #expect(Self.kept(recent, segment, of: 5) == [0, 1, 2, 3, 4])
            for index in 0..<5 { #expect(Self.isItself(recent, segment, index)) }
            if segment > 1 { #expect(Self.kept(recent, segment - 1, of: 5).count == 3) }
        }
    }

    /// What is read again and again outlives what passes by.
    @Test func whatIsReadStays() {
        let recent = RecentChunks(bytes: 8 * Self.chunkBytes, lender: DataCache(bytes: 0))
        Self.insert(recent, 1, 4)
        for segment in 2...40 as ClosedRange<UInt64> {
            for index in 0..<4 { #expect(Self.isItself(recent, 1, index)) }
            if segment > 4 { #expect(Self.isItself(recent, segment - 1, 0)) }
            Self.insert(recent, segment, 1)
        }
    }
}
