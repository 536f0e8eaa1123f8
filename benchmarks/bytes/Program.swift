import Bytes
import CBench

/// Prints one line per claim: ours beside the same in C, in one run, in turn.
///
/// Times are the minimum of many short runs, the figure least disturbed by neighbours on the machine.
@main
enum Program {
    static func main() {
        print("claim                                   Swift          C   ratio   limit")
        parse()
        encode()
        checksum()
        others()
    }

    static func row(_ claim: String, _ ours: Double, _ theirs: Double, limit: String) {
        print("\(pad(claim, 36)) \(number(ours, 8)) \(number(theirs, 10)) \(number(ours / theirs, 7))   \(limit)")
    }

    static func parse() {
        let call = Call.sample()
        var best = (Double.infinity, Double.infinity)
        var sink: UInt64 = 0
        let rounds = 200_000
        call.withUnsafeBytes { bytes in
            for _ in 0..<25 {
                best.0 = min(best.0, nanoseconds(rounds) { sink &+= parseOnce(bytes) })
                best.1 = min(best.1, nanoseconds(rounds) { sink &+= bench_parse(bytes.baseAddress, bytes.count) })
            }
            precondition(parseOnce(bytes) == bench_parse(bytes.baseAddress, bytes.count), "both must read the same")
        }
        keep(sink)
        row("RPC call of \(call.count) bytes, parse (ns)", best.0, best.1, limit: "2.00")
    }

    static func encode() {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 256, alignment: 16)
        defer { memory.deallocate() }
        var best = (Double.infinity, Double.infinity)
        let rounds = 200_000
        for _ in 0..<25 {
            best.0 = min(best.0, nanoseconds(rounds) { encodeOnce(memory) })
            best.1 = min(best.1, nanoseconds(rounds) { bench_encode(memory.baseAddress, memory.count) })
        }
        row("24 u32 + opaque, encode (ns)", best.0, best.1, limit: "-")
    }

    static func checksum() {
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 << 10, alignment: 4096)
        defer { block.deallocate() }
        for i in block.indices { block[i] = UInt8(truncatingIfNeeded: i &* 7) }
        let bytes = UnsafeRawBufferPointer(block)
        for count in [144, 4096, 32 << 10] {
            let part = UnsafeRawBufferPointer(rebasing: bytes[0..<count])
            var best = Double.infinity
            var sink: UInt64 = 0
            let rounds = 2_000_000 / count + 100
            for _ in 0..<25 { best = min(best, nanoseconds(rounds) { sink &+= UInt64(CRC32C.of(part)) }) }
            keep(sink)
            let limit = count == 32 << 10 ? String(repeating: " ", count: 22) + "8.00" : ""
            print("\(pad("CRC32C of \(count) bytes (GB/s)", 36)) \(number(Double(count) / best, 8))\(limit)")
        }
    }

    static func others() {
        let name = Array("a-name-of-usual-length.txt".utf8)
        let hash = KeyedHash(1, 2)
        var sink: UInt64 = 0
        var best = Double.infinity
        for _ in 0..<25 { best = min(best, nanoseconds(100_000) { sink &+= hash(name.span.bytes) }) }
        print("\(pad("keyed hash of \(name.count) bytes (ns)", 36)) \(number(best, 8))")
        let pool = BufferPool(leasedBytesMax: 1 << 20, freeBytesMax: 1 << 20)
        best = .infinity
        for _ in 0..<25 {
            best = min(best, nanoseconds(100_000) { sink &+= UInt64(pool.lease(9000)?.capacity ?? 0) })
        }
        print("\(pad("buffer lease and return (ns)", 36)) \(number(best, 8))")
        keep(sink)
    }

    /// What a server reads of a LOOKUP call: header, AUTH_SYS with groups, directory handle, name.
    @inline(never)
    static func parseOnce(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var reader = Reader(bytes)
        do throws(BytesError) { return try Call.read(&reader) } catch { return 0 }
    }

    @inline(never)
    static func encodeOnce(_ memory: UnsafeMutableRawBufferPointer) {
        var writer = Writer(memory)
        for i in 0..<UInt32(24) { writer.u32(i) }
        writer.opaque(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory)[0..<18]))
        keep(UInt64((try? writer.finish()) ?? 0))
    }
}

enum Call {
    static func read(_ r: inout Reader) throws(BytesError) -> UInt64 {
        let xid = try r.u32()
        guard try r.u32() == 0, try r.u32() == 2 else { throw .malformed }
        var sum = UInt64(xid)
        sum &+= UInt64(try r.u32())
        sum &+= UInt64(try r.u32())
        sum &+= UInt64(try r.u32())
        guard try r.u32() == 1 else { throw .malformed }
        var credential = try r.sub(try r.count(limit: 400))
        sum &+= UInt64(try credential.u32())
        sum &+= UInt64(try credential.opaque(limit: 255).byteCount)
        sum &+= UInt64(try credential.u32())
        sum &+= UInt64(try credential.u32())
        for _ in 0..<(try credential.count(limit: 16)) { sum &+= UInt64(try credential.u32()) }
        sum &+= UInt64(try r.u32())
        _ = try r.opaque(limit: 400)
        let handle = try r.opaque(limit: 64)
        sum &+= UInt64(handle.byteCount)
        let name = try r.opaque(limit: 255)
        return sum &+ UInt64(name.byteCount)
    }

    static func sample() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = bytes.withUnsafeMutableBytes { memory in
            var w = Writer(memory)
            for value: UInt32 in [0x1234, 0, 2, 100_003, 3, 3, 1] { w.u32(value) }
            let length = w.reserve(4)
            let begin = w.position
            w.u32(99)
            w.opaque(Array("client-07.example.org".utf8).span.bytes)
            w.u32(1000)
            w.u32(1000)
            w.u32(4)
            for group: UInt32 in [4, 24, 27, 1000] { w.u32(group) }
            w.patch(u32: UInt32(w.position - begin), at: length)
            w.u32(0)
            w.u32(0)
            w.opaque([UInt8](repeating: 7, count: 28).span.bytes)
            w.opaque(Array("file.txt".utf8).span.bytes)
            return w.position
        }
        return Array(bytes[0..<count])
    }
}

func nanoseconds(_ rounds: Int, _ body: () -> Void) -> Double {
    let clock = ContinuousClock()
    let start = clock.now
    for _ in 0..<rounds { body() }
    let time = (clock.now - start).components
    return (Double(time.seconds) * 1e9 + Double(time.attoseconds) / 1e9) / Double(rounds)
}

/// The optimizer must not see that nobody wants the result.
@inline(never)
@_optimize(none)
func keep(_ value: UInt64) {}

func number(_ value: Double, _ width: Int) -> String {
    let hundredths = Int(value * 100 + 0.5)
    let text = "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
    return String(repeating: " ", count: max(0, width - text.utf8.count)) + text
}

func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.utf8.count))
}
