extension ObjectStore.Counters {
    /// What came since.
    public static func - (a: Self, b: Self) -> Self {
        var rest = a
        for field in [
            \Self.puts, \.gets, \.heads, \.deletes, \.lists, \.posts, \.tokens, \.bytesPut, \.bytesGot, \.retries,
            \.timeouts, \.hedges, \.hedgesWon,
        ] { rest[keyPath: field] -= b[keyPath: field] }
        return rest
    }
}

extension ObjectStore {
    /// Requests of HTTP by verb, as they were sent.
    public struct Sent: Sendable, Equatable {
        public var puts: UInt64 = 0
        public var gets: UInt64 = 0
        public var heads: UInt64 = 0
        public var deletes: UInt64 = 0
        public var posts: UInt64 = 0
        /// Pages of listings.
        public var lists: UInt64 = 0
        /// For tokens and credentials, whatever their verb.
        public var tokens: UInt64 = 0

        public init() {}

        public static func + (a: Sent, b: Sent) -> Sent {
            var sum = a
            sum.puts += b.puts
            sum.gets += b.gets
            sum.heads += b.heads
            sum.deletes += b.deletes
            sum.posts += b.posts
            sum.lists += b.lists
            sum.tokens += b.tokens
            return sum
        }
    }
}
