import Bytes

/// The table as a record of the volume's state.
///
/// ```
/// "PXID"  version u16  domain 3 x u32  next RID u32  count of groups u32, groups  count of users u32, users
/// group: name, gid u32, rid u32
/// user: name, uid u32, gid u32, rid u32, flags u8, groups (count u32, u32 each), NT hash, sealed secret,
///       keys (count u32; id, volume, sealed secret), rights (count u32; volume, u8)
/// ```
/// Texts and bytes have a length of 32 bits before them. Numbers are little-endian.
extension UserTable {
    public static let recordBytesMax = 64 << 20
    static let magic: UInt32 = 0x4449_5850
    static let version: UInt16 = 1
    private static let isDisabled: UInt8 = 1

    public enum RecordError: Error, Equatable, Sendable {
        case notARecord
        /// Of a later version of this program.
        case newer
        case malformed
        /// It would be longer than `recordBytesMax`.
        case tooLong
    }

    public func record() throws(RecordError) -> [UInt8] {
        var capacity = 64 << 10
        while capacity <= Self.recordBytesMax {
            let bytes = [UInt8](unsafeUninitializedCapacity: capacity) { memory, count in
                var writer = Writer(UnsafeMutableRawBufferPointer(memory))
                write(&writer)
                count = writer.overflowed ? 0 : writer.position
            }
            if !bytes.isEmpty { return bytes }
            capacity *= 2
        }
        throw .tooLong
    }

    private func write(_ writer: inout Writer) {
        writer.u32LE(Self.magic)
        writer.u16LE(Self.version)
        writer.u32LE(domain.0)
        writer.u32LE(domain.1)
        writer.u32LE(domain.2)
        writer.u32LE(nextRID)
        func text(_ text: String) {
            writer.u32LE(UInt32(text.utf8.count))
            writer.text(text)
        }
        func bytes(_ bytes: [UInt8]) {
            writer.u32LE(UInt32(bytes.count))
            bytes.withUnsafeBytes { writer.bytes($0) }
        }
        let groups = allGroups
        writer.u32LE(UInt32(groups.count))
        for group in groups {
            text(group.name)
            writer.u32LE(group.gid)
            writer.u32LE(group.rid)
        }
        let users = allUsers
        writer.u32LE(UInt32(users.count))
        for user in users {
            text(user.name)
            writer.u32LE(user.uid)
            writer.u32LE(user.gid)
            writer.u32LE(user.rid)
            writer.u8(user.isDisabled ? Self.isDisabled : 0)
            writer.u32LE(UInt32(user.groups.count))
            for group in user.groups { writer.u32LE(group) }
            bytes(user.ntHash)
            bytes(user.sealed)
            writer.u32LE(UInt32(user.keys.count))
            for key in user.keys {
                text(key.id)
                text(key.volume)
                bytes(key.sealed)
            }
            writer.u32LE(UInt32(user.rights.count))
            for (volume, rights) in user.rights.sorted(by: { $0.key < $1.key }) {
                text(volume)
                writer.u8(rights.rawValue)
            }
        }
    }

    public init(record: UnsafeRawBufferPointer) throws(RecordError) {
        guard record.count <= Self.recordBytesMax else { throw .tooLong }
        var reader = Reader(record)
        do {
            guard try reader.u32LE() == Self.magic else { throw RecordError.notARecord }
            let version = try reader.u16LE()
            guard version == Self.version else { throw version > Self.version ? RecordError.newer : .malformed }
            let domain = (try reader.u32LE(), try reader.u32LE(), try reader.u32LE())
            let nextRID = try reader.u32LE()
            var groups: [Group] = []
            for _ in 0..<(try reader.countLE(limit: Self.groupsMax)) {
                var group = Group(name: try reader.recordText(), gid: try reader.u32LE())
                group.rid = try reader.u32LE()
                groups.append(group)
            }
            var users: [User] = []
            for _ in 0..<(try reader.countLE(limit: Self.usersMax)) { users.append(try Self.user(&reader)) }
            guard reader.isAtEnd else { throw RecordError.malformed }
            self.init(domain: domain)
            try restore(users, groups, nextRID: nextRID)
        } catch let error as RecordError {
            throw error
        } catch {
            throw .malformed
        }
    }

    private static func user(_ reader: inout Reader) throws -> User {
        var user = User(name: try reader.recordText(), uid: try reader.u32LE(), gid: try reader.u32LE())
        user.rid = try reader.u32LE()
        let flags = try reader.u8()
        guard flags & ~isDisabled == 0 else { throw RecordError.malformed }
        user.isDisabled = flags & isDisabled != 0
        for _ in 0..<(try reader.countLE(limit: User.groupsMax)) { user.groups.append(try reader.u32LE()) }
        user.ntHash = try reader.recordBytes(limit: NTHash.count)
        user.sealed = try reader.recordBytes(limit: User.sealedBytesMax)
        for _ in 0..<(try reader.countLE(limit: User.keysMax)) {
            user.keys.append(
                AccessKey(
                    id: try reader.recordText(), volume: try reader.recordText(),
                    sealed: try reader.recordBytes(limit: User.sealedBytesMax)))
        }
        for _ in 0..<(try reader.countLE(limit: User.volumesMax)) {
            user.rights[try reader.recordText()] = VolumeRights(rawValue: try reader.u8())
        }
        return user
    }
}

extension Reader {
    @_lifetime(self: copy self)
    fileprivate mutating func recordBytes(limit: Int) throws(BytesError) -> [UInt8] {
        let count = try countLE(limit: limit)
        let span = try bytes(count)
        return span.withUnsafeBytes { Array($0) }
    }

    @_lifetime(self: copy self)
    fileprivate mutating func recordText() throws(BytesError) -> String {
        let bytes = try recordBytes(limit: User.nameBytesMax)
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .malformed }
        return text
    }
}
