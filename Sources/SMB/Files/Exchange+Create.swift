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
        // Of such a request nothing else counts.
        if let reconnect = contexts.reconnect, let volume = tree.share.volume {
            return try self.reconnect(reconnect, request, contexts, tree, volume, &writer)
        }
        guard request.impersonation <= 3 else { throw .status(NTStatus(rawValue: 0xC000_00A5)) }
        guard session.opens.count < SMBLimits.opensPerSession else { throw .status(.insufficientResources) }
        guard let volume = tree.share.volume else { return try openPipe(request, tree, &writer) }
        guard let disposition = CreateDisposition(rawValue: request.disposition) else {
            throw .status(.invalidParameter)
        }
        try check(request)
        if let replayed = try replay(request, contexts, tree, volume, &writer) { return replayed }
        let path = try SMBPath(request.name)
        let caller = caller(tree)
        let found = try resolve(path, caller, volume)
        let opening = Opening(
            request: request, contexts: contexts, disposition: disposition, path: path, found: found)
        if let stream = path.stream { return try openStream(stream, opening, caller, volume, tree, &writer) }
        return try open(opening, caller, volume, tree, &writer)
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
        var path: FilePlace.Path
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
        var stored = FilePlace.Path(components: [], ancestors: [])
        guard !path.components.isEmpty else { return Found(parent: nil, file: place, path: stored) }
        for (index, component) in path.components.enumerated() {
            let isLast = index == path.components.count - 1
            guard place.type == .directory else { throw .status(.objectPathNotFound) }
            stored.ancestors.append(place.file)
            var name = component
            let attempt = component.withUnsafeBytes { bytes in
                volume.lookupFolded(caller, in: place.file, bytes) { name = Array($0) }
            }
            switch attempt {
            case .done(let next, _):
                stored.components.append(name)
                if isLast { return Found(parent: place, file: next, path: stored) }
                place = next
            case .refused(.noEntry):
                guard isLast else { throw .status(.objectPathNotFound) }
                stored.components.append(component)
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
        // A mode has less to say than Windows asks for: who may read a file may run it, whose it is has it all.
        if mask.contains(.readData) { mask.insert(.execute) }
        if credential.uid == file.uid {
            mask.formUnion([.readACL, .writeACL, .writeOwner, .writeAttributes])
            if file.mode & 0o600 == 0o600 { mask = .all }
        }
        if tree.share.isReadOnly {
            mask.subtract([.writeData, .appendData, .writeNamedAttributes, .deleteChild, .writeAttributes, .delete])
            mask.subtract([.writeACL, .writeOwner])
        }
        return mask
    }

    func granted(_ request: CreateRequest, _ maximal: AccessMask) throws(SMBHalt) -> AccessMask {
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
            throw .status(
                opening.disposition.makes && opening.disposition != .openIf ? .objectNameCollision : .notADirectory)
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
        let wish = self.wish(opening, file.file, isDirectory: isDirectory, granted, tree)
        let (id, place, handle) = try admit(wish, tree)
        let open = Open(handle, tree, volume, file.file, file.type, granted, place, id)
        open.broughtKey = leaseKey(opening, isDirectory)
        do throws(SMBHalt) {
            let attributes = try value(volume.open(caller, file.file), volume)
            guard opening.disposition.replaces else {
                return try answer(opening, open, .opened, attributes, maximal, &writer)
            }
            let wanted = FileAttributes(rawValue: request.attributes)
            let kept = facts.attributes.intersection([.hidden, .system])
            guard wanted.isSuperset(of: kept), maximal.contains(.writeData) else { throw .status(.accessDenied) }
        } catch {
            if case .status = error { _ = volume.close(caller, file.file) }
            _ = tree.sharing?.close(open, on: loop)
            throw error
        }
        throw replace(opening, open, caller, volume, maximal)
    }

    /// An open that empties the file.
    func replace(
        _ opening: Opening, _ open: Open, _ caller: Caller, _ volume: Volume, _ maximal: AccessMask
    ) -> SMBHalt {
        let action: CreateAction = opening.disposition == .supersede ? .superseded : .overwritten
        var new = NewAttributes()
        new.dos = FileAttributes(rawValue: opening.request.attributes).intersection(.kept).union(.archive).rawValue
        let (now, file, attributes) = (caller.request, open.file, new)
        // What the request points to is gone by then.
        var kept = opening
        kept.request = opening.request.withoutBytes
        kept.contexts = opening.contexts.withoutBytes
        nonisolated(unsafe) let rest = kept
        return .later { [self] (exchange) async throws(SMBHalt) in
            let changed: Changed
            do throws(FileError) {
                let (result, number) = try await volume.resize(now, file, to: 0, attributes)
                changed = result
                exchange.settle(number, volume)
            } catch {
                _ = volume.close(caller, file)
                _ = open.sharing?.close(open, on: loop)
                throw .status(NTStatus(error))
            }
            open.sharing?.post(.modified, [.attributes, .size, .lastWrite], open.place.path, on: loop)
            let lease = try keep(rest, open)
            makeDurable(open, rest.contexts.durable)
            let shown = open.stream == nil ? changed.after : try self.attributes(open, caller, volume)
            return SMBAnswer { writer in
                self.write(open, action, shown, rest.contexts.wishes, maximal, lease, &writer)
            }
        }
    }

    private func make(
        _ opening: Opening, _ caller: Caller, _ volume: Volume, _ tree: Tree, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        guard opening.disposition.makes else { throw .status(.objectNameNotFound) }
        guard let parent = opening.found.parent, let name = opening.found.path.name else {
            throw .status(.objectNameInvalid)
        }
        let request = opening.request
        let isDirectory = request.options & CreateOptions.directory != 0
        if isDirectory, opening.path.namesData { throw .status(.notADirectory) }
        let attributes = FileAttributes(rawValue: request.attributes)
        if request.options & CreateOptions.deleteOnClose != 0, attributes.contains(.readOnly) {
            throw .status(.cannotDelete)
        }
        if let key = leaseKey(opening, isDirectory), tree.sharing?.isFree(key) == false {
            throw .status(.invalidParameter)
        }
        var new = NewFile(type: isDirectory ? .directory : .file, mode: isDirectory ? 0o755 : 0o644)
        new.dos = attributes.intersection(.kept).union(isDirectory ? [] : .archive).rawValue
        let created = try value(
            name.withUnsafeBytes { volume.create(caller, in: parent.file, $0, new, .exclusive) }, volume)
        let file = try value(volume.open(caller, created.file.file), volume)
        tree.sharing?.post(.added, isDirectory ? .directoryName : .fileName, opening.found.path, on: loop)
        var maximal = maximalAccess(file, parent, tree)
        // Who makes a file has what he asks for, whatever its mode says later.
        maximal.formUnion(AccessMask(generic: request.access))
        let granted = try granted(request, maximal)
        let wish = self.wish(opening, file.file, isDirectory: isDirectory, granted, tree)
        let (id, place, handle) = try admit(wish, tree)
        let open = Open(handle, tree, volume, file.file, file.type, granted, place, id)
        open.broughtKey = leaseKey(opening, isDirectory)
        return try answer(opening, open, .created, file, maximal, &writer)
    }

    // MARK: Sharing

    /// The key of the lease that the request brings, if it may have one.
    func leaseKey(_ opening: Opening, _ isDirectory: Bool) -> LeaseKey? {
        guard opening.request.oplock == Oplock.lease, let lease = opening.contexts.lease, !isDirectory,
            let stream, let dialect = stream.negotiation.dialect, dialect > .v202
        else { return nil }
        return LeaseKey(client: stream.negotiation.clientGUID, key: lease.key)
    }

    func wish(
        _ opening: Opening, _ file: FileID, isDirectory: Bool, _ granted: AccessMask, _ tree: Tree
    ) -> FileSharing.Wish {
        let request = opening.request
        var access: DataAccess = []
        if !granted.isDisjoint(with: [.readData, .execute]) { access.insert(.read) }
        if !granted.isDisjoint(with: [.writeData, .appendData]) || opening.disposition.replaces {
            access.insert(.write)
        }
        if granted.contains(.delete) { access.insert(.delete) }
        var shared: DataAccess = []
        if request.share & 1 != 0 { shared.insert(.read) }
        if request.share & 2 != 0 { shared.insert(.write) }
        if request.share & 4 != 0 { shared.insert(.delete) }
        let guid = stream?.negotiation.clientGUID ?? 0
        let key = leaseKey(opening, isDirectory)
        return FileSharing.Wish(
            file: file, place: opening.found.path, isDirectory: isDirectory,
            client: UInt64(truncatingIfNeeded: guid ^ guid >> 64), share: ShareMode(access: access, shared: shared),
            granted: granted, isDeleteOnClose: request.options & CreateOptions.deleteOnClose != 0,
            leaseKey: key?.key ?? 0, actor: key, replaces: opening.disposition.replaces)
    }

    func admit(
        _ wish: FileSharing.Wish, _ tree: Tree
    ) throws(SMBHalt) -> (OpenID, FilePlace, FileHandle) {
        guard let sharing = tree.sharing else { throw .status(.invalidDeviceRequest) }
        let handle = server.newHandle()
        var wish = wish
        if wish.actor == nil { wish.actor = Open.oplockKey(handle) }
        let away = server.durables.opens(of: wish.file)
        switch sharing.open(wish, away: away, on: loop, waiter: { waiter(on: wish.file) }) {
        case .purges(let handles):
            let ends = handles.compactMap { server.durables.purge($0, on: loop) }
            throw .after { for end in ends { await end.value } }
        case .opened(let id, let place, _): return (id, place, handle)
        case .refused(let status): throw .status(status)
        case .waits(let request): throw waits(sharing, request, wish.file)
        }
    }

    /// Serves the element again when the lease that was in its way is gone.
    func waiter(on file: FileID) -> FileSharing.Waiter {
        let use = use
        return FileSharing.Waiter(loop: loop, file: file) { [self] in
            if self.use == use { again() }
        }
    }

    func waits(_ sharing: FileSharing, _ request: UInt64, _ file: FileID) -> SMBHalt {
        if let creating { stream?.creating[creating] = header.messageID }
        announce()
        onCancel = { [self] who in
            sharing.giveUp(request, on: file)
            finish(SMBAnswer(.cancelled))
        }
        return .pending
    }

    /// What a client may keep of the file, as it asked.
    private func keep(_ opening: Opening, _ open: Open) throws(SMBHalt) -> LeaseAnswer? {
        guard let stream, let sharing = open.sharing, !open.isDirectory else { return nil }
        let holder = stream.leaseHolder(open)
        if let key = leaseKey(opening, open.isDirectory), let lease = opening.contexts.lease {
            let wanted = LeaseState(rawValue: UInt8(lease.state & 7))
            let grant = sharing.grant(
                key, wanted, kind: .lease, to: open, epoch: lease.isVersion2 ? lease.epoch : nil, holder: holder,
                on: loop)
            open.oplock = Oplock.lease
            guard case .granted(let state, let epoch, let isBreaking) = grant else {
                return LeaseAnswer(lease: lease, state: [], epoch: lease.epoch, isBreaking: false)
            }
            return LeaseAnswer(lease: lease, state: state, epoch: epoch, isBreaking: isBreaking)
        }
        let wanted = Oplock.state(opening.request.oplock)
        guard !wanted.isEmpty, !open.granted.isSubset(of: .look) else { return nil }
        let grant = sharing.grant(
            Open.oplockKey(open.handle), wanted, kind: .oplock, to: open, epoch: nil, holder: holder, on: loop)
        if case .granted(let state, _, _) = grant { open.oplock = Oplock.level(state) }
        return nil
    }

    struct LeaseAnswer {
        var lease: CreateContexts.Lease
        var state: LeaseState
        var epoch: UInt16
        var isBreaking: Bool

        var bytes: [UInt8] {
            var data: [UInt8] = []
            data.u64(UInt64(truncatingIfNeeded: lease.key))
            data.u64(UInt64(truncatingIfNeeded: lease.key >> 64))
            data.u32(UInt32(state.rawValue))
            data.u32((isBreaking ? CreateContexts.Lease.isBreaking : 0) | lease.flags & CreateContexts.Lease.hasParent)
            data.u64(0)
            guard lease.isVersion2 else { return data }
            let hasParent = lease.flags & CreateContexts.Lease.hasParent != 0
            data.u64(hasParent ? UInt64(truncatingIfNeeded: lease.parent) : 0)
            data.u64(hasParent ? UInt64(truncatingIfNeeded: lease.parent >> 64) : 0)
            data.u16(epoch)
            data.u16(0)
            return data
        }
    }

    // MARK: The answer

    func answer(
        _ opening: Opening, _ open: Open, _ action: CreateAction, _ file: Attributes, _ maximal: AccessMask,
        _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        open.mode = opening.request.options & 0x3E
        let lease = try keep(opening, open)
        makeDurable(open, opening.contexts.durable)
        write(open, action, file, opening.contexts.wishes, maximal, lease, &writer)
        return .success
    }

    /// [MS-SMB2] 2.2.14.
    func write(
        _ open: Open, _ action: CreateAction, _ file: Attributes, _ wishes: CreateContexts.Wishes,
        _ maximal: AccessMask, _ lease: LeaseAnswer?, _ writer: inout Writer
    ) {
        open.tree.session.opens[open.handle.volatile] = open
        self.file = open.handle
        open.action = action
        noteCreation(open)
        let facts = FileFacts(file)
        writer.u16LE(89)
        writer.u8(open.oplock)
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
        if let lease { answer.add("RqLs", lease.bytes) }
        addDurability(open, to: &answer)
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

    /// A stream has its file's attributes, but for its size.
    func attributes(_ open: Open, _ caller: Caller, _ volume: Volume) throws(SMBHalt) -> Attributes {
        let own = try value(volume.attributes(caller, open.file), volume)
        guard let stream = open.stream else { return own }
        var file = try value(volume.attributes(caller, stream.base), volume)
        file.type = .file
        file.size = own.size
        file.allocated = own.allocated
        return file
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
        let last: Attributes? = request.wantsAttributes ? try? attributes(open, caller, volume) : nil
        stream?.finishWatching(open, .notifyCleanup)
        for (exchange, use) in open.locking where exchange.use == use { exchange.cancel(by: .session) }
        if let sharing = open.sharing, sharing.close(open, on: loop) { open.mustRemove = true }
        if open.mustRemove {
            let path = open.place.path
            if let parent = path.parent, let name = path.name {
                // The name may have gone already, by another's hand.
                switch remove(open, caller, volume, parent, name) {
                case .done(_, let number):
                    settle(number, volume)
                    guard open.stream == nil else { break }
                    let filter: WatchFilter = open.isDirectory ? .directoryName : .fileName
                    open.sharing?.post(.removed, filter, path, on: loop)
                case .refused: break
                case .lacks(let lack): throw .lacks(lack)
                }
            }
            open.mustRemove = false
        }
        _ = try value(volume.close(caller, open.file), volume)
        forget(open)
        Self.writeClosed(last.map { FileFacts($0) }, &writer)
        return .success
    }

    private func remove(
        _ open: Open, _ caller: Caller, _ volume: Volume, _ parent: FileID, _ name: [UInt8]
    ) -> Attempt<Void> {
        if let stream = open.stream {
            return stream.name.withUnsafeBytes { volume.removeStream(caller, of: stream.base, $0) }
        }
        switch name.withUnsafeBytes({ volume.remove(caller, in: parent, $0, isDirectory: open.isDirectory) }) {
        case .done(_, let number): return .done((), number: number)
        case .refused(let error): return .refused(error)
        case .lacks(let lack): return .lacks(lack)
        }
    }

    private func forget(_ open: Open) {
        stream?.forgetCreation(open)
        session?.opens[open.handle.volatile] = nil
    }

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

extension AccessMask {
    /// Who asks for no more only looks at the file, and disturbs nobody.
    static let look: AccessMask = [.readAttributes, .writeAttributes, .readACL, .synchronize]
}

extension FileSecurity {
    init(_ file: Attributes) {
        self.init(uid: file.uid, gid: file.gid, mode: file.mode, isDirectory: file.type == .directory)
    }
}
