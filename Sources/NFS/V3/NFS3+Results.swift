import Bytes
import RPC

/// The results of all procedures but NULL: a status, and what follows it in either case.
public enum NFS3Result<Success: XDRMessage, Failure: XDRMessage>: XDRMessage {
    case ok(Success)
    case failed(NFS3Status, Failure)

    public init(reading reader: inout Reader) throws(BytesError) {
        let status = try reader.enumeration(NFS3Status.self)
        self = status == .ok ? .ok(try Success(reading: &reader)) : .failed(status, try Failure(reading: &reader))
    }
    @inline(__always)
    public func write(into writer: inout Writer) {
        switch self {
        case .ok(let results):
            writer.u32(NFS3Status.ok.rawValue)
            results.write(into: &writer)
        case .failed(let status, let results):
            writer.u32(status.rawValue)
            results.write(into: &writer)
        }
    }

    public var status: NFS3Status {
        switch self {
        case .ok: .ok
        case .failed(let status, _): status
        }
    }
    public var success: Success? {
        if case .ok(let results) = self { results } else { nil }
    }
}

/// The results of each procedure (RFC 1813 3.3).
public enum NFS3Results {
    public typealias GetAttributes = NFS3Result<NFS3Attributes, XDRVoid>
    public typealias SetAttributes = NFS3Result<NFS3WeakData, NFS3WeakData>
    public typealias Lookup = NFS3Result<NFS3LookupResults, NFS3PostAttributes>
    public typealias Access = NFS3Result<NFS3AccessResults, NFS3PostAttributes>
    public typealias ReadLink = NFS3Result<NFS3ReadLinkResults, NFS3PostAttributes>
    public typealias Read = NFS3Result<NFS3ReadResults, NFS3PostAttributes>
    public typealias Write = NFS3Result<NFS3WriteResults, NFS3WeakData>
    /// CREATE, MKDIR, SYMLINK and MKNOD.
    public typealias Create = NFS3Result<NFS3CreateResults, NFS3WeakData>
    /// REMOVE and RMDIR.
    public typealias Remove = NFS3Result<NFS3WeakData, NFS3WeakData>
    public typealias Rename = NFS3Result<NFS3RenameResults, NFS3RenameResults>
    public typealias Link = NFS3Result<NFS3LinkResults, NFS3LinkResults>
    public typealias ReadDirectory = NFS3Result<NFS3ReadDirectoryResults, NFS3PostAttributes>
    public typealias ReadDirectoryPlus = NFS3Result<NFS3ReadDirectoryPlusResults, NFS3PostAttributes>
    public typealias FileSystemStatistics = NFS3Result<NFS3FileSystemStatisticsResults, NFS3PostAttributes>
    public typealias FileSystemInformation = NFS3Result<NFS3FileSystemInformationResults, NFS3PostAttributes>
    public typealias PathConfiguration = NFS3Result<NFS3PathConfigurationResults, NFS3PostAttributes>
    public typealias Commit = NFS3Result<NFS3CommitResults, NFS3WeakData>
}

/// RFC 1813 2.6, `post_op_attr`, where it is all that there is.
public struct NFS3PostAttributes: XDRMessage {
    public var attributes: NFS3Attributes?

    public init(attributes: NFS3Attributes?) {
        self.attributes = attributes
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
    }
}

/// RFC 1813 3.3.3, `LOOKUP3resok`.
public struct NFS3LookupResults: XDRMessage {
    public var object: NFS3Handle
    public var attributes: NFS3Attributes?
    public var directory: NFS3Attributes?

    public init(object: NFS3Handle, attributes: NFS3Attributes?, directory: NFS3Attributes?) {
        self.object = object
        self.attributes = attributes
        self.directory = directory
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        object = try NFS3Handle(reading: &reader)
        attributes = try reader.optional(NFS3Attributes.self)
        directory = try reader.optional(NFS3Attributes.self)
    }
    public func write(into writer: inout Writer) {
        object.write(into: &writer)
        writer.optional(attributes)
        writer.optional(directory)
    }
}

/// RFC 1813 3.3.4, `ACCESS3resok`.
public struct NFS3AccessResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var access: NFS3.Access

    public init(attributes: NFS3Attributes?, access: NFS3.Access) {
        self.attributes = attributes
        self.access = access
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        access = NFS3.Access(rawValue: try reader.u32())
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        writer.u32(access.rawValue)
    }
}

/// RFC 1813 3.3.5, `READLINK3resok`.
public struct NFS3ReadLinkResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var target: UnsafeRawBufferPointer

    public init(attributes: NFS3Attributes?, target: UnsafeRawBufferPointer) {
        self.attributes = attributes
        self.target = target
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        target = try reader.inPlace(limit: NFS3.pathMax)
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        writer.opaque(target)
    }
}

/// RFC 1813 3.3.6, `READ3resok`.
public struct NFS3ReadResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var count: UInt32
    public var isEnd: Bool
    public var data: UnsafeRawBufferPointer

    public init(attributes: NFS3Attributes?, count: UInt32, isEnd: Bool, data: UnsafeRawBufferPointer) {
        self.attributes = attributes
        self.count = count
        self.isEnd = isEnd
        self.data = data
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        count = try reader.u32()
        isEnd = try reader.bool()
        data = try reader.inPlace(limit: NFS3.dataMax)
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        writer.u32(count)
        writer.bool(isEnd)
        writer.opaque(data)
    }
}

/// RFC 1813 3.3.7, `WRITE3resok`.
public struct NFS3WriteResults: XDRMessage {
    public var file: NFS3WeakData
    public var count: UInt32
    public var stability: NFS3Stability
    public var verifier: UInt64

    public init(file: NFS3WeakData, count: UInt32, stability: NFS3Stability, verifier: UInt64) {
        self.file = file
        self.count = count
        self.stability = stability
        self.verifier = verifier
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try NFS3WeakData(reading: &reader)
        count = try reader.u32()
        stability = try reader.enumeration(NFS3Stability.self)
        verifier = try reader.u64()
    }
    public func write(into writer: inout Writer) {
        file.write(into: &writer)
        writer.u32(count)
        writer.u32(stability.rawValue)
        writer.u64(verifier)
    }
}

/// RFC 1813 3.3.8, `CREATE3resok`; 3.3.9 to 3.3.11 the same.
public struct NFS3CreateResults: XDRMessage {
    public var object: NFS3Handle?
    public var attributes: NFS3Attributes?
    public var directory: NFS3WeakData

    public init(object: NFS3Handle?, attributes: NFS3Attributes?, directory: NFS3WeakData) {
        self.object = object
        self.attributes = attributes
        self.directory = directory
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        object = try reader.optional(NFS3Handle.self)
        attributes = try reader.optional(NFS3Attributes.self)
        directory = try NFS3WeakData(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        writer.optional(object)
        writer.optional(attributes)
        directory.write(into: &writer)
    }
}

/// RFC 1813 3.3.14, `RENAME3resok` and `RENAME3resfail`.
public struct NFS3RenameResults: XDRMessage {
    public var from: NFS3WeakData
    public var to: NFS3WeakData

    public init(from: NFS3WeakData, to: NFS3WeakData) {
        self.from = from
        self.to = to
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        from = try NFS3WeakData(reading: &reader)
        to = try NFS3WeakData(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        from.write(into: &writer)
        to.write(into: &writer)
    }
}

/// RFC 1813 3.3.15, `LINK3resok` and `LINK3resfail`.
public struct NFS3LinkResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var directory: NFS3WeakData

    public init(attributes: NFS3Attributes?, directory: NFS3WeakData) {
        self.attributes = attributes
        self.directory = directory
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        directory = try NFS3WeakData(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        directory.write(into: &writer)
    }
}

/// RFC 1813 3.3.16, `entry3`.
public struct NFS3Entry: XDRMessage {
    public var file: UInt64
    public var name: UnsafeRawBufferPointer
    public var cookie: UInt64

    public init(file: UInt64, name: UnsafeRawBufferPointer, cookie: UInt64) {
        self.file = file
        self.name = name
        self.cookie = cookie
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try reader.u64()
        name = try reader.inPlace(limit: NFS3.nameMax)
        cookie = try reader.u64()
    }
    public func write(into writer: inout Writer) {
        writer.u64(file)
        writer.opaque(name)
        writer.u64(cookie)
    }
}

/// RFC 1813 3.3.16, `READDIR3resok`.
public struct NFS3ReadDirectoryResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var verifier: UInt64
    public var entries: [NFS3Entry]
    public var isEnd: Bool

    public init(attributes: NFS3Attributes?, verifier: UInt64, entries: [NFS3Entry], isEnd: Bool) {
        self.attributes = attributes
        self.verifier = verifier
        self.entries = entries
        self.isEnd = isEnd
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        verifier = try reader.u64()
        entries = try reader.list(NFS3Entry.self, limit: NFS3.entriesMax)
        isEnd = try reader.bool()
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        writer.u64(verifier)
        writer.list(entries)
        writer.bool(isEnd)
    }
}

/// RFC 1813 3.3.17, `entryplus3`.
public struct NFS3EntryPlus: XDRMessage {
    public var file: UInt64
    public var name: UnsafeRawBufferPointer
    public var cookie: UInt64
    public var attributes: NFS3Attributes?
    public var handle: NFS3Handle?

    public init(
        file: UInt64, name: UnsafeRawBufferPointer, cookie: UInt64, attributes: NFS3Attributes?, handle: NFS3Handle?
    ) {
        self.file = file
        self.name = name
        self.cookie = cookie
        self.attributes = attributes
        self.handle = handle
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try reader.u64()
        name = try reader.inPlace(limit: NFS3.nameMax)
        cookie = try reader.u64()
        attributes = try reader.optional(NFS3Attributes.self)
        handle = try reader.optional(NFS3Handle.self)
    }
    public func write(into writer: inout Writer) {
        writer.u64(file)
        writer.opaque(name)
        writer.u64(cookie)
        writer.optional(attributes)
        writer.optional(handle)
    }
}

/// RFC 1813 3.3.17, `READDIRPLUS3resok`.
public struct NFS3ReadDirectoryPlusResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var verifier: UInt64
    public var entries: [NFS3EntryPlus]
    public var isEnd: Bool

    public init(attributes: NFS3Attributes?, verifier: UInt64, entries: [NFS3EntryPlus], isEnd: Bool) {
        self.attributes = attributes
        self.verifier = verifier
        self.entries = entries
        self.isEnd = isEnd
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        verifier = try reader.u64()
        entries = try reader.list(NFS3EntryPlus.self, limit: NFS3.entriesMax)
        isEnd = try reader.bool()
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        writer.u64(verifier)
        writer.list(entries)
        writer.bool(isEnd)
    }
}

/// RFC 1813 3.3.18, `FSSTAT3resok`.
public struct NFS3FileSystemStatisticsResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var bytes: UInt64
    public var bytesFree: UInt64
    public var bytesAvailable: UInt64
    public var files: UInt64
    public var filesFree: UInt64
    public var filesAvailable: UInt64
    public var invariantSeconds: UInt32

    public init(
        attributes: NFS3Attributes?, bytes: UInt64, bytesFree: UInt64, bytesAvailable: UInt64, files: UInt64,
        filesFree: UInt64, filesAvailable: UInt64, invariantSeconds: UInt32
    ) {
        self.attributes = attributes
        self.bytes = bytes
        self.bytesFree = bytesFree
        self.bytesAvailable = bytesAvailable
        self.files = files
        self.filesFree = filesFree
        self.filesAvailable = filesAvailable
        self.invariantSeconds = invariantSeconds
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        bytes = try reader.u64()
        bytesFree = try reader.u64()
        bytesAvailable = try reader.u64()
        files = try reader.u64()
        filesFree = try reader.u64()
        filesAvailable = try reader.u64()
        invariantSeconds = try reader.u32()
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        writer.u64(bytes)
        writer.u64(bytesFree)
        writer.u64(bytesAvailable)
        writer.u64(files)
        writer.u64(filesFree)
        writer.u64(filesAvailable)
        writer.u32(invariantSeconds)
    }
}

/// RFC 1813 3.3.19, `FSINFO3resok`.
public struct NFS3FileSystemInformationResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var readMax: UInt32
    public var readPreferred: UInt32
    public var readMultiple: UInt32
    public var writeMax: UInt32
    public var writePreferred: UInt32
    public var writeMultiple: UInt32
    public var directoryPreferred: UInt32
    public var fileSizeMax: UInt64
    public var timeDelta: NFS3Time
    public var properties: NFS3.Properties

    public init(
        attributes: NFS3Attributes?, readMax: UInt32, readPreferred: UInt32, readMultiple: UInt32, writeMax: UInt32,
        writePreferred: UInt32, writeMultiple: UInt32, directoryPreferred: UInt32, fileSizeMax: UInt64,
        timeDelta: NFS3Time, properties: NFS3.Properties
    ) {
        self.attributes = attributes
        self.readMax = readMax
        self.readPreferred = readPreferred
        self.readMultiple = readMultiple
        self.writeMax = writeMax
        self.writePreferred = writePreferred
        self.writeMultiple = writeMultiple
        self.directoryPreferred = directoryPreferred
        self.fileSizeMax = fileSizeMax
        self.timeDelta = timeDelta
        self.properties = properties
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        readMax = try reader.u32()
        readPreferred = try reader.u32()
        readMultiple = try reader.u32()
        writeMax = try reader.u32()
        writePreferred = try reader.u32()
        writeMultiple = try reader.u32()
        directoryPreferred = try reader.u32()
        fileSizeMax = try reader.u64()
        timeDelta = try NFS3Time(reading: &reader)
        properties = NFS3.Properties(rawValue: try reader.u32())
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        writer.u32(readMax)
        writer.u32(readPreferred)
        writer.u32(readMultiple)
        writer.u32(writeMax)
        writer.u32(writePreferred)
        writer.u32(writeMultiple)
        writer.u32(directoryPreferred)
        writer.u64(fileSizeMax)
        timeDelta.write(into: &writer)
        writer.u32(properties.rawValue)
    }
}

/// RFC 1813 3.3.20, `PATHCONF3resok`.
public struct NFS3PathConfigurationResults: XDRMessage {
    public var attributes: NFS3Attributes?
    public var linksMax: UInt32
    public var nameMax: UInt32
    public var refusesLongNames: Bool
    public var restrictsOwners: Bool
    public var ignoresCase: Bool
    public var preservesCase: Bool

    public init(
        attributes: NFS3Attributes?, linksMax: UInt32, nameMax: UInt32, refusesLongNames: Bool, restrictsOwners: Bool,
        ignoresCase: Bool, preservesCase: Bool
    ) {
        self.attributes = attributes
        self.linksMax = linksMax
        self.nameMax = nameMax
        self.refusesLongNames = refusesLongNames
        self.restrictsOwners = restrictsOwners
        self.ignoresCase = ignoresCase
        self.preservesCase = preservesCase
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        attributes = try reader.optional(NFS3Attributes.self)
        linksMax = try reader.u32()
        nameMax = try reader.u32()
        refusesLongNames = try reader.bool()
        restrictsOwners = try reader.bool()
        ignoresCase = try reader.bool()
        preservesCase = try reader.bool()
    }
    public func write(into writer: inout Writer) {
        writer.optional(attributes)
        writer.u32(linksMax)
        writer.u32(nameMax)
        writer.bool(refusesLongNames)
        writer.bool(restrictsOwners)
        writer.bool(ignoresCase)
        writer.bool(preservesCase)
    }
}

/// RFC 1813 3.3.21, `COMMIT3resok`.
public struct NFS3CommitResults: XDRMessage {
    public var file: NFS3WeakData
    public var verifier: UInt64

    public init(file: NFS3WeakData, verifier: UInt64) {
        self.file = file
        self.verifier = verifier
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        file = try NFS3WeakData(reading: &reader)
        verifier = try reader.u64()
    }
    public func write(into writer: inout Writer) {
        file.write(into: &writer)
        writer.u64(verifier)
    }
}
