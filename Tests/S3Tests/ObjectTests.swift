import Crypto
import HTTP
import Runtime
import S3
import Testing

@Suite struct ObjectTests {
    @Test func recordsComeBack() {
        var record = ObjectRecord()
        record.headers = [.contentType: "a/b", .expires: "x"]
        record.tags = [Tag(key: "k", value: ""), Tag(key: "ü", value: "v")]
        record.sum = ObjectRecord.Sum(algorithm: .crc32, isComposite: true, value: [1, 2, 3, 4])
        record.partSizes = [5, 5, 5, 1 << 40, 7]
        record.partSums = [[1, 2, 3, 4], [5, 6, 7, 8]]
        record.uploadID = "id"
        record.acl = .publicRead
        let bytes = record.encoded
        #expect(ObjectRecord(bytes) == record)
        for count in 0..<bytes.count {
            // Cut short it is none, or one with fewer fields: never a trap.
            _ = ObjectRecord(Array(bytes[..<count]))
        }
        #expect(ObjectRecord([]) == nil && ObjectRecord([2]) == nil)
        // Part counts beyond what an object may have.
        #expect(ObjectRecord([1, 17, 4, 0, 0, 0, 0x91, 0x4e, 1, 0]) == nil)
    }

    @Test func ranges() throws {
        func range(_ text: String, _ size: UInt64) throws -> ByteRange? { try ByteRange(text, size: size) }
        #expect(try range("bytes=0-4", 10) == ByteRange(offset: 0, length: 5))
        #expect(try range("bytes=5-", 10) == ByteRange(offset: 5, length: 5))
        #expect(try range("bytes=-3", 10) == ByteRange(offset: 7, length: 3))
        #expect(try range("bytes=-30", 10) == ByteRange(offset: 0, length: 10))
        #expect(try range("bytes=9-99999999999999999999999", 10) == ByteRange(offset: 9, length: 1))
        for whole in ["bytes=", "bytes=-", "bytes=a-b", "bytes=3-2", "bytes=0-1,3-4", "bits=0-1", "bytes=1-2-3"] {
            #expect(try range(whole, 10) == nil)
        }
        for bad in ["bytes=10-", "bytes=99999999999999999999999-", "bytes=-0"] {
            #expect(throws: S3Error.self) { try range(bad, 10) }
        }
        #expect(throws: S3Error.self) { try range("bytes=-1", 0) }
    }

    @Test func times() {
        #expect(Timestamp.basic("20130524T000000Z") == 1_369_353_600)
        #expect(Timestamp.http("Fri, 24 May 2013 00:00:00 GMT") == 1_369_353_600)
        #expect(Timestamp.extended("2013-05-24T00:00:00Z") == 1_369_353_600)
        #expect(Timestamp.extended("2013-05-24T00:00:00.123Z") == 1_369_353_600)
        #expect(Timestamp.extended(nanoseconds: 1_369_353_600_999_999_999) == "2013-05-24T00:00:00.000Z")
        #expect(Timestamp.extended(nanoseconds: -1) == "1969-12-31T23:59:59.000Z")
        #expect(Timestamp.basic("20130524T000000") == nil && Timestamp.basic("2013x524T000000Z") == nil)
        for seconds in stride(from: -62_000_000_000 as Int64, to: 250_000_000_000, by: 987_654_321) {
            #expect(Timestamp.http(HTTPDate.format(seconds)) == seconds || seconds < -62_135_596_800)
        }
    }

    @Test func keysThatAreNoPaths() {
        for key in ["/a", "a//b", "a/./b", "..", "a/..", "//", "a\u{0}"] {
            #expect(throws: S3Error.self) { try ObjectKey(Array(key.utf8)) }
        }
        #expect(throws: S3Error.self) { try ObjectKey([UInt8](repeating: 97, count: 256)) }
        #expect(throws: Never.self) { try ObjectKey([UInt8](repeating: 97, count: 255)) }
    }
}
