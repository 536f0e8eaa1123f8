import Bytes
import Glibc
import Testing

@Suite struct GarbageTests {
    @Test(arguments: 0..<20) func randomCallsOnRandomBytes(_ seed: UInt64) {
        var random = SeededRandom(seed)
        for _ in 0..<2000 {
            let program = random.bytes(Int(random.next() % 64))
            let memory = random.bytes(Int(random.next() % 64))
            program.withUnsafeBytes { program in memory.withUnsafeBytes { runReader(program: program, memory: $0) } }
        }
    }

    /// What the fuzzer found worth keeping runs with every test.
    @Test func fuzzersCorpus() throws {
        let inputs = try corpus("Reader")
        #expect(!inputs.isEmpty)
        for input in inputs {
            input.withUnsafeBytes { input in
                runReader(
                    program: UnsafeRawBufferPointer(rebasing: input.prefix(input.count / 2)),
                    memory: UnsafeRawBufferPointer(rebasing: input.dropFirst(input.count / 2)))
            }
        }
    }

    private func corpus(_ name: String) throws -> [[UInt8]] {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let folder = "/\(root)/fuzz/corpus/\(name)"
        let directory = try #require(opendir(folder))
        defer { closedir(directory) }
        var inputs: [[UInt8]] = []
        while let entry = readdir(directory) {
            let file = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if file.hasPrefix(".") { continue }
            let stream = try #require(fopen("\(folder)/\(file)", "r"))
            defer { fclose(stream) }
            var bytes = [UInt8](repeating: 0, count: 1 << 16)
            let count = fread(&bytes, 1, bytes.count, stream)
            inputs.append(Array(bytes[..<count]))
        }
        return inputs
    }
}
