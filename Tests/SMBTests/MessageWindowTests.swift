import Testing

import SMB

@Suite struct MessageWindowTests {
    @Test func aNumberIsUsedOnceAndOnlyWhenGranted() {
        var window = MessageWindow()
        #expect(!window.take(1, charge: 1))
        #expect(window.take(0, charge: 1))
        #expect(!window.take(0, charge: 1))
        #expect(window.available == 0)
        #expect(window.grant(10) == 10)
        #expect(window.available == 10)
        #expect(window.take(5, charge: 3))
        #expect(!window.take(6, charge: 1))
        #expect(!window.take(4, charge: 2))
        #expect(window.available == 7)
    }

    @Test func theWindowNeverGrowsBeyondItsBound() {
        var window = MessageWindow()
        #expect(window.take(0, charge: 1))
        #expect(window.grant(1 << 20) == MessageWindow.creditsMax)
        #expect(window.grant(1) == 0)
        // As long as the lowest number is not used the window can not move.
        for id in 2...UInt64(MessageWindow.creditsMax) { #expect(window.take(id, charge: 1)) }
        #expect(window.grant(100) == 0)
        #expect(window.take(1, charge: 1))
        #expect(window.available == 0)
        #expect(window.grant(0) == 1)
    }

    @Test func manyRoundsWrapAround() {
        var window = MessageWindow()
        var next: UInt64 = 0
        for _ in 0..<5000 {
            let charge = min(window.available, 7)
            #expect(window.take(next, charge: charge))
            next += UInt64(charge)
            _ = window.grant(8)
        }
        #expect(!window.take(next - 1, charge: 1))
    }
}
