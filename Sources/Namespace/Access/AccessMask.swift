/// Rights to one file: NT's access mask, whose bits are NFSv4's, too (RFC 8881 6.2.1.3.1, [MS-DTYP] 2.4.3).
public struct AccessMask: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Of a directory: list it.
    public static let readData = AccessMask(rawValue: 0x1)
    /// Of a directory: add files.
    public static let writeData = AccessMask(rawValue: 0x2)
    /// Of a directory: add directories.
    public static let appendData = AccessMask(rawValue: 0x4)
    public static let readNamedAttributes = AccessMask(rawValue: 0x8)
    public static let writeNamedAttributes = AccessMask(rawValue: 0x10)
    /// Of a directory: look names up.
    public static let execute = AccessMask(rawValue: 0x20)
    public static let deleteChild = AccessMask(rawValue: 0x40)
    public static let readAttributes = AccessMask(rawValue: 0x80)
    public static let writeAttributes = AccessMask(rawValue: 0x100)
    public static let delete = AccessMask(rawValue: 0x1_0000)
    public static let readACL = AccessMask(rawValue: 0x2_0000)
    public static let writeACL = AccessMask(rawValue: 0x4_0000)
    public static let writeOwner = AccessMask(rawValue: 0x8_0000)
    public static let synchronize = AccessMask(rawValue: 0x10_0000)
    public static let all = AccessMask(rawValue: 0x1F_01FF)

    /// Rights by which something is changed.
    public static let changes: AccessMask = [
        .writeData, .appendData, .writeNamedAttributes, .deleteChild, .writeAttributes, .delete, .writeACL, .writeOwner,
    ]

    /// What everybody may who has got as far as the file: protocols answer `stat` to all.
    static let always: AccessMask = [.readAttributes, .synchronize]
    /// What goes without saying for an owner.
    static let ofOwner: AccessMask = [.readACL, .writeACL]

    static let genericRead: AccessMask = [.readData, .readAttributes, .readNamedAttributes, .readACL, .synchronize]
    static let genericWrite: AccessMask = [
        .writeData, .appendData, .writeAttributes, .writeNamedAttributes, .readACL, .synchronize,
    ]
    static let genericExecute: AccessMask = [.execute, .readAttributes, .readACL, .synchronize]

    /// From the wire of SMB: generic rights become those that files have ([MS-DTYP] 2.4.3), unknown bits go.
    public init(generic wire: UInt32) {
        var mask = AccessMask(rawValue: wire).intersection(.all)
        if wire & 0x8000_0000 != 0 { mask.formUnion(.genericRead) }
        if wire & 0x4000_0000 != 0 { mask.formUnion(.genericWrite) }
        if wire & 0x2000_0000 != 0 { mask.formUnion(.genericExecute) }
        if wire & 0x1000_0000 != 0 { mask = .all }
        self = mask
    }

    /// What one of the three digits of a mode grants.
    init(digit: UInt16, isDirectory: Bool) {
        var mask: AccessMask = []
        if digit & 4 != 0 { mask.formUnion([.readData, .readNamedAttributes]) }
        if digit & 2 != 0 {
            mask.formUnion([.writeData, .appendData, .writeNamedAttributes, .writeAttributes])
            if isDirectory { mask.insert(.deleteChild) }
        }
        if digit & 1 != 0 { mask.insert(.execute) }
        self = mask
    }

    /// The digit that says most of these rights and nothing beyond them.
    var digit: UInt16 {
        (contains(.readData) ? 4 : 0) | (isSuperset(of: [.writeData, .appendData]) ? 2 : 0)
            | (contains(.execute) ? 1 : 0)
    }
}
