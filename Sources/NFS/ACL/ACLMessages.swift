import Bytes
import RPC

/// NFSACL version 3: POSIX access control lists beside NFS. No RFC has it; Sun's implementation is the specification
/// (`nfs_acl.x`), and Linux follows it.
public enum NFSACL {
    public static let program: UInt32 = 100_227
    public static let version: UInt32 = 3
    /// `NFS_ACL_MAX_ENTRIES`.
    public static let entriesMax = 1024

    /// What a call asks for or brings.
    public struct Mask: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let access = Mask(rawValue: 1)
        public static let accessCount = Mask(rawValue: 2)
        public static let defaults = Mask(rawValue: 4)
        public static let defaultsCount = Mask(rawValue: 8)
    }
}

/// `nfs_acl.x`, ACLPROC3.
public enum ACLProcedure: UInt32, Sendable, CaseIterable {
    case null = 0
    case getACL, setACL
}

/// `nfs_acl.x`, `aclent`.
public struct ACLEntry: XDRMessage, Sendable {
    public var type: UInt32
    public var id: UInt32
    public var permissions: UInt32

    public init(type: UInt32, id: UInt32, permissions: UInt32) {
        self.type = type
        self.id = id
        self.permissions = permissions
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        type = try reader.u32()
        id = try reader.u32()
        permissions = try reader.u32()
    }
    public func write(into writer: inout Writer) {
        writer.u32(type)
        writer.u32(id)
        writer.u32(permissions)
    }
}

/// `nfs_acl.x`, `secattr`: a list of access and a list of defaults. A count may stand without its list.
public struct ACLPair: XDRMessage {
    public var mask: NFSACL.Mask
    public var accessCount: UInt32
    public var access: [ACLEntry]
    public var defaultsCount: UInt32
    public var defaults: [ACLEntry]

    public init(
        mask: NFSACL.Mask, accessCount: UInt32, access: [ACLEntry], defaultsCount: UInt32, defaults: [ACLEntry]
    ) {
        self.mask = mask
        self.accessCount = accessCount
        self.access = access
        self.defaultsCount = defaultsCount
        self.defaults = defaults
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        mask = NFSACL.Mask(rawValue: try reader.u32())
        accessCount = try reader.u32()
        access = try reader.array(ACLEntry.self, limit: NFSACL.entriesMax)
        defaultsCount = try reader.u32()
        defaults = try reader.array(ACLEntry.self, limit: NFSACL.entriesMax)
    }
    public func write(into writer: inout Writer) {
        writer.u32(mask.rawValue)
        writer.u32(accessCount)
        writer.array(access)
        writer.u32(defaultsCount)
        writer.array(defaults)
    }
}

/// `nfs_acl.x`, `GETACL3args`.
public struct ACLGetArguments: XDRMessage {
    public var file: NFS3Handle
    public var mask: NFSACL.Mask

    public init(file: NFS3Handle, mask: NFSACL.Mask) {
        self.file = file
        self.mask = mask
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try NFS3Handle(reading: &reader)
        mask = NFSACL.Mask(rawValue: try reader.u32())
    }
    public func write(into writer: inout Writer) {
        file.write(into: &writer)
        writer.u32(mask.rawValue)
    }
}

/// `nfs_acl.x`, `GETACL3resok`.
public struct ACLGetResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var lists: ACLPair

    public init(attributes: NFS3Attributes?, lists: ACLPair) {
        self.attributes = attributes
        self.lists = lists
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        lists = try ACLPair(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        lists.write(into: &writer)
    }
}

/// `nfs_acl.x`, `SETACL3args`.
public struct ACLSetArguments: XDRMessage {
    public var file: NFS3Handle
    public var lists: ACLPair

    public init(file: NFS3Handle, lists: ACLPair) {
        self.file = file
        self.lists = lists
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try NFS3Handle(reading: &reader)
        lists = try ACLPair(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        file.write(into: &writer)
        lists.write(into: &writer)
    }
}
