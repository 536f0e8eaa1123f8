import Bytes
import RPC

/// MOUNT (RFC 1813 5, version 3; RFC 1094 appendix A, versions 1 and 2).
public enum Mount {
    public static let program: UInt32 = 100_005
    public static let versions: ClosedRange<UInt32> = 1...3
    /// `MNTPATHLEN`, `MNTNAMLEN`, `FHSIZE`.
    public static let pathMax = 1024
    public static let nameMax = 255
    public static let handleBytesV1 = 32
    public static let handleMax = NFS3.handleMax
    public static let flavorsMax = 16
    /// What a client of ours takes.
    public static let listMax = 65_536
}

/// RFC 1813 5.2.
public enum MountProcedure: UInt32, Sendable {
    case null = 0
    case mount, dump, unmount, unmountAll, export
    /// Versions 1 and 2.
    case exportAll
    /// Version 2.
    case pathConfiguration
}

/// RFC 1813 5.1.5, `mountstat3`.
public enum MountStatus: UInt32, Error, Sendable, CaseIterable {
    case ok = 0
    case notPermitted = 1
    case noEntry = 2
    case inputOutput = 5
    case access = 13
    case notDirectory = 20
    case invalid = 22
    case nameTooLong = 63
    case notSupported = 10004
    case serverFault = 10006
}

/// RFC 1813 5.1.4, `dirpath`.
public struct MountPath: XDRMessage {
    public var path: UnsafeRawBufferPointer

    public init(path: UnsafeRawBufferPointer) {
        self.path = path
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        path = try reader.inPlace(limit: Mount.pathMax)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(path)
    }
}

/// RFC 1813 5.1.3: numbers of security flavors.
public struct MountFlavor: XDRMessage, Equatable, Sendable {
    public var number: UInt32

    public init(_ number: UInt32) { self.number = number }
    public init(reading reader: inout Reader) throws(BytesError) { number = try reader.u32() }
    public func write(into writer: inout Writer) { writer.u32(number) }
}

/// RFC 1813 5.2.1, `mountres3`.
public enum MountResult: XDRMessage {
    case ok(handle: UnsafeRawBufferPointer, flavors: [MountFlavor])
    case failed(MountStatus)

    public init(reading reader: inout Reader) throws(BytesError) {
        let status = try reader.enumeration(MountStatus.self)
        guard status == .ok else {
            self = .failed(status)
            return
        }
        let handle = try reader.inPlace(limit: Mount.handleMax)
        self = .ok(handle: handle, flavors: try reader.array(MountFlavor.self, limit: Mount.flavorsMax))
    }
    public func write(into writer: inout Writer) {
        switch self {
        case .ok(let handle, let flavors):
            writer.u32(MountStatus.ok.rawValue)
            writer.opaque(handle)
            writer.array(flavors)
        case .failed(let status): writer.u32(status.rawValue)
        }
    }
}

/// RFC 1094 A.4.1, `fhstatus`: an error number of Unix, or a handle of fixed length.
public enum MountResultV1: XDRMessage {
    case ok(handle: UnsafeRawBufferPointer)
    case failed(errno: UInt32)

    public init(reading reader: inout Reader) throws(BytesError) {
        let status = try reader.u32()
        self = status == 0 ? .ok(handle: try reader.inPlace(fixed: Mount.handleBytesV1)) : .failed(errno: status)
    }
    public func write(into writer: inout Writer) {
        switch self {
        case .ok(let handle):
            writer.u32(0)
            writer.opaque(fixed: handle)
        case .failed(let errno): writer.u32(errno)
        }
    }
}

/// RFC 1813 5.2.2, `mountbody`: who has mounted what.
public struct MountEntry: XDRMessage {
    public var host: UnsafeRawBufferPointer
    public var directory: UnsafeRawBufferPointer

    public init(host: UnsafeRawBufferPointer, directory: UnsafeRawBufferPointer) {
        self.host = host
        self.directory = directory
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        host = try reader.inPlace(limit: Mount.nameMax)
        directory = try reader.inPlace(limit: Mount.pathMax)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(host)
        writer.opaque(directory)
    }
}

/// RFC 1813 5.2.2, `mountlist`.
public struct MountList: XDRMessage {
    public var entries: [MountEntry]

    public init(entries: [MountEntry]) {
        self.entries = entries
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        entries = try reader.list(MountEntry.self, limit: Mount.listMax)
    }
    public func write(into writer: inout Writer) {
        writer.list(entries)
    }
}

/// RFC 1813 5.2.5, `groupnode`: who may mount it.
public struct MountGroup: XDRMessage {
    public var name: UnsafeRawBufferPointer

    public init(name: UnsafeRawBufferPointer) {
        self.name = name
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        name = try reader.inPlace(limit: Mount.nameMax)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(name)
    }
}

/// RFC 1813 5.2.5, `exportnode`.
public struct MountExport: XDRMessage {
    public var directory: UnsafeRawBufferPointer
    public var groups: [MountGroup]

    public init(directory: UnsafeRawBufferPointer, groups: [MountGroup]) {
        self.directory = directory
        self.groups = groups
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        directory = try reader.inPlace(limit: Mount.pathMax)
        groups = try reader.list(MountGroup.self, limit: Mount.listMax)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(directory)
        writer.list(groups)
    }
}

/// RFC 1813 5.2.5, `exports`.
public struct MountExports: XDRMessage {
    public var entries: [MountExport]

    public init(entries: [MountExport]) {
        self.entries = entries
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        entries = try reader.list(MountExport.self, limit: Mount.listMax)
    }
    public func write(into writer: inout Writer) {
        writer.list(entries)
    }
}
