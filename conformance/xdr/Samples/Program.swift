import Glibc
import WireSamples

/// `xdr-samples COUNT SEED`: writes COUNT random messages of each type to standard output, each behind the lengths of
/// its type's name, of itself, and of what its fields are by their names in C; then messages whose fields are named.
@main enum Program {
    static func main() {
        let arguments = CommandLine.arguments.dropFirst().compactMap { UInt64($0) }
        guard arguments.count == 2 else { fatalError("usage: xdr-samples COUNT SEED") }
        var random = SeededRandom(arguments[1])
        for type in WireType.all {
            var left = arguments[0]
            var attempts = 0
            while left > 0 {
                attempts += 1
                precondition(attempts < 1_000_000, "random words never make a \(type.name)")
                guard let message = random.message(type) else { continue }
                left -= 1
                emit(type.name, message, [])
            }
        }
        for _ in 0..<arguments[0] {
            for sample in NamedSample.all(&random) { emit(sample.type, sample.message, sample.fields) }
        }
    }

    private static func emit(_ name: String, _ message: [UInt8], _ fields: [String]) {
        let text = fields.joined(separator: "\n")
        var sample: [UInt8] = []
        for length in [name.utf8.count, message.count, text.utf8.count] {
            withUnsafeBytes(of: UInt32(length)) { sample += $0 }
        }
        sample += Array(name.utf8) + message + Array(text.utf8)
        var rest = sample[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
            guard count > 0 else { fatalError("standard output does not take the samples") }
            rest = rest.dropFirst(count)
        }
    }
}
