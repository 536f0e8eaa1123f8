import Bytes
import Testing

@Suite struct VarintTests {
    /// Each length's first and last value.
    @Test func everyLength() throws {
        for length in 1...Varint.lengthMax {
            let first: UInt64 = length == 1 ? 0 : 1 << (7 * UInt64(length - 1))
            let last: UInt64 = length == Varint.lengthMax ? .max : (1 << (7 * UInt64(length))) - 1
            for value in [first, last] {
                #expect(Varint.length(value) == length)
                let bytes = try #require(written(capacity: length) { $0.varint(value) })
                #expect(bytes.count == length)
                #expect(written(capacity: length - 1) { $0.varint(value) } == nil)
                #expect(try read(bytes) { r throws(BytesError) in try r.varint() } == (value, 0))
                for cut in 0..<length {
                    #expect(failure(Array(bytes[..<cut])) { r throws(BytesError) in try r.varint() } == .truncated)
                }
            }
        }
    }

    @Test func onlyTheShortestForm() {
        #expect(failure([0x80, 0x00]) { r throws(BytesError) in try r.varint() } == .malformed)
        #expect(failure([0xff, 0x80, 0x00]) { r throws(BytesError) in try r.varint() } == .malformed)
        let nine = [UInt8](repeating: 0xff, count: 9)
        #expect(failure(nine + [0x01]) { r throws(BytesError) in try r.varint() } == nil)
        #expect(failure(nine + [0x00]) { r throws(BytesError) in try r.varint() } == .malformed)
        #expect(failure(nine + [0x02]) { r throws(BytesError) in try r.varint() } == .malformed)
        #expect(failure(nine + [0x81, 0x00]) { r throws(BytesError) in try r.varint() } == .malformed)
    }

    @Test func limitsAndSigns() throws {
        #expect(try read([100]) { r throws(BytesError) in try r.varint(limit: 100) }.0 == 100)
        #expect(failure([101]) { r throws(BytesError) in try r.varint(limit: 100) } == .tooLong)
        let nine = [UInt8](repeating: 0xff, count: 9)
        #expect(failure(nine + [0x01]) { r throws(BytesError) in try r.varint(limit: .max) } == .tooLong)
        for value in [Int64.min, -65, -64, -1, 0, 1, 63, 64, .max] {
            let bytes = try #require(written(capacity: 10) { $0.signedVarint(value) })
            #expect(try read(bytes) { r throws(BytesError) in try r.signedVarint() } == (value, 0))
        }
        #expect(Varint.zigzag(-1) == 1)
        #expect(Varint.zigzag(1) == 2)
        #expect(Varint.length(Varint.zigzag(-64)) == 1)
    }
}
