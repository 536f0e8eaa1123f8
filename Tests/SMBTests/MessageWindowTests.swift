import SMB
import Testing

@Suite struct MessageWindowTests {
    /// A window whose answers can be asked for in an expectation.
    private final class Window {
        var window = MessageWindow()
        func take(_ id: UInt64, _ charge: Int) -> Bool { window.take(id, charge: charge) }
        func grant(_ wanted: Int) -> Int { window.grant(wanted) }
        var available: Int { window.available }
    }

    @Test func aNumberIsUsedOnceAndOnlyWhenGranted() {
        let window = Window()
        #expect(!window.take(1, 1))
        #expect(window.take(0, 1))
        #expect(!window.take(0, 1))
        #expect(window.available == 0)
        #expect(window.grant(10) == 10)
        #expect(window.available == 10)
        #expect(window.take(5, 3))
        #expect(!window.take(6, 1))
        #expect(!window.take(4, 2))
        #expect(window.available == 7)
    }

    @Test func theWindowNeverGrowsBeyondItsBound() {
        let window = Window()
        #expect(window.take(0, 1))
        #expect(window.grant(1 << 20) == MessageWindow.creditsMax)
        #expect(window.grant(1) == 0)
        // As long as the lowest number is not used the window can not move.
        for id in 2...UInt64(MessageWindow.creditsMax) { #expect(window.take(id, 1)) }
        #expect(window.grant(100) == 0)
        #expect(window.take(1, 1))
        #expect(window.available == 0)
        #expect(window.grant(0) == 1)
    }

    @Test func manyRoundsWrapAround() {
        let window = Window()
        var next: UInt64 = 0
        for _ in 0..<5000 {
            let charge = min(window.available, 7)
            #expect(window.take(next, charge))
            next += UInt64(charge)
            _ = window.grant(8)
        }
        #expect(!window.take(next - 1, 1))
    }
}
