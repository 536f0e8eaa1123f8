/// What a store's operator takes for requests, in millionths of a dollar for a thousand of them.
public struct StorePrices: Sendable, Equatable {
    public var put: UInt64
    public var get: UInt64
    public var head: UInt64
    public var delete: UInt64
    public var list: UInt64

    public init(put: UInt64, get: UInt64, head: UInt64, delete: UInt64, list: UInt64) {
        (self.put, self.get, self.head, self.delete, self.list) = (put, get, head, delete, list)
    }

    /// What the large public stores ask for their standard class.
    public static let standard = StorePrices(put: 5_000, get: 400, head: 400, delete: 0, list: 5_000)

    /// In millionths of a dollar.
    public func price(of counters: ObjectStore.Counters) -> UInt64 {
        var sum: UInt64 = 0
        for (count, price) in [
            (counters.puts, put), (counters.gets, get), (counters.heads, head), (counters.deletes, delete),
            (counters.lists, list),
        ] {
            let (product, isLarge) = count.multipliedReportingOverflow(by: price)
            let (longer, isLarger) = sum.addingReportingOverflow(product)
            guard !isLarge, !isLarger else { return .max }
            sum = longer
        }
        return sum / 1_000
    }
}
