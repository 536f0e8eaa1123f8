import CShim
import Runtime

/// What two sides agreed on by a ticket: it signs and encrypts messages. Safe to use from several threads; they take turns.
public final class KerberosContext: Sendable {
    private struct Raw: @unchecked Sendable {
        var context: UnsafeMutableRawPointer?
    }

    private let raw: Guarded<Raw>

    init(_ context: UnsafeMutableRawPointer?) { raw = Guarded(Raw(context: context)) }

    deinit { raw.withLock { shim_gss_delete($0.context) } }

    public func verifies(_ message: UnsafeRawBufferPointer, _ signature: UnsafeRawBufferPointer) -> Bool {
        raw.withLock {
            shim_gss_verify($0.context, message.baseAddress, message.count, signature.baseAddress, signature.count)
                == 0
        }
    }

    /// Writes the signature of a message; nil: it does not fit.
    public func sign(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int? {
        let count = raw.withLock {
            shim_gss_sign($0.context, message.baseAddress, message.count, place.baseAddress, place.count)
        }
        return count < 0 ? nil : count
    }

    /// Writes the message encrypted; nil: it does not fit.
    public func wrap(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int? {
        let count = raw.withLock {
            shim_gss_wrap($0.context, message.baseAddress, message.count, place.baseAddress, place.count)
        }
        return count < 0 ? nil : count
    }

    /// Shows what was encrypted. False: it is damaged, or was not encrypted.
    public func unwrap(_ wrapped: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
        var message: UnsafeMutableRawPointer?
        let count = raw.withLock {
            shim_gss_unwrap($0.context, wrapped.baseAddress, wrapped.count, &message)
        }
        guard count >= 0 else { return false }
        defer { shim_gss_free(message) }
        body(UnsafeRawBufferPointer(start: message, count: count))
        return true
    }

    /// The key that both sides share, for protocols that derive their own from it.
    public var sessionKey: [UInt8]? {
        var key = [UInt8](repeating: 0, count: 64)
        let count = key.withUnsafeMutableBytes { place in
            raw.withLock { shim_gss_session_key($0.context, place.baseAddress, place.count) }
        }
        return count < 0 ? nil : Array(key.prefix(count))
    }
}
