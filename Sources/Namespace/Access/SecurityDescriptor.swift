import Bytes

/// A security descriptor in the form of the wire, self-relative ([MS-DTYP] 2.4.6), to and from a file's owner, group and list.
public struct SecurityDescriptor: Equatable, Sendable {
    public static let bytesMax = 65_536

    /// Nil: not said.
    public var owner: SID?
    public var group: SID?
    /// Nil: not said. A list that is said to be absent gives everybody everything, and is kept as that.
    public var acl: ACL?

    public init(owner: SID? = nil, group: SID? = nil, acl: ACL? = nil) {
        self.owner = owner
        self.group = group
        self.acl = acl
    }

    private static let isDACLPresent: UInt16 = 0x0004
    private static let wantsAutoInherit: UInt16 = 0x0100
    private static let isAutoInherited: UInt16 = 0x0400
    private static let isProtected: UInt16 = 0x1000
    private static let isSelfRelative: UInt16 = 0x8000

    // MARK: Reading

    /// From what a client sent. `users` says whom SIDs stand for. Entries of kinds that files do not have are refused.
    public init(reading bytes: UnsafeRawBufferPointer, _ users: UserTable) throws(BytesError) {
        guard bytes.count <= Self.bytesMax else { throw .tooLong }
        var reader = Reader(bytes)
        guard try reader.u8() == 1 else { throw .malformed }
        try reader.skip(1)
        let control = try reader.u16LE()
        guard control & Self.isSelfRelative != 0 else { throw .malformed }
        let owner = Int(try reader.u32LE())
        let group = Int(try reader.u32LE())
        try reader.skip(4)
        let list = Int(try reader.u32LE())
        self.owner = try Self.sid(bytes, at: owner)
        self.group = try Self.sid(bytes, at: group)
        guard control & Self.isDACLPresent != 0 else { return }
        guard list != 0 else {
            acl = .nobodyIsKeptOut
            return
        }
        let entries = try Self.entries(bytes, at: list, users)
        var flags: ACL.Flags = []
        if control & Self.isProtected != 0 { flags.insert(.protected) }
        // It has to be said and asked for ([MS-DTYP] 2.4.6).
        let both = Self.isAutoInherited | Self.wantsAutoInherit
        if control & both == both { flags.insert(.autoInherited) }
        guard let acl = ACL(entries, flags) else { throw .tooLong }
        self.acl = acl
    }

    private static func sid(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(BytesError) -> SID? {
        if offset == 0 { return nil }
        guard offset < bytes.count else { throw .truncated }
        guard let sid = SID(reading: UnsafeRawBufferPointer(rebasing: bytes[offset...])) else { throw .malformed }
        return sid
    }

    private static func entries(
        _ bytes: UnsafeRawBufferPointer, at offset: Int, _ users: UserTable
    ) throws(BytesError) -> [ACL.Entry] {
        var reader = Reader(bytes)
        try reader.seek(to: offset)
        let revision = try reader.u8()
        guard revision == 2 || revision == 4 else { throw .malformed }
        try reader.skip(1)
        let size = Int(try reader.u16LE())
        let count = Int(try reader.u16LE())
        try reader.skip(2)
        guard count <= ACL.entriesMax, size >= 8 else { throw .tooLong }
        var list = try reader.sub(size - 8)
        var entries: [ACL.Entry] = []
        for _ in 0..<count {
            guard let kind = ACL.Kind(rawValue: try list.u8()) else { throw .malformed }
            let flags = ACL.EntryFlags(rawValue: try list.u8()).intersection(.all)
            let size = Int(try list.u16LE())
            guard size >= 8 else { throw .malformed }
            let mask = AccessMask(generic: try list.u32LE())
            let span = try list.bytes(size - 8)
            guard let sid = span.withUnsafeBytes({ SID(reading: $0) }) else { throw .malformed }
            var entry = ACL.Entry(kind, users.principal(sid), mask, flags)
            if entry.who == .owner || entry.who == .owningGroup {
                // CREATOR OWNER says something only of files that are yet to be made.
                guard entry.isInheritable else { continue }
                entry.flags.insert(.inheritOnly)
            }
            entries.append(entry)
        }
        return entries
    }

    // MARK: Writing

    /// The descriptor of a file; without a list it shows what the mode says.
    public init(_ file: FileSecurity, _ acl: ACL?, _ users: UserTable) {
        owner = users.sid(uid: file.uid)
        group = users.sid(gid: file.gid)
        self.acl = acl ?? ACL(mode: file.mode, isDirectory: file.isDirectory)
    }

    /// Writes those parts that are there; `file` says who owner and group are in entries that name them so.
    public func write(_ writer: inout Writer, _ file: FileSecurity, _ users: UserTable) {
        let start = writer.position
        writer.u8(1)
        writer.u8(0)
        var control = Self.isSelfRelative
        if let acl {
            control |= Self.isDACLPresent
            if acl.flags.contains(.protected) { control |= Self.isProtected }
            if acl.flags.contains(.autoInherited) { control |= Self.isAutoInherited }
        }
        writer.u16LE(control)
        let offsets = writer.reserve(16)
        func sid(_ sid: SID?, at place: Int) {
            guard let sid else { return }
            writer.patch(u32LE: UInt32(writer.position - start), at: place)
            sid.bytes.withUnsafeBytes { writer.bytes($0) }
        }
        if let acl, !acl.flags.contains(.absent) || acl.entries != ACL.nobodyIsKeptOut.entries {
            writer.patch(u32LE: UInt32(writer.position - start), at: offsets + 12)
            Self.write(&writer, acl, file, users)
        }
        sid(owner, at: offsets)
        sid(group, at: offsets + 4)
    }

    private static func write(_ writer: inout Writer, _ acl: ACL, _ file: FileSecurity, _ users: UserTable) {
        let start = writer.position
        writer.u8(2)
        writer.u8(0)
        let sizes = writer.reserve(6)
        var count = 0
        func put(_ entry: ACL.Entry, _ sid: SID, _ flags: ACL.EntryFlags) {
            writer.u8(entry.kind.rawValue)
            writer.u8(flags.rawValue)
            writer.u16LE(UInt16(8 + sid.bytes.count))
            writer.u32LE(entry.mask.rawValue)
            sid.bytes.withUnsafeBytes { writer.bytes($0) }
            count += 1
        }
        for entry in acl.entries {
            switch entry.who {
            case .everyone: put(entry, .everyone, entry.flags)
            case .user(let id): put(entry, users.sid(uid: id), entry.flags)
            case .group(let id): put(entry, users.sid(gid: id), entry.flags)
            case .sid(let sid): put(entry, sid, entry.flags)
            case .owner, .owningGroup:
                // Windows has one SID for the owner there is, another for owners to come.
                if !entry.flags.contains(.inheritOnly) {
                    let sid = entry.who == .owner ? users.sid(uid: file.uid) : users.sid(gid: file.gid)
                    put(entry, sid, entry.flags.subtracting(.inheritance))
                }
                if entry.isInheritable {
                    let sid = entry.who == .owner ? SID.creatorOwner : SID.creatorGroup
                    put(entry, sid, entry.flags.union(.inheritOnly))
                }
            }
        }
        // The most entries with the longest SIDs are more than the form can say: the writer overflows, and nothing is shown.
        let size = writer.position - start
        guard let shown = UInt16(exactly: size) else { return writer.zeros(writer.remaining + 1) }
        writer.patch(u16LE: shown, at: sizes)
        writer.patch(u16LE: UInt16(count), at: sizes + 2)
    }
}
