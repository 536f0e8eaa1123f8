/// What is open in a volume, how opens exclude each other, and which names go when the last open is closed. No I/O: the
/// caller guards it and does what the answers say.
///
/// Invariants: the opens of a file never conflict with each other. The sums of a file are those of its opens, so a new open is
/// checked in a step or two, however many there are. While a name is to be removed, nothing new is opened by it.
public struct OpenTable {
    public static let opensPerFileMax = 65_536
    public static let opensPerClientMax = 65_536
    public static let opensMax = 1 << 20
    /// Names of one file that wait for their removal at a time.
    public static let pendingNamesMax = 1024

    public struct Open: Sendable {
        public internal(set) var id: OpenID
        public internal(set) var name: UInt64
        public internal(set) var client: UInt64
        public internal(set) var leaseKey: UInt128
        public internal(set) var granted: UInt32
        public internal(set) var share: ShareMode
        public internal(set) var isDeleteOnClose: Bool
        var file: UInt32
        var ofClient: UInt32
        // Neighbours among the opens of the file and of the client.
        var nextOfFile: UInt32
        var previousOfFile: UInt32
        var nextOfClient: UInt32
        var previousOfClient: UInt32
    }

    struct File {
        var id: FileID
        var first: UInt32
        var count: UInt32 = 0
        /// How many opens access the data so, and how many deny it: read, write, delete.
        var accessing = Counts()
        var denying = Counts()
        var pendingNames: [UInt64] = []
    }

    struct Counts {
        var read: UInt32 = 0
        var write: UInt32 = 0
        var delete: UInt32 = 0

        /// What is counted at least once.
        var some: DataAccess {
            var some: DataAccess = []
            if read > 0 { some.insert(.read) }
            if write > 0 { some.insert(.write) }
            if delete > 0 { some.insert(.delete) }
            return some
        }

        mutating func add(_ access: DataAccess) {
            if access.contains(.read) { read += 1 }
            if access.contains(.write) { write += 1 }
            if access.contains(.delete) { delete += 1 }
        }

        mutating func subtract(_ access: DataAccess) {
            if access.contains(.read) { read -= 1 }
            if access.contains(.write) { write -= 1 }
            if access.contains(.delete) { delete -= 1 }
        }
    }

    private struct Client {
        var client: UInt64
        var first: UInt32
        var count: Int
    }

    private static let none = UInt32.max

    private var opens: Slots<Open>
    private var files: Slots<File>
    private var fileSlots: SlotIndex
    private var clients = Slots(vacant: Client(client: 0, first: OpenTable.none, count: 0))
    private var clientSlots: SlotIndex
    private var generation: UInt64 = 0

    /// `seed` is secret where clients have a say in what is open. Numbers begin with it, too: the opens of a server's
    /// volumes own locks in one table.
    public init(seed: UInt64 = 0x9E37_79B9_7F4A_7C15) {
        generation = seed >> 32
        fileSlots = SlotIndex(seed: seed)
        clientSlots = SlotIndex(seed: seed)
        let nowhere = FileID(subvolume: 0, inode: 0, generation: 0)
        files = Slots(vacant: File(id: nowhere, first: Self.none))
        opens = Slots(
            vacant: Open(
                id: OpenID(number: 0), name: 0, client: 0, leaseKey: 0, granted: 0,
                share: ShareMode(access: [], denied: []), isDeleteOnClose: false, file: Self.none,
                ofClient: Self.none, nextOfFile: Self.none, previousOfFile: Self.none, nextOfClient: Self.none, previousOfClient: Self.none))
    }

    public var count: Int { opens.count }
    package var entryCount: Int {
        opens.count + files.count + fileSlots.count + clients.count + clientSlots.count
    }

    @inline(__always)
    private func slot(_ file: FileID) -> UInt32? { fileSlots.find(file.mixed) { files[$0].id == file } }

    @inline(__always)
    private func slot(client: UInt64) -> UInt32? { clientSlots.find(client) { clients[$0].client == client } }

    /// Nil: it is closed.
    public subscript(id: OpenID) -> Open? {
        guard opens.contains(id.place), opens[id.place].id == id else { return nil }
        return opens[id.place]
    }

    func isUsed(_ subvolume: UInt32) -> Bool {
        var isUsed = false
        fileSlots.visitAll { if files[$0].id.subvolume == subvolume { isUsed = true } }
        return isUsed
    }

    public func file(of id: OpenID) -> FileID? {
        guard let open = self[id] else { return nil }
        return files[open.file].id
    }

    // MARK: Opening and closing

    public mutating func open(_ request: OpenRequest) -> OpenAnswer {
        let known = slot(request.file)
        if let known {
            if request.name != 0, files[known].pendingNames.contains(request.name) { return .deletePending }
            if let other = blocker(known, request.share) { return .sharingViolation(other) }
            guard files[known].count < Self.opensPerFileMax else { return .tooMany }
        }
        let client = slot(client: request.client)
        guard opens.count < Self.opensMax, client.map({ clients[$0].count }) ?? 0 < Self.opensPerClientMax else {
            return .tooMany
        }
        let file: UInt32
        if let known {
            file = known
        } else {
            file = files.insert(File(id: request.file, first: Self.none))
            fileSlots.insert(request.file.mixed, file)
        }
        let after = files[file].first
        let place = opens.insert(
            Open(
                id: OpenID(number: 0), name: request.name, client: request.client, leaseKey: request.leaseKey,
                granted: request.granted, share: request.share, isDeleteOnClose: request.isDeleteOnClose, file: file,
                ofClient: Self.none, nextOfFile: after, previousOfFile: Self.none, nextOfClient: Self.none, previousOfClient: Self.none))
        // 2^32 opens of one place go by before a number comes again.
        generation = (generation + 1) & 0xFFFF_FFFF
        let id = OpenID(number: generation << 32 | UInt64(place))
        opens[place].id = id
        if after != Self.none { opens[after].previousOfFile = place }
        files[file].first = place
        files[file].count += 1
        files[file].accessing.add(request.share.access)
        files[file].denying.add(request.share.denied)
        joinClient(place, request.client, client)
        return .opened(id, isFirst: known == nil)
    }

    /// Nil: it is closed already.
    public mutating func close(_ id: OpenID) -> Closed? {
        guard let open = self[id] else { return nil }
        let place = id.place
        unlink(place, open)
        opens.remove(place)
        let file = open.file
        files[file].count -= 1
        files[file].accessing.subtract(open.share.access)
        files[file].denying.subtract(open.share.denied)
        if open.isDeleteOnClose { addPending(file, open.name) }
        var removed: UInt64 = 0
        if !files[file].pendingNames.isEmpty, let index = files[file].pendingNames.firstIndex(of: open.name),
            !isOpen(file, by: open.name)
        {
            removed = files[file].pendingNames.remove(at: index)
        }
        let closed = Closed(file: files[file].id, removedName: removed, isLast: files[file].count == 0)
        if closed.isLast {
            fileSlots.remove(closed.file.mixed, file)
            files.remove(file)
        }
        return closed
    }

    private mutating func unlink(_ place: UInt32, _ open: Open) {
        if open.previousOfFile != Self.none {
            opens[open.previousOfFile].nextOfFile = open.nextOfFile
        } else {
            files[open.file].first = open.nextOfFile
        }
        if open.nextOfFile != Self.none { opens[open.nextOfFile].previousOfFile = open.previousOfFile }
        leaveClient(open)
    }

    private mutating func leaveClient(_ open: Open) {
        let client = open.ofClient
        if open.previousOfClient != Self.none {
            opens[open.previousOfClient].nextOfClient = open.nextOfClient
        } else {
            clients[client].first = open.nextOfClient
        }
        if open.nextOfClient != Self.none { opens[open.nextOfClient].previousOfClient = open.previousOfClient }
        clients[client].count -= 1
        if clients[client].count == 0 {
            clientSlots.remove(open.client, client)
            clients.remove(client)
        }
    }

    /// `known`: the client's place, if it has one.
    private mutating func joinClient(_ place: UInt32, _ client: UInt64, _ known: UInt32?) {
        let slot: UInt32
        if let known {
            slot = known
        } else {
            slot = clients.insert(Client(client: client, first: Self.none, count: 0))
            clientSlots.insert(client, slot)
        }
        let after = clients[slot].first
        if after != Self.none { opens[after].previousOfClient = place }
        opens[place].client = client
        opens[place].ofClient = slot
        opens[place].nextOfClient = after
        opens[place].previousOfClient = Self.none
        clients[slot].first = place
        clients[slot].count += 1
    }

    /// The client's opens; the caller closes them one by one, each with what follows from it.
    public func opens(of client: UInt64) -> [OpenID] {
        var found: [OpenID] = []
        var place = slot(client: client).map { clients[$0].first } ?? Self.none
        while place != Self.none {
            found.append(opens[place].id)
            place = opens[place].nextOfClient
        }
        return found
    }

    /// From the newest to the oldest, until `body` answers false.
    public func forEach(of file: FileID, _ body: (Open) -> Bool) {
        guard let known = slot(file) else { return }
        var place = files[known].first
        while place != Self.none {
            guard body(opens[place]) else { return }
            place = opens[place].nextOfFile
        }
    }

    // MARK: Sharing

    private func blocker(_ file: UInt32, _ share: ShareMode) -> OpenID? {
        let isFree =
            share.access.isDisjoint(with: files[file].denying.some)
            && share.denied.isDisjoint(with: files[file].accessing.some)
        if isFree { return nil }
        var place = files[file].first
        while place != Self.none {
            if opens[place].share.conflicts(with: share) { return opens[place].id }
            place = opens[place].nextOfFile
        }
        preconditionFailure("a file's sums are those of its opens")
    }

    /// The open that forbids such a use of the file: asked for reads, writes, removals and renames that come without an open,
    /// over NFS or an object protocol.
    public func blocker(_ file: FileID, _ access: DataAccess) -> OpenID? {
        guard let known = slot(file) else { return nil }
        return blocker(known, ShareMode(access: access, denied: []))
    }

    /// Whether an open of this kind would be refused by others.
    public func conflicts(_ file: FileID, _ share: ShareMode) -> Bool {
        slot(file).map { blocker($0, share) != nil } ?? false
    }

    public func isOpen(_ file: FileID) -> Bool { slot(file) != nil }

    /// Whether somebody of another lease key has the data open; opens that have no other rights than those of `looking` do not
    /// count.
    public func isShared(_ file: FileID, besides id: OpenID, looking: UInt32 = .max) -> Bool {
        guard let mine = self[id] else { return false }
        var found = false
        forEach(of: file) { open in
            let isSame =
                open.id == id || mine.leaseKey != 0 && open.leaseKey == mine.leaseKey && open.client == mine.client
            let uses = !open.share.access.isEmpty || !open.share.denied.isEmpty || open.granted & ~looking != 0
            found = !isSame && uses
            return !found
        }
        return found
    }

    // MARK: Removal

    private func isOpen(_ file: UInt32, by name: UInt64) -> Bool {
        var place = files[file].first
        while place != Self.none {
            if opens[place].name == name { return true }
            place = opens[place].nextOfFile
        }
        return false
    }

    private mutating func addPending(_ file: UInt32, _ name: UInt64) {
        guard name != 0, !files[file].pendingNames.contains(name) else { return }
        // One more than the limit would keep its name: the same as if nobody had asked for its removal.
        guard files[file].pendingNames.count < Self.pendingNamesMax else { return }
        files[file].pendingNames.append(name)
    }

    /// The name goes with the last open that came by it, or stays after all (FileDispositionInformation). False: the
    /// open is closed, or too many names wait already.
    public mutating func setDeletePending(_ id: OpenID, _ isPending: Bool) -> Bool {
        guard let open = self[id], open.name != 0 else { return false }
        let file = open.file
        if isPending {
            addPending(file, open.name)
            return files[file].pendingNames.contains(open.name)
        }
        files[file].pendingNames.removeAll { $0 == open.name }
        return true
    }

    /// Whether the name goes with this very open. False: it is closed.
    public mutating func setDeleteOnClose(_ id: OpenID, _ isDeleteOnClose: Bool) -> Bool {
        guard self[id] != nil else { return false }
        opens[id.place].isDeleteOnClose = isDeleteOnClose
        return true
    }

    public func isDeletePending(_ file: FileID, _ name: UInt64) -> Bool {
        slot(file).map { files[$0].pendingNames.contains(name) } ?? false
    }

    /// The name is another one now: opens and a removal that waits follow it.
    public mutating func rename(_ file: FileID, from name: UInt64, to newName: UInt64) {
        guard let known = slot(file), name != 0 else { return }
        var place = files[known].first
        while place != Self.none {
            if opens[place].name == name { opens[place].name = newName }
            place = opens[place].nextOfFile
        }
        guard let index = files[known].pendingNames.firstIndex(of: name) else { return }
        if newName == 0 || files[known].pendingNames.contains(newName) {
            files[known].pendingNames.remove(at: index)
        } else {
            files[known].pendingNames[index] = newName
        }
    }

    /// The name was removed by somebody else: its opens live on without it.
    public mutating func unlinked(_ file: FileID, _ name: UInt64) { rename(file, from: name, to: 0) }

    /// A handle that outlived its connection belongs to another one now.
    public mutating func move(_ id: OpenID, to client: UInt64) -> Bool {
        guard let open = self[id] else { return false }
        if open.client == client { return true }
        let known = slot(client: client)
        guard known.map({ clients[$0].count }) ?? 0 < Self.opensPerClientMax else { return false }
        leaveClient(open)
        joinClient(id.place, client, known)
        return true
    }
}
