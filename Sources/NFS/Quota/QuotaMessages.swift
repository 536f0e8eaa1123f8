import Bytes
import RPC

/// Remote quotas (`rquota.x` of SunOS; no RFC has it), versions 1 and 2.
public enum RemoteQuota {
    public static let program: UInt32 = 100_011
    public static let versions: ClosedRange<UInt32> = 1...2
    /// `RQ_PATHLEN`.
    public static let pathMax = 1024
}

/// `rquota.x`; quotas are not set from afar.
public enum QuotaProcedure: UInt32, Sendable, CaseIterable {
    case null = 0
    case getQuota, getActiveQuota
}

/// Of version 2.
public enum QuotaKind: UInt32, Sendable {
    case user = 0
    case group
}

/// `rquota.x`, `getquota_args`.
public struct QuotaArguments: XDRMessage {
    public var path: UnsafeRawBufferPointer
    public var uid: UInt32

    public init(path: UnsafeRawBufferPointer, uid: UInt32) {
        self.path = path
        self.uid = uid
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        path = try reader.inPlace(limit: RemoteQuota.pathMax)
        uid = try reader.u32()
    }
    public func write(into writer: inout Writer) {
        writer.opaque(path)
        writer.u32(uid)
    }
}

/// `rquota.x`, `ext_getquota_args`.
public struct QuotaArgumentsV2: XDRMessage {
    public var path: UnsafeRawBufferPointer
    public var kind: QuotaKind
    public var id: UInt32

    public init(path: UnsafeRawBufferPointer, kind: QuotaKind, id: UInt32) {
        self.path = path
        self.kind = kind
        self.id = id
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        path = try reader.inPlace(limit: RemoteQuota.pathMax)
        kind = try reader.enumeration(QuotaKind.self)
        id = try reader.u32()
    }
    public func write(into writer: inout Writer) {
        writer.opaque(path)
        writer.u32(kind.rawValue)
        writer.u32(id)
    }
}

/// `rquota.x`, `sq_dqblk`, in blocks of the size that the server names.
public struct QuotaLimits: XDRMessage {
    public var blocksHard: UInt32
    public var blocksSoft: UInt32
    public var blocks: UInt32
    public var filesHard: UInt32
    public var filesSoft: UInt32
    public var files: UInt32
    public var blocksTime: UInt32
    public var filesTime: UInt32

    public init(
        blocksHard: UInt32, blocksSoft: UInt32, blocks: UInt32, filesHard: UInt32, filesSoft: UInt32, files: UInt32,
        blocksTime: UInt32, filesTime: UInt32
    ) {
        self.blocksHard = blocksHard
        self.blocksSoft = blocksSoft
        self.blocks = blocks
        self.filesHard = filesHard
        self.filesSoft = filesSoft
        self.files = files
        self.blocksTime = blocksTime
        self.filesTime = filesTime
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        blocksHard = try reader.u32()
        blocksSoft = try reader.u32()
        blocks = try reader.u32()
        filesHard = try reader.u32()
        filesSoft = try reader.u32()
        files = try reader.u32()
        blocksTime = try reader.u32()
        filesTime = try reader.u32()
    }
    public func write(into writer: inout Writer) {
        writer.u32(blocksHard)
        writer.u32(blocksSoft)
        writer.u32(blocks)
        writer.u32(filesHard)
        writer.u32(filesSoft)
        writer.u32(files)
        writer.u32(blocksTime)
        writer.u32(filesTime)
    }
}

/// `rquota.x`, `rquota`.
public struct QuotaReport: XDRMessage {
    public var blockSize: UInt32
    public var isActive: Bool
    public var limits: QuotaLimits

    public init(blockSize: UInt32, isActive: Bool, limits: QuotaLimits) {
        self.blockSize = blockSize
        self.isActive = isActive
        self.limits = limits
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        blockSize = try reader.u32()
        isActive = try reader.bool()
        limits = try QuotaLimits(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        writer.u32(blockSize)
        writer.bool(isActive)
        limits.write(into: &writer)
    }
}

/// `rquota.x`, `getquota_rslt`.
public enum QuotaResult: XDRMessage {
    case ok(QuotaReport)
    case noQuota
    case notPermitted

    public init(reading reader: inout Reader) throws(BytesError) {
        switch try reader.u32() {
        case 1: self = .ok(try QuotaReport(reading: &reader))
        case 2: self = .noQuota
        case 3: self = .notPermitted
        default: throw .malformed
        }
    }
    public func write(into writer: inout Writer) {
        switch self {
        case .ok(let report):
            writer.u32(1)
            report.write(into: &writer)
        case .noQuota: writer.u32(2)
        case .notPermitted: writer.u32(3)
        }
    }
}
