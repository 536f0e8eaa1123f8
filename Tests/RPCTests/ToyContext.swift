import Bytes
import RPC
import Synchronization
import TestSupport

/// A mechanism without secrets: a signature is a sum, encryption turns bits.
final class ToyContext: GSSContext {
    /// That it makes until it is at its end.
    private let signatures: Mutex<Int>

    init(signatures: Int = .max) { self.signatures = Mutex(signatures) }

    /// From now on.
    func mayMake(_ signatures: Int) { self.signatures.withLock { $0 = signatures } }

    func verifies(_ message: UnsafeRawBufferPointer, _ signature: UnsafeRawBufferPointer) -> Bool {
        Array(signature) == Self.sum(Array(message))
    }
    func sign(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int? {
        let mayGoOn = signatures.withLock { left in
            left -= 1
            return left >= 0
        }
        guard mayGoOn else { return nil }
        place.copyBytes(from: Self.sum(Array(message)))
        return 4
    }
    func wrap(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int? {
        guard place.count >= message.count else { return nil }
        place.copyBytes(from: message.map { $0 ^ 0x5a })
        return message.count
    }
    func unwrap(_ wrapped: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
        wrapped.map { $0 ^ 0x5a }.withUnsafeBytes { body($0) }
        return true
    }

    static func sum(_ message: [UInt8]) -> [UInt8] {
        let sum = message.reduce(UInt32(7)) { $0 &* 31 &+ UInt32($1) }
        return encoded(capacity: 4) { $0.u32(sum) }
    }
}
