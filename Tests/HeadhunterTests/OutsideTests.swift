import Bytes
import Headhunter
import ObjectStore
import Runtime
import Simulator
import Testing
import Trials

/// What somebody else did to the store or to the local disk: it is named, and is no reason to end the process.
struct OutsideTests {
    // MARK: The store

    /// Names that no server gives: one of them would be enough to end every process that opens the volume.
    @Test(arguments: [false, true]) func namesOfSlots(_ logIsInStore: Bool) throws {
        try StoreRig.run(seed: 61) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig) { $0.logIsInStore = logIsInStore }
            let number = try await StoreRig.put(first, 1, [1])
            try await first.stored(number)
            try await first.close()
            let objects = StoreRig.objects(world, rig)
            for name in ["ffffffffffffffff", "FFFFFFFFFFFFFFFF", "7fffffffffffffff", "zz", "000000000000000"] {
                guard let name = ObjectName("v/slot/" + name) else { return "\(name) is no name" }
                try await objects.put(name, .blocks([Block(capacity: 0)]))
            }
            let second = try await StoreRig.open(world, rig, "b") { $0.logIsInStore = logIsInStore }
            let later = try await StoreRig.put(second, 2, [2])
            try await second.stored(later)
            guard try await StoreRig.get(second, 1) == [1] else { return "a change is missing" }
            let third = try await StoreRig.open(world, rig, "a") {
                $0.takesOver = true
                $0.logIsInStore = logIsInStore
            }
            return try await StoreRig.get(third, 2) == [2] ? nil : "a stored change is missing"
        }
    }

    /// A header that its writer has given a right checksum, with a wild number in each of its fields in turn.
    @Test func numbersOfHeaders() throws {
        var refused = 0
        for place in Array(stride(from: 32, to: 88, by: 8)) + Array(stride(from: 88, to: 104, by: 4)) + [
            104, 112, 120, 128,
        ]
            + Array(stride(from: 132, to: 164, by: 4))
        {
            for fill: UInt8 in [0xFF, 0x7F, 0x00] {
                let opened = Simulation(seed: 62).perform(for: 36_000_000_000_000) { world -> Bool? in
                    do {
                        let rig = StoreRig(world)
                        try await StoreRig.prepare(world, rig)
                        let first = try await StoreRig.open(world, rig)
                        let number = try await StoreRig.put(first, 1, [1])
                        try await first.stored(number)
                        try await first.close()
                        guard let newest = try await StoreRig.names(world, rig, "header").max() else { return nil }
                        try await StoreRig.patch(world, rig, newest) { bytes in
                            let count = 88..<104 ~= place || place >= 128 ? 4 : 8
                            for index in place..<min(place + count, bytes.count - 4) { bytes[index] = fill }
                            let sum = bytes.dropLast(4).withUnsafeBytes { CRC32C.of($0) }
                            withUnsafeBytes(of: sum.littleEndian) {
                                bytes.replaceSubrange((bytes.count - 4)..., with: $0)
                            }
                        }
                        let second: Headhunter
                        do { second = try await StoreRig.open(world, rig) } catch { return false }
                        // Whatever it takes for true, it goes on or says what is wrong.
                        do {
                            _ = try await StoreRig.get(second, 1)
                            _ = try await StoreRig.put(second, 1, [2])
                            try await second.checkpoint()
                        } catch { return false }
                        return true
                    } catch { return nil }
                }
                #expect(opened != nil, "at \(place): it did not come to an end")
                if opened == false { refused += 1 }
            }
        }
        #expect(refused > 20, "only \(refused) headers were refused")
    }

    /// Without the log nothing but the header tells what a segment held that was stored with that header.
    @Test(arguments: [true, false]) func aSegmentWithoutItsLog(_ isFlipped: Bool) throws {
        let simulation = Simulation(seed: 63)
        Bench.prepare(simulation)
        let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8) }
        let stored = simulation.perform(for: 36_000_000_000_000) { world -> SegmentRange? in
            do {
                let volume = try await Bench.volume(world)
                let (range, number) = try await StoreRig.store(volume, bytes)
                try await volume.commit(number, .durable)
                try await volume.nextCheckpoint()
                try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                    try world.disk.makeDirectory("other")
                    try world.disk.syncDirectory("")
                }
                return range
            } catch { return nil }
        }
        let range = try #require(stored ?? nil)
        simulation.killAndRestart()
        let name = String(range.segment, radix: 16)
        let path = try #require(
            simulation.files(below: "store").map(\.path).first { $0.contains("segment") && $0.contains(name) })
        if isFlipped { #expect(simulation.flipBit(of: path, at: 100_000, bit: 3)) }
        let found = simulation.perform(for: 36_000_000_000_000) { world -> Result<[UInt8], VolumeError> in
            do throws(VolumeError) {
                let volume: Headhunter
                do { volume = try await Bench.volume(world, log: "other", takesOver: true) } catch let error
                    as VolumeError
                {
                    throw error
                } catch { throw .closed }
                return .success(try await StoreRig.read(volume, range))
            } catch { return .failure(error) }
        }
        switch try #require(found) {
        case .success(let read): #expect(!isFlipped && read == bytes, "wrong bytes were given out as data")
        case .failure(.damaged): #expect(isFlipped)
        case .failure(let error): Issue.record("\(error)")
        }
    }

    /// A segment that is not what its header says is refused, by every owner that comes, and what lies elsewhere serves.
    @Test func aSegmentIsNotWhatWasStored() throws {
        let simulation = Simulation(seed: 67)
        Bench.prepare(simulation)
        let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8) }
        let made = simulation.perform(for: 36_000_000_000_000) { world -> [SegmentRange]? in
            do {
                let volume = try await Bench.volume(world)
                var ranges: [SegmentRange] = []
                for _ in 0..<2 {
                    let (range, number) = try await StoreRig.store(volume, bytes)
                    try await volume.commit(number, .durable)
                    try await volume.nextCheckpoint()
                    ranges.append(range)
                }
                try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                    for log in ["b", "c"] { try world.disk.makeDirectory(log) }
                    try world.disk.syncDirectory("")
                }
                return ranges
            } catch { return nil }
        }
        let ranges = try #require(made ?? nil)
        simulation.killAndRestart()
        let name = String(ranges[1].segment, radix: 16)
        let path = try #require(
            simulation.files(below: "store").map(\.path).first { $0.contains("segment") && $0.hasSuffix(name) })
        let sound = try #require(
            simulation.files(below: "store").map(\.path).first {
                $0.contains("segment") && $0.hasSuffix(String(ranges[0].segment, radix: 16))
            })
        // One owner has files of both that were not deleted in time.
        let left = [sound, path].map { "b/stage/" + ($0.split(separator: "/").last ?? "") + "-0.stage" }
        try StoreRig.run(simulation) { world in
            try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                for (index, source) in [sound, path].enumerated() {
                    let from = try world.disk.open(source, [])
                    let block = Block(capacity: Int(try from.size()))
                    block.count = try from.read(
                        into: UnsafeMutableRawBufferPointer(start: block.base, count: block.capacity), at: 0)
                    let to = try world.disk.open("kept-\(index)", [.write, .create, .exclusive])
                    try to.write(block.bytes, at: 0)
                    try to.sync()
                    from.close()
                    to.close()
                    extendLifetime(block)
                }
                try world.disk.syncDirectory("")
            }
            return nil
        }
        simulation.killAndRestart()
        #expect(simulation.flipBit(of: path, at: 100_000, bit: 3))
        for (log, takesOver) in [("b", true), ("b", false), ("c", true)] {
            try StoreRig.run(simulation) { world in
                let volume = try await Bench.volume(world, log: log, takesOver: takesOver)
                guard volume.damage.count == 1, volume.damage[0].contains(name) else { return "\(volume.damage)" }
                guard try await StoreRig.read(volume, ranges[0]) == bytes else { return "other bytes are wrong" }
                do throws(VolumeError) {
                    _ = try await StoreRig.read(volume, ranges[1])
                    return "wrong bytes were given out as data"
                } catch { guard case .damaged = error else { return "\(error)" } }
                _ = try await StoreRig.put(volume, 1, [1])
                try await volume.checkpoint()
                return nil
            }
            simulation.killAndRestart()
            if log == "b", takesOver {
                try StoreRig.run(simulation) { world in
                    try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                        for (index, file) in left.enumerated() { try world.disk.rename("kept-\(index)", to: file) }
                        for directory in ["b/stage", ""] { try world.disk.syncDirectory(directory) }
                    }
                    return nil
                }
                simulation.killAndRestart()
                continue
            }
            // The only good copy stays; the other one is of no more use.
            let files = simulation.files(below: "b/stage").map(\.path)
            #expect(files == [left[1]], "\(files)")
        }
    }

    /// What is put out of the way at a takeover takes nobody's place, when the takeover ended half way and comes again.
    @Test func whatIsSetAsideStays() throws {
        let simulation = Simulation(seed: 68)
        try StoreRig.run(simulation) { world in
            try await world.blocking.run(on: world.loops[0]) { () throws(Errno) -> Void in
                try world.disk.makeDirectory("log")
                let directory = LogDirectory(disk: world.disk, path: "log")
                for round: UInt8 in 1...3 {
                    let file = try world.disk.open("log/0000000000000001.log", [.write, .create, .exclusive])
                    try withUnsafeBytes(of: round) { (bytes) throws(Errno) in try file.write(bytes, at: 0) }
                    file.close()
                    try directory.setAside(7)
                }
            }
            return nil
        }
        let files = simulation.files(below: "log").map(\.path).sorted()
        #expect(
            files == ["log/lost-7-1", "log/lost-7-2", "log/lost-7"].map { $0 + "/0000000000000001.log" }, "\(files)")
    }

    // MARK: The local disk

    /// One bit of the log directory's name: the log goes on all the same.
    @Test func bitsOfTheName() throws {
        // Some bits of every byte.
        for bit in stride(from: 0, to: 24 * 8, by: 5) {
            let simulation = Simulation(seed: 64)
            Bench.prepare(simulation)
            let made = simulation.perform { world -> Bool in
                do {
                    let volume = try await Bench.volume(world)
                    try await volume.commit(try await StoreRig.put(volume, 1, [1]), .durable)
                    return true
                } catch { return false }
            }
            #expect(made == true)
            simulation.killAndRestart()
            #expect(simulation.flipBit(of: "log/place", at: UInt64(bit / 8), bit: UInt8(bit % 8)))
            let found = simulation.perform { world -> String in
                do {
                    return try await StoreRig.get(try await Bench.volume(world), 1) == [1] ? "" : "the log was not read"
                } catch { return "\(error)" }
            }
            #expect(found == "", "bit \(bit)")
        }
    }

    /// A bit of a file that is not in the store yet, while the server runs and after it was started again: in the middle,
    /// and in the last block, which is not a whole one.
    @Test(arguments: [false, true]) func bitsOfTheStage(_ isAgain: Bool) throws {
        let simulation = Simulation(seed: 65)
        Bench.prepare(simulation)
        let write: @Sendable (World) async throws -> (Headhunter, [SegmentRange]) = { world in
            let directory = try await DirectoryStore.open(world: world, loop: world.loops[0], root: "store")
            let rig = StoreRig(world, directory)
            rig.refuse { kind in
                if case .object(let name, .put) = kind, name.text.contains("/segment/") { return 503 }
                return nil
            }
            let volume = try await StoreRig.open(world, rig, "log") { $0.checkpointNanoseconds = 3_600_000_000_000 }
            return (volume, [])
        }
        let bytes = (0..<200_001).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8) }
        let filled = simulation.perform(for: 36_000_000_000_000) { world -> [SegmentRange]? in
            do {
                let (volume, _) = try await write(world)
                var ranges: [SegmentRange] = []
                for _ in 0..<60 {
                    let (range, number) = try await StoreRig.store(volume, bytes)
                    try await volume.commit(number, .durable)
                    ranges.append(range)
                }
                if !isAgain {
                    let problem = try await Self.flipAndRead(volume, ranges, bytes, simulation)
                    if let problem { Issue.record("\(problem)") }
                }
                return ranges
            } catch {
                Issue.record("\(error)")
                return nil
            }
        }
        let ranges = try #require(filled ?? nil)
        guard isAgain else { return }
        simulation.killAndRestart()
        try StoreRig.run(simulation) { world in
            let (volume, _) = try await write(world)
            return try await Self.flipAndRead(volume, ranges, bytes, simulation)
        }
    }

    private static func flipAndRead(
        _ volume: Headhunter, _ ranges: [SegmentRange], _ bytes: [UInt8], _ simulation: Simulation
    ) async throws -> String? {
        for file in simulation.files(below: "log/stage") {
            _ = simulation.flipBit(of: file.path, at: file.size - 1, bit: 2)
            _ = simulation.flipBit(of: file.path, at: file.size / 2, bit: 2)
        }
        var damaged = 0
        for range in ranges {
            do throws(VolumeError) {
                if try await StoreRig.read(volume, range) != bytes { return "wrong bytes were given out as data" }
            } catch {
                guard case .damaged = error else { return "\(error)" }
                damaged += 1
            }
        }
        return damaged > 5 ? nil : "\(damaged) of \(ranges.count) ranges were called damaged: most came from memory"
    }

    // MARK: Another owner

    /// An owner with nothing to do learns that it is none any more, and answers no reads then.
    @Test func anIdleOwner() throws {
        try StoreRig.run(seed: 66) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig)
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            await world.loops[0].sleep(nanoseconds: 60_000_000_000)
            guard try await StoreRig.get(first, 1) == [1] else { return "the first owner lacks its change" }
            let second = try await StoreRig.open(world, rig, "b") { $0.takesOver = true }
            try await second.stored(try await StoreRig.put(second, 1, [2]))
            await world.loops[0].sleep(nanoseconds: 25_000_000_000)
            do throws(VolumeError) {
                let found = try await StoreRig.get(first, 1)
                return "the first owner answers \(String(describing: found))"
            } catch { return error == .fenced ? nil : "\(error)" }
        }
    }

    /// What an owner has in its own log alone is nobody's change once another one has taken the volume over: it is not told to be
    /// durable, also when the log made it so before.
    @Test func anOwnerThatWasOvertakenPromisesNothing() throws {
        try StoreRig.run(seed: 69) { world in
            let rig = StoreRig(world)
            try await StoreRig.prepare(world, rig)
            let first = try await StoreRig.open(world, rig)
            try await first.stored(try await StoreRig.put(first, 1, [1]))
            let second = try await StoreRig.open(world, rig, "b") { $0.takesOver = true }
            let lost = try await StoreRig.put(first, 1, [2])
            try await first.commit(lost, .durable)
            try await second.stored(try await StoreRig.put(second, 2, [2]))
            await world.loops[0].sleep(nanoseconds: 25_000_000_000)
            for level in [LogLevel.written, .durable] {
                do throws(VolumeError) {
                    try await first.commit(lost, level)
                    return "the first owner says that its change is \(level)"
                } catch { guard error == .fenced else { return "\(error)" } }
            }
            return nil
        }
    }
}
