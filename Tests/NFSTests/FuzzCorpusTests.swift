import Bytes
import Glibc
import NFS
import RPC
import Testing
import WireSamples

/// What the fuzzer of fuzz/RPC.swift found worth keeping runs with every test: read or refused, never trapped on.
@Suite struct FuzzCorpusTests {
    private func inputs() throws -> [[UInt8]] {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let folder = "/\(root)/fuzz/corpus/RPC"
        let directory = try #require(opendir(folder))
        defer { closedir(directory) }
        var inputs: [[UInt8]] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard !name.hasPrefix("."), let file = fopen(folder + "/" + name, "r") else { continue }
            defer { fclose(file) }
            var bytes = [UInt8](repeating: 0, count: 8192)
            let count = fread(&bytes, 1, bytes.count, file)
            inputs.append(Array(bytes[..<count]))
        }
        return inputs
    }

    @Test func everyInputIsReadOrRefused() throws {
        let inputs = try inputs()
        #expect(inputs.count > 20)
        let types = WireType.all + WireType.ours
        var requests = 0, headers = 0
        for input in inputs {
            guard let choice = input.first else { continue }
            input.dropFirst().withUnsafeBytes { message in
                if Int(choice) < types.count {
                    _ = try? types[Int(choice)].roundTrip(message)
                } else if let procedure = NFS3Procedure(rawValue: UInt32(choice) &- 200) {
                    var reader = Reader(message)
                    if (try? NFS3Request(procedure, reading: &reader)) != nil { requests += 1 }
                } else {
                    var reader = Reader(message)
                    if let header = try? CallHeader(reading: &reader) {
                        headers += 1
                        var body = Reader(header.credential.body)
                        _ = try? GSSCredential(reading: &body)
                    }
                    var reply = Reader(message)
                    _ = try? ReplyHeader(reading: &reply)
                }
            }
        }
        // The seeds among them are whole.
        #expect(requests >= 5 && headers >= 5)
    }
}
