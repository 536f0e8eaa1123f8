import Runtime

/// That an open is to be found again by its client after a restart of the server: it is kept with the volume if it is granted a
/// lease of handles or a batch oplock, as its client can not be away without one.
public struct KeepWish: Equatable, Sendable {
    public static let detailsBytesMax = 4096

    /// By which the client names it; no other open of the volume ever has it.
    public var number: UInt64
    /// So long it waits for its client after a start.
    public var milliseconds: UInt32
    /// What its protocol knows of it besides.
    public var details: [UInt8]

    public init(number: UInt64, milliseconds: UInt32, details: [UInt8]) {
        self.number = number
        self.milliseconds = milliseconds
        self.details = details
    }

    var name: [UInt8] { Self.name(number) }

    static func name(_ number: UInt64) -> [UInt8] {
        let digits = String(number, radix: 16)
        return Array((VolumeSettings.handles + String(repeating: "0", count: 16 - digits.count) + digits).utf8)
    }
}

/// An open of before a restart whose client has not come yet. It excludes what it always did.
public struct AwaitedOpen: Sendable {
    public var handle: OpenHandle
    public var wish: KeepWish
    /// Of a named stream: the file that it belongs to, and its name.
    public var stream: (base: FileID, name: [UInt8])?
    public var lease: LeaseKey
}

/// Which opens a volume keeps, and which of those it kept nobody has come for yet.
struct KeptOpens {
    static let countMax = 65_536

    struct Entry {
        var wish: KeepWish
        var handle: OpenHandle
        /// As the record has it.
        var lease: LeaseState
    }

    private var entries: [OpenID: Entry] = [:]
    private var awaited: [UInt64: AwaitedOpen] = [:]
    private var lastOrder: UInt64 = 0

    var hasRoom: Bool { entries.count < Self.countMax }
    @inline(__always) var isEmpty: Bool { entries.isEmpty }
    subscript(id: OpenID) -> Entry? { entries.isEmpty ? nil : entries[id] }

    mutating func nextOrder() -> UInt64 {
        lastOrder += 1
        return lastOrder
    }

    mutating func add(_ entry: Entry) { entries[entry.handle.id] = entry }

    /// It is closed, or not to be kept any longer. Answers the number of its record, if it has one.
    @inline(__always)
    mutating func remove(_ id: OpenID) -> UInt64? {
        if entries.isEmpty { return nil }
        guard let entry = entries.removeValue(forKey: id) else { return nil }
        awaited[entry.wish.number] = nil
        return entry.wish.number
    }

    // MARK: After a restart

    /// `order` is that of its record.
    mutating func restore(_ open: AwaitedOpen, _ lease: LeaseState, order: UInt64) {
        lastOrder = max(lastOrder, order)
        entries[open.handle.id] = Entry(wish: open.wish, handle: open.handle, lease: lease)
        awaited[open.wish.number] = open
    }

    func awaited(_ number: UInt64) -> AwaitedOpen? { awaited.isEmpty ? nil : awaited[number] }

    mutating func take(_ number: UInt64) -> AwaitedOpen? { awaited.removeValue(forKey: number) }

    mutating func takeAll(_ key: LeaseKey) -> [AwaitedOpen] {
        let all = awaited.values.filter { $0.lease == key }
        for open in all { awaited[open.wish.number] = nil }
        return all
    }
}
