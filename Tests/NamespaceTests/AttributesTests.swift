import Namespace
import Testing

@Suite struct AttributesTests {
    private static let id = FileID(subvolume: 1, inode: 2, generation: 3)

    /// What each open and each call hands on.
    @Test func sizes() {
        #expect(MemoryLayout<Attributes>.size == 128)
        #expect(MemoryLayout<FileID>.size == 24)
    }

    /// Two things share a place: a device's numbers are nobody's time, and the other way round.
    @Test func devicesShowNoOtherTime() {
        var device = Attributes(file: Self.id, type: .blockDevice)
        (device.major, device.minor) = (0xFFFF_FFFF, 7)
        device.shownChange = 5
        #expect(device.shownChange == nil && device.major == 0xFFFF_FFFF && device.minor == 7)
        device.minor = 8
        device.major = 1
        #expect(device.major == 1 && device.minor == 8)
        var file = Attributes(file: Self.id, type: .file)
        file.shownChange = -5
        (file.major, file.minor) = (1, 2)
        #expect(file.shownChange == -5 && file.major == 0 && file.minor == 0)
        var other = file
        other.type = .characterDevice
        #expect(other.major == 0 && other.minor == 0 && other.shownChange == nil)
        file.shownChange = nil
        #expect(file == Attributes(file: Self.id, type: .file))
    }

    @Test func whatIsSetIsThere() {
        var file = Attributes(file: Self.id, type: .file)
        let flags: [WritableKeyPath<Attributes, Bool>] = [
            \.isImplied, \.isShelved, \.isLocked, \.hasACL, \.isStream, \.hasStreams,
        ]
        for flag in flags {
            file[keyPath: flag] = true
            #expect(flags.filter { file[keyPath: $0] } == [flag])
            #expect(file.seal == nil && file.shownChange == nil)
            file[keyPath: flag] = false
        }
        let seal = ContentSeal(high: 1, low: .max, parts: 3)
        file.seal = seal
        #expect(file.seal == seal && flags.allSatisfy { !file[keyPath: $0] } && file.shownChange == nil)
        file.seal = nil
        #expect(file == Attributes(file: Self.id, type: .file))
    }

    /// Each way to a file's attributes counts what was written and is not in the tree yet.
    @Test func whatWasJustWrittenCounts() {
        VolumeRig.run { rig in
            let file = try await rig.make("a")
            let text = String(repeating: "x", count: 100_000)
            try await rig.write(file, text, by: rig.caller())
            let found = try await rig.done { with("a") { rig.volume.lookup(rig.caller(), in: rig.root, $0) } }
            let seen = try await rig.done { rig.volume.attributes(rig.caller(), file) }
            #expect(found.size == 100_000 && found == seen)
            try await rig.volume.flush(file, on: rig.loop)
            let later = try await rig.done { rig.volume.attributes(rig.caller(), file) }
            #expect(later.size == 100_000 && later.modified == seen.modified && later.allocated == 100_000)
        }
    }
}
