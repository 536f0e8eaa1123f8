import Headhunter
import LogFS
import Runtime
import Simulator
import Synchronization
import Testing
import Trials

/// Many small writes to one file, and what brings them into the tree.
struct FlushTests {
    private static let block = 4_096

    private static func write(_ files: LogFS, _ file: FileID, _ place: Int, _ fill: UInt8) -> Attempt<Void> {
        with([UInt8](repeating: fill, count: block)) { bytes in
            files.write(Request(reader: 0, now: 1), file, at: UInt64(place * block), bytes)
        }
    }

    /// Every other block: none follows the one before.
    private static func fill(_ files: LogFS, _ file: FileID, upTo most: Int) -> Int {
        for index in 0..<most {
            guard case .done = write(files, file, 2 * index, UInt8(index % 251)) else { return index }
        }
        return most
    }

    private static func check(_ files: LogFS, _ file: FileID, _ count: Int) async throws {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: block, alignment: 16)
        defer { memory.deallocate() }
        for index in 0..<count {
            _ = try await files.readAll(file, at: UInt64(2 * index * block), into: memory)
            #expect(memory.allSatisfy { $0 == UInt8(index % 251) }, "block \(2 * index)")
            guard index + 1 < count else { break }
            _ = try await files.readAll(file, at: UInt64((2 * index + 1) * block), into: memory)
            #expect(memory.allSatisfy { $0 == 0 }, "block \(2 * index + 1)")
        }
    }

    /// Who does not let the flush begin is turned away at the bound, and gets in again when there is room.
    @Test func piecesHaveABound() {
        Bench.files(small: false) { files, _ in
            let file = try await Planted.make(files, files.rootID, "f").id
            #expect(Self.fill(files, file, upTo: 2_000) == 1_024)
            guard case .busy = Self.write(files, file, 0, 0) else {
                Issue.record("a piece more than there may be")
                return
            }
            try await files.makeRoom(for: file.inode)
            guard case .done = Self.write(files, file, 2 * 1_024, UInt8(1_024 % 251)) else {
                Issue.record("there was no room")
                return
            }
            try await Self.check(files, file, 1_025)
        }
    }

    /// A writer who leaves the loop to others now and then is never turned away, and what he wrote goes into the tree without anybody's asking.
    @Test func aSteadyWriterDoesNotWait() {
        Bench.files(small: false) { files, world in
            let file = try await Planted.make(files, files.rootID, "f").id
            for index in 0..<5_000 {
                guard case .done = Self.write(files, file, 2 * index, UInt8(index % 251)) else {
                    Issue.record("write \(index) was turned away")
                    return
                }
                if index % 64 == 63 { await world.loops[0].sleep(nanoseconds: 1_000_000) }
            }
            #expect(files.unflushedBytes < 5_000 * Self.block / 4)
            try await Self.check(files, file, 5_000)
        }
    }

    /// Many writers at one file, each with blocks of its own and faster than the flush: all get in, and each finds what it wrote last.
    @Test func manyWritersOfOneFile() {
        Bench.files(small: false) { files, world in
            let file = try await Planted.make(files, files.rootID, "f").id
            let writers = 24
            let blocks = 40
            let rounds = 12
            let left = Mutex(writers)
            for writer in 0..<writers {
                world.loops[0].task {
                    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.block, alignment: 16)
                    defer { memory.deallocate() }
                    for round in 0..<rounds {
                        for block in 0..<blocks {
                            memory.initializeMemory(as: UInt8.self, repeating: UInt8(writer + round))
                            let place = (block * writers + writer) * 7 % (writers * blocks * 2)
                            do {
                                try await files.writeAll(
                                    file, at: UInt64(place * Self.block), UnsafeRawBufferPointer(memory), now: 1)
                                _ = try await files.readAll(file, at: UInt64(place * Self.block), into: memory)
                            } catch { Issue.record("writer \(writer): \(error)") }
                            #expect(
                                memory.allSatisfy { $0 == UInt8(writer + round) }, "writer \(writer), block \(block)")
                        }
                    }
                    left.withLock { $0 -= 1 }
                }
            }
            while left.withLock({ $0 }) > 0 { await world.loops[0].sleep(nanoseconds: 1_000_000) }
            try await files.sync(file, .durable)
            #expect(files.unflushedBytes == 0)
        }
    }

    /// Who needs the file without what is not in the tree comes to his turn beside writers who do not stop.
    @Test func aCutBesideWriters() {
        Bench.files(small: false) { files, world in
            let file = try await Planted.make(files, files.rootID, "f").id
            let isOver = Atomic(false)
            let left = Mutex(8)
            for writer in 0..<8 {
                world.loops[0].task {
                    var place = writer
                    while !isOver.load(ordering: .relaxed) {
                        do {
                            let offset = UInt64(place % 4_000 * Self.block)
                            try await Self.withBytes(Self.block) {
                                try await files.writeAll(file, at: offset, $0, now: 1)
                            }
                        } catch { Issue.record("writer \(writer): \(error)") }
                        place += 16
                        if place % 128 == writer { await world.loops[0].sleep(nanoseconds: 1_000) }
                    }
                    left.withLock { $0 -= 1 }
                }
            }
            for size in [10_000, 0, 5_000_000, 77] {
                _ = try await files.resize(file, to: UInt64(size), now: 1)
            }
            isOver.store(true, ordering: .relaxed)
            while left.withLock({ $0 }) > 0 { await world.loops[0].sleep(nanoseconds: 1_000_000) }
        }
    }

    /// A file whose data is not in the tree yet is no hole: who copies it by what it takes would leave that out.
    @Test func whatIsNotFlushedTakesRoom() {
        Bench.files(small: false) { files, _ in
            for (count, least) in [(1, 1), (511, 511), (100_000, 512)] {
                let file = try await Planted.make(files, files.rootID, "f\(count)").id
                try await Self.withBytes(count) { try await files.writeAll(file, at: 0, $0, now: 1) }
                let before = try await outcome(files) { files.attributes($0, file) }.get()
                #expect(before.size == UInt64(count))
                #expect(before.allocated >= UInt64(least) && before.allocated <= UInt64(count))
                try await files.sync(file, .durable)
                #expect(try await outcome(files) { files.attributes($0, file) }.get().allocated == UInt64(count))
            }
        }
    }

    private static func withBytes(
        _ count: Int, _ body: (UnsafeRawBufferPointer) async throws -> Void
    ) async throws {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 9)
        try await body(UnsafeRawBufferPointer(memory))
    }
}
