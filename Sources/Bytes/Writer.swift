/// Writes values one after the other into memory that the caller owns and keeps alive.
///
/// A write that does not fit writes nothing and makes the writer `overflowed`; all later writes then do nothing
/// either, so an encoder needs no check of its own until `finish`. That is as fast as checks that throw, and
/// encoders stay straight lines. What was written before the overflow is intact: `rewind` goes back to a known
/// good position, for replies that hold as many entries as fit.
///
/// Without a suffix the order of bytes is big-endian (XDR, NFS); `LE` is little-endian (SMB, our own records).
@frozen
public struct Writer: ~Copyable {
    // Invariant: base <= cursor <= end <= base + capacity. After an overflow `end` is `cursor`.
    @usableFromInline let base: UnsafeMutableRawPointer
    @usableFromInline var cursor: UnsafeMutableRawPointer
    @usableFromInline var end: UnsafeMutableRawPointer
    public let capacity: Int
    /// Whether something did not fit.
    @inlinable @inline(__always)
    public var overflowed: Bool { refused }
    @usableFromInline var refused: Bool

    @inlinable @inline(__always)
    public init(_ buffer: UnsafeMutableRawBufferPointer) {
        // Memory of no bytes may have no address; nothing is ever written to the one that stands in for it.
        base = buffer.baseAddress ?? UnsafeMutableRawPointer(bitPattern: 8).unsafelyUnwrapped
        cursor = base
        end = base + buffer.count
        capacity = buffer.count
        refused = false
    }

    /// How many bytes were written.
    @inlinable @inline(__always)
    public var position: Int { cursor - base }

    /// How many bytes still fit.
    @inlinable @inline(__always)
    public var remaining: Int { end - cursor }

    /// The bytes written so far.
    @inlinable @inline(__always)
    public var written: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: cursor - base) }

    /// Answers how many bytes were written, all of them.
    @inlinable @inline(__always)
    public func finish() throws(BytesError) -> Int {
        guard !overflowed else { throw .overflow }
        return position
    }

    /// Forgets what was written behind `position`, an overflow too.
    @inlinable
    public mutating func rewind(to position: Int) {
        precondition(position >= 0 && position <= self.position, "a writer rewinds to where it was")
        cursor = base + position
        end = base + capacity
        refused = false
    }

    /// Takes the next `count` bytes: the one place where the cursor moves forward.
    @inlinable @inline(__always)
    mutating func claim(_ count: Int) -> UnsafeMutableRawPointer? {
        guard count >= 0, end - cursor >= count else {
            overflow()
            return nil
        }
        let claimed = cursor
        cursor = claimed + count
        return claimed
    }

    // Inlined: a call that takes the writer's address would keep it in memory instead of registers.
    @inlinable @inline(__always)
    mutating func overflow() {
        refused = true
        end = cursor
    }

    @inlinable @inline(__always)
    mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) {
        claim(MemoryLayout<T>.size)?.storeBytes(of: value, as: T.self)
    }
}

// MARK: Integers

extension Writer {
    @inlinable @inline(__always)
    public mutating func u8(_ value: UInt8) { integer(value) }
    @inlinable @inline(__always)
    public mutating func u16(_ value: UInt16) { integer(value.bigEndian) }
    @inlinable @inline(__always)
    public mutating func u32(_ value: UInt32) { integer(value.bigEndian) }
    @inlinable @inline(__always)
    public mutating func u64(_ value: UInt64) { integer(value.bigEndian) }
    @inlinable @inline(__always)
    public mutating func i32(_ value: Int32) { integer(value.bigEndian) }
    @inlinable @inline(__always)
    public mutating func i64(_ value: Int64) { integer(value.bigEndian) }
    @inlinable @inline(__always)
    public mutating func u16LE(_ value: UInt16) { integer(value.littleEndian) }
    @inlinable @inline(__always)
    public mutating func u32LE(_ value: UInt32) { integer(value.littleEndian) }
    @inlinable @inline(__always)
    public mutating func u64LE(_ value: UInt64) { integer(value.littleEndian) }
    @inlinable @inline(__always)
    public mutating func i32LE(_ value: Int32) { integer(value.littleEndian) }
    @inlinable @inline(__always)
    public mutating func i64LE(_ value: Int64) { integer(value.littleEndian) }
    /// XDR's boolean.
    @inlinable @inline(__always)
    public mutating func bool(_ value: Bool) { u32(value ? 1 : 0) }
}

// MARK: Bytes

extension Writer {
    @inlinable @inline(__always)
    public mutating func bytes(_ bytes: UnsafeRawBufferPointer) {
        guard let place = claim(bytes.count), let source = bytes.baseAddress else { return }
        place.copyMemory(from: source, byteCount: bytes.count)
    }

    @inlinable @inline(__always)
    public mutating func bytes(_ span: RawSpan) { span.withUnsafeBytes { bytes($0) } }

    /// The text's UTF-8, without length or end mark.
    @inlinable
    public mutating func text(_ text: String) {
        var text = text
        text.withUTF8 { bytes(UnsafeRawBufferPointer($0)) }
    }

    @inlinable @inline(__always)
    public mutating func zeros(_ count: Int) {
        claim(count)?.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    }

    /// XDR's opaque of variable length: the length, the bytes, and zeros up to a multiple of four.
    @inlinable @inline(__always)
    public mutating func opaque(_ bytes: UnsafeRawBufferPointer) {
        guard let length = UInt32(exactly: bytes.count) else { return overflow() }
        u32(length)
        opaque(fixed: bytes)
    }

    @inlinable @inline(__always)
    public mutating func opaque(_ span: RawSpan) { span.withUnsafeBytes { opaque($0) } }

    /// XDR's opaque of fixed length: the bytes, and zeros up to a multiple of four.
    @inlinable @inline(__always)
    public mutating func opaque(fixed bytes: UnsafeRawBufferPointer) {
        self.bytes(bytes)
        zeros(-bytes.count & 3)
    }

    @inlinable @inline(__always)
    public mutating func opaque(fixed span: RawSpan) { span.withUnsafeBytes { opaque(fixed: $0) } }

    /// Zeros up to the next multiple of `alignment`, a power of two, counted from the writer's first byte.
    @inlinable @inline(__always)
    public mutating func align(to alignment: Int) {
        precondition(alignment > 0 && alignment & (alignment - 1) == 0, "an alignment is a power of two")
        zeros(-position & (alignment - 1))
    }

    /// The next `count` bytes for the caller to fill, all of them: read from a file straight into a reply, for
    /// one. Nil when they do not fit.
    @inlinable
    public mutating func space(_ count: Int) -> UnsafeMutableRawBufferPointer? {
        guard let place = claim(count) else { return nil }
        return UnsafeMutableRawBufferPointer(start: place, count: count)
    }
}

// MARK: Patching

extension Writer {
    /// Leaves room for a number that is known later (a length, mostly), zero until then; answers where.
    @inlinable @inline(__always)
    public mutating func reserve(_ count: Int) -> Int {
        let place = position
        zeros(count)
        return place
    }

    @inlinable @inline(__always)
    public mutating func patch(u32 value: UInt32, at place: Int) { patch(value.bigEndian, at: place) }
    @inlinable @inline(__always)
    public mutating func patch(u64 value: UInt64, at place: Int) { patch(value.bigEndian, at: place) }
    @inlinable @inline(__always)
    public mutating func patch(u16LE value: UInt16, at place: Int) { patch(value.littleEndian, at: place) }
    @inlinable @inline(__always)
    public mutating func patch(u32LE value: UInt32, at place: Int) { patch(value.littleEndian, at: place) }
    @inlinable @inline(__always)
    public mutating func patch(u64LE value: UInt64, at place: Int) { patch(value.littleEndian, at: place) }

    @inlinable @inline(__always)
    mutating func patch<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at place: Int) {
        // An overflow may have eaten the place itself; there is nothing to patch then, `finish` will tell.
        if overflowed { return }
        precondition(place >= 0 && place <= position - MemoryLayout<T>.size, "a patch lies in what was written")
        (base + place).storeBytes(of: value, as: T.self)
    }
}
