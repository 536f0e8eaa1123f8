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
        /// Whether names of it wait for their removal.
        var hasPending = false

        @inline(__always)
        mutating func opened(_ place: UInt32, _ share: ShareMode) {
            first = place
            count += 1
            accessing.add(share.access)
            denying.add(share.denied)
        }

        /// Whether that was the last one.
        @inline(__always)
        mutating func closed(_ share: ShareMode) -> Bool {
            count -= 1
            accessing.subtract(share.access)
            denying.subtract(share.denied)
            return count == 0
        }
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

        @inline(__always)
        mutating func opened(_ place: UInt32) {
            first = place
            count += 1
        }
    }

    private static let none = UInt32.max

    private var opens: Slots<Open>
    /// What their names stand for, beside `opens`: those are copied without a thought.
    private var places: ContiguousArray<Sharing.PlaceName> = []
    private var files: Slots<File>
    /// Names that wait for their removal, of files that have such.
    private var pending: [UInt32: [UInt64]] = [:]
    private var fileSlots: SlotIndex
    private var clients = Slots(vacant: Client(client: 0, first: OpenTable.none, count: 0))
    private var clientSlots: SlotIndex
    private var generation: UInt64 = 0
    /// The last file and the last client whose last open was closed: both often come again, and keep their places until
    /// another one goes.
    private var idleFile = OpenTable.none
    private var idleClient = OpenTable.none
    private static let nowhere = Sharing.PlaceName(
        directory: FileID(subvolume: 0, inode: 0, generation: 0), name: [])

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
                ofClient: Self.none, nextOfFile: Self.none, previousOfFile: Self.none, nextOfClient: Self.none,
                previousOfClient: Self.none))
    }

    public var count: Int { opens.count }
    package var entryCount: Int {
        opens.count + files.count + fileSlots.count + clients.count + clientSlots.count + pending.count
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

    /// What an open's name stands for by now; nil: it has none any more, or nobody has said it.
    @inline(__always)
    func place(of id: OpenID) -> Sharing.PlaceName? {
        guard let open = self[id], open.name != 0 else { return nil }
        return places[Int(id.place)]
    }

    func isUsed(_ subvolume: UInt32) -> Bool {
        var isUsed = false
        fileSlots.visitAll { if files[$0].id.subvolume == subvolume, files[$0].count > 0 { isUsed = true } }
        return isUsed
    }

    public func file(of id: OpenID) -> FileID? {
        guard let open = self[id] else { return nil }
        return files[open.file].id
    }

    // MARK: Opening and closing

    public mutating func open(_ request: OpenRequest) -> OpenAnswer { open(request, named: nil) }

    /// `name`: what the request's stands for.
    @inline(__always)
    mutating func open(_ request: OpenRequest, named name: Sharing.PlaceName?) -> OpenAnswer {
        let known = slot(request.file)
        if let known {
            if request.name != 0, isPending(known, request.name) { return .deletePending }
            if let other = blocker(known, request.share, besides: request.replaced) { return .sharingViolation(other) }
            guard files[known].count < Self.opensPerFileMax else { return .tooMany }
        }
        let client = slot(client: request.client)
        guard opens.count < Self.opensMax, client.map({ clients[$0].count }) ?? 0 < Self.opensPerClientMax else {
            return .tooMany
        }
        let (file, owner) = (known ?? newFile(request.file), client ?? newClient(request.client))
        let isFirst = files[file].count == 0
        let (ofFile, ofClient) = (files[file].first, clients[owner].first)
        // 2^32 opens of one place go by before a number comes again.
        generation = (generation + 1) & 0xFFFF_FFFF
        let place = opens.next
        let id = OpenID(number: generation << 32 | UInt64(place))
        opens.insertNext(
            Open(
                id: id, name: request.name, client: request.client, leaseKey: request.leaseKey,
                granted: request.granted, share: request.share, isDeleteOnClose: request.isDeleteOnClose,
                file: file, ofClient: owner, nextOfFile: ofFile, previousOfFile: Self.none,
                nextOfClient: ofClient, previousOfClient: Self.none))
        if let name {
            if Int(place) == places.count { places.append(name) } else { places[Int(place)] = name }
        } else if Int(place) == places.count {
            places.append(Self.nowhere)
        }
        if ofFile != Self.none { opens[ofFile].previousOfFile = place }
        if ofClient != Self.none { opens[ofClient].previousOfClient = place }
        files[file].opened(place, request.share)
        clients[owner].opened(place)
        return .opened(id, isFirst: isFirst)
    }

    private mutating func newFile(_ id: FileID) -> UInt32 {
        let place = files.insert(File(id: id, first: Self.none))
        fileSlots.insert(id.mixed, place)
        return place
    }

    private mutating func newClient(_ client: UInt64) -> UInt32 {
        let place = clients.insert(Client(client: client, first: Self.none, count: 0))
        clientSlots.insert(client, place)
        return place
    }

    /// Nil: it is closed already.
    public mutating func close(_ id: OpenID) -> Closed? {
        guard let open = self[id] else { return nil }
        unlink(id.place, open)
        opens.remove(id.place)
        let file = open.file
        if open.isDeleteOnClose { addPending(file, open.name) }
        var removed: UInt64 = 0
        if files[file].hasPending, isPending(file, open.name), !isOpen(file, by: open.name) {
            removed = open.name
            removePending(file, open.name)
        }
        let isLast = files[file].closed(open.share)
        let closed = Closed(file: files[file].id, removedName: removed, isLast: isLast)
        if isLast {
            if files[file].hasPending {
                files[file].hasPending = false
                pending[file] = nil
            }
            if idleFile != file {
                retireFile()
                idleFile = file
            }
        }
        return closed
    }

    /// The one that was idle goes, unless it is in use again.
    private mutating func retireFile() {
        guard idleFile != Self.none, files[idleFile].count == 0 else { return }
        fileSlots.remove(files[idleFile].id.mixed, idleFile)
        files.remove(idleFile)
    }

    private mutating func retireClient() {
        guard idleClient != Self.none, clients[idleClient].count == 0 else { return }
        clientSlots.remove(clients[idleClient].client, idleClient)
        clients.remove(idleClient)
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
        guard clients[client].count == 0, idleClient != client else { return }
        retireClient()
        idleClient = client
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

    /// The directories that names of opens are in, and files with streams.
    var homes: Set<FileID> {
        var homes: Set<FileID> = []
        fileSlots.visitAll { file in
            var place = files[file].first
            while place != Self.none {
                if opens[place].name != 0 { homes.insert(places[Int(place)].directory) }
                place = opens[place].nextOfFile
            }
        }
        return homes
    }

    // MARK: Sharing

    private func blocker(_ file: UInt32, _ share: ShareMode, besides replaced: OpenID? = nil) -> OpenID? {
        let isFree =
            share.access.isDisjoint(with: files[file].denying.some)
            && share.denied.isDisjoint(with: files[file].accessing.some)
        if isFree { return nil }
        var place = files[file].first
        while place != Self.none {
            if opens[place].share.conflicts(with: share), opens[place].id != replaced { return opens[place].id }
            place = opens[place].nextOfFile
        }
        if replaced != nil { return nil }
        preconditionFailure("a file's sums are those of its opens")
    }

    /// The open that forbids such a use of the file: asked for reads, writes, removals and renames that come without an open,
    /// over NFS or an object protocol.
    public func blocker(_ file: FileID, _ access: DataAccess) -> OpenID? {
        guard let known = slot(file) else { return nil }
        return blocker(known, ShareMode(access: access, denied: []))
    }

    /// Whether an open of this kind would be refused by others.
    public func conflicts(_ file: FileID, _ share: ShareMode, besides replaced: OpenID? = nil) -> Bool {
        slot(file).map { blocker($0, share, besides: replaced) != nil } ?? false
    }

    public func isOpen(_ file: FileID) -> Bool { slot(file).map { files[$0].count > 0 } ?? false }

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
        guard name != 0, !isPending(file, name) else { return }
        // One more than the limit would keep its name: the same as if nobody had asked for its removal.
        guard pending[file]?.count ?? 0 < Self.pendingNamesMax else { return }
        pending[file, default: []].append(name)
        files[file].hasPending = true
    }

    @inline(__always)
    private func isPending(_ file: UInt32, _ name: UInt64) -> Bool {
        files[file].hasPending && pending[file]?.contains(name) == true
    }

    private mutating func removePending(_ file: UInt32, _ name: UInt64) {
        guard var names = pending.removeValue(forKey: file) else { return }
        names.removeAll { $0 == name }
        files[file].hasPending = !names.isEmpty
        if !names.isEmpty { pending[file] = names }
    }

    /// The name goes with the last open that came by it, or stays after all (FileDispositionInformation). False: the
    /// open is closed, or too many names wait already.
    public mutating func setDeletePending(_ id: OpenID, _ isPending: Bool) -> Bool {
        guard let open = self[id], open.name != 0 else { return false }
        let file = open.file
        if isPending {
            addPending(file, open.name)
            return self.isPending(file, open.name)
        }
        removePending(file, open.name)
        return true
    }

    /// Whether the name goes with this very open. False: it is closed.
    public mutating func setDeleteOnClose(_ id: OpenID, _ isDeleteOnClose: Bool) -> Bool {
        guard self[id] != nil else { return false }
        opens[id.place].isDeleteOnClose = isDeleteOnClose
        return true
    }

    public func isDeletePending(_ file: FileID, _ name: UInt64) -> Bool {
        slot(file).map { isPending($0, name) } ?? false
    }

    /// The name is another one now: opens and a removal that waits follow it.
    public mutating func rename(_ file: FileID, from name: UInt64, to newName: UInt64) {
        rename(file, from: name, to: newName, nil)
    }

    mutating func rename(_ file: FileID, from name: UInt64, to newName: UInt64, _ newPlace: Sharing.PlaceName?) {
        guard let known = slot(file), name != 0 else { return }
        var place = files[known].first
        while place != Self.none {
            if opens[place].name == name {
                opens[place].name = newName
                places[Int(place)] = newPlace ?? Self.nowhere
            }
            place = opens[place].nextOfFile
        }
        guard isPending(known, name) else { return }
        removePending(known, name)
        addPending(known, newName)
    }

    /// The name was removed by somebody else: its opens live on without it.
    public mutating func unlinked(_ file: FileID, _ name: UInt64) { rename(file, from: name, to: 0) }

    /// A handle that outlived its connection belongs to another one now.
    public mutating func move(_ id: OpenID, to client: UInt64) -> Bool {
        guard let open = self[id] else { return false }
        if open.client == client { return true }
        guard slot(client: client).map({ clients[$0].count }) ?? 0 < Self.opensPerClientMax else { return false }
        leaveClient(open)
        let owner = slot(client: client) ?? newClient(client)
        let after = clients[owner].first
        if after != Self.none { opens[after].previousOfClient = id.place }
        opens[id.place].client = client
        opens[id.place].ofClient = owner
        opens[id.place].nextOfClient = after
        opens[id.place].previousOfClient = Self.none
        clients[owner].opened(id.place)
        return true
    }
}
