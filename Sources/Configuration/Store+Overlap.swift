extension Configuration.Store {
    /// Whether objects of one may lie among the other's: the same place, or one below the other.
    public func overlaps(_ other: Self) -> Bool {
        guard kind == other.kind, bucket == other.bucket, endpoint == other.endpoint else { return false }
        func isBelow(_ a: String, _ b: String) -> Bool { b.isEmpty || a == b || a.hasPrefix(b + "/") }
        return isBelow(prefix, other.prefix) || isBelow(other.prefix, prefix)
    }
}
