import CShim

extension RawSpan {
    /// Whether both hold the same bytes.
    public func equals(_ other: RawSpan) -> Bool {
        guard byteCount == other.byteCount else { return false }
        return commonOrder(self, other) == 0
    }

    /// Byte order: below zero when this comes first, zero when equal.
    public func compare(_ other: RawSpan) -> Int {
        let order = commonOrder(self, other)
        return order != 0 ? order : byteCount - other.byteCount
    }

    /// A copy, for paths where an allocation does not matter.
    public func array() -> [UInt8] { withUnsafeBytes { [UInt8]($0) } }
}

/// Compares as many bytes as the shorter has.
private func commonOrder(_ a: RawSpan, _ b: RawSpan) -> Int {
    let count = min(a.byteCount, b.byteCount)
    if count == 0 { return 0 }
    return a.withUnsafeBytes { a in
        b.withUnsafeBytes { b in
            guard let a = a.baseAddress, let b = b.baseAddress else { return 0 }
            return Int(memcmp(a, b, count))
        }
    }
}
