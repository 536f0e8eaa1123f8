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
    static let unsupported: UInt32 = 0x0010_0000 | 0x0000_2000
    static let invalid: UInt32 = 0xFF00_0000
}

enum CreateDisposition: UInt32 {
    case supersede, open, create, openIf, overwrite, overwriteIf

    var makes: Bool { self != .open && self != .overwrite }
    var intended: OpenIntent.Disposition {
        switch self {
        case .supersede: .supersede
        case .open: .open
        case .create: .create
        case .openIf: .openIf
        case .overwrite: .overwrite
        case .overwriteIf: .overwriteIf
        }
    }
    var replaces: Bool { self == .supersede || self == .overwrite || self == .overwriteIf }
}

enum CreateAction: UInt32 {
    case superseded, opened, created, overwritten

    init(_ action: OpenAction) {
        self =
            switch action {
            case .opened: .opened
            case .created: .created
            case .overwritten: .overwritten
            case .superseded: .superseded
            }
    }
}

/// CREATE ([MS-SMB2] 3.3.5.9).
extension Exchange {
    private static let accessInvalid: UInt32 = 0x0CE0_FE00
    static let maximumAllowed: UInt32 = 0x0200_0000
    private static let systemSecurity: UInt32 = 0x0100_0000
    /// Of the options, what a handle has as its mode ([MS-FSCC] 2.4.31).
    private static let modeBits: UInt32 = 0x3E

    func caller(_ tree: Tree) -> Caller {
        Caller(
            tree.session.credential, Request(reader: loop.index, now: server.world.clock.wall()),
            isReadOnly: tree.share.isReadOnly, isStateless: true)
    }

    /// One who has the file open: what was granted to the open needs no second check, and its locks and lease are not in its way.
    func caller(_ open: Open) -> Caller {
        var caller = caller(open.tree)
        caller.handle = open.held
        return caller
    }

    func create(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try CreateRequest(reading: element) }
        let contexts = try parse { (_) throws(BytesError) in try CreateContexts(reading: request.contexts) }
        guard let session, let tree else { throw .status(.networkNameDeleted) }
        // Of such a request nothing else counts.
        if let reconnect = contexts.reconnect, let volume = tree.share.volume {
            return try self.reconnect(reconnect, request, contexts, tree, volume, &writer)
        }
        // There are no earlier versions to be seen: that is not passed over in silence.
        guard contexts.timewarp == nil else { throw .status(.objectNameNotFound) }
        // That one is this server's own, for oplocks.
        guard contexts.lease?.key != Oplock.reservedKey else { throw .status(.invalidParameter) }
        guard request.impersonation <= 3 else { throw .status(NTStatus(rawValue: 0xC000_00A5)) }
        guard session.opens.count < SMBLimits.opensPerSession else { throw .status(.insufficientResources) }
        guard let volume = tree.share.volume else { return try openPipe(request, tree, &writer) }
        guard let disposition = CreateDisposition(rawValue: request.disposition) else {
            throw .status(.invalidParameter)
        }
        // The tree may be of somebody whose session it was.
        guard session.user != nil || tree.share.allowsGuests else { throw .status(.accessDenied) }
        try check(request)
        if let replayed = try replay(request, contexts, tree, volume, &writer) { return replayed }
        let path = try SMBPath(request.name)
        let caller = caller(tree)
        // Who finds nothing and then does not make it, because it has come meanwhile, in whatever case, begins again with what is there.
        for _ in 0..<Self.triesMax {
            let found = try resolve(path, caller, volume, stopsOnLinks: true)
            try stop(on: found, path, request, disposition, caller, volume)
            let opening = Opening(
                request: request, contexts: contexts, disposition: disposition, path: path, found: found)
            let status: NTStatus?
            if let stream = path.stream {
                status = try openStream(stream, opening, caller, volume, tree, &writer)
            } else {
                try endOthers(of: contexts, found, caller, volume)
                status = try openFile(opening, caller, volume, tree, &writer)
            }
            if let status { return status }
        }
        // Others make and remove it all the time. Only who may not meet it is told that it is there; the others try again after this.
        throw .status(disposition == .create ? .objectNameCollision : .sharingViolation)
    }

    private static let triesMax = 4
    /// In all as long as a host waits for who has a lease of a file.
    private static let delaysMax = 180
    private static let delayNanoseconds: UInt64 = 250_000_000

    private func check(_ request: CreateRequest) throws(SMBHalt) {
        guard request.options & CreateOptions.invalid == 0 else { throw .status(.invalidParameter) }
        guard request.options & CreateOptions.unsupported == 0 else { throw .status(.notSupported) }
        let both = CreateOptions.directory | CreateOptions.notDirectory
        guard request.options & both != both else { throw .status(.invalidParameter) }
        guard request.share & ~7 == 0 else { throw .status(.invalidParameter) }
        guard request.access != 0, request.access & Self.accessInvalid == 0 else { throw .status(.accessDenied) }
        guard FileAttributes(rawValue: request.attributes).isSubset(of: .known) else {
            throw .status(.invalidParameter)
        }
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
        /// As stored, or as it is to be.
        var name: [UInt8] = []
        /// The other ways to write it, where there is no file.
        var spellings: [[UInt8]] = []
    }

    struct Opening {
        var request: CreateRequest
        var contexts: CreateContexts
        var disposition: CreateDisposition
        var path: SMBPath
        var found: Found

        /// Without what lies in the message.
        var settled: Opening {
            let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
            var opening = self
            (opening.request.name, opening.request.contexts) = (nothing, nothing)
            (opening.contexts.attributes, opening.contexts.security) = (nil, nil)
            return opening
        }

        var wantsAll: Bool { request.access & Exchange.maximumAllowed != 0 }
        var isDirectory: Bool { request.options & CreateOptions.directory != 0 }
        var deletesOnClose: Bool { request.options & CreateOptions.deleteOnClose != 0 }
        var attributes: FileAttributes { FileAttributes(rawValue: request.attributes) }
        var changesData: Bool {
            disposition.replaces
                || !AccessMask(generic: request.access).isDisjoint(with: [.writeData, .appendData])
        }
    }

    /// Walks to the file without regard to case, and to how its accents are written.
    func resolve(
        _ path: SMBPath, _ caller: Caller, _ volume: Volume, stopsOnLinks: Bool = false
    ) throws(SMBHalt) -> Found {
        var place = try value(volume.attributes(caller, tree?.root ?? volume.root), volume)
        guard !path.components.isEmpty else { return Found(parent: nil, file: place) }
        for (index, component) in path.components.enumerated() {
            let isLast = index == path.components.count - 1
            if place.type == .symlink, stopsOnLinks, index > 0 {
                throw try stopped(on: place.file, unparsed: path.rests[index - 1], caller, volume)
            }
            guard place.type == .directory else { throw .status(.objectPathNotFound) }
            var name = component
            var attempt = component.withUnsafeBytes { bytes in
                volume.lookupFolded(caller, in: place.file, bytes) { name = Array($0) }
            }
            var spellings: [[UInt8]] = []
            if case .refused(.noEntry) = attempt {
                spellings = NameForms.others(component)
                for form in spellings {
                    let other = form.withUnsafeBytes { bytes in
                        volume.lookupFolded(caller, in: place.file, bytes) { name = Array($0) }
                    }
                    // A form that is too long for a name is nobody's.
                    if case .refused(.nameTooLong) = other { continue }
                    attempt = other
                    if case .refused(.noEntry) = attempt { continue }
                    break
                }
            }
            switch attempt {
            case .done(let next, _):
                if isLast { return Found(parent: place, file: next, name: name) }
                place = next
            case .refused(.noEntry):
                guard isLast else { throw .status(.objectPathNotFound) }
                return Found(parent: place, file: nil, name: component, spellings: spellings)
            case .refused(.notDirectory): throw .status(.objectPathNotFound)
            case .refused(let error): throw .status(NTStatus(error))
            case .lacks(let lack): throw .lacks(lack)
            }
        }
        throw .status(.objectNameInvalid)
    }

    /// The client goes on by itself: only it knows where its names begin.
    private func stopped(
        on link: FileID, unparsed: Int, _ caller: Caller, _ volume: Volume
    ) throws(SMBHalt) -> SMBHalt {
        let target = try value(volume.target(caller, of: link), volume)
        return .explained(.stoppedOnSymlink, data: Reparse(target: target).error(unparsed: unparsed))
    }

    /// A link is opened itself only by who says so.
    private func stop(
        on found: Found, _ path: SMBPath, _ request: CreateRequest, _ disposition: CreateDisposition, _ caller: Caller,
        _ volume: Volume
    ) throws(SMBHalt) {
        guard let file = found.file, file.type == .symlink, disposition != .create,
            request.options & CreateOptions.reparsePoint == 0
        else { return }
        throw try stopped(on: file.file, unparsed: path.rests.last ?? 0, caller, volume)
    }

    // MARK: Files

    /// Nil: what was to be made has come meanwhile.
    private func openFile(
        _ opening: Opening, _ caller: Caller, _ volume: Volume, _ tree: Tree, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus? {
        let found = opening.found
        if let file = found.file { try check(opening, file) } else { try checkNew(opening) }
        let attributes =
            try opening.contexts.attributes.map { (bytes) throws(SMBHalt) in try attributeList(bytes) } ?? []
        if opening.disposition.makes || opening.disposition.replaces, let wanted = opening.contexts.allocation {
            // What there is no room for is refused now, as if it had been reserved.
            let place = found.file?.file ?? found.parent?.file ?? volume.root
            guard wanted <= (try value(volume.space(caller, at: place), volume)).bytesFree else {
                throw .status(.diskFull)
            }
        }
        let handle = server.newHandle()
        let intent = try intent(opening, handle, volume, tree)
        let attempt =
            if let parent = found.parent {
                found.name.withUnsafeBytes { volume.open(caller, in: parent.file, $0, intent) }
            } else { volume.open(caller, tree.root ?? volume.root, intent) }
        if case .refused(.exists) = attempt, found.file == nil, opening.disposition != .create { return nil }
        let opened = try opened(attempt, opening, volume)
        let open = Open(handle, tree, volume, opened)
        if !attributes.isEmpty, opened.action != .opened {
            let settled = opening.settled
            throw give(attributes, open, volume, isNew: opened.action == .created) { exchange, writer in
                exchange.write(open, opened, opened.file, settled, caller, &writer)
            }
        }
        write(open, opened, opened.file, opening, caller, &writer)
        return .success
    }

    /// What a file that is there can be opened for, beyond what its rights say.
    private func check(_ opening: Opening, _ file: Attributes) throws(SMBHalt) {
        if opening.disposition == .create { throw .status(.objectNameCollision) }
        if file.type == .directory {
            if opening.path.namesData { throw .status(opening.isDirectory ? .notADirectory : .fileIsADirectory) }
            if opening.request.options & CreateOptions.notDirectory != 0 { throw .status(.fileIsADirectory) }
            if opening.disposition.replaces {
                throw .status(opening.isDirectory ? .invalidParameter : .objectNameCollision)
            }
        } else if opening.isDirectory {
            throw .status(
                opening.disposition.makes && opening.disposition != .openIf ? .objectNameCollision : .notADirectory)
        }
        let kept = FileFacts(file).attributes
        if kept.contains(.readOnly), file.type != .directory {
            if opening.changesData { throw .status(.accessDenied) }
            if opening.deletesOnClose { throw .status(.cannotDelete) }
        }
        if opening.disposition.replaces, !opening.attributes.isSuperset(of: kept.intersection([.hidden, .system])) {
            throw .status(.accessDenied)
        }
    }

    private func checkNew(_ opening: Opening) throws(SMBHalt) {
        guard opening.disposition.makes else { throw .status(.objectNameNotFound) }
        if opening.isDirectory, opening.path.namesData { throw .status(.notADirectory) }
        if opening.deletesOnClose, opening.attributes.contains(.readOnly) { throw .status(.cannotDelete) }
    }

    /// What the request asks for, in the terms of all protocols.
    func intent(
        _ opening: Opening, _ handle: FileHandle, _ volume: Volume, _ tree: Tree
    ) throws(SMBHalt) -> OpenIntent {
        let request = opening.request
        let guid = stream?.negotiation.clientGUID ?? 0
        let isDirectory = opening.isDirectory && opening.path.stream == nil
        var new = NewFile(type: isDirectory ? .directory : .file, mode: isDirectory ? 0o755 : 0o644)
        new.isModeDefault = true
        new.dos = opening.attributes.intersection(.kept).union(isDirectory ? [] : .archive).rawValue
        if opening.found.file == nil, let security = opening.contexts.security {
            new.acl = try descriptor(security).acl
        }
        let isNew = opening.found.file == nil && opening.path.stream == nil
        if isNew { new.refuse(opening.found.spellings) }
        var intent = OpenIntent(
            isNew ? .create : opening.disposition.intended, access: AccessMask(generic: request.access),
            shared: DataAccess(rawValue: UInt8(truncatingIfNeeded: request.share & 7)), new: new,
            client: stream?.clientNumber ?? 0)
        intent.kind = isDirectory ? .directory : .any
        intent.wantsAll = opening.wantsAll
        // Who asks for all that he may have of a file that is not to be changed may not change it.
        if let file = opening.found.file, file.type != .directory, FileFacts(file).attributes.contains(.readOnly) {
            intent.withheld = [.writeData, .appendData]
        }
        intent.opensLinks = true
        intent.widensMode = true
        intent.deletesOnClose = opening.deletesOnClose
        intent.lease = leaseWish(opening, handle, tree)
        intent.keep = keepWish(opening, handle, tree, guid)
        return intent
    }

    /// Whether the handle is to be found again, whatever becomes of the connection and of this server.
    private func keepWish(_ opening: Opening, _ handle: FileHandle, _ tree: Tree, _ client: UInt128) -> KeepWish? {
        guard let wish = opening.contexts.durable, mayBeDurable(wish) else { return nil }
        let durability = Durability(wish)
        let kept = KeptHandle(
            volatile: handle.volatile, client: client, user: tree.session.user?.name ?? "", share: tree.share.name,
            guid: durability.guid, mode: opening.request.options & Self.modeBits)
        return kept.record.map {
            KeepWish(number: handle.persistent, milliseconds: durability.milliseconds, details: $0)
        }
    }

    /// What the client wants to keep of the file.
    private func leaseWish(_ opening: Opening, _ handle: FileHandle, _ tree: Tree) -> LeaseWish? {
        guard let stream, let dialect = stream.negotiation.dialect else { return nil }
        let isDirectory = opening.path.stream == nil && (opening.isDirectory || opening.found.file?.type == .directory)
        let holder = stream.leaseHolder(handle, tree.session.id)
        if opening.request.oplock == Oplock.lease {
            guard dialect > .v202, let lease = opening.contexts.lease else { return nil }
            // A directory's key stands for it as a file's does, though nothing is granted.
            let wanted = isDirectory ? [] : LeaseState(rawValue: UInt8(lease.state & 7))
            return LeaseWish(
                LeaseKey(client: stream.negotiation.clientGUID, key: lease.key), .lease, wanted,
                epoch: lease.isVersion2 ? lease.epoch : nil,
                holder: holder)
        }
        let wanted = Oplock.state(opening.request.oplock)
        guard !wanted.isEmpty, !isDirectory else { return nil }
        return LeaseWish(Oplock.key(handle), .oplock, wanted, holder: holder)
    }

    /// An open's refusals have names of their own.
    func opened(
        _ attempt: Attempt<OpenedFile>, _ opening: Opening, _ volume: Volume
    ) throws(SMBHalt) -> OpenedFile {
        if case .refused(.readOnly) = attempt, opening.found.file != nil { throw .status(.accessDenied) }
        // Somebody beside this server has it to himself, and was told that it is wanted.
        if case .refused(.delay) = attempt, delays < Self.delaysMax {
            delays += 1
            let loop = loop
            throw .lacks(
                Lack(awaitsClient: true) { () async throws(FileError) in
                    await loop.sleep(nanoseconds: Self.delayNanoseconds)
                })
        }
        return try value(attempt, volume)
    }

    // MARK: The answer

    struct LeaseAnswer {
        var lease: CreateContexts.Lease
        var status: LeaseStatus

        var bytes: [UInt8] {
            var data: [UInt8] = []
            data.u64(UInt64(truncatingIfNeeded: lease.key))
            data.u64(UInt64(truncatingIfNeeded: lease.key >> 64))
            data.u32(UInt32(status.state.rawValue))
            let hasParent = lease.isVersion2 ? lease.flags & CreateContexts.Lease.hasParent : 0
            data.u32((status.isBreaking ? CreateContexts.Lease.isBreaking : 0) | hasParent)
            data.u64(0)
            guard status.hasEpoch else { return data }
            data.u64(hasParent != 0 ? UInt64(truncatingIfNeeded: lease.parent) : 0)
            data.u64(hasParent != 0 ? UInt64(truncatingIfNeeded: lease.parent >> 64) : 0)
            data.u16(status.epoch)
            data.u16(0)
            return data
        }
    }

    /// `shown`: the file's attributes, or those of a stream.
    func write(
        _ open: Open, _ opened: OpenedFile, _ shown: Attributes, _ opening: Opening, _ caller: Caller,
        _ writer: inout Writer
    ) {
        open.mode = opening.request.options & Self.modeBits
        open.action = CreateAction(opened.action)
        var lease: LeaseAnswer?
        if opening.request.oplock == Oplock.lease, let wish = opening.contexts.lease, open.leaseKey != nil,
            !open.isDirectory
        {
            open.oplock = Oplock.lease
            lease = leaseAnswer(open, wish)
        } else {
            open.oplock = Oplock.level(opened.lease)
        }
        makeDurable(open, opening.contexts.durable)
        join(open, opening.contexts)
        if opened.action != .opened, !open.isDirectory { open.allocation = opening.contexts.allocation ?? 0 }
        let shown = Self.allocated(open, shown)
        write(open, shown, opening.contexts.wishes, maximalAccess(open, caller, opening.found.parent), lease, &writer)
    }

    /// What can not be found now is no more than what the open has.
    func maximalAccess(_ open: Open, _ caller: Caller, _ parent: Attributes?) -> AccessMask {
        guard let volume = open.volume, case .done(let file, _) = volume.attributes(caller, open.subject),
            case .done(let mask, _) = volume.maximalAccess(caller, file, in: parent?.file)
        else { return open.granted }
        return mask.union(open.granted)
    }

    /// [MS-SMB2] 2.2.14.
    func write(
        _ open: Open, _ file: Attributes, _ wishes: CreateContexts.Wishes, _ maximal: @autoclosure () -> AccessMask,
        _ lease: LeaseAnswer?, oplockMax: UInt8 = Oplock.lease, _ writer: inout Writer
    ) {
        let oplock = min(open.oplock, oplockMax)
        open.tree.session.opens[open.handle.volatile] = open
        self.file = open.handle
        noteCreation(open)
        let facts = FileFacts(file)
        writer.u16LE(89)
        writer.u8(oplock)
        writer.u8(0)
        writer.u32LE(open.action.rawValue)
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
            data.u32(maximal().rawValue)
            answer.add("MxAc", data)
        }
        if wishes.diskID {
            var data: [UInt8] = []
            data.u64(facts.index)
            data.u64(open.volume?.identity ?? 0)
            answer.add("QFid", data + [UInt8](repeating: 0, count: 16))
        }
        if let lease { answer.add("RqLs", lease.bytes) }
        if oplock == open.oplock { addDurability(open, to: &answer) }
        answer.write(into: &writer, at: place)
    }
}
