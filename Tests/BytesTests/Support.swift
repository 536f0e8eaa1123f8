import Bytes
import Testing

/// Random numbers from a seed, so that a failure can be run again.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}

/// What `body` writes into memory of `capacity` bytes; nil when it did not fit. Bytes behind what was written must
/// stay as they were.
func written(capacity: Int, _ body: (inout Writer) -> Void) -> [UInt8]? {
    let guardBytes = 16
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity + guardBytes, alignment: 8)
    defer { memory.deallocate() }
    for i in memory.indices { memory[i] = 0xa5 }
    var writer = Writer(UnsafeMutableRawBufferPointer(rebasing: memory[0..<capacity]))
    body(&writer)
    for i in writer.position..<memory.count { #expect(memory[i] == 0xa5, "byte \(i) was touched") }
    guard let count = try? writer.finish() else { return nil }
    return [UInt8](memory[0..<count])
}

/// What a read throws, nil when it does not.
func failure<T>(_ bytes: [UInt8], _ body: (inout Reader) throws(BytesError) -> T) -> BytesError? {
    bytes.withUnsafeBytes { buffer in
        var reader = Reader(buffer)
        do throws(BytesError) {
            _ = try body(&reader)
            return nil
        } catch {
            return error
        }
    }
}

/// What a read answers, and how many bytes it left.
func read<T>(_ bytes: [UInt8], _ body: (inout Reader) throws(BytesError) -> T) throws -> (T, left: Int) {
    try bytes.withUnsafeBytes { buffer in
        var reader = Reader(buffer)
        let value = try body(&reader)
        return (value, reader.remaining)
    }
}
