import Bytes

/// An access list, for NFSv4's clients and Windows' alike: entries in order, of which the first that names a right and the caller
/// decides about that right.
///
/// It is kept as the bytes that are stored, checked once, so that a check of access reads them in place:
///
/// ```
/// 0 version u8  1 flags u8  2 count of entries u16, then each entry:
/// 0 type u8  1 flags u8  2 who u8  3 zero u8  4 mask u32, then for a user or group u32, for a SID its bytes
/// ```
/// Numbers are little-endian.
public struct ACL: Equatable, Sendable {
    public static let entriesMax = 1024
    public static let bytesMax = 4 + entriesMax * (8 + SID.bytesMax)
    static let version: UInt8 = 1

    public struct Flags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Changes of the directory above do not come down to here.
        public static let protected = Flags(rawValue: 1)
        /// Its inherited entries are kept in step with the directory above.
        public static let autoInherited = Flags(rawValue: 2)
        /// Windows said that there is none, which gives everybody everything: so it is shown.
        public static let absent = Flags(rawValue: 4)
        static let all: Flags = [.protected, .autoInherited, .absent]
    }

    public enum Kind: UInt8, Sendable {
        case allow
        case deny
        case audit
        case alarm
    }

    /// In NT's bits.
    public struct EntryFlags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        public static let fileInherit = EntryFlags(rawValue: 0x1)
        public static let directoryInherit = EntryFlags(rawValue: 0x2)
        /// What is made in the directory inherits it, but does not pass it on.
        public static let noPropagate = EntryFlags(rawValue: 0x4)
        /// It says nothing of the directory itself.
        public static let inheritOnly = EntryFlags(rawValue: 0x8)
        public static let inherited = EntryFlags(rawValue: 0x10)
        public static let success = EntryFlags(rawValue: 0x40)
        public static let failure = EntryFlags(rawValue: 0x80)
        static let all = EntryFlags(rawValue: 0xDF)
        static let inheritance: EntryFlags = [.fileInherit, .directoryInherit, .noPropagate, .inheritOnly]
    }

    public struct Entry: Hashable, Sendable {
        public var kind: Kind
        public var flags: EntryFlags
        public var who: Principal
        public var mask: AccessMask

        public init(_ kind: Kind, _ who: Principal, _ mask: AccessMask, _ flags: EntryFlags = []) {
            self.kind = kind
            self.flags = flags
            self.who = who
            self.mask = mask
        }

        var isInheritable: Bool { !flags.isDisjoint(with: [.fileInherit, .directoryInherit]) }
        var isDecisive: Bool { kind == .allow || kind == .deny }
    }

    enum Who: UInt8 {
        case owner
        case owningGroup
        case everyone
        case user
        case group
        case sid
    }

    /// As it is stored.
    public let bytes: [UInt8]

    public static let empty = ACL(checked: [])
    /// What Windows has where there is no list.
    public static let nobodyIsKeptOut = ACL(checked: [Entry(.allow, .everyone, .all)], .absent)

    /// Nil: more entries than there may be.
    public init?(_ entries: [Entry], _ flags: Flags = []) {
        guard entries.count <= Self.entriesMax else { return nil }
        self.init(checked: entries, flags)
    }

    init(checked entries: [Entry], _ flags: Flags = []) {
        precondition(entries.count <= Self.entriesMax, "an access list has a limit")
        var bytes: [UInt8] = [
            Self.version, flags.rawValue, UInt8(truncatingIfNeeded: entries.count), UInt8(entries.count >> 8),
        ]
        func number(_ number: UInt32) {
            for shift in stride(from: 0 as UInt32, through: 24, by: 8) {
                bytes.append(UInt8(truncatingIfNeeded: number >> shift))
            }
        }
        for entry in entries {
            bytes.append(entry.kind.rawValue)
            bytes.append(entry.flags.intersection(.all).rawValue)
            let who: Who
            switch entry.who {
            case .owner: who = .owner
            case .owningGroup: who = .owningGroup
            case .everyone: who = .everyone
            case .user: who = .user
            case .group: who = .group
            case .sid: who = .sid
            }
            bytes.append(who.rawValue)
            bytes.append(0)
            number(entry.mask.intersection(.all).rawValue)
            switch entry.who {
            case .owner, .owningGroup, .everyone: break
            case .user(let id), .group(let id): number(id)
            case .sid(let sid): bytes += sid.bytes
            }
        }
        self.bytes = bytes
    }

    /// From what was stored.
    public init(stored: UnsafeRawBufferPointer) throws(BytesError) {
        guard stored.count <= Self.bytesMax else { throw .tooLong }
        var reader = Reader(stored)
        guard try reader.u8() == Self.version, Flags.all.isSuperset(of: Flags(rawValue: try reader.u8())) else {
            throw .malformed
        }
        let count = Int(try reader.u16LE())
        guard count <= Self.entriesMax else { throw .tooLong }
        for _ in 0..<count {
            guard Kind(rawValue: try reader.u8()) != nil,
                EntryFlags.all.isSuperset(of: EntryFlags(rawValue: try reader.u8())),
                let who = Who(rawValue: try reader.u8()), try reader.u8() == 0,
                AccessMask.all.isSuperset(of: AccessMask(rawValue: try reader.u32LE()))
            else { throw .malformed }
            switch who {
            case .owner, .owningGroup, .everyone: break
            case .user, .group: try reader.skip(4)
            case .sid:
                guard try reader.u8() == 1 else { throw .malformed }
                let numbers = Int(try reader.u8())
                guard numbers <= SID.numbersMax else { throw .malformed }
                try reader.skip(6 + 4 * numbers)
            }
        }
        guard reader.isAtEnd else { throw .malformed }
        bytes = Array(stored)
    }

    public var flags: Flags { Flags(rawValue: bytes[1]) }
    public var count: Int { Int(bytes[2]) | Int(bytes[3]) << 8 }

    /// An entry where it lies.
    struct Stored {
        var kind: Kind
        var flags: EntryFlags
        var who: Who
        /// Of a user or group.
        var id: UInt32
        var sid: UnsafeRawBufferPointer
        var mask: AccessMask

        /// Whether it speaks of this caller. `file` says who owner and group are.
        @inline(__always)
        func names(_ credential: Credential, _ file: FileSecurity) -> Bool {
            switch who {
            case .owner: return credential.uid == file.uid
            case .owningGroup: return credential.isMember(of: file.gid)
            case .everyone: return true
            case .user: return credential.uid == id
            case .group: return credential.isMember(of: id)
            case .sid: return credential.has(sid)
            }
        }

        var isOfOwnerRights: Bool {
            who == .sid && SID.ownerRights.bytes.withUnsafeBytes { $0.elementsEqual(sid) }
        }

        var principal: Principal {
            switch who {
            case .owner: return .owner
            case .owningGroup: return .owningGroup
            case .everyone: return .everyone
            case .user: return .user(id)
            case .group: return .group(id)
            case .sid:
                guard let sid = SID(reading: sid) else { preconditionFailure("a stored list was checked") }
                return .sid(sid)
            }
        }
    }

    /// Shows entries in order until `body` answers false. The bytes were checked when the list was made.
    @inline(__always)
    func forEachStored(_ body: (Stored) -> Bool) {
        bytes.withUnsafeBytes { bytes in
            var at = 4
            for _ in 0..<count {
                guard let kind = Kind(rawValue: bytes[at]), let who = Who(rawValue: bytes[at + 2]) else {
                    preconditionFailure("a stored list was checked")
                }
                var entry = Stored(
                    kind: kind, flags: EntryFlags(rawValue: bytes[at + 1]), who: who, id: 0,
                    sid: UnsafeRawBufferPointer(start: nil, count: 0),
                    mask: AccessMask(
                        rawValue: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self))))
                at += 8
                switch who {
                case .owner, .owningGroup, .everyone: break
                case .user, .group:
                    entry.id = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
                    at += 4
                case .sid:
                    let size = 8 + 4 * Int(bytes[at + 1])
                    entry.sid = UnsafeRawBufferPointer(rebasing: bytes[at..<at + size])
                    at += size
                }
                if !body(entry) { return }
            }
        }
    }

    public var entries: [Entry] {
        var entries: [Entry] = []
        forEachStored { stored in
            entries.append(Entry(stored.kind, stored.principal, stored.mask, stored.flags))
            return true
        }
        return entries
    }
}
