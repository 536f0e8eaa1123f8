/// Whether it pays to wait awake for what is about to come: not after it did not come some times, until it is tried again.
struct Patience {
    /// Waits in vain, after which nobody waits awake so many times.
    private static let vainMax = 4
    private static let pause = 64
    private var vain = 0

    mutating func pays() -> Bool {
        guard vain >= Self.vainMax else { return true }
        vain += 1
        guard vain >= Self.vainMax + Self.pause else { return false }
        vain = Self.vainMax - 1
        return true
    }

    mutating func ended(inVain: Bool) { vain = inVain ? vain + 1 : 0 }
}
