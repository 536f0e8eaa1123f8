import Bytes
import Namespace
import Simulator
import TestSupport
import Testing

private let bits = (0..<21).map { AccessMask(rawValue: 1 << $0) }.filter { AccessMask.all.contains($0) }

/// The rule once more, one right at a time: the first entry that speaks of it and of the caller decides.
private func naive(_ bit: AccessMask, _ credential: Credential, _ file: FileSecurity, _ entries: [ACL.Entry]) -> Bool {
    if bit == .readAttributes || bit == .synchronize { return true }
    let effective = entries.filter { !$0.flags.contains(.inheritOnly) && ($0.kind == .allow || $0.kind == .deny) }
    let saysOwnersRights = effective.contains { $0.who == .sid(.ownerRights) }
    if credential.uid == file.uid, !saysOwnersRights, bit == .readACL || bit == .writeACL { return true }
    for entry in effective where entry.mask.contains(bit) {
        let isNamed: Bool
        switch entry.who {
        case .owner, .sid(.ownerRights): isNamed = credential.uid == file.uid
        case .owningGroup: isNamed = credential.gid == file.gid || credential.groups.contains(file.gid)
        case .everyone: isNamed = true
        case .user(let id): isNamed = credential.uid == id
        case .group(let id): isNamed = credential.gid == id || credential.groups.contains(id)
        case .sid(let sid): isNamed = credential.sids.contains(sid)
        }
        if isNamed { return entry.kind == .allow }
    }
    return false
}

private struct Source {
    var generator: Generator
    init(_ seed: UInt64) { generator = Generator(seed: seed, stream: "access") }

    mutating func id() -> UInt32 { UInt32(1 + generator.below(5)) }
    mutating func sid() -> SID {
        generator.once(in: 4) ? .ownerRights : SID(authority: 5, [21, 7, 7, 7, UInt32(generator.below(3))])!
    }

    mutating func entry() -> ACL.Entry {
        let kind: ACL.Kind = [.allow, .allow, .deny, .deny, .audit, .alarm][generator.below(6)]
        let who: Principal
        switch generator.below(7) {
        case 0: who = .owner
        case 1: who = .owningGroup
        case 2: who = .everyone
        case 3, 4: who = .user(id())
        case 5: who = .group(id())
        default: who = .sid(sid())
        }
        let mask = AccessMask(rawValue: UInt32(truncatingIfNeeded: generator.next())).intersection(.all)
        let flags = ACL.EntryFlags(
            rawValue: generator.once(in: 2) ? 0 : UInt8(truncatingIfNeeded: generator.next()) & 0xDF)
        return ACL.Entry(kind, who, mask, flags)
    }

    mutating func entries() -> [ACL.Entry] { (0..<generator.below(8)).map { _ in entry() } }

    mutating func credential() -> Credential {
        Credential(
            uid: id(), gid: id(), groups: (0..<generator.below(3)).map { _ in id() },
            sids: generator.once(in: 2) ? [] : [sid(), sid()].filter { $0 != .ownerRights })
    }

    mutating func file() -> FileSecurity {
        FileSecurity(uid: id(), gid: id(), mode: UInt16(generator.below(512)), isDirectory: generator.once(in: 2))
    }
}

@Suite struct AccessTests {
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func lists(seed: UInt64) {
        var source = Source(seed)
        for step in 0..<modelSteps(300_000) {
            let entries = source.entries()
            let file = source.file()
            let credential = source.credential()
            guard let acl = ACL(entries) else {
                Issue.record("no list")
                return
            }
            let wanted = AccessMask(rawValue: UInt32(truncatingIfNeeded: source.generator.next())).intersection(.all)
            let granted = file.granted(wanted, to: credential, acl)
            var expected: AccessMask = []
            for bit in bits where wanted.contains(bit) && naive(bit, credential, file, entries) { expected.insert(bit) }
            guard granted == expected else {
                Issue.record(
                    "seed \(seed) step \(step): \(granted) expected \(expected) for \(credential) of \(file): \(entries)"
                )
                return
            }
        }
    }

    @Test func modes() {
        for mode in 0..<512 as Range<UInt16> {
            for isDirectory in [false, true] {
                let file = FileSecurity(uid: 1, gid: 2, mode: mode, isDirectory: isDirectory)
                let list = ACL(mode: mode, isDirectory: isDirectory)
                expect(list.mode(uid: 1, gid: 2) == mode)
                let callers = [
                    (Credential(uid: 1, gid: 9), mode >> 6), (Credential(uid: 1, gid: 2), mode >> 6),
                    (Credential(uid: 3, gid: 2), mode >> 3),
                    (Credential(uid: 3, gid: 4, groups: [1, 2, 9]), mode >> 3),
                    (Credential(uid: 3, gid: 3), mode),
                ]
                for (caller, digit) in callers {
                    let granted = file.granted(.all, to: caller)
                    expect(granted.contains(.readData) == (digit & 4 != 0))
                    expect(granted.contains(.writeData) == (digit & 2 != 0))
                    expect(granted.contains(.appendData) == (digit & 2 != 0))
                    expect(granted.contains(.execute) == (digit & 1 != 0))
                    expect(granted.contains(.deleteChild) == (digit & 2 != 0 && isDirectory))
                    expect(granted.contains(.writeACL) == (caller.uid == 1))
                    expect(granted.isSuperset(of: [.readAttributes, .readACL, .synchronize]))
                    expect(granted.isDisjoint(with: [.delete, .writeOwner]))
                    // The list that stands for the mode grants the same.
                    expect(file.granted(.all, to: caller, list) == granted, "mode \(String(mode, radix: 8)) \(caller)")
                }
                let root = file.granted(.all, to: .root)
                expect(root == (isDirectory || mode & 0o111 != 0 ? .all : AccessMask.all.subtracting(.execute)))
            }
        }
    }

    /// A change of mode is one: classes have what the mode says, and who is named not more than the group.
    @Test(arguments: [1, 2] as [UInt64])
    func changesOfMode(seed: UInt64) {
        var source = Source(seed)
        for step in 0..<modelSteps(100_000) {
            let entries = source.entries()
            var file = source.file()
            guard let acl = ACL(entries) else { return }
            let new = UInt16(source.generator.below(512))
            let changed = acl.applying(mode: new, uid: file.uid, gid: file.gid, isDirectory: file.isDirectory)
            file.mode = new
            if let changed {
                expect(changed.mode(uid: file.uid, gid: file.gid) == new, "seed \(seed) step \(step) \(entries)")
                // What is passed on to new files stays as it was.
                for isDirectory in [false, true] {
                    expect(
                        changed.passedOn(toDirectory: isDirectory)?.entries
                            == acl.passedOn(toDirectory: isDirectory)?.entries)
                }
            }
            let owner = file.granted(.all, to: Credential(uid: file.uid, gid: 77), changed)
            expect(
                (owner.contains(.readData) ? 4 : 0) | (owner.contains(.execute) ? 1 : 0) == new >> 6 & 5,
                "seed \(seed) step \(step)")
            let other = file.granted(.all, to: Credential(uid: 78, gid: 77), changed)
            expect((other.contains(.readData) ? 4 : 0) | (other.contains(.execute) ? 1 : 0) == new & 5)
            for id in 1...5 as ClosedRange<UInt32> where id != file.uid {
                let named = file.granted([.readData, .writeData, .execute], to: Credential(uid: id, gid: 77), changed)
                let most = (new >> 3 | new) & 7
                if most & 4 == 0 { expect(!named.contains(.readData)) }
                if most & 2 == 0 { expect(!named.contains(.writeData)) }
            }
        }
    }

    /// Against the algorithm of POSIX 1003.1e, 23.1.5.
    @Test(arguments: [1, 2] as [UInt64])
    func posix(seed: UInt64) {
        var source = Source(seed)
        for step in 0..<modelSteps(150_000) {
            func digit() -> UInt16 { UInt16(source.generator.below(8)) }
            func named() -> [PosixACL.Named] {
                var ids = Set<UInt32>()
                for _ in 0..<source.generator.below(3) { ids.insert(source.id()) }
                return ids.sorted().map { PosixACL.Named(id: $0, digit: digit()) }
            }
            let file = source.file()
            var list = PosixACL(owner: digit(), users: named(), group: digit(), groups: named(), other: digit())
            // The owner and the file's group are not named once more.
            list.users.removeAll { $0.id == file.uid }
            list.groups.removeAll { $0.id == file.gid }
            if !(list.users.isEmpty && list.groups.isEmpty) || source.generator.once(in: 4) { list.mask = digit() }
            guard let acl = ACL(posix: list, isDirectory: file.isDirectory) else {
                Issue.record("no list")
                return
            }
            let caller = source.credential()
            let mask = list.mask ?? 7
            let expected: UInt16
            if caller.uid == file.uid {
                expected = list.owner
            } else if let user = list.users.first(where: { $0.id == caller.uid }) {
                expected = user.digit & mask
            } else {
                var digits = list.groups.filter { caller.isMember(of: $0.id) }.map(\.digit)
                if caller.isMember(of: file.gid) { digits.append(list.group) }
                expected = digits.isEmpty ? list.other : digits.reduce(0, |) & mask
            }
            let granted = file.granted(.all, to: caller, acl)
            let found: UInt16 =
                (granted.contains(.readData) ? 4 : 0) | (granted.contains(.writeData) ? 2 : 0)
                | (granted.contains(.execute) ? 1 : 0)
            expect(
                found == expected,
                "seed \(seed) step \(step): \(found) expected \(expected): \(list) for \(caller) of \(file)")
            // And back: what each of them has effectively.
            let back = acl.posix(uid: file.uid, gid: file.gid)
            expect(back?.owner == list.owner && back?.other == list.other && back?.group == list.group & mask)
            expect(back?.users == list.users.map { PosixACL.Named(id: $0.id, digit: $0.digit & mask) })
            expect(back?.groups == list.groups.map { PosixACL.Named(id: $0.id, digit: $0.digit & mask) })
        }
    }

    @Test func inheritance() {
        let parent = ACL(
            [
                ACL.Entry(.allow, .user(1), .readData, [.fileInherit]),
                ACL.Entry(.allow, .user(2), .readData, [.directoryInherit]),
                ACL.Entry(.deny, .user(3), .readData, [.fileInherit, .directoryInherit, .noPropagate]),
                ACL.Entry(.allow, .owner, .all, [.fileInherit, .directoryInherit, .inheritOnly]),
                ACL.Entry(.allow, .user(4), .readData),
                ACL.Entry(.allow, .user(5), .readData, [.fileInherit, .noPropagate]),
            ], .autoInherited)!
        #expect(
            parent.passedOn(toDirectory: false)?.entries == [
                ACL.Entry(.allow, .user(1), .readData, [.inherited]),
                ACL.Entry(.deny, .user(3), .readData, [.inherited]),
                ACL.Entry(.allow, .owner, .all, [.inherited]),
                ACL.Entry(.allow, .user(5), .readData, [.inherited]),
            ])
        #expect(
            parent.passedOn(toDirectory: true)?.entries == [
                ACL.Entry(.allow, .user(1), .readData, [.inherited, .fileInherit, .inheritOnly]),
                ACL.Entry(.allow, .user(2), .readData, [.inherited, .directoryInherit]),
                ACL.Entry(.deny, .user(3), .readData, [.inherited]),
                ACL.Entry(.allow, .owner, .all, [.inherited, .fileInherit, .directoryInherit]),
            ])
        #expect(ACL.empty.passedOn(toDirectory: true) == nil)
        // Of a list that nobody keeps in step with those above, what is passed on is as if it had been set there.
        let loose = ACL(parent.entries)!.passedOn(toDirectory: true)
        #expect(loose?.flags == [])
        #expect(
            loose?.entries
                == parent.passedOn(toDirectory: true)?.entries.map { entry in
                    var entry = entry
                    entry.flags.remove(.inherited)
                    return entry
                })
        let child = ACL([
            ACL.Entry(.allow, .user(9), .all), ACL.Entry(.deny, .user(8), .all),
            ACL.Entry(.allow, .user(7), .all, [.inherited]),
        ])!
        let renewed = child.inheriting(from: parent, isDirectory: false)
        #expect(renewed?.entries.map(\.who) == [.user(9), .user(8), .user(1), .user(3), .owner, .user(5)])
        #expect(renewed?.isCanonical == false)
        #expect(renewed?.canonical.entries.map(\.who) == [.user(8), .user(9), .user(1), .user(3), .owner, .user(5)])
        let closed = ACL(child.entries, .protected)!
        #expect(closed.inheriting(from: parent, isDirectory: false) == closed)
    }

    @Test func stored() throws {
        var source = Source(5)
        for _ in 0..<50_000 {
            let acl = ACL(source.entries(), source.generator.once(in: 2) ? [] : .protected)!
            let again = try acl.bytes.withUnsafeBytes { try ACL(stored: $0) }
            expect(again == acl && again.entries == acl.entries)
            // Damaged bytes are refused, or are another list; they never trap.
            var bytes = acl.bytes
            bytes[source.generator.below(bytes.count)] ^= UInt8(1 << source.generator.below(8))
            if source.generator.once(in: 3) { bytes.removeLast(source.generator.below(bytes.count + 1)) }
            if let other = try? bytes.withUnsafeBytes({ try ACL(stored: $0) }) {
                _ = source.file().granted(.all, to: source.credential(), other)
                expect(other.entries.count == other.count)
            }
        }
        let most = [ACL.Entry](repeating: ACL.Entry(.allow, .everyone, .all), count: ACL.entriesMax)
        #expect(ACL(most) != nil && ACL(most + [most[0]]) == nil)
        #expect(throws: BytesError.tooLong) {
            try ([1, 0, 1, 4] as [UInt8]).withUnsafeBytes { _ = try ACL(stored: $0) }
        }
    }

    @Test func securityDescriptors() throws {
        var source = Source(6)
        var users = UserTable(domain: (7, 7, 7))
        for id in 1...3 as ClosedRange<UInt32> { try users.add(User(name: "u\(id)", uid: id, gid: id)) }
        for id in 1...3 as ClosedRange<UInt32> { try users.add(Group(name: "g\(id)", gid: id)) }
        var buffer = [UInt8](repeating: 0, count: SecurityDescriptor.bytesMax)
        func encoded(_ descriptor: SecurityDescriptor, _ file: FileSecurity) -> [UInt8] {
            buffer.withUnsafeMutableBytes { memory in
                var writer = Writer(memory)
                descriptor.write(&writer, file, users)
                expect(!writer.overflowed)
                return Array(writer.written)
            }
        }
        for _ in 0..<20_000 {
            let file = source.file()
            let entries = source.entries().filter { entry in
                // Another server's domain, for this one; and nothing that is inherited by nobody.
                !(entry.flags.contains(.inheritOnly)
                    && entry.flags.isDisjoint(with: [.fileInherit, .directoryInherit]))
            }
            let descriptor = SecurityDescriptor(file, ACL(entries, .autoInherited), users)
            let bytes = encoded(descriptor, file)
            // Who sets a list that is kept in step says so and asks for it: without that, it is none.
            let bare = try bytes.withUnsafeBytes { try SecurityDescriptor(reading: $0, users) }
            expect(bare.acl?.flags == [])
            var asking = bytes
            asking[3] |= 1
            let again = try asking.withUnsafeBytes { try SecurityDescriptor(reading: $0, users) }
            expect(again.owner == descriptor.owner && again.group == descriptor.group)
            // Whoever asks, the rights are the same: owner and group by SID are who they were.
            for _ in 0..<4 {
                let caller = source.credential()
                expect(file.granted(.all, to: caller, again.acl) == file.granted(.all, to: caller, descriptor.acl))
                for isDirectory in [false, true] {
                    let child = FileSecurity(uid: caller.uid, gid: caller.gid, mode: 0, isDirectory: isDirectory)
                    expect(
                        child.granted(.all, to: caller, again.acl?.passedOn(toDirectory: isDirectory) ?? .empty)
                            == child.granted(
                                .all, to: caller, descriptor.acl?.passedOn(toDirectory: isDirectory) ?? .empty))
                }
            }
            // A second time it is the same to the bit.
            expect(encoded(again, file) == bytes)
            var damaged = bytes
            for _ in 0...source.generator.below(4) {
                damaged[source.generator.below(damaged.count)] = UInt8(truncatingIfNeeded: source.generator.next())
            }
            if source.generator.once(in: 2) { damaged.removeLast(source.generator.below(damaged.count + 1)) }
            _ = try? damaged.withUnsafeBytes { try SecurityDescriptor(reading: $0, users) }
        }
        // Present and absent: everybody may do everything. Empty: nobody.
        var nothing: [UInt8] = [1, 0, 4, 0x80] + [UInt8](repeating: 0, count: 16)
        #expect(
            try nothing.withUnsafeBytes { try SecurityDescriptor(reading: $0, users) }.acl?.entries == [
                ACL.Entry(.allow, .everyone, .all)
            ])
        nothing[2] = 0
        #expect(try nothing.withUnsafeBytes { try SecurityDescriptor(reading: $0, users) }.acl == nil)
    }

    @Test func genericRights() {
        #expect(AccessMask(generic: 0x1000_0000) == .all)
        #expect(AccessMask(generic: 0x8000_0000).rawValue == 0x12_0089)
        #expect(AccessMask(generic: 0x4000_0000).rawValue == 0x12_0116)
        #expect(AccessMask(generic: 0x2000_0000).rawValue == 0x12_00A0)
        #expect(AccessMask(generic: 0x0E00_0001) == .readData)
    }
}
