/// Which message numbers a client may use: each once, within what it was granted ([MS-SMB2] 3.3.1.1, 3.3.5.2.3).
///
/// Invariant: `low` is the lowest number that was not used; `high - low` never exceeds `creditsMax`.
package struct MessageWindow {
    package static let creditsMax = 8192

    private var low: UInt64 = 0
    private var high: UInt64 = 1
    private var used = [UInt64](repeating: 0, count: creditsMax / 64)
    private var usedCount = 0

    package init() {}

    /// What the client may still use.
    package var available: Int { Int(high - low) - usedCount }

    private func isUsed(_ id: UInt64) -> Bool {
        let place = Int(id % UInt64(Self.creditsMax))
        return used[place / 64] & (1 << UInt64(place % 64)) != 0
    }

    /// Uses `charge` numbers from `id` on. False: one was not granted or used before.
    package mutating func take(_ id: UInt64, charge: Int) -> Bool {
        precondition(charge > 0, "a message costs a credit")
        guard id >= low, id < high, UInt64(charge) <= high - id else { return false }
        for offset in 0..<UInt64(charge) where isUsed(id + offset) { return false }
        for offset in 0..<UInt64(charge) {
            let place = Int((id + offset) % UInt64(Self.creditsMax))
            used[place / 64] |= 1 << UInt64(place % 64)
        }
        usedCount += charge
        while low < high, isUsed(low) {
            let place = Int(low % UInt64(Self.creditsMax))
            used[place / 64] &= ~(1 << UInt64(place % 64))
            low += 1
            usedCount -= 1
        }
        return true
    }

    /// Grants as many more of `wanted` as there is room for; at least one when the client has none left.
    package mutating func grant(_ wanted: Int) -> Int {
        let room = Self.creditsMax - Int(high - low)
        let granted = min(max(wanted, available == 0 ? 1 : 0), room)
        high += UInt64(granted)
        return granted
    }
}
