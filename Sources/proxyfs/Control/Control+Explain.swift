import Configuration
import JSON
import Namespace
import Passthrough
import Runtime
import S3

/// What is to be known of one file.
extension Control {
    /// Ranges that are shown.
    private static let rangesMax = 64

    func explain(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let path = try arguments.text("path")
        let userName = try arguments.optional("user")
        try arguments.finish()
        let parts = path.split(separator: "/").map(String.init)
        guard path.hasPrefix("/"), let volume = parts.first else {
            throw .misuse("\"\(path)\" is no path: /VOLUME/DIRECTORY/FILE")
        }
        let hosted = try host.open(volume)
        let names = Array(parts.dropFirst())
        let found: Attributes
        let acl: ACL?
        do throws(FileError) {
            let paths = FilePath(hosted.volume, clock: world.clock, loop: loop)
            found = try await paths.find(names.joined(separator: "/"))
            acl = try await paths.acl(of: found)
        } catch { throw .failure("looking \(path) up: \(error)") }
        let users = registry.snapshot.users
        var members: [JSON.Member] = [
            .init("path", .string(path)), .init("kind", .string("\(found.type)")),
            .init("inode", .number(found.file.inode)), .init("generation", .number(found.file.generation)),
            .init("size", .number(found.size)), .init("allocated", .number(found.allocated)),
            .init("mode", .string(Self.octal(found.mode))), .init("links", .number(found.links)),
            .init("owner", .string("\(users.user(uid: found.uid)?.name ?? "unknown") (\(found.uid))")),
            .init("group", .string("\(users.group(gid: found.gid)?.name ?? "unknown") (\(found.gid))")),
            .init("modified", .integer(found.modified)), .init("change", .number(found.change)),
        ]
        if found.type == .file {
            members.append(.init("stored", try await stored(found, path, hosted)))
        }
        members.append(.init("names", ProtocolNames(volume: volume, parts: names, type: found.type).json))
        if let acl { members.append(.init("list", .array(acl.entries.map { .string(Self.words($0, users)) }))) }
        members.append(.init("access", try access(found, acl, volume, userName)))
        return .object(members)
    }

    private static func octal(_ mode: UInt16) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    /// Who has the file knows: this volume, one that is mounted in it, or the host.
    private func stored(_ file: Attributes, _ path: String, _ hosted: HostedVolume) async throws(CommandFailure) -> JSON
    {
        let (id, subvolume) = (file.file, file.file.subvolume)
        if let mount = hosted.tree.mounts.first(where: { $0.number == subvolume && !$0.isBind }), mount.guest == nil {
            let directory = (mount.fileSystem as? Passthrough)?.path
            return .string("on the host" + (directory.map { ", in \($0)" } ?? ""))
        }
        guard
            let home = host.entries.lazy.compactMap(\.hosted).first(where: { $0.volume.root.subvolume == subvolume })
        else { return "in a volume that is not open any more" }
        let ranges = try await care("finding where \(path) is stored", home) {
            (home) async throws(HostingError) in try await home.layout(id, limit: Self.rangesMax)
        }
        let shown = Self.stored(ranges, file.size)
        return home === hosted ? shown : ["volume": .string(home.volume.name), "ranges": shown]
    }

    private static func stored(_ ranges: [HostedVolume.StoredRange]?, _ size: UInt64) -> JSON {
        guard let ranges else { return "in the tree, with the file's record" }
        if ranges.isEmpty { return size == 0 ? "nothing" : "all holes, or not flushed yet" }
        return .array(
            ranges.map {
                [
                    "from": .number($0.start), "to": .number($0.end), "segment": .number($0.segment),
                    "offset": .number($0.offset),
                ]
            })
    }

    // MARK: Access

    private static func words(_ entry: ACL.Entry, _ users: UserTable) -> String {
        let who =
            switch entry.who {
            case .owner: "the owner"
            case .owningGroup: "the group"
            case .everyone: "everyone"
            case .user(let uid): "user \(users.user(uid: uid)?.name ?? String(uid))"
            case .group(let gid): "group \(users.group(gid: gid)?.name ?? String(gid))"
            case .sid(let sid): "\(sid)"
            }
        var rights: [String] = []
        if entry.mask.contains(.readData) { rights.append("read") }
        if entry.mask.contains(.writeData) { rights.append("write") }
        if entry.mask.contains(.appendData) { rights.append("append") }
        if entry.mask.contains(.execute) { rights.append("execute") }
        if entry.mask.contains(.delete) { rights.append("delete") }
        if entry.mask.contains(.writeACL) { rights.append("change the list") }
        let bits = "0x" + String(entry.mask.rawValue, radix: 16)
        let passedOn = entry.flags.contains(.inheritOnly) ? ", for what is made here only" : ""
        let words = rights.isEmpty ? bits : rights.joined(separator: ", ") + " (" + bits + ")"
        return "\(entry.kind) \(who) \(words)\(passedOn)"
    }

    private func access(
        _ file: Attributes, _ list: ACL?, _ volume: String, _ name: String?
    ) throws(CommandFailure) -> JSON {
        let snapshot = registry.snapshot
        var wanted = snapshot.users.allUsers
        if let name {
            guard let user = snapshot.users.user(name) else { throw .failure("there is no user \(name)") }
            wanted = [user]
        }
        let security = FileSecurity(
            uid: file.uid, gid: file.gid, mode: file.mode, isDirectory: file.type == .directory)
        return .array(
            wanted.prefix(Self.rangesMax).map { user in
                let (rights, why) = judge(user, security, list, snapshot.rights(of: user, on: volume))
                return ["user": .string(user.name), "may": .string(rights), "because": .string(why)]
            })
    }

    private func judge(
        _ user: User, _ file: FileSecurity, _ list: ACL?, _ volume: VolumeRights
    ) -> (String, String) {
        if user.isDisabled { return ("nothing", "the user is disabled") }
        guard volume.contains(.read) else { return ("nothing", "the user has no rights on the volume") }
        let wanted: AccessMask = [.readData, .writeData, .execute]
        let granted = file.granted(wanted, to: user.credential, list)
        var words: [String] = []
        if granted.contains(.readData) { words.append(file.isDirectory ? "list" : "read") }
        if granted.contains(.writeData), volume.contains(.write) {
            words.append(file.isDirectory ? "make and remove names" : "write")
        }
        if granted.contains(.execute) { words.append(file.isDirectory ? "look names up" : "execute") }
        let who =
            user.uid == 0
            ? "root may"
            : list.map { Self.reason(file.deciding(wanted, for: user.credential, $0)) } ?? byMode(user, file)
        let more =
            granted.contains(.writeData) && !volume.contains(.write) ? "; the user may only read on the volume" : ""
        return (words.isEmpty ? "nothing" : words.joined(separator: ", "), who + more)
    }

    private static func reason(_ entries: [Int]) -> String {
        if entries.isEmpty { return "no entry of the access list names the user" }
        return "the access list, by its \(entries.count == 1 ? "entry" : "entries") "
            + entries.map(String.init).joined(separator: ", ")
    }

    private func byMode(_ user: User, _ file: FileSecurity) -> String {
        user.uid == file.uid
            ? "the mode's digit for the owner"
            : user.credential.isMember(of: file.gid)
                ? "the mode's digit for the group" : "the mode's digit for all others"
    }
}

/// Under which names the protocols show a file, or why one can not.
struct ProtocolNames {
    let volume: String
    let parts: [String]
    let type: FileType

    var json: JSON { ["nfs": .string(nfs), "smb": .string(smb), "s3": .string(s3)] }

    private var nfs: String {
        if let long = parts.first(where: { $0.utf8.count > 255 }) {
            return "not shown: a name of \(long.utf8.count) bytes; clients take 255"
        }
        return "/" + ([volume] + parts).joined(separator: "/")
    }

    private var smb: String {
        for part in parts {
            let bad = part.unicodeScalars.first { "\\:*?\"<>|".unicodeScalars.contains($0) || $0.value < 32 }
            if let bad {
                return "not by this name: \"\(part)\" has a \(bad.escaped(asASCII: true)), which Windows can not say"
            }
            if part.hasSuffix(".") || part.hasSuffix(" ") {
                return "not by this name: \"\(part)\" ends with a dot or a space, which Windows drops"
            }
            if part.utf16.count > 255 { return "not shown: a name of \(part.utf16.count) units; clients take 255" }
        }
        return "\\\\SERVER\\" + ([volume] + parts).joined(separator: "\\")
    }

    private var s3: String {
        guard let bucket = parts.first else { return "the buckets of \(volume)" }
        guard parts.count > 1 || type == .directory else {
            return "not shown: a file at the root of a volume is in no bucket"
        }
        guard Bucket.isShown(Array(bucket.utf8)) else {
            return "not shown: \"\(bucket)\" is no bucket's name: it begins with a dot, or is longer than 255 bytes"
        }
        switch type {
        case .file, .directory: break
        case .symlink, .fifo, .socket, .characterDevice, .blockDevice:
            return "not shown: only files and directories are objects"
        }
        guard parts.count > 1 else { return "s3://\(bucket)/" }
        let key = parts.dropFirst().joined(separator: "/") + (type == .directory ? "/" : "")
        do throws(S3Error) { try ObjectKey.check(Array(key.utf8)) } catch {
            return "not by this name, of \(key.utf8.count) bytes: \(error.message)"
        }
        return "s3://\(bucket)/\(key)"
    }
}
