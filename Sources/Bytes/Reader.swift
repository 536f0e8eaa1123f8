/// Reads values one after the other from memory that it borrows. It can not outlive that memory, never reads beyond
/// it, and never traps, whatever the bytes say: each length from outside is checked before it is used.
///
/// Without a suffix the order of bytes is big-endian (XDR, NFS); `LE` is little-endian (SMB, our own records).
///
///     var reader = Reader(bytes)
///     let procedure = try reader.u32()
///     let name = try reader.opaque(limit: 255)
///
/// After a throw the position is unspecified but still within the memory.
@frozen
public struct Reader: ~Escapable {
    // Two pointers and one comparison for each read. Invariant: start <= cursor <= end.
    @usableFromInline let start: UnsafeRawPointer
    @usableFromInline var cursor: UnsafeRawPointer
    @usableFromInline let end: UnsafeRawPointer

    /// Borrows `buffer`; the caller keeps its memory alive and unchanged while the reader is in use.
    @inlinable @inline(__always)
    @_lifetime(borrow buffer)
    public init(_ buffer: UnsafeRawBufferPointer) {
        // An empty buffer may have no address; nothing is ever read from the one that stands in for it.
        let base = buffer.baseAddress ?? UnsafeRawPointer(bitPattern: 8).unsafelyUnwrapped
        start = base
        cursor = base
        end = base + buffer.count
    }

    @inlinable @inline(__always)
    @_lifetime(copy span)
    public init(_ span: RawSpan) {
        // The pointer leaves the closure, and the reader's lifetime takes over what the closure guarded.
        let buffer = span.withUnsafeBytes { $0 }
        let reader = Reader(buffer)
        self = _overrideLifetime(reader, copying: span)
    }

    @inlinable @inline(__always)
    @_lifetime(immortal)
    init(from first: UnsafeRawPointer, to end: UnsafeRawPointer) {
        start = first
        cursor = first
        self.end = end
    }

    /// How many bytes are left.
    @inlinable @inline(__always)
    public var remaining: Int { end - cursor }

    @inlinable @inline(__always)
    public var isAtEnd: Bool { cursor == end }

    /// How many bytes lie before the next one.
    @inlinable @inline(__always)
    public var position: Int { cursor - start }

    /// How many bytes there are in all.
    @inlinable @inline(__always)
    public var count: Int { end - start }

    /// Takes `count` bytes: the one place where the cursor moves.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    mutating func take(_ count: Int) throws(BytesError) -> UnsafeRawPointer {
        guard count >= 0, end - cursor >= count else { throw .truncated }
        let taken = cursor
        cursor = taken + count
        return taken
    }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type) throws(BytesError) -> T {
        try take(MemoryLayout<T>.size).loadUnaligned(as: T.self)
    }
}

// MARK: Integers

extension Reader {
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func u8() throws(BytesError) -> UInt8 { try integer(UInt8.self) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func u16() throws(BytesError) -> UInt16 { UInt16(bigEndian: try integer(UInt16.self)) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func u32() throws(BytesError) -> UInt32 { UInt32(bigEndian: try integer(UInt32.self)) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func u64() throws(BytesError) -> UInt64 { UInt64(bigEndian: try integer(UInt64.self)) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func i32() throws(BytesError) -> Int32 { Int32(bigEndian: try integer(Int32.self)) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func i64() throws(BytesError) -> Int64 { Int64(bigEndian: try integer(Int64.self)) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func u16LE() throws(BytesError) -> UInt16 { UInt16(littleEndian: try integer(UInt16.self)) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func u32LE() throws(BytesError) -> UInt32 { UInt32(littleEndian: try integer(UInt32.self)) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func u64LE() throws(BytesError) -> UInt64 { UInt64(littleEndian: try integer(UInt64.self)) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func i32LE() throws(BytesError) -> Int32 { Int32(littleEndian: try integer(Int32.self)) }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func i64LE() throws(BytesError) -> Int64 { Int64(littleEndian: try integer(Int64.self)) }

    /// XDR's boolean: four bytes that say 0 or 1.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func bool() throws(BytesError) -> Bool {
        let value = try u32()
        guard value <= 1 else { throw .malformed }
        return value == 1
    }

    /// A 32-bit count of things that follow, at most `limit`.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func count(limit: Int) throws(BytesError) -> Int {
        let value = Int(try u32())
        guard value <= limit else { throw .tooLong }
        return value
    }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func countLE(limit: Int) throws(BytesError) -> Int {
        let value = Int(try u32LE())
        guard value <= limit else { throw .tooLong }
        return value
    }
}

// MARK: Bytes

extension Reader {
    /// The next `count` bytes, in place.
    @inlinable @inline(__always)
    @_lifetime(copy self)
    @_lifetime(self: copy self)
    public mutating func bytes(_ count: Int) throws(BytesError) -> RawSpan {
        let first = try take(count)
        let span = RawSpan(_unsafeStart: first, byteCount: count)
        return _overrideLifetime(span, copying: self)
    }

    /// All that is left, in place.
    @inlinable @inline(__always)
    @_lifetime(copy self)
    @_lifetime(self: copy self)
    public mutating func rest() -> RawSpan {
        let span = RawSpan(_unsafeStart: cursor, byteCount: end - cursor)
        cursor = end
        return _overrideLifetime(span, copying: self)
    }

    /// XDR's opaque of fixed length: `count` bytes and what fills them up to a multiple of four.
    @inlinable @inline(__always)
    @_lifetime(copy self)
    @_lifetime(self: copy self)
    public mutating func opaque(fixed count: Int) throws(BytesError) -> RawSpan {
        let span = try bytes(count)
        _ = try take(-count & 3)
        return _overrideLifetime(span, copying: self)
    }

    /// XDR's opaque or string of variable length: a length of at most `limit`, that many bytes, and what fills
    /// them up to a multiple of four. The filling is not looked at: clients leave anything there.
    @inlinable @inline(__always)
    @_lifetime(copy self)
    @_lifetime(self: copy self)
    public mutating func opaque(limit: Int) throws(BytesError) -> RawSpan {
        let length = try count(limit: limit)
        let span = try bytes(length)
        _ = try take(-length & 3)
        return _overrideLifetime(span, copying: self)
    }

    /// Copies bytes out, as many as `buffer` holds.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func copy(into buffer: UnsafeMutableRawBufferPointer) throws(BytesError) {
        let first = try take(buffer.count)
        buffer.copyMemory(from: UnsafeRawBufferPointer(start: first, count: buffer.count))
    }

    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func skip(_ count: Int) throws(BytesError) { _ = try take(count) }

    /// Skips to the next multiple of `alignment`, a power of two, counted from the reader's first byte.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func align(to alignment: Int) throws(BytesError) {
        precondition(alignment > 0 && alignment & (alignment - 1) == 0, "an alignment is a power of two")
        _ = try take(-position & (alignment - 1))
    }

    /// A reader of the next `count` bytes alone; this one goes on behind them.
    @inlinable @inline(__always)
    @_lifetime(copy self)
    @_lifetime(self: copy self)
    public mutating func sub(_ count: Int) throws(BytesError) -> Reader {
        let first = try take(count)
        let reader = Reader(from: first, to: first + count)
        return _overrideLifetime(reader, copying: self)
    }

    /// A reader of `count` bytes that lie `offset` bytes behind the first one, wherever this reader stands: SMB
    /// names its buffers so. Both numbers may come from the wire.
    @inlinable @inline(__always)
    @_lifetime(copy self)
    public func sub(at offset: Int, count: Int) throws(BytesError) -> Reader {
        guard offset >= 0, count >= 0, offset <= self.count, count <= self.count - offset else { throw .truncated }
        let reader = Reader(from: start + offset, to: start + offset + count)
        return _overrideLifetime(reader, copying: self)
    }

    /// Goes to the byte `position` bytes behind the first one; the end itself is allowed.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func seek(to position: Int) throws(BytesError) {
        guard position >= 0, position <= count else { throw .truncated }
        cursor = start + position
    }
}
