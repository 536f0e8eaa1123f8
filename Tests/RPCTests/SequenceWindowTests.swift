import RPC
import Testing

@Suite struct SequenceWindowTests {
    private static let size = UInt32(SequenceWindow.size)

    /// Each number with whether it is to be taken.
    @Test func everyNumberIsTakenOnce() {
        var window = SequenceWindow()
        let size = Self.size
        let numbers: [(number: UInt32, isGood: Bool)] = [
            (1, true), (1, false), (3, true), (2, true), (2, false), (3, false), (3 + size - 1, true), (3, false),
            (4, true), (100 * size, true), (99 * size, false), (99 * size + 1, true), (.max, true), (.max, false),
        ]
        for (number, isGood) in numbers {
            let isTaken = window.admit(number)
            #expect(isTaken == isGood, "\(number)")
        }
    }

    /// The same as a set of all numbers that were taken.
    @Test func randomOrdersAreAsASetSays() {
        var random = SeededRandom(5)
        var window = SequenceWindow()
        var seen: Set<UInt32> = []
        var highest: UInt32 = 0
        for _ in 0..<20_000 {
            // From somewhat below the highest to somewhat above it.
            let number = UInt32(max(0, Int(highest) - 1200 + Int(random.next() % 2400)))
            let isGood =
                seen.isEmpty || number > highest || highest - number < Self.size && !seen.contains(number)
            let isTaken = window.admit(number)
            #expect(isTaken == isGood, "\(number) with \(highest)")
            if isGood { seen.insert(number) }
            highest = max(highest, number)
        }
    }
}
