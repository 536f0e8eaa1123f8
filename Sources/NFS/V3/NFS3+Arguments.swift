import Bytes
import RPC

/// RFC 1813 3.3.2, `SETATTR3args`.
public struct NFS3SetAttributesArguments: XDRMessage {
    public var object: NFS3Handle
    public var attributes: NFS3SetAttributes
    /// Refused unless the file was last changed at this time.
    public var guardTime: NFS3Time?

    public init(object: NFS3Handle, attributes: NFS3SetAttributes, guardTime: NFS3Time?) {
        self.object = object
        self.attributes = attributes
        self.guardTime = guardTime
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        object = try NFS3Handle(reading: &reader)
        attributes = try NFS3SetAttributes(reading: &reader)
        guardTime = try reader.optional(NFS3Time.self)
    }
    public func write(into writer: inout Writer) {
        object.write(into: &writer)
        attributes.write(into: &writer)
        writer.optional(guardTime)
    }
}

/// RFC 1813 3.3.4, `ACCESS3args`.
public struct NFS3AccessArguments: XDRMessage {
    public var object: NFS3Handle
    public var access: NFS3.Access

    public init(object: NFS3Handle, access: NFS3.Access) {
        self.object = object
        self.access = access
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        object = try NFS3Handle(reading: &reader)
        access = NFS3.Access(rawValue: try reader.u32())
    }
    public func write(into writer: inout Writer) {
        object.write(into: &writer)
        writer.u32(access.rawValue)
    }
}

/// RFC 1813 3.3.6, `READ3args`.
public struct NFS3ReadArguments: XDRMessage {
    public var file: NFS3Handle
    public var offset: UInt64
    public var count: UInt32

    public init(file: NFS3Handle, offset: UInt64, count: UInt32) {
        self.file = file
        self.offset = offset
        self.count = count
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try NFS3Handle(reading: &reader)
        offset = try reader.u64()
        count = try reader.u32()
    }
    public func write(into writer: inout Writer) {
        file.write(into: &writer)
        writer.u64(offset)
        writer.u32(count)
    }
}

/// RFC 1813 3.3.7, `stable_how`.
public enum NFS3Stability: UInt32, Sendable {
    case unstable = 0
    case dataSync, fileSync
}

/// RFC 1813 3.3.7, `WRITE3args`.
public struct NFS3WriteArguments: XDRMessage {
    public var file: NFS3Handle
    public var offset: UInt64
    public var count: UInt32
    public var stability: NFS3Stability
    public var data: UnsafeRawBufferPointer

    public init(
        file: NFS3Handle, offset: UInt64, count: UInt32, stability: NFS3Stability, data: UnsafeRawBufferPointer
    ) {
        self.file = file
        self.offset = offset
        self.count = count
        self.stability = stability
        self.data = data
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try NFS3Handle(reading: &reader)
        offset = try reader.u64()
        count = try reader.u32()
        stability = try reader.enumeration(NFS3Stability.self)
        data = try reader.inPlace(limit: NFS3.dataMax)
    }
    public func write(into writer: inout Writer) {
        file.write(into: &writer)
        writer.u64(offset)
        writer.u32(count)
        writer.u32(stability.rawValue)
        writer.opaque(data)
    }
}

/// RFC 1813 3.3.8, `createhow3`.
public enum NFS3CreateHow: XDRMessage, Sendable {
    case unchecked(NFS3SetAttributes)
    case guarded(NFS3SetAttributes)
    case exclusive(verifier: UInt64)

    public init(reading reader: inout Reader) throws(BytesError) {
        switch try reader.u32() {
        case 0: self = .unchecked(try NFS3SetAttributes(reading: &reader))
        case 1: self = .guarded(try NFS3SetAttributes(reading: &reader))
        case 2: self = .exclusive(verifier: try reader.u64())
        default: throw .malformed
        }
    }
    public func write(into writer: inout Writer) {
        switch self {
        case .unchecked(let attributes):
            writer.u32(0)
            attributes.write(into: &writer)
        case .guarded(let attributes):
            writer.u32(1)
            attributes.write(into: &writer)
        case .exclusive(let verifier):
            writer.u32(2)
            writer.u64(verifier)
        }
    }
}

/// RFC 1813 3.3.8, `CREATE3args`.
public struct NFS3CreateArguments: XDRMessage {
    public var place: NFS3Name
    public var how: NFS3CreateHow

    public init(place: NFS3Name, how: NFS3CreateHow) {
        self.place = place
        self.how = how
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        place = try NFS3Name(reading: &reader)
        how = try NFS3CreateHow(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        place.write(into: &writer)
        how.write(into: &writer)
    }
}

/// RFC 1813 3.3.9, `MKDIR3args`.
public struct NFS3MakeDirectoryArguments: XDRMessage {
    public var place: NFS3Name
    public var attributes: NFS3SetAttributes

    public init(place: NFS3Name, attributes: NFS3SetAttributes) {
        self.place = place
        self.attributes = attributes
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        place = try NFS3Name(reading: &reader)
        attributes = try NFS3SetAttributes(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        place.write(into: &writer)
        attributes.write(into: &writer)
    }
}

/// RFC 1813 3.3.10, `SYMLINK3args`.
public struct NFS3SymlinkArguments: XDRMessage {
    public var place: NFS3Name
    public var attributes: NFS3SetAttributes
    public var target: UnsafeRawBufferPointer

    public init(place: NFS3Name, attributes: NFS3SetAttributes, target: UnsafeRawBufferPointer) {
        self.place = place
        self.attributes = attributes
        self.target = target
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        place = try NFS3Name(reading: &reader)
        attributes = try NFS3SetAttributes(reading: &reader)
        target = try reader.inPlace(limit: NFS3.pathMax)
    }
    public func write(into writer: inout Writer) {
        place.write(into: &writer)
        attributes.write(into: &writer)
        writer.opaque(target)
    }
}

/// RFC 1813 3.3.11, `mknoddata3`.
public enum NFS3Node: XDRMessage, Sendable {
    case characterDevice(NFS3SetAttributes, NFS3Device)
    case blockDevice(NFS3SetAttributes, NFS3Device)
    case socket(NFS3SetAttributes)
    case fifo(NFS3SetAttributes)
    /// Types that have a procedure of their own; they are refused with a status.
    case other(NFS3FileType)

    public init(reading reader: inout Reader) throws(BytesError) {
        switch try reader.enumeration(NFS3FileType.self) {
        case .characterDevice:
            self = .characterDevice(try NFS3SetAttributes(reading: &reader), try NFS3Device(reading: &reader))
        case .blockDevice:
            self = .blockDevice(try NFS3SetAttributes(reading: &reader), try NFS3Device(reading: &reader))
        case .socket: self = .socket(try NFS3SetAttributes(reading: &reader))
        case .fifo: self = .fifo(try NFS3SetAttributes(reading: &reader))
        case let type: self = .other(type)
        }
    }
    public func write(into writer: inout Writer) {
        writer.u32(type.rawValue)
        switch self {
        case .characterDevice(let attributes, let device), .blockDevice(let attributes, let device):
            attributes.write(into: &writer)
            device.write(into: &writer)
        case .socket(let attributes), .fifo(let attributes): attributes.write(into: &writer)
        case .other: break
        }
    }

    public var type: NFS3FileType {
        switch self {
        case .characterDevice: .characterDevice
        case .blockDevice: .blockDevice
        case .socket: .socket
        case .fifo: .fifo
        case .other(let type): type
        }
    }
}

/// RFC 1813 3.3.11, `MKNOD3args`.
public struct NFS3MakeNodeArguments: XDRMessage {
    public var place: NFS3Name
    public var node: NFS3Node

    public init(place: NFS3Name, node: NFS3Node) {
        self.place = place
        self.node = node
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        place = try NFS3Name(reading: &reader)
        node = try NFS3Node(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        place.write(into: &writer)
        node.write(into: &writer)
    }
}

/// RFC 1813 3.3.14, `RENAME3args`.
public struct NFS3RenameArguments: XDRMessage {
    public var from: NFS3Name
    public var to: NFS3Name

    public init(from: NFS3Name, to: NFS3Name) {
        self.from = from
        self.to = to
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        from = try NFS3Name(reading: &reader)
        to = try NFS3Name(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        from.write(into: &writer)
        to.write(into: &writer)
    }
}

/// RFC 1813 3.3.15, `LINK3args`.
public struct NFS3LinkArguments: XDRMessage {
    public var file: NFS3Handle
    public var place: NFS3Name

    public init(file: NFS3Handle, place: NFS3Name) {
        self.file = file
        self.place = place
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try NFS3Handle(reading: &reader)
        place = try NFS3Name(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        file.write(into: &writer)
        place.write(into: &writer)
    }
}

/// RFC 1813 3.3.16, `READDIR3args`.
public struct NFS3ReadDirectoryArguments: XDRMessage {
    public var directory: NFS3Handle
    public var cookie: UInt64
    public var verifier: UInt64
    public var count: UInt32

    public init(directory: NFS3Handle, cookie: UInt64, verifier: UInt64, count: UInt32) {
        self.directory = directory
        self.cookie = cookie
        self.verifier = verifier
        self.count = count
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        directory = try NFS3Handle(reading: &reader)
        cookie = try reader.u64()
        verifier = try reader.u64()
        count = try reader.u32()
    }
    public func write(into writer: inout Writer) {
        directory.write(into: &writer)
        writer.u64(cookie)
        writer.u64(verifier)
        writer.u32(count)
    }
}

/// RFC 1813 3.3.17, `READDIRPLUS3args`.
public struct NFS3ReadDirectoryPlusArguments: XDRMessage {
    public var directory: NFS3Handle
    public var cookie: UInt64
    public var verifier: UInt64
    /// Bytes of names, cookies and file numbers.
    public var directoryCount: UInt32
    /// Bytes of all results.
    public var countMax: UInt32

    public init(directory: NFS3Handle, cookie: UInt64, verifier: UInt64, directoryCount: UInt32, countMax: UInt32) {
        self.directory = directory
        self.cookie = cookie
        self.verifier = verifier
        self.directoryCount = directoryCount
        self.countMax = countMax
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        directory = try NFS3Handle(reading: &reader)
        cookie = try reader.u64()
        verifier = try reader.u64()
        directoryCount = try reader.u32()
        countMax = try reader.u32()
    }
    public func write(into writer: inout Writer) {
        directory.write(into: &writer)
        writer.u64(cookie)
        writer.u64(verifier)
        writer.u32(directoryCount)
        writer.u32(countMax)
    }
}

/// RFC 1813 3.3.21, `COMMIT3args`.
public struct NFS3CommitArguments: XDRMessage {
    public var file: NFS3Handle
    public var offset: UInt64
    public var count: UInt32

    public init(file: NFS3Handle, offset: UInt64, count: UInt32) {
        self.file = file
        self.offset = offset
        self.count = count
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try NFS3Handle(reading: &reader)
        offset = try reader.u64()
        count = try reader.u32()
    }
    public func write(into writer: inout Writer) {
        file.write(into: &writer)
        writer.u64(offset)
        writer.u32(count)
    }
}
