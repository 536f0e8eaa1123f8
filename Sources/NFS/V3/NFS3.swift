import Bytes
import RPC

/// NFS version 3 (RFC 1813).
public enum NFS3 {
    public static let program: UInt32 = 100_003
    public static let version: UInt32 = 3
    /// `NFS3_FHSIZE`.
    public static let handleMax = 64
    /// `NFS3_COOKIEVERFSIZE`, `NFS3_CREATEVERFSIZE`, `NFS3_WRITEVERFSIZE`: all the size of a `UInt64`.
    public static let verifierBytes = 8
    /// Longest names and paths that are read off the wire. What a file system takes is less, and is told with a status
    /// of the protocol instead of one of RPC.
    public static let nameMax = 4096
    public static let pathMax = 8192
    /// Data in one READ or WRITE.
    public static let dataMax = 1 << 20
    /// Entries that a client of ours takes from one listing.
    public static let entriesMax = 1 << 16

    /// RFC 1813 3.3.4, the bits of ACCESS.
    public struct Access: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let read = Access(rawValue: 0x01)
        public static let lookup = Access(rawValue: 0x02)
        public static let modify = Access(rawValue: 0x04)
        public static let extend = Access(rawValue: 0x08)
        public static let delete = Access(rawValue: 0x10)
        public static let execute = Access(rawValue: 0x20)
    }

    /// RFC 1813 3.3.19, `properties`.
    public struct Properties: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let hardLinks = Properties(rawValue: 0x01)
        public static let symbolicLinks = Properties(rawValue: 0x02)
        /// PATHCONF says the same for all files.
        public static let isHomogeneous = Properties(rawValue: 0x08)
        public static let canSetTime = Properties(rawValue: 0x10)
    }
}

/// RFC 1813 2.6, `nfsstat3`.
public enum NFS3Status: UInt32, Error, Sendable, CaseIterable {
    case ok = 0
    case notOwner = 1
    case noEntry = 2
    case inputOutput = 5
    case noDevice = 6
    case access = 13
    case exists = 17
    case crossDevice = 18
    case noSuchDevice = 19
    case notDirectory = 20
    case isDirectory = 21
    case invalid = 22
    case fileTooBig = 27
    case noSpace = 28
    case readOnly = 30
    case tooManyLinks = 31
    case nameTooLong = 63
    case notEmpty = 66
    case quota = 69
    case stale = 70
    case remote = 71
    case badHandle = 10001
    case notSynchronized = 10002
    case badCookie = 10003
    case notSupported = 10004
    case tooSmall = 10005
    case serverFault = 10006
    case badType = 10007
    case jukebox = 10008
}

/// RFC 1813 2.6, `ftype3`.
public enum NFS3FileType: UInt32, Sendable {
    case regular = 1
    case directory, blockDevice, characterDevice, symlink, socket, fifo
}

extension Reader {
    /// An enumeration: any value that it does not have is malformed.
    @inline(__always)
    @_lifetime(self: copy self)
    mutating func enumeration<Value: RawRepresentable<UInt32>>(_ type: Value.Type) throws(BytesError) -> Value {
        guard let value = Value(rawValue: try u32()) else { throw .malformed }
        return value
    }
}
