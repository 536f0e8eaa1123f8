import Bytes
import Testing

@Suite struct WriterTests {
    @Test func integersInBothOrders() {
        let bytes = written(capacity: 61) { w in
            w.u8(1)
            w.u16(0x0203)
            w.u32(0x0405_0607)
            w.u64(0x0809_0a0b_0c0d_0e0f)
            w.i32(-2)
            w.i64(-3)
            w.u16LE(0x0203)
            w.u32LE(0x0405_0607)
            w.u64LE(0x0809_0a0b_0c0d_0e0f)
            w.i32LE(-2)
            w.i64LE(-3)
            w.bool(true)
            w.bool(false)
        }
        let minus = [UInt8](repeating: 255, count: 7)
        var expected: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
        expected += [255, 255, 255, 254] + minus + [253]
        expected += [3, 2, 7, 6, 5, 4, 15, 14, 13, 12, 11, 10, 9, 8]
        expected += [254, 255, 255, 255, 253] + minus
        expected += [0, 0, 0, 1, 0, 0, 0, 0]
        #expect(bytes == expected)
    }

    @Test func exactlyFullIsNotOverflow() {
        let three: [UInt8] = [9, 8, 7]
        #expect(written(capacity: 4) { $0.u32(7) } == [0, 0, 0, 7])
        #expect(written(capacity: 3) { $0.u32(7) } == nil)
        #expect(written(capacity: 0) { $0.u8(7) } == nil)
        #expect(written(capacity: 0) { _ in } == [])
        #expect(written(capacity: 8) { $0.opaque(three.span.bytes) } == [0, 0, 0, 3, 9, 8, 7, 0])
        #expect(written(capacity: 7) { $0.opaque(three.span.bytes) } == nil)
        #expect(written(capacity: 5) { $0.text("häß") } == Array("häß".utf8))
        #expect(written(capacity: 4) { $0.text("häß") } == nil)
    }

    @Test func overflowIsStickyAndRewindEndsIt() {
        let bytes = written(capacity: 8) { w in
            w.u32(1)
            let mark = w.position
            w.u64(2)
            #expect(w.overflowed == true)
            // Would fit, but must not leave a hole in the message.
            w.u8(3)
            #expect(w.position == 4)
            #expect(w.remaining == 0)
            #expect((try? w.finish()) == nil)
            let more = w.space(1)
            #expect(more == nil)
            w.rewind(to: mark)
            #expect(w.overflowed == false)
            #expect(w.remaining == 4)
            w.u32(4)
        }
        #expect(bytes == [0, 0, 0, 1, 0, 0, 0, 4])
    }

    @Test func reservedLengthsArePatched() {
        let bytes = written(capacity: 40) { w in
            let length = w.reserve(4)
            let wide = w.reserve(8)
            w.u8(0xee)
            w.patch(u32: 0x0102_0304, at: length)
            w.patch(u64: 5, at: wide)
            let little = w.reserve(14)
            w.patch(u16LE: 0x0102, at: little)
            w.patch(u32LE: 0x0102_0304, at: little + 2)
            w.patch(u64LE: 5, at: little + 6)
        }
        var expected: [UInt8] = [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0xee]
        expected += [2, 1, 4, 3, 2, 1, 5, 0, 0, 0, 0, 0, 0, 0]
        #expect(bytes == expected)
        // A place that was never there is not patched over something else.
        let full = written(capacity: 6) { w in
            w.u32(1)
            let place = w.reserve(4)
            w.patch(u32: .max, at: place)
            w.rewind(to: 4)
        }
        #expect(full == [0, 0, 0, 1])
    }

    @Test(arguments: 0...9) func paddingIsZero(_ length: Int) {
        let body = (0..<length).map { UInt8($0 + 1) }
        let padding = [UInt8](repeating: 0, count: (4 - length % 4) % 4)
        #expect(written(capacity: 16) { $0.opaque(fixed: body.span.bytes) } == body + padding)
        #expect(written(capacity: 16) { $0.opaque(body.span.bytes) } == [0, 0, 0, UInt8(length)] + body + padding)
        let aligned = written(capacity: 16) { w in
            w.bytes(body.span.bytes)
            w.align(to: 8)
        }
        #expect(aligned == body + [UInt8](repeating: 0, count: (8 - length % 8) % 8))
    }

    @Test func spaceIsFilledInPlace() {
        let bytes = written(capacity: 6) { w in
            w.u8(1)
            w.space(4)?.copyBytes(from: [9, 9, 9, 9])
            #expect(w.written.count == 5)
            w.u8(2)
        }
        #expect(bytes == [1, 9, 9, 9, 9, 2])
    }

    @Test func randomMessagesComeBack() throws {
        var random = SeededRandom(11)
        for _ in 0..<500 {
            let a = random.next(), b = Int64(bitPattern: random.next()), name = random.bytes(Int(random.next() % 300))
            let bytes = written(capacity: 400) { w in
                w.u64(a)
                w.i64LE(b)
                w.opaque(name.span.bytes)
                w.u32(UInt32(truncatingIfNeeded: a))
                w.varint(a)
                w.signedVarint(b)
            }
            let whole = try #require(bytes)
            try whole.withUnsafeBytes { buffer in
                var r = Reader(buffer)
                #expect(try r.u64() == a)
                #expect(try r.i64LE() == b)
                let copy = try r.opaque(limit: 300).array()
                #expect(copy == name)
                #expect(try r.u32() == UInt32(truncatingIfNeeded: a))
                #expect(try r.varint() == a)
                #expect(try r.signedVarint() == b)
                #expect(r.remaining == 0)
            }
            // Cut anywhere, it is refused or read in part, never trapped on.
            let cut = Int(random.next() % UInt64(whole.count))
            #expect(written(capacity: cut) { w in w.bytes(whole.span.bytes) } == nil)
        }
    }
}
