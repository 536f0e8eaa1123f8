import Bytes

/// The beginning of a call (RFC 5531 9, `rpc_msg` and `call_body`), in place.
public struct CallHeader {
    public static let rpcVersion: UInt32 = 2
    /// The body of a credential or verifier (RFC 5531 8.2).
    public static let authenticatorMax = 400
    /// Of a header with both at their longest.
    public static let bytesMax = 10 * 4 + 2 * authenticatorMax

    public var xid: UInt32
    public var program: UInt32
    public var version: UInt32
    public var procedure: UInt32
    public var credential: Authenticator
    public var verifier: Authenticator

    public init(
        xid: UInt32, program: UInt32, version: UInt32, procedure: UInt32, credential: Authenticator = .none,
        verifier: Authenticator = .none
    ) {
        self.xid = xid
        self.program = program
        self.version = version
        self.procedure = procedure
        self.credential = credential
        self.verifier = verifier
    }
}

/// What keeps a message from being a call that can be dispatched.
public enum CallFault: Error, Equatable, Sendable {
    /// Not a call, or less than its beginning: there is nobody to answer.
    case notACall
    /// Not version 2 of RPC itself.
    case rpcVersion(xid: UInt32)
    /// A credential or verifier that is longer than allowed or cut short.
    case authenticator(xid: UInt32, AuthError)
}

extension CallHeader {
    /// Reads a call up to its arguments.
    @inlinable
    public init(reading reader: inout Reader) throws(CallFault) {
        let xid: UInt32
        do throws(BytesError) {
            xid = try reader.u32()
            guard try reader.u32() == MessageType.call.rawValue else { throw BytesError.malformed }
        } catch { throw .notACall }
        let version: UInt32
        do throws(BytesError) { version = try reader.u32() } catch { throw .notACall }
        guard version == Self.rpcVersion else { throw .rpcVersion(xid: xid) }
        self.xid = xid
        do throws(BytesError) {
            program = try reader.u32()
            self.version = try reader.u32()
            procedure = try reader.u32()
        } catch { throw .notACall }
        do throws(BytesError) {
            credential = try Authenticator(reading: &reader)
        } catch { throw .authenticator(xid: xid, .badCredential) }
        do throws(BytesError) {
            verifier = try Authenticator(reading: &reader)
        } catch { throw .authenticator(xid: xid, .badVerifier) }
    }

    public func write(into writer: inout Writer) {
        writer.u32(xid)
        writer.u32(MessageType.call.rawValue)
        writer.u32(Self.rpcVersion)
        writer.u32(program)
        writer.u32(version)
        writer.u32(procedure)
        credential.write(into: &writer)
        verifier.write(into: &writer)
    }
}

/// RFC 5531 9, `msg_type`.
public enum MessageType: UInt32, Sendable {
    case call = 0
    case reply = 1
}

/// RFC 5531 8.2, `opaque_auth`: a flavor's number and up to 400 bytes that only the flavor understands.
public struct Authenticator: XDRMessage {
    public var flavor: UInt32
    public var body: UnsafeRawBufferPointer

    public static var none: Authenticator {
        Authenticator(flavor: AuthFlavor.none, body: UnsafeRawBufferPointer(start: nil, count: 0))
    }

    public init(flavor: UInt32, body: UnsafeRawBufferPointer) {
        self.flavor = flavor
        self.body = body
    }

    @inlinable @inline(__always)
    public init(reading reader: inout Reader) throws(BytesError) {
        flavor = try reader.u32()
        body = try reader.inPlace(limit: CallHeader.authenticatorMax)
    }

    public func write(into writer: inout Writer) {
        writer.u32(flavor)
        writer.opaque(body)
    }
}

/// Numbers of authentication flavors (RFC 5531 8.2; IANA).
public enum AuthFlavor {
    public static let none: UInt32 = 0
    public static let system: UInt32 = 1
    public static let short: UInt32 = 2
    public static let gss: UInt32 = 6
}
