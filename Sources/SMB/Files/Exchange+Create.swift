import Bytes
import Namespace
import Runtime

/// [MS-SMB2] 2.2.13, CreateOptions.
enum CreateOptions {
    static let directory: UInt32 = 0x1
    static let writeThrough: UInt32 = 0x2
    static let noBuffering: UInt32 = 0x8
    static let synchronousAlert: UInt32 = 0x10
    static let synchronousNonAlert: UInt32 = 0x20
    static let notDirectory: UInt32 = 0x40
    static let noEAKnowledge: UInt32 = 0x200
    static let deleteOnClose: UInt32 = 0x1000
    static let byID: UInt32 = 0x2000
    static let reparsePoint: UInt32 = 0x20_0000
    /// Bits that mean something that no file system of ours does.
    static let unsupported: UInt32 = 0x0010_0000 | 0x0000_2000 | 0x0040_0000
    static let invalid: UInt32 = 0xFF00_0000
}

enum CreateDisposition: UInt32 {
    case supersede, open, create, openIf, overwrite, overwriteIf

    var makes: Bool { self != .open && self != .overwrite }
    var replaces: Bool { self == .supersede || self == .overwrite || self == .overwriteIf }
}

enum CreateAction: UInt32 {
    case superseded, opened, created, overwritten
}

/// CREATE ([MS-SMB2] 3.3.5.9).
extension Exchange {
    private static let accessInvalid: UInt32 = 0x0CE0_FE00
    private static let maximumAllowed: UInt32 = 0x0200_0000
    private static let systemSecurity: UInt32 = 0x0100_0000

    func caller(_ tree: Tree) -> Caller {
        Caller(
            tree.session.credential, Request(reader: loop.index, now: server.world.clock.wall()),
            isReadOnly: tree.share.isReadOnly, isStateless: true)
    }

    func create(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try CreateRequest(reading: element) }
        let contexts = try parse { (_) throws(BytesError) in try CreateContexts(reading: request.contexts) }
        guard let session, let tree else { throw .status(.networkNameDeleted) }
        guard request.impersonation <= 3 else { throw .status(NTStatus(rawValue: 0xC000_00A5)) }
        guard session.opens.count < SMBLimits.opensPerSession else { throw .status(.insufficientResources) }
        guard let volume = tree.share.volume else { return try openPipe(request, tree, &writer) }
        guard let disposition = CreateDisposition(rawValue: request.disposition) else {
            throw .status(.invalidParameter)
        }
        try check(request)
        let path = try SMBPath(request.name)
        guard path.stream == nil else { throw .status(.objectNameInvalid) }
        let caller = caller(tree)
        let found = try resolve(path, caller, volume)
        return try open(
            Opening(request: request, contexts: contexts, disposition: disposition, path: path, found: found), caller,
            volume, tree, &writer)
    }

    private func check(_ request: CreateRequest) throws(SMBHalt) {
        guard request.options & CreateOptions.invalid == 0 else { throw .status(.invalidParameter) }
        guard request.options & CreateOptions.unsupported == 0 else { throw .status(.notSupported) }
        let both = CreateOptions.directory | CreateOptions.notDirectory
        guard request.options & both != both else { throw .status(.invalidParameter) }
        guard request.share & ~7 == 0 else { throw .status(.invalidParameter) }
        guard FileAttributes(rawValue: request.attributes).isSubset(of: .known) else {
            throw .status(.invalidParameter)
        }
        guard request.access != 0, request.access & Self.accessInvalid == 0 else { throw .status(.accessDenied) }
        guard request.access & Self.systemSecurity == 0 else { throw .status(.privilegeNotHeld) }
        if request.options & CreateOptions.deleteOnClose != 0 {
            let mask = AccessMask(generic: request.access)
            guard mask.contains(.delete) || request.access & Self.maximumAllowed != 0 else {
                throw .status(.accessDenied)
            }
        }
    }

    struct Found {
        /// The directory of the last component; nil for the share's root.
        var parent: Attributes?
        var file: Attributes?
        /// As stored.
        var path: [[UInt8]]
    }

    struct Opening {
        var request: CreateRequest
        var contexts: CreateContexts
        var disposition: CreateDisposition
        var path: SMBPath
        var found: Found
    }

    /// Walks to the file without regard to case.
    func resolve(_ path: SMBPath, _ caller: Caller, _ volume: Volume) throws(SMBHalt) -> Found {
        var place = try value(volume.attributes(caller, volume.root), volume)
        guard !path.components.isEmpty else { return Found(parent: nil, file: place, path: []) }
        var stored: [[UInt8]] = []
        for (index, component) in path.components.enumerated() {
            let isLast = index == path.components.count - 1
            guard place.type == .directory else { throw .status(.objectPathNotFound) }
            var name = component
            let attempt = component.withUnsafeBytes { bytes in
                volume.lookupFolded(caller, in: place.file, bytes) { name = Array($0) }
            }
            switch attempt {
            case .done(let next, _):
                stored.append(name)
                if isLast { return Found(parent: place, file: next, path: stored) }
                place = next
            case .refused(.noEntry):
                guard isLast else { throw .status(.objectPathNotFound) }
                stored.append(component)
                return Found(parent: place, file: nil, path: stored)
            case .refused(.notDirectory): throw .status(.objectPathNotFound)
            case .refused(let error): throw .status(NTStatus(error))
            case .lacks(let lack): throw .lacks(lack)
            }
        }
        throw .status(.objectNameInvalid)
    }

    /// What the user may do with a file there is.
    func maximalAccess(_ file: Attributes, _ parent: Attributes?, _ tree: Tree) -> AccessMask {
        let credential = tree.session.credential
        let security = FileSecurity(file)
        var mask = security.granted(.all, to: credential)
        if let parent {
            let directory = FileSecurity(parent).granted(.all, to: credential)
            if directory.contains(.deleteChild) { mask.insert(.delete) }
        }
        if credential.uid == file.uid { mask.formUnion([.readACL, .writeACL, .writeOwner, .writeAttributes]) }
        if tree.share.isReadOnly {
            mask.subtract([.writeData, .appendData, .writeNamedAttributes, .deleteChild, .writeAttributes, .delete])
            mask.subtract([.writeACL, .writeOwner])
        }
        return mask
    }

    private func granted(_ request: CreateRequest, _ maximal: AccessMask) throws(SMBHalt) -> AccessMask {
        var wanted = AccessMask(generic: request.access)
        if request.access & Self.maximumAllowed != 0 { wanted.formUnion(maximal) }
        guard maximal.isSuperset(of: wanted) else { throw .status(.accessDenied) }
        return wanted
    }

    private func open(
        _ opening: Opening, _ caller: Caller, _ volume: Volume, _ tree: Tree, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        let request = opening.request
        guard let file = opening.found.file else {
            return try make(opening, caller, volume, tree, &writer)
        }
        if opening.disposition == .create { throw .status(.objectNameCollision) }
        let isDirectory = file.type == .directory
        if isDirectory {
            if request.options & CreateOptions.notDirectory != 0 || opening.path.namesData {
                throw .status(.fileIsADirectory)
            }
            if opening.disposition.replaces {
                throw .status(request.options & CreateOptions.directory != 0 ? .invalidParameter : .objectNameCollision)
            }
        } else if request.options & CreateOptions.directory != 0 {
            throw .status(opening.disposition.makes && opening.disposition != .openIf ? .objectNameCollision : .notADirectory)
        }
        let maximal = maximalAccess(file, opening.found.parent, tree)
        let granted = try granted(request, maximal)
        let facts = FileFacts(file)
        if facts.attributes.contains(.readOnly), !isDirectory {
            let changing: AccessMask = [.writeData, .appendData]
            if opening.disposition.replaces || !AccessMask(generic: request.access).isDisjoint(with: changing) {
                throw .status(.accessDenied)
            }
            if request.options & CreateOptions.deleteOnClose != 0 { throw .status(.cannotDelete) }
        }
        guard opening.disposition.replaces else {
            let attributes = try value(volume.open(caller, file.file), volume)
            return answer(opening, .opened, attributes, granted, maximal, volume, tree, &writer)
        }
        let wanted = FileAttributes(rawValue: request.attributes)
        let kept = facts.attributes.intersection([.hidden, .system])
        guard wanted.isSuperset(of: kept) else { throw .status(.accessDenied) }
        guard maximal.contains(.writeData) else { throw .status(.accessDenied) }
        let action: CreateAction = opening.disposition == .supersede ? .superseded : .overwritten
        var new = NewAttributes()
        new.dos = wanted.intersection(.kept).union(.archive).rawValue
        let now = caller.request
        _ = try value(volume.open(caller, file.file), volume)
        let attributes = new
        let (id, path) = (file.file, opening.found)
        let options = request.options
        let wishes = opening.contexts.wishes
        throw .later { [self] (exchange) async throws(SMBHalt) in
            let changed: Changed
            do throws(FileError) {
                let (result, number) = try await volume.resize(now, id, to: 0, attributes)
                changed = result
                exchange.settle(number, volume)
            } catch {
                _ = volume.close(caller, id)
                throw .status(NTStatus(error))
            }
            let open = register(changed.after, granted, path, options, volume, tree)
            return SMBAnswer { writer in
                self.write(open, action, changed.after, wishes, maximal, &writer)
            }
        }
    }

    private func make(
        _ opening: Opening, _ caller: Caller, _ volume: Volume, _ tree: Tree, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        guard opening.disposition.makes else { throw .status(.objectNameNotFound) }
        guard let parent = opening.found.parent, let name = opening.found.path.last else {
            throw .status(.objectNameInvalid)
        }
        let request = opening.request
        let isDirectory = request.options & CreateOptions.directory != 0
        if isDirectory, opening.path.namesData { throw .status(.notADirectory) }
        let attributes = FileAttributes(rawValue: request.attributes)
        if request.options & CreateOptions.deleteOnClose != 0, attributes.contains(.readOnly) {
            throw .status(.cannotDelete)
        }
        var new = NewFile(type: isDirectory ? .directory : .file, mode: isDirectory ? 0o755 : 0o644)
        new.dos = attributes.intersection(.kept).union(isDirectory ? [] : .archive).rawValue
        let created = try value(
            name.withUnsafeBytes { volume.create(caller, in: parent.file, $0, new, .exclusive) }, volume)
        let file = try value(volume.open(caller, created.file.file), volume)
        var maximal = maximalAccess(file, parent, tree)
        // Who makes a file has what he asks for, whatever its mode says later.
        maximal.formUnion(AccessMask(generic: request.access))
        let granted = try granted(request, maximal)
        return answer(opening, .created, file, granted, maximal, volume, tree, &writer)
    }

    // MARK: The answer

    private func register(
        _ file: Attributes, _ granted: AccessMask, _ found: Found, _ options: UInt32, _ volume: Volume, _ tree: Tree
    ) -> Open {
        let open = Open(
            server.newHandle(), tree, volume, file.file, file.type, granted, path: found.path,
            parent: found.parent?.file)
        open.isDeleteOnClose = options & CreateOptions.deleteOnClose != 0
        open.mode = options & 0x3E
        tree.session.opens[open.handle.volatile] = open
        self.file = open.handle
        return open
    }

    private func answer(
        _ opening: Opening, _ action: CreateAction, _ file: Attributes, _ granted: AccessMask, _ maximal: AccessMask,
        _ volume: Volume, _ tree: Tree, _ writer: inout Writer
    ) -> NTStatus {
        let open = register(file, granted, opening.found, opening.request.options, volume, tree)
        write(open, action, file, opening.contexts.wishes, maximal, &writer)
        return .success
    }

    /// [MS-SMB2] 2.2.14.
    private func write(
        _ open: Open, _ action: CreateAction, _ file: Attributes, _ wishes: CreateContexts.Wishes, _ maximal: AccessMask,
        _ writer: inout Writer
    ) {
        let facts = FileFacts(file)
        writer.u16LE(89)
        writer.u8(0)
        writer.u8(0)
        writer.u32LE(action.rawValue)
        facts.writeTimes(into: &writer)
        writer.u64LE(facts.allocated)
        writer.u64LE(facts.size)
        writer.u32LE(facts.attributes.rawValue)
        writer.u32LE(0)
        writer.handle(open.handle)
        let place = writer.reserve(8)
        var answer = CreateAnswer()
        if wishes.maximalAccess, wishes.maximalAccessStamp != facts.written {
            var data: [UInt8] = []
            data.u32(0)
            data.u32(maximal.rawValue)
            answer.add("MxAc", data)
        }
        if wishes.diskID {
            var data: [UInt8] = []
            data.u64(facts.index)
            data.u64(open.volume?.identity ?? 0)
            answer.add("QFid", data + [UInt8](repeating: 0, count: 16))
        }
        answer.write(into: &writer, at: place)
    }

    // MARK: Opens

    /// The open that an element names: of its session, and of its tree.
    func open(_ handle: FileHandle) throws(SMBHalt) -> Open {
        var handle = handle
        if isRelated, handle == .previous {
            guard let file else { throw .status(previousFailure) }
            handle = file
        }
        guard let session, let open = session.opens[handle.volatile], open.handle == handle, open.tree === tree else {
            throw .status(.fileClosed)
        }
        file = handle
        return open
    }

    func volume(_ open: Open) throws(SMBHalt) -> Volume {
        guard let volume = open.volume else { throw .status(.invalidDeviceRequest) }
        return volume
    }

    // MARK: Close

    func close(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try CloseRequest(reading: element) }
        let open = try open(request.file)
        guard let volume = open.volume else {
            forget(open)
            Self.writeClosed(nil, &writer)
            return .success
        }
        let caller = caller(open.tree)
        let last: Attributes? =
            if request.wantsAttributes, case .done(let found, _) = volume.attributes(caller, open.file) {
                found
            } else { nil }
        if open.isDeleteOnClose, let parent = open.parent, let name = open.path.last {
            // The name may have gone already, by another's hand.
            switch name.withUnsafeBytes({ volume.remove(caller, in: parent, $0, isDirectory: open.isDirectory) }) {
            case .done(_, let number): settle(number, volume)
            case .refused: break
            case .lacks(let lack): throw .lacks(lack)
            }
            open.isDeleteOnClose = false
        }
        _ = try value(volume.close(caller, open.file), volume)
        forget(open)
        Self.writeClosed(last.map { FileFacts($0) }, &writer)
        return .success
    }

    private func forget(_ open: Open) { session?.opens[open.handle.volatile] = nil }

    private static func writeClosed(_ facts: FileFacts?, _ writer: inout Writer) {
        writer.u16LE(60)
        writer.u16LE(facts == nil ? 0 : 1)
        writer.u32LE(0)
        guard let facts else { return writer.zeros(52) }
        facts.writeTimes(into: &writer)
        writer.u64LE(facts.allocated)
        writer.u64LE(facts.size)
        writer.u32LE(facts.attributes.rawValue)
    }
}

extension FileSecurity {
    init(_ file: Attributes) {
        self.init(uid: file.uid, gid: file.gid, mode: file.mode, isDirectory: file.type == .directory)
    }
}
