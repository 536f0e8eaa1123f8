/// The time after a start in which clients take back what they held before, and nobody takes anything new.
///
/// Only clients that are known to have held something may reclaim. When all of them said that they are done, or when there are
/// none, the time is over at once.
public struct Grace: Sendable {
    public static let clientsMax = 65_536
    public static let nanosecondsDefault: UInt64 = 90_000_000_000

    private var end: UInt64
    /// Those who may still reclaim.
    private var expected: Set<UInt64>
    private var isOver: Bool

    /// No grace: nothing was held before.
    public init() {
        end = 0
        expected = []
        isOver = true
    }

    /// `clients` beyond the limit lose what they held: their reclaims are refused, nobody else is harmed.
    public init(from now: UInt64, nanoseconds: UInt64 = Self.nanosecondsDefault, clients: some Sequence<UInt64>) {
        let (end, isBeyond) = now.addingReportingOverflow(nanoseconds)
        self.end = isBeyond ? .max : end
        expected = []
        for client in clients where expected.count < Self.clientsMax { expected.insert(client) }
        isOver = expected.isEmpty
    }

    /// More clients may reclaim: a volume came that knows them.
    mutating func extend(from now: UInt64, nanoseconds: UInt64, clients: some Sequence<UInt64>) {
        if !isActive(now) { self = Grace() }
        let more = Grace(from: now, nanoseconds: nanoseconds, clients: clients)
        if more.isOver { return }
        end = max(end, more.end)
        for client in more.expected where expected.count < Self.clientsMax { expected.insert(client) }
        isOver = false
    }

    public func isActive(_ now: UInt64) -> Bool { !isOver && now < end }

    /// The client holds again all that it wants of what it held before.
    public mutating func finished(_ client: UInt64) {
        expected.remove(client)
        if expected.isEmpty { isOver = true }
    }

    func refusal(_ client: UInt64, isReclaim: Bool, _ now: UInt64) -> LockRefusal? {
        if !isReclaim { return isActive(now) ? .grace : nil }
        return isActive(now) && expected.contains(client) ? nil : .noReclaim
    }
}
