import CShim
import Namespace

/// What a file has that the host has no place for, in one extended attribute of it.
///
/// The host's own programs change files without a look at it, so parts of it say for what state of the file they hold: an
/// access list for the mode that was set with it, a seal for a time and a size.
struct HostRecord: Equatable {
    static let name = Array("user.proxyfs.file".utf8)
    static let bytesMax = 64 * 1024
    private static let version: UInt8 = 1
    private static let head = 58

    private struct Flags: OptionSet {
        let rawValue: UInt8
        static let implied = Flags(rawValue: 1)
        static let seal = Flags(rawValue: 2)
        static let born = Flags(rawValue: 4)
        static let acl = Flags(rawValue: 8)
    }

    var isImplied = false
    var dos: UInt32 = 0
    var born: Int64?
    var seal: (value: ContentSeal, modified: Int64, size: UInt64)?
    var acl: (bytes: [UInt8], mode: UInt16)?

    static func == (a: HostRecord, b: HostRecord) -> Bool { a.bytes == b.bytes }

    var isEmpty: Bool { !isImplied && dos == 0 && born == nil && seal == nil && acl == nil }

    var bytes: [UInt8] {
        var flags: Flags = []
        if isImplied { flags.insert(.implied) }
        if seal != nil { flags.insert(.seal) }
        if born != nil { flags.insert(.born) }
        if acl != nil { flags.insert(.acl) }
        var bytes: [UInt8] = [Self.version, flags.rawValue]
        func number<Number: FixedWidthInteger>(_ number: Number) {
            Swift.withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
        }
        number(dos)
        number(born ?? 0)
        number(seal?.value.high ?? 0)
        number(seal?.value.low ?? 0)
        number(seal?.value.parts ?? 0)
        number(seal?.modified ?? 0)
        number(seal?.size ?? 0)
        number(UInt64(acl?.mode ?? 0))
        return bytes + (acl?.bytes ?? [])
    }

    init() {}

    /// What can not be read counts as nothing, but for a list: nobody is let in by the lack of one.
    init(_ bytes: [UInt8]) {
        guard bytes.count >= Self.head, bytes[0] == Self.version else { return }
        let flags = Flags(rawValue: bytes[1])
        func number<Number: FixedWidthInteger>(_ offset: Int) -> Number {
            bytes.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Number.self)) }
        }
        isImplied = flags.contains(.implied)
        dos = number(2)
        if flags.contains(.born) { born = number(6) }
        if flags.contains(.seal) {
            seal = (ContentSeal(high: number(14), low: number(22), parts: number(30)), number(34), number(42))
        }
        if flags.contains(.acl) {
            let mode: UInt64 = number(50)
            acl = (Array(bytes[Self.head...]), UInt16(truncatingIfNeeded: mode & 0o7777))
        }
    }
}

extension Attributes {
    init(_ status: shim_host_status, _ record: HostRecord, subvolume: UInt32) {
        self.init(file: FileID(status, subvolume: subvolume), type: FileType(mode: status.mode))
        mode = UInt16(truncatingIfNeeded: status.mode & 0o7777)
        links = status.links
        uid = status.uid
        gid = status.gid
        size = status.size
        allocated = status.allocated
        major = status.major
        minor = status.minor
        accessed = status.accessed
        modified = status.modified
        changed = status.changed
        born = record.born ?? status.born
        change = UInt64(bitPattern: status.changed)
        dos = record.dos
        if let sealed = record.seal, sealed.modified == status.modified, sealed.size == status.size {
            seal = sealed.value
        }
        isImplied = record.isImplied && type == .directory
        hasACL = record.acl.map { $0.mode == mode } ?? false
    }
}

extension FileID {
    init(_ status: shim_host_status, subvolume: UInt32) {
        self.init(subvolume: subvolume, inode: status.inode, generation: status.generation)
    }
}

extension FileType {
    init(mode: UInt32) {
        self =
            switch mode & 0o170000 {
            case 0o040000: .directory
            case 0o120000: .symlink
            case 0o010000: .fifo
            case 0o140000: .socket
            case 0o020000: .characterDevice
            case 0o060000: .blockDevice
            default: .file
            }
    }

    var modeBits: UInt32 {
        switch self {
        case .directory: 0o040000
        case .symlink: 0o120000
        case .fifo: 0o010000
        case .socket: 0o140000
        case .characterDevice: 0o020000
        case .blockDevice: 0o060000
        case .file: 0o100000
        }
    }
}
