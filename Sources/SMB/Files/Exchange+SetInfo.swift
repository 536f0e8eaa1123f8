import Bytes
import Namespace
import Runtime

/// SET_INFO ([MS-SMB2] 3.3.5.21).
extension Exchange {
    func setInfo(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try SetInfoRequest(reading: element) }
        let open = try open(request.file)
        guard request.data.count <= stream?.negotiation.dataMax ?? 0 else { throw .status(.invalidParameter) }
        let volume = try volume(open)
        switch request.type {
        case 1: try setFile(request, open, volume)
        case 2: throw .status(.invalidInfoClass)
        case 3: try setSecurity(request, open, volume)
        case 4: throw .status(.notSupported)
        default: throw .status(.invalidParameter)
        }
        Self.writeSet(&writer)
        return .success
    }

    private static func writeSet(_ writer: inout Writer) { writer.u16LE(2) }

    private func need(_ mask: AccessMask, _ open: Open) throws(SMBHalt) {
        guard open.granted.isSuperset(of: mask) else { throw .status(.accessDenied) }
    }

    /// Reads the fixed part of an information; a shorter one is refused.
    private func information<Value>(
        _ request: SetInfoRequest, _ read: (inout Reader) throws(BytesError) -> Value
    ) throws(SMBHalt) -> Value {
        var reader = Reader(request.data)
        do throws(BytesError) { return try read(&reader) } catch { throw .status(.infoLengthMismatch) }
    }

    private func setFile(_ request: SetInfoRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        switch request.level {
        case FileLevel.basic: try setBasic(request, open, volume)
        case FileLevel.rename, FileLevel.renameEx: try rename(request, open, volume)
        case FileLevel.link: try link(request, open, volume)
        case FileLevel.disposition:
            let flag = try information(request) { (reader) throws(BytesError) in try reader.u8() }
            try setDisposition(flag != 0, open, volume)
        case FileLevel.dispositionEx:
            let flags = try information(request) { (reader) throws(BytesError) in try reader.u32LE() }
            try setDisposition(flags & 1 != 0, open, volume)
        case FileLevel.position:
            let position = try information(request) { (reader) throws(BytesError) in try reader.u64LE() }
            guard position <= Self.offsetMax else { throw .status(.invalidParameter) }
            open.position = position
        case FileLevel.mode:
            let mode = try information(request) { (reader) throws(BytesError) in try reader.u32LE() }
            guard mode & ~0x3E == 0 else { throw .status(.invalidParameter) }
            open.mode = mode
        case FileLevel.endOfFile:
            try need(.writeData, open)
            let size = try information(request) { (reader) throws(BytesError) in try reader.u64LE() }
            try resize(open, volume, to: size)
        case FileLevel.allocation:
            try need(.writeData, open)
            let size = try information(request) { (reader) throws(BytesError) in try reader.u64LE() }
            guard size <= Self.offsetMax else { throw .status(.invalidParameter) }
            let file = try value(volume.attributes(caller(open.tree), open.file), volume)
            // Nothing is reserved ahead; less than there is cuts the file.
            if size < file.size { try resize(open, volume, to: size) }
        case FileLevel.validDataLength:
            try need(.writeData, open)
            let size = try information(request) { (reader) throws(BytesError) in try reader.u64LE() }
            let file = try value(volume.attributes(caller(open.tree), open.file), volume)
            guard size <= file.size else { throw .status(.invalidParameter) }
        case FileLevel.fullEA: throw .status(.easNotSupported)
        default: throw .status(.invalidInfoClass)
        }
    }

    // MARK: Basic

    private func setBasic(_ request: SetInfoRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        try need(.writeAttributes, open)
        let (times, bits) = try information(request) { (reader) throws(BytesError) -> ([Int64], UInt32) in
            var times: [Int64] = []
            for _ in 0..<4 { times.append(try reader.i64LE()) }
            let bits = try reader.u32LE()
            try reader.skip(4)
            return (times, bits)
        }
        guard times.allSatisfy({ $0 >= -2 }) else { throw .status(.invalidParameter) }
        let wanted = FileAttributes(rawValue: bits)
        guard open.isDirectory || !wanted.contains(.directory), !open.isDirectory || !wanted.contains(.temporary) else {
            throw .status(.invalidParameter)
        }
        var new = NewAttributes()
        // 0 leaves a time as it is; so do -1 and -2, which speak of what later changes do to it.
        if times[0] > 0 { new.born = NTTime.nanoseconds(UInt64(times[0])) }
        if times[1] > 0 { new.accessed = NTTime.nanoseconds(UInt64(times[1])) }
        if times[2] > 0 { new.modified = NTTime.nanoseconds(UInt64(times[2])) }
        if bits != 0 {
            let file = try value(volume.attributes(caller(open.tree), open.subject), volume)
            let others = FileAttributes(rawValue: file.dos).subtracting(.kept)
            new.dos = wanted.intersection(.kept).union(others).rawValue
        }
        guard !new.isEmpty else { return }
        _ = try value(volume.setAttributes(ownerCaller(open), open.subject, new), volume)
        var changed: WatchFilter = []
        if new.born != nil { changed.insert(.creation) }
        if new.accessed != nil { changed.insert(.lastAccess) }
        if new.modified != nil { changed.insert(.lastWrite) }
        if new.dos != nil { changed.insert(.attributes) }
        open.sharing?.post(.modified, changed, open.place.path, on: loop)
    }

    /// The handle's rights were checked when it was opened: what it may do is done in the name of the file's owner.
    func ownerCaller(_ open: Open) -> Caller {
        var caller = caller(open.tree)
        caller.credential = .root
        return caller
    }

    private func resize(_ open: Open, _ volume: Volume, to size: UInt64) throws(SMBHalt) {
        guard !open.isDirectory else { throw .status(.invalidParameter) }
        guard size <= Self.offsetMax else { throw .status(.invalidParameter) }
        guard !open.tree.share.isReadOnly else { throw .status(.mediaWriteProtected) }
        try proceed(.write, open)
        let (file, now) = (open.file, caller(open.tree).request)
        open.sharing?.post(.modified, [.size, .lastWrite], open.place.path, on: loop)
        throw .later { (exchange) async throws(SMBHalt) in
            do throws(FileError) {
                let (_, number) = try await volume.resize(now, file, to: size, NewAttributes())
                exchange.settle(number, volume)
            } catch { throw .status(NTStatus(error)) }
            return SMBAnswer { Self.writeSet(&$0) }
        }
    }

    // MARK: Names

    private func setDisposition(_ deletes: Bool, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        try need(.delete, open)
        guard let sharing = open.sharing else { throw .status(.invalidParameter) }
        guard deletes else {
            _ = sharing.setGoing(open, false, on: loop)
            return
        }
        let caller = caller(open.tree)
        let file = try value(volume.attributes(caller, open.file), volume)
        if FileFacts(file).attributes.contains(.readOnly) { throw .status(.cannotDelete) }
        guard !open.place.path.components.isEmpty else { throw .status(.cannotDelete) }
        if open.isDirectory {
            var isEmpty = true
            _ = try value(
                volume.list(caller, open.file, after: 0, limit: 1, attributes: false) { _, _ in
                    isEmpty = false
                    return false
                }, volume)
            guard isEmpty else { throw .status(.directoryNotEmpty) }
        }
        try proceed(.rename, open)
        guard sharing.setGoing(open, true, on: loop) else { throw .status(.insufficientResources) }
    }

    private func target(_ request: SetInfoRequest, _ open: Open) throws(SMBHalt) -> (replaces: Bool, path: SMBPath) {
        let (replaces, root, name) = try information(request) {
            (reader) throws(BytesError) -> (Bool, UInt64, [UInt8]) in
            let flag = try reader.u8()
            try reader.skip(7)
            let root = try reader.u64LE()
            let count = try reader.countLE(limit: SMB2.pathBytesMax)
            return (flag & 1 != 0, root, try reader.bytes(count).array())
        }
        guard root == 0 else { throw .status(.invalidParameter) }
        guard !name.isEmpty else { throw .status(.objectNameInvalid) }
        var units: [UInt16] = []
        guard name.count % 2 == 0 else { throw .status(.invalidParameter) }
        for index in stride(from: 0, to: name.count, by: 2) {
            units.append(UInt16(name[index]) | UInt16(name[index + 1]) << 8)
        }
        return (replaces, try SMBPath(units))
    }

    private func rename(_ request: SetInfoRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        try need(.delete, open)
        let (replaces, path) = try target(request, open)
        guard path.stream == nil, !path.components.isEmpty else { throw .status(.notSupported) }
        let old = open.place.path
        guard let sharing = open.sharing, let from = old.parent, let name = old.name else {
            throw .status(.accessDenied)
        }
        let caller = caller(open.tree)
        let found = try resolve(path, caller, volume)
        guard let parent = found.parent, let wanted = path.components.last else {
            throw .status(.objectNameCollision)
        }
        if let there = found.file {
            if there.file == open.file {
                // The same file by another spelling of its name.
                if found.path == old, wanted == name { return }
            } else {
                guard replaces else { throw .status(.objectNameCollision) }
                if there.type == .directory || sharing.isOpen(there.file) { throw .status(.accessDenied) }
            }
        }
        if sharing.isHeldForDelete(from, besides: open.file) || sharing.isHeldForDelete(parent.file, besides: open.file)
        {
            throw .status(.sharingViolation)
        }
        if open.isDirectory, sharing.isInUse(below: open.file) { throw .status(.accessDenied) }
        try proceed(.rename, open)
        if let there = found.file, there.file != open.file, let old = found.path.name, old != wanted {
            // It has the name in another spelling: that one goes.
            _ = try value(
                old.withUnsafeBytes { volume.remove(caller, in: parent.file, $0, isDirectory: false) }, volume)
        }
        let mode: RenameMode = replaces ? .replace : .noReplace
        let renamed = name.withUnsafeBytes { old in
            wanted.withUnsafeBytes { new in
                volume.rename(caller, from: from, old, to: parent.file, new, mode)
            }
        }
        _ = try value(renamed, volume)
        var new = found.path
        new.components[new.components.count - 1] = wanted
        sharing.renamed(open, to: new)
        let filter: WatchFilter = open.isDirectory ? .directoryName : .fileName
        let isSame = from == parent.file
        sharing.post(isSame ? .renamedFrom : .removed, filter, old, on: loop)
        sharing.post(isSame ? .renamedTo : .added, filter, new, on: loop)
    }

    private func link(_ request: SetInfoRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        let (replaces, path) = try target(request, open)
        guard !open.isDirectory else { throw .status(.fileIsADirectory) }
        let caller = caller(open.tree)
        let found = try resolve(path, caller, volume)
        guard let parent = found.parent, let wanted = path.components.last else { throw .status(.objectNameCollision) }
        if let there = found.file {
            guard replaces, there.file != open.file, let old = found.path.name else {
                throw .status(.objectNameCollision)
            }
            _ = try value(
                old.withUnsafeBytes { volume.remove(caller, in: parent.file, $0, isDirectory: false) }, volume)
        }
        _ = try value(wanted.withUnsafeBytes { volume.link(caller, open.file, in: parent.file, $0) }, volume)
        open.sharing?.post(.added, .fileName, found.path, on: loop)
    }

    // MARK: Security

    private func setSecurity(_ request: SetInfoRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        if request.additional & Self.listInformation != 0 { try need(.writeACL, open) }
        if request.additional & (Self.ownerInformation | Self.groupInformation) != 0 { try need(.writeOwner, open) }
        if request.additional & Self.auditInformation != 0 { throw .status(.accessDenied) }
        let users = server.catalog.identities
        let descriptor: SecurityDescriptor
        do throws(BytesError) { descriptor = try SecurityDescriptor(reading: request.data, users) } catch {
            throw .status(.invalidSecurityDescriptor)
        }
        let file = try value(volume.attributes(caller(open.tree), open.subject), volume)
        var new = NewAttributes()
        if request.additional & Self.ownerInformation != 0, let owner = descriptor.owner {
            guard case .user(let uid) = users.principal(owner) else { throw .status(.invalidOwner) }
            new.uid = uid
        }
        if request.additional & Self.groupInformation != 0, let group = descriptor.group {
            guard case .group(let gid) = users.principal(group) else { throw .status(.invalidOwner) }
            new.gid = gid
        }
        if request.additional & Self.listInformation != 0, let acl = descriptor.acl {
            new.mode = file.mode & 0o7000 | acl.mode(uid: new.uid ?? file.uid, gid: new.gid ?? file.gid)
        }
        guard !new.isEmpty else { return }
        _ = try value(volume.setAttributes(ownerCaller(open), open.subject, new), volume)
    }
}
