import Bytes
import Namespace
import Runtime

/// CREATE of a named stream ([MS-FSA] 2.1.5.1): the file is found or made first, then the stream of it.
extension Exchange {
    func openStream(
        _ name: [UInt8], _ opening: Opening, _ caller: Caller, _ volume: Volume, _ tree: Tree, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        let request = opening.request
        guard request.options & CreateOptions.directory == 0 else { throw .status(.notADirectory) }
        let base = try base(opening, caller, volume, tree)
        guard base.type == .file || base.type == .directory else { throw .status(.objectNameInvalid) }
        if let sharing = tree.sharing, sharing.isGoing(base.file, opening.found.path) { throw .status(.deletePending) }
        var stored = name
        var stream = try find(name, &stored, base.file, caller, volume)
        if stream != nil, opening.disposition == .create { throw .status(.objectNameCollision) }
        if stream == nil, !opening.disposition.makes { throw .status(.objectNameNotFound) }
        let maximal = maximalAccess(base, opening.found.parent, tree)
        let granted = try granted(request, maximal)
        if FileFacts(base).attributes.contains(.readOnly),
            stream == nil || opening.disposition.replaces
                || !AccessMask(generic: request.access).isDisjoint(with: [.writeData, .appendData])
        {
            throw .status(.accessDenied)
        }
        var action = CreateAction.opened
        if stream == nil {
            stream = try value(name.withUnsafeBytes { volume.createStream(caller, of: base.file, $0) }, volume)
            action = .created
            tree.sharing?.post(.added, .streamName, opening.found.path, on: loop)
        }
        guard let stream else { throw .status(.objectNameNotFound) }
        var place = opening
        // Another name than the file's: what is open by one is not in the other's way.
        if let last = place.found.path.components.indices.last {
            place.found.path.components[last] += [UInt8(ascii: ":")] + stored
        } else {
            place.found.path.components = [[UInt8(ascii: ":")] + stored]
            place.found.path.ancestors = [base.file]
        }
        let wish = wish(place, stream.file, isDirectory: false, granted, tree)
        let (id, shared, handle) = try admit(wish, tree)
        let open = Open(handle, tree, volume, stream.file, .file, granted, shared, id)
        open.stream = (base.file, stored)
        open.broughtKey = leaseKey(place, false)
        do throws(SMBHalt) {
            _ = try value(volume.open(caller, stream.file), volume)
            guard action == .opened, opening.disposition.replaces else {
                let shown = try attributes(open, caller, volume)
                return try answer(place, open, action, shown, maximal, &writer)
            }
        } catch {
            _ = tree.sharing?.close(open, on: loop)
            throw error
        }
        throw replace(place, open, caller, volume, maximal)
    }

    /// The file itself; it is made when the stream may be.
    private func base(
        _ opening: Opening, _ caller: Caller, _ volume: Volume, _ tree: Tree
    ) throws(SMBHalt) -> Attributes {
        if let file = opening.found.file { return file }
        guard opening.disposition.makes else { throw .status(.objectNameNotFound) }
        guard let parent = opening.found.parent, let name = opening.found.path.name else {
            throw .status(.objectNameInvalid)
        }
        var new = NewFile(type: .file, mode: 0o644)
        new.dos = FileAttributes(rawValue: opening.request.attributes).intersection(.kept).union(.archive).rawValue
        let created = try value(
            name.withUnsafeBytes { volume.create(caller, in: parent.file, $0, new, .exclusive) }, volume)
        tree.sharing?.post(.added, .fileName, opening.found.path, on: loop)
        return created.file
    }

    /// Without regard to case; an exact match wins.
    private func find(
        _ name: [UInt8], _ stored: inout [UInt8], _ base: FileID, _ caller: Caller, _ volume: Volume
    ) throws(SMBHalt) -> Attributes? {
        switch name.withUnsafeBytes({ volume.stream(caller, of: base, $0) }) {
        case .done(let stream, _): return stream
        case .refused(.noEntry): break
        case .refused(let error): throw .status(NTStatus(error))
        case .lacks(let lack): throw .lacks(lack)
        }
        let wanted = UTF16Name.upper(String(decoding: name, as: UTF8.self))
        var after: [UInt8] = []
        while true {
            let found = try value(after.withUnsafeBytes { volume.streams(caller, of: base, after: $0) }, volume)
            guard let end = found.last else { return nil }
            for entry in found where UTF16Name.upper(String(decoding: entry.name, as: UTF8.self)) == wanted {
                stored = entry.name
                return entry.stream
            }
            after = end.name
        }
    }
}
