import Glibc
import WireSamples

/// `xdr-samples COUNT SEED`: writes COUNT random messages of each type to standard output, each behind the lengths of
/// its type's name and of itself.
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
                emit(type.name, message)
            }
        }
    }

    private static func emit(_ name: String, _ message: [UInt8]) {
        var sample: [UInt8] = []
        for length in [UInt32(name.utf8.count), UInt32(message.count)] {
            withUnsafeBytes(of: length) { sample += $0 }
        }
        sample += Array(name.utf8) + message
        var rest = sample[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(1, $0.baseAddress, $0.count) }
            guard count > 0 else { fatalError("standard output does not take the samples") }
            rest = rest.dropFirst(count)
        }
    }
}
