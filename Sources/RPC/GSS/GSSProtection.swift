import Bytes

/// How one call of a context is protected, and its answer (RFC 2203 5.3.2 and 5.3.3).
final class GSSProtection: CallProtection {
    private let context: any GSSContext
    private let sequence: UInt32
    private let service: GSS.Service

    init(_ context: any GSSContext, _ sequence: UInt32, _ service: GSS.Service) {
        self.context = context
        self.sequence = sequence
        self.service = service
    }

    /// Of a number as it travels. Nil: the context has ended.
    static func sign(_ number: UInt32, _ context: any GSSContext) -> [UInt8]? {
        withUnsafeBytes(of: number.bigEndian) { sign($0, context) }
    }

    private static func sign(_ message: UnsafeRawBufferPointer, _ context: any GSSContext) -> [UInt8]? {
        var isSigned = false
        let signature = [UInt8](unsafeUninitializedCapacity: GSS.signatureMax) { place, count in
            let signed = context.sign(message, into: UnsafeMutableRawBufferPointer(place))
            isSigned = signed != nil
            count = signed ?? 0
        }
        return isSigned ? signature : nil
    }

    func unwrap(_ arguments: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
        switch service {
        case .none:
            body(arguments)
            return true
        case .integrity:
            var reader = Reader(arguments)
            do throws(BytesError) {
                let signed = try GSSSignedData(reading: &reader)
                guard reader.isAtEnd, context.verifies(signed.data, signed.signature) else {
                    throw BytesError.malformed
                }
                try show(signed.data, body)
                return true
            } catch { return false }
        case .privacy:
            var reader = Reader(arguments)
            var isGood = false
            do throws(BytesError) {
                let encrypted = try GSSEncryptedData(reading: &reader)
                guard reader.isAtEnd else { throw BytesError.malformed }
                let isOurs = context.unwrap(encrypted.data) { plain in
                    do throws(BytesError) {
                        try show(plain, body)
                        isGood = true
                    } catch { return }
                }
                return isOurs && isGood
            } catch { return false }
        }
    }

    /// Only if the number is the call's.
    private func show(_ plain: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) throws(BytesError) {
        var reader = Reader(plain)
        let numbered = try GSSNumberedData(reading: &reader)
        guard numbered.sequence == sequence else { throw .malformed }
        body(numbered.arguments)
    }

    func withVerifier(_ body: (Authenticator) -> Void) -> Bool {
        guard let signature = Self.sign(sequence, context) else { return false }
        signature.withUnsafeBytes { body(Authenticator(flavor: AuthFlavor.gss, body: $0)) }
        return true
    }

    var wrapsResults: Bool { service != .none }
    var wrappedOverheadMax: Int { 2 * GSS.signatureMax + 16 }

    /// What can not be signed or encrypted is not sent: it overflows, and the answer is a failure.
    func wrap(_ results: UnsafeRawBufferPointer, into writer: inout Writer) {
        let plain = Block(capacity: 4 + results.count)
        var inner = Writer(plain.free)
        inner.u32(sequence)
        inner.bytes(results)
        let place = writer.reserve(4)
        guard service == .privacy else {
            writer.patch(u32: UInt32(inner.position), at: place)
            writer.bytes(inner.written)
            writer.align(to: 4)
            guard let signature = Self.sign(inner.written, context) else { return writer.zeros(writer.remaining + 1) }
            return signature.withUnsafeBytes { writer.opaque($0) }
        }
        let capacity = inner.position + GSS.signatureMax
        let wrapped = Block(capacity: capacity)
        guard let count = context.wrap(inner.written, into: wrapped.free) else {
            writer.zeros(writer.remaining + 1)
            return
        }
        writer.patch(u32: UInt32(count), at: place)
        writer.bytes(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(wrapped.free)[..<count]))
        writer.align(to: 4)
    }
}
