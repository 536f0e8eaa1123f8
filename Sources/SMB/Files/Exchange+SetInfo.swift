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
        // Quotas and the object's number, which could be set elsewhere; all else can be nowhere.
        case 2: throw .status([6, 8].contains(request.level) ? .invalidParameter : .invalidInfoClass)
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
            try setDisposition(flags & 1 != 0, open, volume, ignoresReadOnly: flags & 0x10 != 0)
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
            let file = try value(volume.attributes(caller(open), open.file), volume)
            // Nothing is reserved ahead; less than there is cuts the file.
            if size < file.size { try resize(open, volume, to: size) }
            _ = try value(volume.mayWrite(caller(open), open.file, at: 0, count: 0), volume)
        case FileLevel.validDataLength:
            try need(.writeData, open)
            let size = try information(request) { (reader) throws(BytesError) in try reader.u64LE() }
            let file = try value(volume.attributes(caller(open), open.file), volume)
            guard size <= file.size else { throw .status(.invalidParameter) }
        case FileLevel.fullEA: try setAttributes(request, open, volume)
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
        // 0 leaves a time as it is; so do -1 and -2, which speak of what this handle's later writes do to it.
        if times[0] > 0 { new.born = NTTime.nanoseconds(UInt64(times[0])) }
        if times[1] > 0 { new.accessed = NTTime.nanoseconds(UInt64(times[1])) }
        if times[2] > 0 { new.modified = NTTime.nanoseconds(UInt64(times[2])) }
        if times[3] > 0 { new.shownChange = NTTime.nanoseconds(UInt64(times[3])) }
        switch times[2] {
        case -1: open.writeTime = try value(volume.attributes(caller(open), open.subject), volume).modified
        case -2: open.writeTime = nil
        case 1...: open.writeTime = new.modified
        default: break
        }
        if bits != 0 {
            let file = try value(volume.attributes(caller(open), open.subject), volume)
            let others = FileAttributes(rawValue: file.dos).subtracting(.kept)
            new.dos = wanted.intersection(.kept).union(others).rawValue
        }
        guard !new.isEmpty else { return }
        _ = try value(volume.setAttributes(ownerCaller(open), open.subject, new), volume)
    }

    /// The handle's rights were checked when it was opened: what it may do is done in the name of the file's owner.
    func ownerCaller(_ open: Open) -> Caller {
        var caller = caller(open)
        caller.credential = .root
        return caller
    }

    private func resize(_ open: Open, _ volume: Volume, to size: UInt64) throws(SMBHalt) {
        guard !open.isDirectory else { throw .status(.invalidParameter) }
        guard size <= Self.offsetMax else { throw .status(.invalidParameter) }
        // A time that is kept is set with the size, whoever's the file is.
        let caller = open.writeTime == nil ? self.caller(open) : ownerCaller(open)
        var wanted = NewAttributes()
        wanted.size = size
        wanted.dropsSetID = open.writeTime != nil && self.caller(open).credential.uid != 0
        if open.stream == nil { wanted.modified = open.writeTime }
        let allowed = try value(volume.mayResize(caller, open.file, wanted), volume)
        let (file, now) = (open.file, caller.request)
        throw .later { (exchange) async throws(SMBHalt) in
            do throws(FileError) {
                let (_, number) = try await volume.resize(now, file, to: size, allowed)
                exchange.settle(number, volume)
            } catch { throw .status(NTStatus(error)) }
            return SMBAnswer { Self.writeSet(&$0) }
        }
    }

    // MARK: Names

    private func setDisposition(
        _ deletes: Bool, _ open: Open, _ volume: Volume, ignoresReadOnly: Bool = false
    ) throws(SMBHalt) {
        try need(.delete, open)
        guard let held = open.held else { throw .status(.invalidParameter) }
        let caller = caller(open)
        guard deletes else {
            _ = try value(volume.setDeletePending(caller, held, false), volume)
            return
        }
        let file = try value(volume.attributes(caller, open.file), volume)
        if !ignoresReadOnly, FileFacts(file).attributes.contains(.readOnly) { throw .status(.cannotDelete) }
        guard open.file != volume.root, open.file != open.tree.root else { throw .status(.cannotDelete) }
        _ = try value(volume.setDeletePending(caller, held, true), volume)
    }

    private func target(
        _ request: SetInfoRequest, _ open: Open
    ) throws(SMBHalt) -> (replaces: Bool, ignoresReadOnly: Bool, path: SMBPath) {
        var ignoresReadOnly = false
        let (replaces, root, name) = try information(request) {
            (reader) throws(BytesError) -> (Bool, UInt64, [UInt8]) in
            let flag = try reader.u8()
            ignoresReadOnly = request.level == FileLevel.renameEx && flag & 0x40 != 0
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
        return (replaces, ignoresReadOnly, try SMBPath(units))
    }

    private func rename(_ request: SetInfoRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        try need(.delete, open)
        let (replaces, ignoresReadOnly, path) = try target(request, open)
        if open.stream != nil { return try renameStream(open, volume, path, replaces) }
        guard path.stream == nil, !path.components.isEmpty else { throw .status(.notSupported) }
        guard let held = open.held, let old = volume.name(of: held) else { throw .status(.accessDenied) }
        let caller = caller(open)
        let found = try resolve(path, caller, volume)
        guard let parent = found.parent, let wanted = path.components.last else {
            throw .status(.objectNameCollision)
        }
        if let there = found.file {
            if there.file == open.file {
                // The same file by another spelling of its name.
                if parent.file == old.directory, found.name == old.name, wanted == old.name { return }
            } else {
                guard replaces else { throw .status(.objectNameCollision) }
                if there.type == .directory || volume.isOpen(there.file) { throw .status(.accessDenied) }
                if !ignoresReadOnly, FileFacts(there).attributes.contains(.readOnly) { throw .status(.accessDenied) }
            }
        }
        // Nothing comes into a directory that its own client may be about to delete. What others have open is in nobody's way: it
        // goes when it is empty, or not at all.
        if parent.file != open.file, let client = stream?.clientNumber,
            volume.isOpenToDelete(parent.file, by: client)
        {
            throw .status(.sharingViolation)
        }
        if open.isDirectory, try value(volume.hasOpens(caller, below: open.file), volume) {
            throw .status(.accessDenied)
        }
        // Over a name in another spelling: first over that, then the spelling changes, so that one of both is there always.
        let name = found.file != nil && found.file?.file != open.file ? found.name : wanted
        _ = try value(
            rename(caller, volume, from: old, to: parent.file, name, replaces ? .replace : .noReplace), volume)
        guard name != wanted else { return }
        _ = try value(rename(caller, volume, from: (parent.file, name), to: parent.file, wanted, .noReplace), volume)
    }

    /// A stream stays with its file: the new name is one of a stream alone. It does not become the file's own data.
    private func renameStream(
        _ open: Open, _ volume: Volume, _ path: SMBPath, _ replaces: Bool
    ) throws(SMBHalt) {
        guard path.components.isEmpty else { throw .status(.sharingViolation) }
        guard var name = path.stream else { throw .status(.notSupported) }
        guard let held = open.held, let old = volume.name(of: held) else { throw .status(.accessDenied) }
        let caller = caller(open)
        var stored = name
        if let there = try find(name, &stored, old.directory, caller, volume), there.file != open.file {
            guard replaces else { throw .status(.objectNameCollision) }
            guard !volume.isOpen(there.file) else { throw .status(.accessDenied) }
            name = stored
        }
        _ = try value(
            old.name.withUnsafeBytes { bytes in
                name.withUnsafeBytes {
                    volume.renameStream(caller, of: old.directory, bytes, to: $0, replaces: replaces)
                }
            }, volume)
    }

    private func rename(
        _ caller: Caller, _ volume: Volume, from old: (directory: FileID, name: [UInt8]), to directory: FileID,
        _ name: [UInt8], _ mode: RenameMode
    ) -> Attempt<Renamed> {
        old.name.withUnsafeBytes { bytes in
            name.withUnsafeBytes { volume.rename(caller, from: old.directory, bytes, to: directory, $0, mode) }
        }
    }

    private func link(_ request: SetInfoRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        let (replaces, _, path) = try target(request, open)
        guard !open.isDirectory else { throw .status(.fileIsADirectory) }
        let caller = caller(open)
        let found = try resolve(path, caller, volume)
        guard let parent = found.parent, let wanted = path.components.last else { throw .status(.objectNameCollision) }
        if found.file != nil {
            // Not in one step, and never in two: the name would lead nowhere in between.
            throw .status(replaces ? .notSupported : .objectNameCollision)
        }
        _ = try value(wanted.withUnsafeBytes { volume.link(caller, open.file, in: parent.file, $0) }, volume)
    }

    // MARK: Security

    private func setSecurity(_ request: SetInfoRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        if request.additional & Self.listInformation != 0 { try need(.writeACL, open) }
        if request.additional & (Self.ownerInformation | Self.groupInformation) != 0 { try need(.writeOwner, open) }
        if request.additional & Self.auditInformation != 0 { throw .status(.accessDenied) }
        let users = server.catalog.identities
        let descriptor = try descriptor(request.data)
        let file = try value(volume.attributes(caller(open), open.subject), volume)
        var new = NewAttributes()
        if request.additional & Self.ownerInformation != 0, let owner = descriptor.owner {
            guard case .user(let uid) = users.principal(owner) else { throw .status(.invalidOwner) }
            new.uid = uid
        }
        if request.additional & Self.groupInformation != 0, let group = descriptor.group {
            guard case .group(let gid) = users.principal(group) else { throw .status(.invalidOwner) }
            new.gid = gid
        }
        // The right to take ownership is no right to give it to others.
        let credential = open.tree.session.credential
        if credential.uid != 0 {
            if let uid = new.uid, uid != file.uid, uid != credential.uid { throw .status(.invalidOwner) }
            if let gid = new.gid, gid != file.gid, !credential.isMember(of: gid) { throw .status(.invalidOwner) }
        }
        if !new.isEmpty {
            _ = try value(volume.setAttributes(ownerCaller(open), open.subject, new), volume)
        }
        if request.additional & Self.listInformation != 0 {
            let acl = descriptor.acl ?? .nobodyIsKeptOut
            _ = try value(volume.setACL(ownerCaller(open), open.subject, acl), volume)
        }
    }

    /// What a client says of owner, group and list.
    func descriptor(_ bytes: UnsafeRawBufferPointer) throws(SMBHalt) -> SecurityDescriptor {
        do throws(BytesError) {
            return try SecurityDescriptor(reading: bytes, server.catalog.identities)
        } catch { throw .status(.invalidSecurityDescriptor) }
    }
}
