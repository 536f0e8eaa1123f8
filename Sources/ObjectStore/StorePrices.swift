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

    /// Requests by verb, and what they cost, for people.
    public func words(_ counters: ObjectStore.Counters) -> String {
        let verbs = [
            (counters.puts, "PUT"), (counters.posts, "POST"), (counters.gets, "GET"), (counters.heads, "HEAD"),
            (counters.lists, "LIST"), (counters.deletes, "DELETE"), (counters.tokens, "TOKEN"),
        ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
        return (verbs + ["$\(Double(price(of: counters)) / 1e6)"]).joined(separator: " ")
    }

    /// In millionths of a dollar.
    public func price(of counters: ObjectStore.Counters) -> UInt64 {
        var sum: UInt64 = 0
        for (count, price) in [
            (counters.puts, put), (counters.gets, get), (counters.heads, head), (counters.deletes, delete),
            (counters.lists, list), (counters.posts, put),
        ] {
            let (product, isLarge) = count.multipliedReportingOverflow(by: price)
            let (longer, isLarger) = sum.addingReportingOverflow(product)
            guard !isLarge, !isLarger else { return .max }
            sum = longer
        }
        return sum / 1_000
    }
}
