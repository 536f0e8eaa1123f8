import CShim

/// The keys of this server's services: what tickets of clients are opened with.
public final class KerberosCredential: @unchecked Sendable {
    /// GSSAPI credentials may be used by several threads at a time.
    let raw: UnsafeMutableRawPointer?

    /// From a keytab file; nil: the system's. `service`: the only one whose tickets are taken, as `cifs` of any host;
    /// nil: all that have keys. Blocks.
    public init(keytab: String?, service: String? = nil) throws(KerberosFailure) {
        var found: UnsafeMutableRawPointer?
        let status = shim_gss_acquire(keytab, service, &found)
        guard KerberosFailure.isGood(status) else { throw KerberosFailure(status) }
        raw = found
    }

    deinit { shim_gss_release(raw) }
}

/// Why Kerberos refuses, in its own numbers and words.
public struct KerberosFailure: Error, Sendable, CustomStringConvertible {
    public let major: UInt32
    public let minor: UInt32
    public let description: String

    init(_ status: shim_gss_status) {
        major = status.major
        minor = status.minor
        description = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { text in
            guard let start = text.baseAddress else { return "" }
            shim_gss_message(status, start, text.count)
            return String(cString: start)
        }
    }

    /// RFC 2744 3.9.1: errors are in the upper half.
    static func isGood(_ status: shim_gss_status) -> Bool { status.major >> 16 == 0 }
}
