/// In whose name a request is made.
public struct Credential: Equatable, Sendable {
    public static let groupsMax = 65_536
    public static let sidsMax = 1024

    public var uid: UInt32
    public var gid: UInt32
    /// Further groups, sorted, each once.
    public private(set) var groups: [UInt32]
    /// What a domain said of the user beyond numbers, sorted: kept for access lists that name such SIDs.
    public private(set) var sids: [SID]

    /// Groups and SIDs beyond their limits are not kept: they could only have given rights.
    public init(uid: UInt32, gid: UInt32, groups: [UInt32] = [], sids: [SID] = []) {
        self.uid = uid
        self.gid = gid
        self.groups = Self.sorted(groups)
        self.sids =
            sids.count < 2
            ? sids : Set(sids.prefix(Self.sidsMax)).sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    private static func sorted(_ groups: [UInt32]) -> [UInt32] {
        // Most come sorted, and then nothing is copied.
        var isSorted = true
        for index in groups.indices.dropFirst() where groups[index - 1] >= groups[index] { isSorted = false }
        if isSorted, groups.count <= groupsMax { return groups }
        var kept: [UInt32] = []
        for group in groups.sorted() where kept.last != group && kept.count < groupsMax { kept.append(group) }
        return kept
    }

    public static let root = Credential(uid: 0, gid: 0)

    /// Nobody in particular: what root and unknown users are squashed to unless an export says otherwise.
    public static let nobody = Credential(uid: 65534, gid: 65534)

    public func isMember(of group: UInt32) -> Bool {
        if gid == group { return true }
        var low = 0
        var high = groups.count
        while low < high {
            let middle = (low + high) / 2
            if groups[middle] < group { low = middle + 1 } else { high = middle }
        }
        return low < groups.count && groups[low] == group
    }

    /// Whether a SID in its form of the wire is one of the user's.
    func has(_ sid: UnsafeRawBufferPointer) -> Bool {
        sids.contains { own in own.bytes.withUnsafeBytes { $0.elementsEqual(sid) } }
    }
}
