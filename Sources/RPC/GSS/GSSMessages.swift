import Bytes

/// RFC 2203 5.3: the numbers of RPCSEC_GSS.
public enum GSS {
    public static let version: UInt32 = 1
    /// A client makes a new context before its sequence numbers come here.
    public static let sequenceMax: UInt32 = 0x8000_0000
    public static let handleMax = 64
    /// A ticket with its list of groups can be long.
    public static let tokenMax = 64 << 10
    /// Of the signatures that mechanisms make.
    public static let signatureMax = 256

    /// `rpc_gss_proc_t`.
    public enum Procedure: UInt32, Sendable, CaseIterable {
        case data = 0
        case begin, goOn, destroy
    }

    /// `rpc_gss_service_t`.
    public enum Service: UInt32, Sendable, CaseIterable {
        case none = 1
        case integrity, privacy
    }
}

/// RFC 2203 5.3.1, `rpc_gss_cred_t`.
public struct GSSCredential: XDRMessage {
    public var procedure: GSS.Procedure
    public var sequence: UInt32
    public var service: GSS.Service
    public var handle: UnsafeRawBufferPointer

    public init(procedure: GSS.Procedure, sequence: UInt32, service: GSS.Service, handle: UnsafeRawBufferPointer) {
        self.procedure = procedure
        self.sequence = sequence
        self.service = service
        self.handle = handle
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        guard try reader.u32() == GSS.version, let procedure = GSS.Procedure(rawValue: try reader.u32()) else {
            throw .malformed
        }
        self.procedure = procedure
        sequence = try reader.u32()
        guard let service = GSS.Service(rawValue: try reader.u32()) else { throw .malformed }
        self.service = service
        handle = try reader.inPlace(limit: GSS.handleMax)
    }
    public func write(into writer: inout Writer) {
        writer.u32(GSS.version)
        writer.u32(procedure.rawValue)
        writer.u32(sequence)
        writer.u32(service.rawValue)
        writer.opaque(handle)
    }
}

/// RFC 2203 5.2.3.1, `rpc_gss_init_res`.
public struct GSSInitResult: XDRMessage {
    public var handle: UnsafeRawBufferPointer
    public var major: UInt32
    public var minor: UInt32
    public var window: UInt32
    public var token: UnsafeRawBufferPointer

    public init(
        handle: UnsafeRawBufferPointer, major: UInt32, minor: UInt32, window: UInt32, token: UnsafeRawBufferPointer
    ) {
        self.handle = handle
        self.major = major
        self.minor = minor
        self.window = window
        self.token = token
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        handle = try reader.inPlace(limit: GSS.handleMax)
        major = try reader.u32()
        minor = try reader.u32()
        window = try reader.u32()
        token = try reader.inPlace(limit: GSS.tokenMax)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(handle)
        writer.u32(major)
        writer.u32(minor)
        writer.u32(window)
        writer.opaque(token)
    }
}

/// RFC 2203 5.3.2.2, `rpc_gss_integ_data`: what is signed, its number first, and the signature.
public struct GSSSignedData: XDRMessage {
    public var data: UnsafeRawBufferPointer
    public var signature: UnsafeRawBufferPointer

    public init(data: UnsafeRawBufferPointer, signature: UnsafeRawBufferPointer) {
        self.data = data
        self.signature = signature
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        data = try reader.inPlace(limit: reader.remaining)
        signature = try reader.inPlace(limit: GSS.signatureMax)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(data)
        writer.opaque(signature)
    }
}

/// RFC 2203 5.3.2.3, `rpc_gss_priv_data`: the same encrypted.
public struct GSSEncryptedData: XDRMessage {
    public var data: UnsafeRawBufferPointer

    public init(data: UnsafeRawBufferPointer) {
        self.data = data
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        data = try reader.inPlace(limit: reader.remaining)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(data)
    }
}

/// RFC 2203 5.3.2.1, `rpc_gss_data_t`: the number stands before the arguments, so that nobody can put these arguments to
/// another call.
public struct GSSNumberedData: XDRMessage {
    public var sequence: UInt32
    public var arguments: UnsafeRawBufferPointer

    public init(sequence: UInt32, arguments: UnsafeRawBufferPointer) {
        self.sequence = sequence
        self.arguments = arguments
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        sequence = try reader.u32()
        arguments = reader.rest().withUnsafeBytes { $0 }
    }
    public func write(into writer: inout Writer) {
        writer.u32(sequence)
        writer.bytes(arguments)
    }
}
