/// Numbers of [MS-SMB2] that more than one message knows.
package enum SMB2 {
    /// 0xFE 'S' 'M' 'B'.
    static let protocolID: UInt32 = 0x424D_53FE
    /// 0xFD 'S' 'M' 'B': encrypted.
    static let transformID: UInt32 = 0x424D_53FD
    /// 0xFF 'S' 'M' 'B': the first protocol of this name, of which only the negotiation is read.
    static let oldID: UInt32 = 0x424D_53FF

    /// Of data in one READ or WRITE, and of one answer to a query ([MS-SMB2] 3.3.5.4, MaxTransactSize and its like).
    package static let dataMax = 8 << 20
    /// The dialect 2.0.2 has no requests of more than one credit.
    package static let singleCreditMax = 64 << 10
    /// One message and what lies around its data.
    package static let messageMax = dataMax + (64 << 10)
    /// Elements of one compound.
    package static let elementsMax = 256
    /// Bytes of UTF-16 in a path.
    package static let pathBytesMax = 32_766 * 2
    /// Bytes of UTF-16 in a component ([MS-FSCC] 2.1.5.1).
    package static let componentUnitsMax = 255
    /// Of a security blob.
    package static let tokenMax = 60 << 10
    static let contextsMax = 32
    package static let dialectsMax = 64
    package static let locksMax = 64 << 10 / 24

    /// The tree of a message that names none.
    static let noTree = UInt32.max
}

/// [MS-SMB2] 2.2.1.2, Command.
package enum Command: UInt16, Sendable, CaseIterable {
    case negotiate, sessionSetup, logoff, treeConnect, treeDisconnect, create, close, flush, read, write, lock, ioctl
    case cancel, echo, queryDirectory, changeNotify, queryInfo, setInfo, oplockBreak
}

/// [MS-SMB2] 2.2.3, Dialects.
package enum Dialect: UInt16, Sendable, Comparable {
    case v202 = 0x0202
    case v210 = 0x0210
    case v300 = 0x0300
    case v302 = 0x0302
    case v311 = 0x0311
    /// Not one of them: "whichever you say", in the answer to the old negotiation.
    package static let wildcard: UInt16 = 0x02FF

    package static func < (a: Dialect, b: Dialect) -> Bool { a.rawValue < b.rawValue }
    var isThree: Bool { self >= .v300 }
}

package struct Capabilities: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    static let dfs = Capabilities(rawValue: 1)
    static let leasing = Capabilities(rawValue: 2)
    static let largeMTU = Capabilities(rawValue: 4)
    static let multiChannel = Capabilities(rawValue: 8)
    static let persistentHandles = Capabilities(rawValue: 0x10)
    static let directoryLeasing = Capabilities(rawValue: 0x20)
    static let encryption = Capabilities(rawValue: 0x40)
}

package struct SecurityMode: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    static let signingEnabled = SecurityMode(rawValue: 1)
    static let signingRequired = SecurityMode(rawValue: 2)
}

/// [MS-SMB2] 2.2.14.1.
package struct FileHandle: Hashable, Sendable {
    package var persistent: UInt64
    package var volatile: UInt64

    package init(persistent: UInt64, volatile: UInt64) {
        self.persistent = persistent
        self.volatile = volatile
    }

    /// In a related element: the file of the element before.
    package static let previous = FileHandle(persistent: .max, volatile: .max)
    package static let none = FileHandle(persistent: 0, volatile: 0)
}
