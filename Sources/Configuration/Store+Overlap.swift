extension Configuration.Store {
    /// Whether objects of one may lie among the other's: the same place, or one below the other.
    public func overlaps(_ other: Self) -> Bool {
        func server(_ endpoint: String?) -> String {
            var text = endpoint?.lowercased() ?? ""
            while text.hasSuffix("/") { text.removeLast() }
            return text
        }
        guard kind == other.kind, bucket == other.bucket, server(endpoint) == server(other.endpoint) else {
            return false
        }
        func isBelow(_ a: String, _ b: String) -> Bool { b.isEmpty || a == b || a.hasPrefix(b + "/") }
        return isBelow(prefix, other.prefix) || isBelow(other.prefix, prefix)
    }
}
