/// In whose name a request is made.
public struct Credential: Equatable, Sendable {
    public var uid: UInt32
    public var gid: UInt32
    /// Further groups, sorted.
    public var groups: [UInt32]

    public init(uid: UInt32, gid: UInt32, groups: [UInt32] = []) {
        self.uid = uid
        self.gid = gid
        self.groups = groups
    }

    public static let root = Credential(uid: 0, gid: 0)

    /// Nobody in particular: what root and unknown users are squashed to unless an export says otherwise.
    public static let nobody = Credential(uid: 65534, gid: 65534)

    public func isMember(of group: UInt32) -> Bool { gid == group || groups.contains(group) }
}
