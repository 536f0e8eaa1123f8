import Headhunter
import Testing

/// Guesses of many keys stand side by side.
@Suite struct KeyHintsTests {
    /// Keys that follow no rule: those that count up would be spread too well.
    private func hash(_ number: UInt64) -> UInt64 {
        var key = (number &+ 1) &* 0x9E37_79B9_7F4A_7C15
        key = (key ^ (key >> 30)) &* 0xBF58_476D_1CE4_E5B9
        key = (key ^ (key >> 27)) &* 0x94D0_49BB_1331_11EB
        key ^= key >> 31
        return withUnsafeBytes(of: key) { KeyHints.hash(1, $0) }
    }

    /// 4,096 places for 2,048 keys: where each key had one place alone, a fifth of them would push another one out.
    @Test func keysSeldomPushEachOtherOut() {
        let hints = KeyHints(bytes: 4_096 * 8)
        defer { hints.release() }
        for key in 0..<2_048 as Range<UInt64> {
            hints.set(hash(key), frame: UInt32(key * 3), slot: Int(key % 1_300), cell: Int(key * 8))
        }
        var kept = 0
        for key in 0..<2_048 as Range<UInt64> {
            guard let hint = hints.find(hash(key)) else { continue }
            if hint == (UInt32(key * 3), Int(key % 1_300), Int(key * 8) & ~63) { kept += 1 }
        }
        #expect(kept > 1_900, "\(kept)")
        // Nothing is said of keys that were never set.
        #expect((2_048..<100_000 as Range<UInt64>).count { hints.find(hash($0)) != nil } < 20)
    }

    /// A key that is set anew has one guess, the newest, also when its neighbours have taken all other places.
    @Test func theNewestGuessCounts() {
        let hints = KeyHints(bytes: 1_024 * 8)
        defer { hints.release() }
        for round in 0..<50 as Range<Int> {
            for key in 0..<600 as Range<UInt64> {
                hints.set(hash(key), frame: UInt32(round * 1_000) + UInt32(key), slot: round, cell: 0)
                #expect(hints.find(hash(key))?.slot == round)
                #expect(hints.find(hash(key))?.frame == UInt32(round * 1_000) + UInt32(key))
            }
        }
    }
}
