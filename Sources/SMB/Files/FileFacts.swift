import Bytes
import Namespace

/// [MS-FSCC] 2.6.
struct FileAttributes: OptionSet, Sendable {
    let rawValue: UInt32
    init(rawValue: UInt32) { self.rawValue = rawValue }
    static let readOnly = FileAttributes(rawValue: 0x1)
    static let hidden = FileAttributes(rawValue: 0x2)
    static let system = FileAttributes(rawValue: 0x4)
    static let directory = FileAttributes(rawValue: 0x10)
    static let archive = FileAttributes(rawValue: 0x20)
    static let normal = FileAttributes(rawValue: 0x80)
    static let temporary = FileAttributes(rawValue: 0x100)
    static let sparse = FileAttributes(rawValue: 0x200)
    static let reparse = FileAttributes(rawValue: 0x400)
    static let offline = FileAttributes(rawValue: 0x1000)
    static let notIndexed = FileAttributes(rawValue: 0x2000)
    /// What a client sets, and the file system keeps for it.
    static let kept: FileAttributes = [.readOnly, .hidden, .system, .archive, .offline, .notIndexed]
    /// What may be said at all when a file is made.
    static let known = FileAttributes(rawValue: 0x7FB7)
}

extension FileType {
    /// As Linux has it in a mode.
    var modeBits: UInt32 {
        switch self {
        case .fifo: 0o010000
        case .characterDevice: 0o020000
        case .directory: 0o040000
        case .blockDevice: 0o060000
        case .file: 0o100000
        case .symlink: 0o120000
        case .socket: 0o140000
        }
    }
}

/// A file's attributes in this protocol's terms.
struct FileFacts {
    let created: UInt64
    let accessed: UInt64
    let written: UInt64
    let changed: UInt64
    let allocated: UInt64
    let size: UInt64
    let attributes: FileAttributes
    let links: UInt32
    let isDirectory: Bool
    let index: UInt64
    let reparseTag: UInt32

    static let symlinkTag: UInt32 = 0xA000_000C
    static let fifoTag: UInt32 = 0x8000_0024
    static let socketTag: UInt32 = 0x8000_0023
    static let characterTag: UInt32 = 0x8000_0025
    static let blockTag: UInt32 = 0x8000_0026

    init(_ file: Attributes) {
        created = NTTime.from(file.born)
        accessed = NTTime.from(file.accessed)
        written = NTTime.from(file.modified)
        changed = NTTime.from(file.shownChange ?? file.changed)
        isDirectory = file.type == .directory
        allocated = isDirectory ? 0 : file.allocated
        size = isDirectory ? 0 : file.size
        links = file.links
        index = file.file.inode
        var bits = FileAttributes(rawValue: file.dos).intersection(FileAttributes.kept.union(.sparse))
        switch file.type {
        case .directory:
            bits.insert(.directory)
            reparseTag = 0
        case .file: reparseTag = 0
        case .symlink:
            bits.insert(.reparse)
            reparseTag = Self.symlinkTag
        case .fifo:
            bits.insert(.reparse)
            reparseTag = Self.fifoTag
        case .socket:
            bits.insert(.reparse)
            reparseTag = Self.socketTag
        case .characterDevice:
            bits.insert(.reparse)
            reparseTag = Self.characterTag
        case .blockDevice:
            bits.insert(.reparse)
            reparseTag = Self.blockTag
        }
        attributes = bits.isEmpty ? .normal : bits
    }

    func writeTimes(into writer: inout Writer) {
        writer.u64LE(created)
        writer.u64LE(accessed)
        writer.u64LE(written)
        writer.u64LE(changed)
    }
}
