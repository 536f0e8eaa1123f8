/// The header of a fragment on a stream (RFC 5531 11): the length, and in the highest bit whether the record ends here.
public struct RecordMark: Equatable, Sendable {
    public static let bytes = 4
    public static let lengthMax = 0x7fff_ffff

    public var length: Int
    public var isLast: Bool

    @inlinable @inline(__always)
    public init(_ word: UInt32) {
        length = Int(word & 0x7fff_ffff)
        isLast = word & 0x8000_0000 != 0
    }

    public init(length: Int, isLast: Bool) {
        precondition(length >= 0 && length <= Self.lengthMax, "a fragment's length has 31 bits")
        self.length = length
        self.isLast = isLast
    }

    @inlinable @inline(__always)
    public var word: UInt32 { UInt32(truncatingIfNeeded: length) | (isLast ? 0x8000_0000 : 0) }
}
