import Bytes
import Testing

@Suite struct ReaderTests {
    static let eight: [UInt8] = [0x81, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0xf8]

    @Test func integersInBothOrders() throws {
        #expect(try read(Self.eight) { r throws(BytesError) in try r.u8() } == (0x81, 7))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.u16() } == (0x8102, 6))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.u32() } == (0x8102_0304, 4))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.u64() } == (0x8102_0304_0506_07f8, 0))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.i32() } == (-0x7efd_fcfc, 4))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.i64() } == (-0x7efd_fcfb_faf9_f808, 0))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.u16LE() } == (0x0281, 6))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.u32LE() } == (0x0403_0281, 4))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.u64LE() } == (0xf807_0605_0403_0281, 0))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.i32LE() } == (0x0403_0281, 4))
        #expect(try read(Self.eight) { r throws(BytesError) in try r.i64LE() } == (-0x07f8_f9fa_fbfc_fd7f, 0))
    }

    @Test func oneByteTooFew() {
        #expect(failure([]) { r throws(BytesError) in try r.u8() } == .truncated)
        #expect(failure([0]) { r throws(BytesError) in try r.u16() } == .truncated)
        #expect(failure([0, 0, 0]) { r throws(BytesError) in try r.u32() } == .truncated)
        #expect(failure([0, 0, 0]) { r throws(BytesError) in try r.i32LE() } == .truncated)
        #expect(failure([UInt8](repeating: 0, count: 7)) { r throws(BytesError) in try r.u64() } == .truncated)
        #expect(failure([UInt8](repeating: 0, count: 7)) { r throws(BytesError) in try r.i64LE() } == .truncated)
    }

    @Test func booleansAreZeroOrOne() throws {
        #expect(try read([0, 0, 0, 0]) { r throws(BytesError) in try r.bool() }.0 == false)
        #expect(try read([0, 0, 0, 1]) { r throws(BytesError) in try r.bool() }.0 == true)
        #expect(failure([0, 0, 0, 2]) { r throws(BytesError) in try r.bool() } == .malformed)
        #expect(failure([1, 0, 0, 0]) { r throws(BytesError) in try r.bool() } == .malformed)
    }

    @Test func countsAtTheLimitAndBeyond() throws {
        #expect(try read([0, 0, 0, 8]) { r throws(BytesError) in try r.count(limit: 8) }.0 == 8)
        #expect(failure([0, 0, 0, 9]) { r throws(BytesError) in try r.count(limit: 8) } == .tooLong)
        #expect(failure([255, 255, 255, 255]) { r throws(BytesError) in try r.count(limit: 8) } == .tooLong)
        #expect(try read([8, 0, 0, 0]) { r throws(BytesError) in try r.countLE(limit: 8) }.0 == 8)
        #expect(failure([9, 0, 0, 0]) { r throws(BytesError) in try r.countLE(limit: 8) } == .tooLong)
    }

    @Test(arguments: 0...9) func opaqueWithItsPadding(_ length: Int) throws {
        let padding = (4 - length % 4) % 4
        let body = (0..<length).map { UInt8($0 + 1) }
        let bytes = [0, 0, 0, UInt8(length)] + body + [UInt8](repeating: 0xee, count: padding) + [0x77]
        let whole = try read(bytes) { r throws(BytesError) in try r.opaque(limit: length).array() }
        #expect(whole == (body, 1))
        // One below the limit, and one byte of padding (or of the body) too few.
        #expect(failure(bytes) { r throws(BytesError) in try r.opaque(limit: length - 1).byteCount } == .tooLong)
        let short = Array(bytes.dropLast(2))
        #expect(failure(short) { r throws(BytesError) in try r.opaque(limit: 99).byteCount } == .truncated)

        let fixed = Array(bytes.dropFirst(4))
        #expect(try read(fixed) { r throws(BytesError) in try r.opaque(fixed: length).array() } == (body, 1))
        if length > 0 {
            let short = Array(fixed.dropLast(2))
            #expect(failure(short) { r throws(BytesError) in try r.opaque(fixed: length).byteCount } == .truncated)
        }
    }

    @Test func hugeLengthsDoNotOverflow() {
        let bytes: [UInt8] = [0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]
        #expect(failure(bytes) { r throws(BytesError) in try r.opaque(limit: .max).byteCount } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.opaque(fixed: .max).byteCount } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.bytes(.max).byteCount } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.bytes(-1).byteCount } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.skip(.min) } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.skip(.max) } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.sub(at: .max, count: .max).count } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.sub(at: 8, count: 1).count } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.sub(at: -1, count: 1).count } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.sub(at: 1, count: -1).count } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.seek(to: 9) } == .truncated)
        #expect(failure(bytes) { r throws(BytesError) in try r.seek(to: -1) } == .truncated)
    }

    @Test func alignmentCountsFromTheFirstByte() throws {
        for position in 0...8 {
            let left = try read(Self.eight) { r throws(BytesError) in
                try r.skip(position)
                try r.align(to: 8)
            }.left
            #expect(left == (position == 0 ? 8 : 0))
        }
        #expect(
            failure([1, 2, 3]) { r throws(BytesError) in
                try r.skip(1)
                try r.align(to: 4)
            } == .truncated)
    }

    @Test func subReadersEndWhereTheyShould() throws {
        let (values, left) = try read(Self.eight) { r throws(BytesError) -> [UInt8] in
            var inner = try r.sub(3)
            try inner.skip(1)
            let rest = inner.rest().array()
            #expect(inner.remaining == 0)
            #expect(inner.position == 3)
            #expect((try? inner.u8()) == nil)
            var placed = try r.sub(at: 7, count: 1)
            let last = try placed.u8()
            #expect(try r.sub(at: 8, count: 0).count == 0)
            return rest + [last, try r.u8()]
        }
        #expect(values == [2, 3, 0xf8, 4])
        #expect(left == 4)
    }

    @Test func copyFillsTheWholeBuffer() throws {
        var target = [UInt8](repeating: 0, count: 4)
        let left = try target.withUnsafeMutableBytes { target in
            try read(Self.eight) { r throws(BytesError) in try r.copy(into: target) }.left
        }
        #expect(target == [0x81, 2, 3, 4])
        #expect(left == 4)
        let tooLarge = UnsafeMutableRawBufferPointer.allocate(byteCount: 9, alignment: 8)
        defer { tooLarge.deallocate() }
        #expect(failure(Self.eight) { r throws(BytesError) in try r.copy(into: tooLarge) } == .truncated)
    }

    @Test func readersOverSpansAndNothing() throws {
        let span = Self.eight.span.bytes
        var reader = Reader(span)
        #expect(reader.count == 8)
        #expect(try reader.u32() == 0x8102_0304)
        #expect(reader.position == 4)
        try reader.seek(to: 8)
        #expect(reader.remaining == 0)

        var empty = Reader(UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(empty.remaining == 0)
        #expect(try empty.bytes(0).byteCount == 0)
        #expect(empty.rest().byteCount == 0)
        #expect((try? empty.u8()) == nil)
    }

    @Test func spansCompareByBytes() {
        let a: [UInt8] = [1, 2, 3]
        let b: [UInt8] = [1, 2, 200]
        let c: [UInt8] = [1, 2]
        #expect(equal(a, [1, 2, 3]))
        #expect(!equal(a, b))
        #expect(!equal(a, c))
        #expect(order(a, b) < 0)
        #expect(order(a, c) > 0)
        #expect(order(c, a) < 0)
        #expect(order(a, a) == 0)
        let none: [UInt8] = []
        #expect(equal(none, none))
        #expect(order(none, c) < 0)
    }

    private func equal(_ a: [UInt8], _ b: [UInt8]) -> Bool { a.span.bytes.equals(b.span.bytes) }
    private func order(_ a: [UInt8], _ b: [UInt8]) -> Int { a.span.bytes.compare(b.span.bytes) }
}
