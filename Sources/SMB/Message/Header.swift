import Bytes

/// [MS-SMB2] 2.2.1: the 64 bytes before each element.
package struct Header: Equatable, Sendable {
    package static let bytes = 64

    package struct Flags: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }
        package static let response = Flags(rawValue: 1)
        package static let async = Flags(rawValue: 2)
        package static let related = Flags(rawValue: 4)
        package static let signed = Flags(rawValue: 8)
        package static let dfs = Flags(rawValue: 0x1000_0000)
        package static let replay = Flags(rawValue: 0x2000_0000)
    }

    package var creditCharge: UInt16 = 0
    /// Of a response its status; of a request the channel's sequence in the lower half.
    package var status: UInt32 = 0
    package var command: UInt16 = 0
    package var credits: UInt16 = 0
    package var flags: Flags = []
    package var nextCommand: UInt32 = 0
    package var messageID: UInt64 = 0
    /// When `flags` says async.
    package var asyncID: UInt64 = 0
    package var processID: UInt32 = 0
    package var treeID: UInt32 = 0
    package var sessionID: UInt64 = 0
    /// Two words.
    package var signatureLow: UInt64 = 0
    package var signatureHigh: UInt64 = 0

    /// Where things lie that are patched in place.
    static let statusOffset = 8
    static let nextCommandOffset = 20
    static let signatureOffset = 48
    static let signatureBytes = 16

    package init() {}

    package init(reading reader: inout Reader) throws(BytesError) {
        guard try reader.u32LE() == SMB2.protocolID, try reader.u16LE() == 64 else { throw .malformed }
        creditCharge = try reader.u16LE()
        status = try reader.u32LE()
        command = try reader.u16LE()
        credits = try reader.u16LE()
        flags = Flags(rawValue: try reader.u32LE())
        nextCommand = try reader.u32LE()
        messageID = try reader.u64LE()
        if flags.contains(.async) {
            asyncID = try reader.u64LE()
        } else {
            processID = try reader.u32LE()
            treeID = try reader.u32LE()
        }
        sessionID = try reader.u64LE()
        signatureLow = try reader.u64LE()
        signatureHigh = try reader.u64LE()
    }

    package func write(into writer: inout Writer) {
        writer.u32LE(SMB2.protocolID)
        writer.u16LE(64)
        writer.u16LE(creditCharge)
        writer.u32LE(status)
        writer.u16LE(command)
        writer.u16LE(credits)
        writer.u32LE(flags.rawValue)
        writer.u32LE(nextCommand)
        writer.u64LE(messageID)
        if flags.contains(.async) {
            writer.u64LE(asyncID)
        } else {
            writer.u32LE(processID)
            writer.u32LE(treeID)
        }
        writer.u64LE(sessionID)
        writer.u64LE(signatureLow)
        writer.u64LE(signatureHigh)
    }
}

/// [MS-SMB2] 2.2.41: before an encrypted message.
package struct TransformHeader: Equatable, Sendable {
    package static let bytes = 52
    /// What is proven, but not encrypted, begins here.
    static let associatedOffset = 20
    static let nonceOffset = 20
    static let tagOffset = 4

    package var messageBytes: UInt32
    package var sessionID: UInt64

    package init(messageBytes: UInt32, sessionID: UInt64) {
        self.messageBytes = messageBytes
        self.sessionID = sessionID
    }

    package init(reading reader: inout Reader) throws(BytesError) {
        guard try reader.u32LE() == SMB2.transformID else { throw .malformed }
        try reader.skip(16 + 16)
        messageBytes = try reader.u32LE()
        try reader.skip(2)
        // The flag, in the older dialects the algorithm: both are 1 for what we take.
        guard try reader.u16LE() == 1 else { throw .malformed }
        sessionID = try reader.u64LE()
    }

    /// Tag and nonce are filled in by who encrypts.
    package func write(into writer: inout Writer) {
        writer.u32LE(SMB2.transformID)
        writer.zeros(16 + 16)
        writer.u32LE(messageBytes)
        writer.u16LE(0)
        writer.u16LE(1)
        writer.u64LE(sessionID)
    }
}
