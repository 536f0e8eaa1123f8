/// Opening and closing, as one request each.
extension Volume {
    /// Opens what the name leads to, and makes it when that is wanted.
    ///
    /// The order is: rights, then leases of others (the answer lacks their end), then share modes. Only then the content is
    /// replaced, when nobody else can come in.
    public func open(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ intent: OpenIntent
    ) -> Attempt<OpenedFile> {
        if let passed = passedOpening(caller, directory, { $0.open($1, in: directory, name, intent.unkept) }) {
            return passed
        }
        return attempt { () throws(Halt) in
            // Somebody may make the name between a look and the making of it; that he also takes it away again, and so on,
            // is not followed for ever.
            for _ in 0..<Self.openTriesMax {
                var newest: UInt64 = 0
                switch lookup(caller, in: directory, name, since: &newest) {
                case .done(let found, _):
                    guard intent.disposition != .create else { throw .refused(.exists) }
                    let place = Sharing.PlaceName(directory: directory, name: Array(name))
                    return try openThere(caller, found, place, intent, since: newest)
                case .refused(.noEntry): break
                case .refused(let error): throw .refused(error)
                case .lacks(let lack): throw .lacks(lack)
                }
                guard intent.disposition.mayCreate else { throw .refused(.noEntry) }
                guard sharing.isFree(intent.lease) else { throw .refused(.invalid) }
                if let made = try openNew(caller, directory, name, intent) { return made }
            }
            throw .refused(.delay)
        }
    }

    /// Opens a file by its identity: it is there, and no name goes with the open.
    public func open(_ caller: Caller, _ file: FileID, _ intent: OpenIntent) -> Attempt<OpenedFile> {
        if let passed = passedOpening(caller, file, { $0.open($1, file, intent.unkept) }) { return passed }
        return attempt { () throws(Halt) in
            guard intent.disposition != .create else { throw .refused(.exists) }
            return try openThere(caller, try attributes(caller, of: file), nil, intent, since: 0)
        }
    }

    /// Opens a named stream, and makes it when that is wanted. Its rights are those to its file, which a name in `directory`
    /// leads to; share modes, leases and locks are its own.
    public func open(
        _ caller: Caller, stream name: UnsafeRawBufferPointer, of file: FileID, in directory: FileID?,
        _ intent: OpenIntent
    ) -> Attempt<OpenedFile> {
        if let passed = passedOpening(
            caller, file, { $0.open($1, stream: name, of: file, in: near(file, directory), intent.unkept) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            let base = try attributes(caller, of: file)
            let place = Sharing.PlaceName(directory: file, name: Array(name), isStream: true)
            let found = try stream(caller.request, of: file, name)
            guard found == nil || intent.disposition != .create else { throw .refused(.exists) }
            guard found != nil || intent.disposition.mayCreate else { throw .refused(.noEntry) }
            let replaces = intent.disposition.replaces && found != nil
            let granted = try granted(caller, base, intent, changes: replaces || found == nil, in: directory)
            if let found {
                return try enter(caller, found, place, intent, granted, replaces ? .overwritten : .opened, 0)
            }
            guard sharing.isFree(intent.lease) else { throw .refused(.invalid) }
            if base.type != .directory { try requireFree(caller, base) }
            let trail = try trails(caller, of: file)
            if let wish = intent.keep { try prepareToKeep(caller, wish) }
            let made = fileSystem.createStream(caller.request, of: file, name)
            guard case .done(let stream, let number) = made else {
                _ = try made.get()
                throw .refused(.delay)
            }
            if let trail { sharing.post([(.added, .streamName, trail)]) }
            return try enter(caller, stream, place, intent, granted, .created, number)
        }
    }

    private static let openTriesMax = 4

    /// Nil: the name has come meanwhile.
    private func openNew(
        _ caller: Caller, _ directory: FileID, _ name: UnsafeRawBufferPointer, _ intent: OpenIntent
    ) throws(Halt) -> Attempt<OpenedFile>? {
        var new = intent.new
        if intent.kind == .directory { new.type = .directory }
        if intent.kind == .notDirectory, new.type == .directory { throw .refused(.invalid) }
        // What may have to be fetched first is: an attempt that ends behind the making would meet its own file.
        if let wish = intent.keep { try prepareToKeep(caller, wish) }
        let made = create(caller, in: directory, name, new, .exclusive)
        switch made {
        case .refused(.exists) where intent.disposition != .create: return nil
        case .refused(let error): throw .refused(error)
        case .lacks(let lack): throw .lacks(lack)
        case .done(let created, let number):
            // Who makes a file has the rights that he asked for, whatever its mode says to others (POSIX `open`).
            var granted = intent.access
            if intent.wantsAll { granted.formUnion(.all) }
            let place = Sharing.PlaceName(directory: directory, name: Array(name))
            return try enter(caller, created.file, place, intent, granted, .created, number)
        }
    }

    /// `newest`: of the changes from before it was found.
    private func openThere(
        _ caller: Caller, _ found: Attributes, _ place: Sharing.PlaceName?, _ intent: OpenIntent, since newest: UInt64
    ) throws(Halt) -> Attempt<OpenedFile> {
        // The name leads to what is mounted there, and no name of a guest's.
        if let passed = passedOpening(caller, found.file, { $0.open($1, found.file, intent.unkept) }) { return passed }
        switch (found.type, intent.kind) {
        case (.directory, .notDirectory): throw .refused(.isDirectory)
        case (.directory, _): if intent.disposition.replaces { throw .refused(.isDirectory) }
        case (_, .directory): throw .refused(.notDirectory)
        case (.symlink, _): if !intent.opensLinks { throw .refused(.wrongType) }
        default: break
        }
        let replaces = intent.disposition.replaces && found.type == .file
        let granted = try granted(caller, found, intent, changes: replaces, in: place?.directory)
        return try enter(caller, found, place, intent, granted, replaces ? .overwritten : .opened, 0, since: newest)
    }

    /// What the handle will have.
    private func granted(
        _ caller: Caller, _ file: Attributes, _ intent: OpenIntent, changes: Bool, in directory: FileID?
    ) throws(Halt) -> AccessMask {
        var wanted = intent.access
        if changes { wanted.insert(.writeData) }
        if intent.deletesOnClose { wanted.insert(.delete) }
        let has = try granted(
            caller, file, wanted: intent.wantsAll ? .all : wanted, in: directory, widensMode: intent.widensMode)
        guard has.isSuperset(of: wanted) else {
            throw .refused(caller.isReadOnly || isReadOnly ? .readOnly : .accessDenied)
        }
        return intent.wantsAll ? has.subtracting(intent.withheld).union(intent.access) : intent.access
    }

    /// The rights that an open may have. What changes anything is nobody's where nothing may be changed.
    private func granted(
        _ caller: Caller, _ file: Attributes, wanted: AccessMask, in directory: FileID?, widensMode: Bool
    ) throws(Halt) -> AccessMask {
        var granted = try access(caller, file, widensMode ? .all : wanted)
        if widensMode {
            if !file.hasACL { granted.widen(FileSecurity(file), for: caller.credential) }
            granted.formIntersection(wanted)
        }
        if wanted.contains(.delete), !granted.contains(.delete), let directory {
            let home = try attributes(caller, of: directory)
            if try access(caller, home, .deleteChild).contains(.deleteChild) { granted.insert(.delete) }
            if home.mode & 0o1000 != 0 {
                let uid = caller.credential.uid
                if uid != 0, uid != file.uid, uid != home.uid { granted.remove(.delete) }
            }
        }
        if caller.isReadOnly || isReadOnly { granted.subtract(.changes) }
        return granted
    }

    /// All that an open of the file might have that a name in `directory` leads to, in Windows' eyes.
    public func maximalAccess(_ caller: Caller, _ file: Attributes, in directory: FileID?) -> Attempt<AccessMask> {
        if let passed = passed(caller, file.file, { $0.maximalAccess($1, file, in: near(file.file, directory)) }) {
            return passed
        }
        return attempt { () throws(Halt) in
            .done(try granted(caller, file, wanted: .all, in: directory, widensMode: true), number: 0)
        }
    }

    /// Whether a listing shows the file that leaves out what the caller can not read: by what the file's list grants, not by what is
    /// everybody's whatever it says.
    public func isListed(
        _ caller: Caller, _ file: Attributes, in directory: FileID, to wanted: AccessMask
    ) -> Attempt<Bool> {
        if let passed = passed(
            caller, file.file, { $0.isListed($1, file, in: near(file.file, directory) ?? directory, to: wanted) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            let has: AccessMask
            if file.hasACL {
                let acl = try fileSystem.acl(caller.request, file.file).get()
                has = FileSecurity(file).granted(wanted, to: caller.credential, acl, everybodys: [])
            } else {
                has = try granted(caller, file, wanted: wanted, in: directory, widensMode: true)
            }
            return .done(has.isSuperset(of: wanted), number: 0)
        }
    }

    private func enter(
        _ caller: Caller, _ found: Attributes, _ place: Sharing.PlaceName?, _ intent: OpenIntent,
        _ granted: AccessMask, _ action: OpenAction, _ number: UInt64, since newest: UInt64 = 0
    ) throws(Halt) -> Attempt<OpenedFile> {
        let replaces = action == .overwritten
        if let wish = intent.keep { try prepareToKeep(caller, wish) }
        let handle = try sharing.enter(
            intent,
            Sharing.Entrance(
                file: found.file, name: place, granted: granted, replaces: replaces))
        var opened = OpenedFile(
            handle: handle, file: found, name: place?.name ?? [],
            action: replaces && intent.disposition == .supersede ? .superseded : action, lease: [], leaseEpoch: 0,
            isLeaseBreaking: false)
        var number = number
        do throws(Halt) {
            if !enter(found.file, unchangedSince: newest) {
                opened.file = try enter(caller.request, found.file).get()
            }
            if replaces {
                do throws(Halt) {
                    (opened.file, number) = try replaceContent(
                        caller, opened.file, intent, isStream: place?.isStream == true)
                } catch {
                    _ = fileSystem.close(caller.request, found.file)
                    throw error
                }
            }
        } catch {
            sharing.takeBack(handle)
            throw error
        }
        guard var wish = intent.lease else { return .done(opened, number: number) }
        // Others change it without a word to anybody's lease.
        if follows || fileSystem.isForeign(found.file) { wish.wanted = [] }
        guard
            case .granted(let state, let epoch, let isBreaking) = sharing.grant(
                wish, to: handle, isDirectory: found.type == .directory)
        else {
            // The key stands for another file.
            _ = fileSystem.close(caller.request, found.file)
            sharing.takeBack(handle)
            throw .refused(.invalid)
        }
        opened.handle.holdsLease = sharing.holds(wish.key)
        if intent.keep != nil || sharing.uses.contains(.kept) {
            let mayBeKept = wish.kind == .oplock ? state == .all : state.contains(.handle)
            if let later = keepNew(caller, opened.handle, mayBeKept ? intent.keep : nil) {
                number = max(number, later)
            }
        }
        (opened.lease, opened.leaseEpoch, opened.isLeaseBreaking) = (state, epoch, isBreaking)
        return .done(opened, number: number)
    }

    private func replaceContent(
        _ caller: Caller, _ file: Attributes, _ intent: OpenIntent, isStream: Bool
    ) throws(Halt) -> (Attributes, UInt64) {
        try requireFree(caller, file)
        if !isStream, intent.disposition == .supersede || caller.credential.uid != 0 { try dropSetID(caller, file) }
        let attempt = try emptyFile(caller, file.file)
        guard case .done(let emptied, var number) = attempt else {
            _ = try attempt.get()
            return (file, 0)
        }
        var after = emptied.after
        var new = NewAttributes()
        if intent.new.dos != after.dos { new.dos = intent.new.dos }
        if intent.disposition == .supersede, !isStream {
            new.born = caller.request.now
        }
        if !new.isEmpty, case .done(let changed, let later) = fileSystem.setAttributes(caller.request, file.file, new) {
            after = changed.after
            number = max(number, later)
        }
        try? notify(caller, modified: file.file, [.attributes, .size, .lastWrite])
        return (after, number)
    }

    // MARK: Closing

    /// Ends an open: its locks, its lease, and its name, if that was to go with it. When the answer lacks something, the open
    /// has ended all the same, and the same call does what is left.
    public func close(_ caller: Caller, _ handle: OpenHandle) -> Attempt<ClosedFile> {
        if let guest = formerGuest(handle.file) {
            let attempt = guest.call(caller, isReadOnly: isReadOnly) { $0.close($1, handle) }
            guard case .done(_, let number) = attempt else { return attempt }
            guest.closed()
            // As in `passed`: a name may have gone with it.
            return number > 0 && self.guest(handle.file) !== guest ? .refused(.stale) : attempt
        }
        guard let leftover = sharing.leave(handle) else { return .refused(.stale) }
        var number: UInt64 = 0
        var isRemoved = false
        if let name = leftover.name {
            let removed = name.name.withUnsafeBytes { bytes in
                attempt { () throws(Halt) -> Attempt<Bool> in
                    if name.isStream {
                        let attempt = fileSystem.removeStream(caller.request, of: name.directory, bytes)
                        guard case .done(_, let number) = attempt else {
                            _ = try attempt.get()
                            return .done(false, number: 0)
                        }
                        return .done(true, number: number)
                    }
                    // By now the name may lead elsewhere.
                    let there = try fileSystem.lookup(caller.request, in: name.directory, bytes).get()
                    guard there.file == handle.file else { return .done(false, number: 0) }
                    let trails = try trails(caller, name.directory, bytes)
                    if there.isLocked { _ = try endLock(caller, in: name.directory, bytes) }
                    let attempt = try removeThere(
                        caller, in: name.directory, bytes, isDirectory: there.type == .directory)
                    guard case .done(_, let number) = attempt else {
                        _ = try attempt.get()
                        return .done(false, number: 0)
                    }
                    sharing.directoryChanged(name.directory, by: caller)
                    if let trails { sharing.post([(.removed, .name(of: there.type), trails)]) }
                    return .done(true, number: number)
                }
            }
            switch removed {
            case .done(let was, let place): (isRemoved, number) = (was, place)
            // The directory has entries by now, or the name is gone: it stays as it is.
            case .refused: break
            case .lacks(let lack):
                sharing.keep(leftover, of: handle)
                return .lacks(lack)
            }
        }
        // Nobody waits for this: at the worst an open comes back for which nobody does.
        if case .lacks(let lack) = dropRecord(caller.request, leftover.record) {
            sharing.keep(leftover, of: handle)
            return .lacks(lack)
        }
        switch leave(caller.request, handle.file) {
        case .done(_, let later): number = max(number, later)
        case .refused: break
        case .lacks(let lack):
            sharing.keep(leftover, of: handle)
            return .lacks(lack)
        }
        if leftover.isKept { sharing.finished(handle) }
        return .done(ClosedFile(isRemoved: isRemoved), number: number)
    }

    /// The name by which the handle came goes with its last open, or stays after all (FileDispositionInformation).
    public func setDeletePending(_ caller: Caller, _ handle: OpenHandle, _ isPending: Bool) -> Attempt<Void> {
        if let passed = passed(caller, handle.file, { $0.setDeletePending($1, handle, isPending) }) { return passed }
        return attempt { () throws(Halt) in
            guard handle.granted.contains(.delete) else { throw .refused(.accessDenied) }
            if isPending {
                try requireWritable(caller)
                let file = try attributes(caller, of: handle.file)
                if file.type == .directory {
                    var isEmpty = true
                    let attempt = fileSystem.list(
                        caller.request, handle.file, after: 0, limit: 1, attributes: false
                    ) { _, _ in
                        isEmpty = false
                        return false
                    }
                    _ = try attempt.get()
                    guard isEmpty else { throw .refused(.notEmpty) }
                    try requireNoShelf(caller, of: handle.file)
                } else {
                    try requireFree(caller, file)
                }
                try sharing.admit(caller, handle.file, .remove)
            }
            let isDone = sharing.change { state, _ in
                guard state.opens.setDeletePending(handle.id, isPending) else { return false }
                if isPending { state.watches.end(handle.file) }
                return true
            }
            guard isDone else { throw .refused(.stale) }
            return .done((), number: try keepUpToDate(caller, handle))
        }
    }

    public func isDeletePending(_ handle: OpenHandle) -> Bool {
        if let guest = formerGuest(handle.file) { return guest.volume.isDeletePending(handle) }
        return sharing.look { state in
            guard let open = state.opens[handle.id], open.name != 0 else { return false }
            return state.opens.isDeletePending(handle.file, open.name)
        }
    }

    /// Whether a name of the file is to go.
    public func isDeletePending(_ file: FileID, _ name: UnsafeRawBufferPointer, in directory: FileID) -> Bool {
        if let guest = guest(directory) { return guest.volume.isDeletePending(file, name, in: directory) }
        guard sharing.uses.contains(.opens) else { return false }
        let number = sharing.number(of: name, in: directory)
        return sharing.look { $0.opens.isDeletePending(file, number) }
    }

    /// Where the handle's name is by now, after renames; nil: it has none any more. A stream's is in its file.
    public func name(of handle: OpenHandle) -> (directory: FileID, name: [UInt8])? {
        if let guest = formerGuest(handle.file) { return guest.volume.name(of: handle) }
        return sharing.look { state in
            state.opens.place(of: handle.id).map { ($0.directory, $0.name) }
        }
    }

    /// The names that lead to a directory from the root, or from `top`, if it is below that.
    public func path(_ caller: Caller, of directory: FileID, below top: FileID? = nil) -> Attempt<[[UInt8]]> {
        attempt { () throws(Halt) in
            var path: [[UInt8]] = []
            var place = directory
            while place != root, place != top, path.count < Self.trailMax {
                guard let above = try fileSystem.whereabouts(caller.request, of: place).get() else { break }
                path.append(above.name)
                place = above.directory
            }
            return .done(path.reversed(), number: 0)
        }
    }

    /// Whether something is open below the directory.
    public func hasOpens(_ caller: Caller, below directory: FileID) -> Attempt<Bool> {
        if let passed = passed(caller, directory, { $0.hasOpens($1, below: directory) }) { return passed }
        return attempt { () throws(Halt) in
            let homes = sharing.look { $0.opens.homes }
            var known: Set<FileID> = [root]
            for home in homes {
                var place = home
                while known.insert(place).inserted || place == directory {
                    if place == directory { return .done(true, number: 0) }
                    let above = fileSystem.whereabouts(caller.request, of: place)
                    if case .lacks(let lack) = above { throw .lacks(lack) }
                    guard case .done(let found?, _) = above else { break }
                    place = found.directory
                }
            }
            return .done(false, number: 0)
        }
    }

    /// Whether the client has it open with the right to delete it.
    public func isOpenToDelete(_ file: FileID, by client: UInt64) -> Bool {
        if let guest = guest(file) { return guest.volume.isOpenToDelete(file, by: client) }
        return sharing.look { state in
            var isFound = false
            state.opens.forEach(of: file) { open in
                isFound = open.client == client && open.share.access.contains(.delete)
                return !isFound
            }
            return isFound
        }
    }

    /// Whether somebody has it open.
    public func isOpen(_ file: FileID) -> Bool {
        (guest(file)?.volume ?? self).sharing.look { $0.opens.isOpen(file) }
    }

    public var openCount: Int { sharing.look { $0.opens.count } }

    /// The opens of a client, by number: its owner closes each by the handle that it kept.
    public func opens(of client: UInt64) -> [OpenID] { sharing.look { $0.opens.opens(of: client) } }

    // MARK: Leases

    /// The client gives up all but `state`.
    public func acknowledge(_ key: LeaseKey, _ state: LeaseState) -> Acknowledgement {
        home(of: key).sharing.change { tables, now in tables.leases.acknowledge(key, state, now: now) }
    }

    /// What a lease allows now; nil: there is none.
    public func lease(_ key: LeaseKey) -> LeaseState? { home(of: key).sharing.look { $0.leases.state(key) } }

    /// The same with its epoch, and whether a break of it is under way.
    public func leaseStatus(_ key: LeaseKey) -> LeaseStatus? { home(of: key).sharing.look { $0.leases.status(key) } }

    /// The client is back by another way, on which it is told of breaks from now on.
    public func reconnect(_ key: LeaseKey, _ holder: LeaseHolder) {
        home(of: key).sharing.change { state, _ in
            guard state.leases.state(key) != nil else { return }
            state.holders[key] = holder
            state.leases.reconnected(key)
        }
    }

    /// The client can not be reached; its opens live on until somebody wants what the lease allows: then its holder is told to
    /// end them.
    public func disconnect(_ key: LeaseKey) {
        home(of: key).sharing.change { state, _ in state.leases.disconnected(key) }
    }

    /// What a protocol does by itself and that others' leases may be in the way of, such as a byte-range lock of its own kind.
    public func admit(
        _ caller: Caller, _ file: FileID, _ operation: LeaseOperation
    ) -> Attempt<Void> {
        if let passed = passed(caller, file, { $0.admit($1, file, operation) }) { return passed }
        return attempt { () throws(Halt) in
            guard sharing.uses.contains(.leases) else { return .done((), number: 0) }
            let actor = caller.handle?.lease
            let mustWait = sharing.change { state, now in
                state.leases.mustWait(file, by: actor, operation, now: now)
            }
            if mustWait { throw .lacks(sharing.lack(file, actor, operation)) }
            return .done((), number: 0)
        }
    }

    /// Whether an object may take the place of the file now: open handles keep the old bytes, leases are broken, and who denies
    /// writing or holds a lock is in the way.
    public func admitReplacement(_ caller: Caller, of file: FileID) -> Attempt<Void> {
        if let passed = passed(caller, file, { $0.admitReplacement($1, of: file) }) { return passed }
        return attempt { () throws(Halt) in
            try sharing.admit(caller, file, .replace)
            return .done((), number: 0)
        }
    }

    /// The same, afterwards: who keeps a listing or watches is told, and opens of the old file live on without the name.
    public func replaced(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ old: FileID?
    ) {
        if let guest = guest(directory) { return guest.volume.replaced(caller, in: directory, name, old) }
        if sharing.isIdle { return }
        if let old { sharing.unlinked(old, name, in: directory) }
        sharing.directoryChanged(directory, by: caller)
        // What can not be found now is not waited for after the fact.
        if let trail = try? trails(caller, directory, name) {
            let filter: WatchFilter = old == nil ? .fileName : [.size, .lastWrite]
            sharing.post([(old == nil ? .added : .modified, filter, trail)])
        }
    }
}
