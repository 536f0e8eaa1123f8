/// An open as its volume keeps it, so that its client finds it again after a restart of the server.
struct KeptOpen: Equatable, Sendable {
    static let version: UInt8 = 1
    /// A handle with more of them is not found again.
    static let locksMax = 1024
    private static let nameBytesMax = 4096

    struct Lease: Equatable, Sendable {
        var key: LeaseKey
        var kind: LeaseKind
        var state: LeaseState
        var epoch: UInt16
        var hasEpoch: Bool
    }

    struct Lock: Equatable, Sendable {
        var range: LockRange
        var mode: LockMode
    }

    var wish: KeepWish
    /// Later ones have higher numbers: what two records say of leases that can not stand side by side, the later one knows.
    var order: UInt64
    var file: FileID
    /// By which it was open when the record was made; renames are found out.
    var place: Sharing.PlaceName?
    var client: UInt64
    var granted: AccessMask
    var share: ShareMode
    var isDeleteOnClose: Bool
    var isDeletePending: Bool
    var lease: Lease
    var locks: [Lock]

    // MARK: Form

    func record() -> [UInt8] {
        var writer = RecordWriter(version: Self.version)
        writer.number(wish.number)
        writer.number(wish.milliseconds)
        writer.bytes(wish.details)
        writer.number(order)
        writer.file(file)
        writer.number(UInt8(place == nil ? 0 : place?.isStream == true ? 2 : 1))
        if let place {
            writer.file(place.directory)
            writer.bytes(place.name)
        }
        writer.number(client)
        writer.number(granted.rawValue)
        writer.number(share.access.rawValue)
        writer.number(share.denied.rawValue)
        writer.flag(isDeleteOnClose)
        writer.flag(isDeletePending)
        writer.number(lease.key.client)
        writer.number(lease.key.key)
        writer.number(lease.kind.rawValue)
        writer.number(lease.state.rawValue)
        writer.number(lease.epoch)
        writer.flag(lease.hasEpoch)
        writer.list(locks) { writer, lock in
            writer.number(lock.range.first)
            writer.number(lock.range.last)
            writer.flag(lock.range.isVoid)
            writer.number(lock.mode.rawValue)
        }
        return writer.bytes
    }

    init(record: [UInt8]) throws(RecordFault) {
        var reader = try RecordReader(record, version: Self.version)
        wish = KeepWish(
            number: try reader.number(), milliseconds: try reader.number(),
            details: try reader.bytes(limit: KeepWish.detailsBytesMax))
        order = try reader.number()
        file = try reader.file()
        switch try reader.number(UInt8.self) {
        case 0: place = nil
        case 1:
            place = Sharing.PlaceName(directory: try reader.file(), name: try reader.bytes(limit: Self.nameBytesMax))
        case 2:
            place = Sharing.PlaceName(
                directory: try reader.file(), name: try reader.bytes(limit: Self.nameBytesMax), isStream: true)
        default: throw .malformed
        }
        client = try reader.number()
        granted = AccessMask(rawValue: try reader.number()).intersection(.all)
        share = ShareMode(
            access: DataAccess(rawValue: try reader.number()).intersection(.all),
            denied: DataAccess(rawValue: try reader.number()).intersection(.all))
        isDeleteOnClose = try reader.flag()
        isDeletePending = try reader.flag()
        let key = LeaseKey(client: try reader.number(), key: try reader.number())
        guard let kind = LeaseKind(rawValue: try reader.number()) else { throw .malformed }
        lease = Lease(
            key: key, kind: kind, state: LeaseState(rawValue: try reader.number()).normal,
            epoch: try reader.number(), hasEpoch: try reader.flag())
        locks = try reader.list(limit: Self.locksMax) { (reader) throws(RecordFault) in
            let (first, last, isVoid) = (
                try reader.number(UInt64.self), try reader.number(UInt64.self), try reader.flag()
            )
            guard let range = LockRange(recorded: first, last, isVoid: isVoid),
                let mode = LockMode(rawValue: try reader.number())
            else { throw .malformed }
            return Lock(range: range, mode: mode)
        }
        try reader.finish()
    }

    init(
        _ wish: KeepWish, order: UInt64, _ open: OpenTable.Open, _ handle: OpenHandle, _ place: Sharing.PlaceName?,
        isDeletePending: Bool, _ lease: Lease, _ locks: [Lock]
    ) {
        self.wish = wish
        self.order = order
        file = handle.file
        self.place = place
        client = handle.client
        granted = handle.granted
        share = open.share
        isDeleteOnClose = open.isDeleteOnClose
        self.isDeletePending = isDeletePending
        self.lease = lease
        self.locks = locks
    }
}

extension RecordWriter {
    mutating func file(_ file: FileID) {
        number(file.subvolume)
        number(file.inode)
        number(file.generation)
    }
}

extension RecordReader {
    mutating func file() throws(RecordFault) -> FileID {
        FileID(subvolume: try number(), inode: try number(), generation: try number())
    }
}
