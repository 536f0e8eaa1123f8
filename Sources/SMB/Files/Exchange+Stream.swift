import Bytes
import Namespace
import Runtime

/// CREATE of a named stream ([MS-FSA] 2.1.5.1): the file is found or made first, then the stream of it.
extension Exchange {
    /// Nil: the file or the stream, which was to be made, has come meanwhile.
    func openStream(
        _ name: [UInt8], _ opening: Opening, _ caller: Caller, _ volume: Volume, _ tree: Tree, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus? {
        let request = opening.request
        guard request.options & CreateOptions.directory == 0 else { throw .status(.notADirectory) }
        guard let base = try base(opening, caller, volume, tree) else { return nil }
        guard base.type == .file || base.type == .directory else { throw .status(.objectNameInvalid) }
        if let parent = opening.found.parent,
            opening.found.name.withUnsafeBytes({ volume.isDeletePending(base.file, $0, in: parent.file) })
        {
            throw .status(.deletePending)
        }
        var stored = name
        let stream = try find(name, &stored, base.file, caller, volume)
        if FileFacts(base).attributes.contains(.readOnly), stream == nil || opening.changesData {
            throw .status(.accessDenied)
        }
        let handle = server.newHandle()
        let intent = try intent(opening, handle, volume, tree)
        let attempt = stored.withUnsafeBytes {
            volume.open(caller, stream: $0, of: base.file, in: opening.found.parent?.file, intent)
        }
        if case .refused(.exists) = attempt, stream == nil, opening.disposition != .create { return nil }
        let opened = try opened(attempt, opening, volume)
        let open = Open(handle, tree, volume, opened)
        open.stream = (base.file, stored)
        write(open, opened, Self.shown(base, opened.file), opening, caller, &writer)
        return .success
    }

    /// A stream has its file's attributes, but for its size.
    static func shown(_ base: Attributes, _ stream: Attributes) -> Attributes {
        var file = base
        file.type = .file
        file.size = stream.size
        file.allocated = stream.allocated
        return file
    }

    /// The file itself; it is made when the stream may be. Nil: it has come meanwhile.
    private func base(
        _ opening: Opening, _ caller: Caller, _ volume: Volume, _ tree: Tree
    ) throws(SMBHalt) -> Attributes? {
        if let file = opening.found.file { return file }
        guard opening.disposition.makes else { throw .status(.objectNameNotFound) }
        guard let parent = opening.found.parent else { throw .status(.objectNameInvalid) }
        let name = opening.found.name
        var new = NewFile(type: .file, mode: 0o644)
        new.isModeDefault = true
        new.dos = FileAttributes(rawValue: opening.request.attributes).intersection(.kept).union(.archive).rawValue
        new.refuse(opening.found.spellings)
        let attempt = name.withUnsafeBytes { volume.create(caller, in: parent.file, $0, new, .exclusive) }
        if case .refused(.exists) = attempt { return nil }
        return try value(attempt, volume).file
    }

    /// Without regard to case; an exact match wins.
    func find(
        _ name: [UInt8], _ stored: inout [UInt8], _ base: FileID, _ caller: Caller, _ volume: Volume
    ) throws(SMBHalt) -> Attributes? {
        switch name.withUnsafeBytes({ volume.stream(caller, of: base, $0) }) {
        case .done(let stream, _): return stream
        case .refused(.noEntry): break
        case .refused(let error): throw .status(NTStatus(error))
        case .lacks(let lack): throw .lacks(lack)
        }
        var after: [UInt8] = []
        while true {
            let found = try value(after.withUnsafeBytes { volume.streams(caller, of: base, after: $0) }, volume)
            guard let end = found.last else { return nil }
            for entry in found where Volume.isSameStream(entry.name, name) {
                stored = entry.name
                return entry.stream
            }
            after = end.name
        }
    }
}
