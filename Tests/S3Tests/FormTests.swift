import Foundation
import S3
import Testing

/// Forms come from whom nobody knows yet: what they cost is what they are long.
@Suite struct FormTests {
    /// Of this thread, in nanoseconds for each byte: the least of some runs.
    private func cost(ofHeads length: Int) throws -> Double {
        let field =
            "--b\r\nx-a: " + String(repeating: "a", count: length)
            + "\r\ncontent-disposition: form-data; name=\"n\"\r\n\r\nv\r\n"
        let bytes = Array((String(repeating: field, count: 20) + "--b--\r\n").utf8)
        var least = Double.infinity
        for _ in 0..<5 {
            var decoder = try #require(FormDecoder(contentType: "multipart/form-data; boundary=b"))
            let before = processorTime()
            try bytes.withUnsafeBytes { try decoder.take($0) { (_) throws(S3Error) in } }
            least = min(least, Double(processorTime() - before))
            #expect(decoder.isComplete)
        }
        return least / Double(bytes.count)
    }

    private func processorTime() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    @Test func longHeadsAreLookedAtOnce() throws {
        let (short, long) = (try cost(ofHeads: 500), try cost(ofHeads: 4000))
        #expect(long < 3 * short, "\(short) and \(long) ns for each byte")
    }
}
