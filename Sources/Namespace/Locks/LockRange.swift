/// The bytes that a lock covers, from `first` to `last`, both included, so that the last byte of a file of 2^64 bytes
/// can be named.
///
/// A Windows client may lock no bytes at all, at an offset. Such a range conflicts with one that has bytes on both sides of the
/// offset ([MS-FSA] 2.1.4.10). Here it is the range that ends before it begins: the rule for overlaps then says
/// exactly that. No bytes at offset 0 conflict with nothing; that range has no such form and is a case of its own.
public struct LockRange: Hashable, Sendable {
    public let first: UInt64
    public let last: UInt64
    /// No bytes at offset 0.
    let isVoid: Bool

    private init(first: UInt64, last: UInt64, isVoid: Bool) {
        self.first = first
        self.last = last
        self.isVoid = isVoid
    }

    public static let whole = LockRange(first: 0, last: .max, isVoid: false)
    static let void = LockRange(first: 0, last: 0, isVoid: true)

    /// As NLM says it: a length of 0, or one that goes to 2^64 - 1 or beyond, means to the end whatever becomes of it.
    public init(toEndIfZero offset: UInt64, length: UInt64) {
        let (last, isBeyond) = offset.addingReportingOverflow(length &- 1)
        self.init(first: offset, last: length == 0 || length == .max || isBeyond ? .max : last, isVoid: false)
    }

    /// As SMB says it: a length of 0 means no bytes. Nil: it goes beyond what a number of 64 bits can name
    /// (`STATUS_INVALID_LOCK_RANGE`).
    public init?(exactly offset: UInt64, length: UInt64) {
        guard length > 0 else {
            self = offset == 0 ? .void : LockRange(first: offset, last: offset - 1, isVoid: false)
            return
        }
        let (last, isBeyond) = offset.addingReportingOverflow(length - 1)
        guard !isBeyond else { return nil }
        self.init(first: offset, last: last, isVoid: false)
    }

    /// Bytes that are read or written; nil for none, which no lock forbids.
    public init?(accessed offset: UInt64, count: UInt64) {
        guard count > 0 else { return nil }
        let (last, isBeyond) = offset.addingReportingOverflow(count - 1)
        self.init(first: offset, last: isBeyond ? .max : last, isVoid: false)
    }

    /// From `first` to `last`, which is not before it.
    init(_ first: UInt64, through last: UInt64) {
        precondition(first <= last, "a range begins before it ends")
        self.init(first: first, last: last, isVoid: false)
    }

    public var isEmpty: Bool { isVoid || last < first }

    /// 0 for no bytes, and for all 2^64.
    public var length: UInt64 { isVoid ? 0 : last &- first &+ 1 }

    @inline(__always)
    public func overlaps(_ other: LockRange) -> Bool {
        first <= other.last && other.first <= last && !isVoid && !other.isVoid
    }

    /// As a record has it; what is no range is none.
    init?(recorded first: UInt64, _ last: UInt64, isVoid: Bool) {
        guard isVoid ? first == 0 && last == 0 : first == 0 || last >= first - 1 else { return nil }
        self.init(first: first, last: last, isVoid: isVoid)
    }

    func contains(_ other: LockRange) -> Bool { first <= other.first && other.last <= last }
}
