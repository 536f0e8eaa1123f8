import Bytes
import RPC

/// RFC 1813 2.6, `nfs_fh3`: bytes that mean something to us only.
public struct NFS3Handle: XDRMessage {
    public var bytes: UnsafeRawBufferPointer

    public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }
    public init(reading reader: inout Reader) throws(BytesError) {
        bytes = try reader.inPlace(limit: NFS3.handleMax)
    }
    public func write(into writer: inout Writer) { writer.opaque(bytes) }
}

/// RFC 1813 2.6, `nfstime3`.
public struct NFS3Time: XDRMessage, Equatable, Sendable {
    public var seconds: UInt32
    public var nanoseconds: UInt32

    public init(seconds: UInt32, nanoseconds: UInt32) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        seconds = try reader.u32()
        nanoseconds = try reader.u32()
    }
    @inline(__always)
    public func write(into writer: inout Writer) {
        writer.u32(seconds)
        writer.u32(nanoseconds)
    }
}

/// RFC 1813 2.6, `specdata3`.
public struct NFS3Device: XDRMessage, Equatable, Sendable {
    public var major: UInt32
    public var minor: UInt32

    public init(major: UInt32, minor: UInt32) {
        self.major = major
        self.minor = minor
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        major = try reader.u32()
        minor = try reader.u32()
    }
    @inline(__always)
    public func write(into writer: inout Writer) {
        writer.u32(major)
        writer.u32(minor)
    }
}

/// RFC 1813 2.6, `fattr3`.
public struct NFS3Attributes: XDRMessage, Equatable, Sendable {
    public static let bytes = 84

    public var type: NFS3FileType
    public var mode: UInt32
    public var links: UInt32
    public var uid: UInt32
    public var gid: UInt32
    public var size: UInt64
    public var used: UInt64
    public var device: NFS3Device
    public var fileSystem: UInt64
    public var file: UInt64
    public var accessed: NFS3Time
    public var modified: NFS3Time
    public var changed: NFS3Time

    public init(
        type: NFS3FileType, mode: UInt32, links: UInt32, uid: UInt32, gid: UInt32, size: UInt64, used: UInt64,
        device: NFS3Device, fileSystem: UInt64, file: UInt64, accessed: NFS3Time, modified: NFS3Time,
        changed: NFS3Time
    ) {
        self.type = type
        self.mode = mode
        self.links = links
        self.uid = uid
        self.gid = gid
        self.size = size
        self.used = used
        self.device = device
        self.fileSystem = fileSystem
        self.file = file
        self.accessed = accessed
        self.modified = modified
        self.changed = changed
    }

    public init(reading reader: inout Reader) throws(BytesError) {
        type = try reader.enumeration(NFS3FileType.self)
        mode = try reader.u32()
        links = try reader.u32()
        uid = try reader.u32()
        gid = try reader.u32()
        size = try reader.u64()
        used = try reader.u64()
        device = try NFS3Device(reading: &reader)
        fileSystem = try reader.u64()
        file = try reader.u64()
        accessed = try NFS3Time(reading: &reader)
        modified = try NFS3Time(reading: &reader)
        changed = try NFS3Time(reading: &reader)
    }

    @inline(__always)
    public func write(into writer: inout Writer) {
        writer.u32(type.rawValue)
        writer.u32(mode)
        writer.u32(links)
        writer.u32(uid)
        writer.u32(gid)
        writer.u64(size)
        writer.u64(used)
        device.write(into: &writer)
        writer.u64(fileSystem)
        writer.u64(file)
        accessed.write(into: &writer)
        modified.write(into: &writer)
        changed.write(into: &writer)
    }
}

/// RFC 1813 2.6, `wcc_attr`.
public struct NFS3WeakAttributes: XDRMessage, Equatable, Sendable {
    public var size: UInt64
    public var modified: NFS3Time
    public var changed: NFS3Time

    public init(size: UInt64, modified: NFS3Time, changed: NFS3Time) {
        self.size = size
        self.modified = modified
        self.changed = changed
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        size = try reader.u64()
        modified = try NFS3Time(reading: &reader)
        changed = try NFS3Time(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        writer.u64(size)
        modified.write(into: &writer)
        changed.write(into: &writer)
    }
}

/// RFC 1813 2.6, `wcc_data`: a file before and after; a client sees from it whether somebody else came between.
public struct NFS3WeakData: XDRMessage, Equatable, Sendable {
    public var before: NFS3WeakAttributes?
    public var after: NFS3Attributes?

    public init(before: NFS3WeakAttributes? = nil, after: NFS3Attributes? = nil) {
        self.before = before
        self.after = after
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        before = try reader.optional(NFS3WeakAttributes.self)
        after = try reader.optional(NFS3Attributes.self)
    }
    public func write(into writer: inout Writer) {
        writer.optional(before)
        writer.optional(after)
    }
}

/// RFC 1813 2.6, `set_atime` and `set_mtime`.
public enum NFS3SetTime: XDRMessage, Equatable, Sendable {
    case keep
    case serverTime
    case clientTime(NFS3Time)

    public init(reading reader: inout Reader) throws(BytesError) {
        switch try reader.u32() {
        case 0: self = .keep
        case 1: self = .serverTime
        case 2: self = .clientTime(try NFS3Time(reading: &reader))
        default: throw .malformed
        }
    }
    public func write(into writer: inout Writer) {
        switch self {
        case .keep: writer.u32(0)
        case .serverTime: writer.u32(1)
        case .clientTime(let time):
            writer.u32(2)
            time.write(into: &writer)
        }
    }
}

/// RFC 1813 2.6, `sattr3`: nil leaves a value as it is.
public struct NFS3SetAttributes: XDRMessage, Equatable, Sendable {
    public var mode: UInt32?
    public var uid: UInt32?
    public var gid: UInt32?
    public var size: UInt64?
    public var accessed: NFS3SetTime
    public var modified: NFS3SetTime

    public init(
        mode: UInt32? = nil, uid: UInt32? = nil, gid: UInt32? = nil, size: UInt64? = nil,
        accessed: NFS3SetTime = .keep, modified: NFS3SetTime = .keep
    ) {
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.accessed = accessed
        self.modified = modified
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        mode = try reader.bool() ? try reader.u32() : nil
        uid = try reader.bool() ? try reader.u32() : nil
        gid = try reader.bool() ? try reader.u32() : nil
        size = try reader.bool() ? try reader.u64() : nil
        accessed = try NFS3SetTime(reading: &reader)
        modified = try NFS3SetTime(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        for value in [mode, uid, gid] {
            writer.bool(value != nil)
            if let value { writer.u32(value) }
        }
        writer.bool(size != nil)
        if let size { writer.u64(size) }
        accessed.write(into: &writer)
        modified.write(into: &writer)
    }
}

/// RFC 1813 2.6, `diropargs3`: a name in a directory.
public struct NFS3Name: XDRMessage {
    public var directory: NFS3Handle
    public var name: UnsafeRawBufferPointer

    public init(directory: NFS3Handle, name: UnsafeRawBufferPointer) {
        self.directory = directory
        self.name = name
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        directory = try NFS3Handle(reading: &reader)
        name = try reader.inPlace(limit: NFS3.nameMax)
    }
    public func write(into writer: inout Writer) {
        directory.write(into: &writer)
        writer.opaque(name)
    }
}
