import Bytes

/// AUTH_SYS (RFC 5531 appendix A, `authsys_parms`): who the client says it is.
public struct SystemCredential: XDRMessage {
    public static let machineNameMax = 255
    public static let groupsMax = 16

    public var stamp: UInt32
    public var machineName: UnsafeRawBufferPointer
    public var uid: UInt32
    public var gid: UInt32
    public var groups: [UInt32]

    public init(
        stamp: UInt32 = 0, machineName: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        uid: UInt32, gid: UInt32, groups: [UInt32] = []
    ) {
        self.stamp = stamp
        self.machineName = machineName
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }

    public init(reading reader: inout Reader) throws(BytesError) {
        stamp = try reader.u32()
        machineName = try reader.inPlace(limit: Self.machineNameMax)
        uid = try reader.u32()
        gid = try reader.u32()
        let count = try reader.count(limit: Self.groupsMax)
        groups = []
        for _ in 0..<count { groups.append(try reader.u32()) }
    }

    public func write(into writer: inout Writer) {
        writer.u32(stamp)
        writer.opaque(machineName)
        writer.u32(uid)
        writer.u32(gid)
        writer.u32(UInt32(clamping: groups.count))
        for group in groups { writer.u32(group) }
    }
}

/// Who makes a call, as its flavor has it. Made once and shared by the calls that carry the same credential.
public final class Identity: Sendable {
    /// What a program may have to know to trust it.
    public enum Kind: Sendable {
        case anonymous
        /// By the client's word.
        case system(uid: UInt32, gid: UInt32, groups: [UInt32])
        /// By a ticket.
        case principal(String)
    }

    public let kind: Kind
    public let flavor: UInt32
    /// The client's own name for its machine, by its word: for logs and for the lock manager.
    public let machineName: [UInt8]

    public init(kind: Kind, flavor: UInt32, machineName: [UInt8] = []) {
        self.kind = kind
        self.flavor = flavor
        self.machineName = machineName
    }

    public static let anonymous = Identity(kind: .anonymous, flavor: AuthFlavor.none)

    convenience init(_ credential: SystemCredential) {
        self.init(
            kind: .system(uid: credential.uid, gid: credential.gid, groups: credential.groups.sorted()),
            flavor: AuthFlavor.system, machineName: Array(credential.machineName))
    }
}
