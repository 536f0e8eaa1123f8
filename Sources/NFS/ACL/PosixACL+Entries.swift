import Namespace

/// POSIX lists as their entries travel.
extension PosixACL {
    /// `acl.h` of SunOS: whose entry it is; the flag marks the list of defaults.
    enum Tag {
        static let owner: UInt32 = 0x1
        static let user: UInt32 = 0x2
        static let group: UInt32 = 0x4
        static let namedGroup: UInt32 = 0x8
        static let mask: UInt32 = 0x10
        static let other: UInt32 = 0x20
        static let defaults: UInt32 = 0x1000
    }

    /// With a mask always, as Sun's clients want it; where it says nothing it is the group's digit.
    func entries(uid: UInt32, gid: UInt32, flags: UInt32 = 0) -> [ACLEntry] {
        func entry(_ type: UInt32, _ id: UInt32, _ digit: UInt16) -> ACLEntry {
            ACLEntry(type: type | flags, id: id, permissions: UInt32(digit))
        }
        return [entry(Tag.owner, uid, owner)] + users.map { entry(Tag.user, $0.id, $0.digit) }
            + [entry(Tag.group, gid, group)] + groups.map { entry(Tag.namedGroup, $0.id, $0.digit) }
            + [entry(Tag.mask, 0, mask ?? group), entry(Tag.other, 0, other)]
    }

    /// Nil: they are no list, since something is missing, unknown or there twice, or are too many.
    init?(_ entries: [ACLEntry]) {
        var single: [UInt32: UInt16] = [:]
        var users: [UInt32: UInt16] = [:]
        var groups: [UInt32: UInt16] = [:]
        for entry in entries {
            guard entry.permissions <= 7 else { return nil }
            let digit = UInt16(entry.permissions)
            let type = entry.type & ~Tag.defaults
            let isNew: Bool
            switch type {
            case Tag.user: isNew = users.updateValue(digit, forKey: entry.id) == nil
            case Tag.namedGroup: isNew = groups.updateValue(digit, forKey: entry.id) == nil
            case Tag.owner, Tag.group, Tag.mask, Tag.other: isNew = single.updateValue(digit, forKey: type) == nil
            default: return nil
            }
            guard isNew else { return nil }
        }
        guard let owner = single[Tag.owner], let group = single[Tag.group], let other = single[Tag.other],
            users.count + groups.count <= PosixACL.entriesMax
        else { return nil }
        var mask = single[Tag.mask]
        if users.isEmpty, groups.isEmpty, mask == group { mask = nil }
        guard mask != nil || (users.isEmpty && groups.isEmpty) else { return nil }
        func named(_ digits: [UInt32: UInt16]) -> [Named] {
            digits.sorted { $0.key < $1.key }.map { Named(id: $0.key, digit: $0.value) }
        }
        self.init(owner: owner, users: named(users), group: group, groups: named(groups), mask: mask, other: other)
    }
}
