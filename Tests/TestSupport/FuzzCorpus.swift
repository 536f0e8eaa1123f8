import Glibc

/// The inputs that the fuzzer of this name found worth keeping.
public func fuzzCorpus(_ name: String) -> [[UInt8]] {
    let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let folder = "/\(root)/fuzz/corpus/\(name)"
    guard let directory = opendir(folder) else { return [] }
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
