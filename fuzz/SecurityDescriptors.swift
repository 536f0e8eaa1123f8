// modules: Bytes Logging
// with: Sources/Namespace/Access/ACL+Inheritance.swift Sources/Namespace/Access/ACL+Mode.swift Sources/Namespace/Access/ACL.swift Sources/Namespace/Access/AccessMask+Windows.swift Sources/Namespace/Access/AccessMask.swift Sources/Namespace/Access/FileSecurity.swift Sources/Namespace/Access/PosixACL.swift Sources/Namespace/Access/SecurityDescriptor.swift Sources/Namespace/Identity/Credential.swift Sources/Namespace/Identity/NTHash.swift Sources/Namespace/Identity/PrincipalMap.swift Sources/Namespace/Identity/SID.swift Sources/Namespace/Identity/User.swift Sources/Namespace/Identity/UserTable.swift
// inputs: 5000000
// lines: 95
// covers: Sources/Namespace/Access/SecurityDescriptor.swift Sources/Namespace/Access/ACL.swift
import Bytes

private let users = UserTable(domain: (1, 2, 3))
private let file = FileSecurity(uid: 10_000, gid: 10_000, mode: 0o640, isDirectory: false)

/// What a client says of a file's rights, and the same in the form in which it is stored.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    if let stored = try? ACL(stored: input) {
        use(stored)
        show(SecurityDescriptor(file, stored, users))
    }
    guard let descriptor = try? SecurityDescriptor(reading: input, users) else { return 0 }
    if let acl = descriptor.acl {
        use(acl)
        let again = acl.bytes.withUnsafeBytes { try? ACL(stored: $0) }
        precondition(again == acl, "a list that is stored comes back")
    }
    show(descriptor)
    show(SecurityDescriptor(owner: descriptor.owner, group: descriptor.group, acl: nil))
    return 0
}

/// What we write can be read.
private func show(_ descriptor: SecurityDescriptor) {
    var memory = [UInt8](repeating: 0, count: SecurityDescriptor.bytesMax + 1024)
    memory.withUnsafeMutableBytes { memory in
        var writer = Writer(memory)
        descriptor.write(&writer, file, users)
        guard !writer.overflowed, writer.position <= SecurityDescriptor.bytesMax else { return }
        let written = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory)[..<writer.position])
        precondition((try? SecurityDescriptor(reading: written, users)) != nil, "what we write can be read")
    }
}

private func use(_ acl: ACL) {
    let mode = acl.mode(uid: file.uid, gid: file.gid)
    precondition(mode & ~0o777 == 0, "more than three digits")
    _ = file.granted(.all, to: Credential(uid: 10_000, gid: 10_000), acl)
    if let applied = acl.applying(mode: mode, uid: file.uid, gid: file.gid, isDirectory: false) {
        precondition(applied.mode(uid: file.uid, gid: file.gid) == mode, "a mode that is set is the mode there is")
    }
    _ = acl.passedOn(toDirectory: true)?.passedOn(toDirectory: false)
}
