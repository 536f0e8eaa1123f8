import Bytes

/// Calls to a reader as bytes spell them: one byte says what to call, the next ones give its numbers. Seeds and the
/// fuzzer write such programs; whatever they say, a reader answers or throws, and stays within its memory.
func runReader(program: UnsafeRawBufferPointer, memory: UnsafeRawBufferPointer) {
    var calls = Reader(program)
    var reader = Reader(memory)
    while let call = try? calls.u8() {
        try? step(call, &calls, &reader)
        precondition(reader.position >= 0 && reader.position + reader.remaining == memory.count)
    }
}

private func step(_ call: UInt8, _ calls: inout Reader, _ reader: inout Reader) throws(BytesError) {
    switch call % 26 {
    case 0: _ = try reader.u8()
    case 1: _ = try reader.u16()
    case 2: _ = try reader.u32()
    case 3: _ = try reader.u64()
    case 4: _ = try reader.i32()
    case 5: _ = try reader.i64()
    case 6: _ = try reader.u16LE()
    case 7: _ = try reader.u32LE()
    case 8: _ = try reader.u64LE()
    case 9: _ = try reader.i32LE()
    case 10: _ = try reader.i64LE()
    case 11: _ = try reader.bool()
    case 12: _ = try reader.count(limit: number(&calls))
    case 13: _ = try reader.countLE(limit: number(&calls))
    case 14: touch(try reader.opaque(limit: number(&calls)))
    case 15: touch(try reader.opaque(fixed: number(&calls)))
    case 16: touch(try reader.bytes(number(&calls)))
    case 17: try reader.skip(number(&calls))
    case 18: try reader.align(to: 1 << (try calls.u8() & 15))
    case 19: _ = try reader.varint()
    case 20: _ = try reader.varint(limit: number(&calls))
    case 21: try reader.seek(to: number(&calls))
    case 22:
        var inner = try reader.sub(at: number(&calls), count: number(&calls))
        touch(inner.rest())
    case 23:
        var inner = Reader(try reader.bytes(number(&calls)))
        if !inner.isAtEnd { _ = try inner.varint() }
        touch(inner.rest())
    case 24:
        // Memory of its exact size, so that the sanitizer sees a byte too many.
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(try calls.u8()), alignment: 1)
        defer { copy.deallocate() }
        try reader.copy(into: copy)
    default:
        var inner = try reader.sub(number(&calls))
        _ = try inner.signedVarint()
        touch(inner.rest())
    }
}

/// Small numbers mostly, but also huge and negative ones.
private func number(_ calls: inout Reader) throws(BytesError) -> Int {
    let first = try calls.u8()
    return first < 0xf0 ? Int(first) : Int(truncatingIfNeeded: try calls.u64())
}

/// Reads every byte, so that the sanitizer sees each address.
private func touch(_ span: RawSpan) {
    var sum: UInt8 = 0
    for i in 0..<span.byteCount { sum &+= span.unsafeLoad(fromByteOffset: i, as: UInt8.self) }
    precondition(span.byteCount >= 0 || sum == 0)
}
