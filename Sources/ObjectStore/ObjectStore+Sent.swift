extension ObjectStore {
    /// Requests by verb: operations, or what was sent over HTTP for them.
    public struct Sent: Sendable, Equatable {
        public var puts: UInt64 = 0
        public var gets: UInt64 = 0
        public var heads: UInt64 = 0
        public var deletes: UInt64 = 0
        /// Of objects in parts.
        public var posts: UInt64 = 0
        /// Pages of listings.
        public var lists: UInt64 = 0
        /// For tokens and credentials, whatever their verb; nobody takes money for them.
        public var tokens: UInt64 = 0

        public init() {}

        public var all: UInt64 { puts + gets + heads + deletes + posts + lists + tokens }

        public static func + (a: Sent, b: Sent) -> Sent { combined(a, b, &+) }
        public static func - (a: Sent, b: Sent) -> Sent { combined(a, b, &-) }

        private static func combined(_ a: Sent, _ b: Sent, _ with: (UInt64, UInt64) -> UInt64) -> Sent {
            var both = a
            for field in [\Sent.puts, \.gets, \.heads, \.deletes, \.posts, \.lists, \.tokens] {
                both[keyPath: field] = with(a[keyPath: field], b[keyPath: field])
            }
            return both
        }
    }
}

extension ObjectStore.Counters {
    /// What came since.
    public static func - (a: Self, b: Self) -> Self {
        var rest = a
        rest.verbs = a.verbs - b.verbs
        for field in [\Self.bytesPut, \.bytesGot, \.retries, \.timeouts, \.hedges, \.hedgesWon] {
            rest[keyPath: field] -= b[keyPath: field]
        }
        return rest
    }
}
