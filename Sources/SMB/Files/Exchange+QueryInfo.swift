import Bytes
import Namespace

/// [MS-FSCC] 2.4, as far as it is asked of a file that is open.
enum FileLevel {
    static let basic: UInt8 = 4
    static let standard: UInt8 = 5
    static let `internal`: UInt8 = 6
    static let ea: UInt8 = 7
    static let access: UInt8 = 8
    static let name: UInt8 = 9
    static let rename: UInt8 = 10
    static let link: UInt8 = 11
    static let disposition: UInt8 = 13
    static let position: UInt8 = 14
    static let fullEA: UInt8 = 15
    static let mode: UInt8 = 16
    static let alignment: UInt8 = 17
    static let all: UInt8 = 18
    static let allocation: UInt8 = 19
    static let endOfFile: UInt8 = 20
    static let alternateName: UInt8 = 21
    static let stream: UInt8 = 22
    static let pipe: UInt8 = 23
    static let pipeLocal: UInt8 = 24
    static let compression: UInt8 = 28
    static let networkOpen: UInt8 = 34
    static let attributeTag: UInt8 = 35
    static let validDataLength: UInt8 = 39
    static let normalizedName: UInt8 = 48
    static let id: UInt8 = 59
    static let dispositionEx: UInt8 = 64
    static let renameEx: UInt8 = 65
    static let stat: UInt8 = 68
    static let statLinux: UInt8 = 70
    static let caseSensitive: UInt8 = 71
}

/// QUERY_INFO ([MS-SMB2] 3.3.5.20).
extension Exchange {
    func queryInfo(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try QueryInfoRequest(reading: element) }
        let open = try open(request.file)
        guard Int(request.outputMax) <= stream?.negotiation.dataMax ?? 0 else { throw .status(.invalidParameter) }
        writer.u16LE(9)
        writer.u16LE(UInt16(Header.bytes + 8))
        let place = writer.reserve(4)
        let start = writer.position
        // What is too long is cut, or refused, by the information's own rule.
        let (status, size) = try withScratch(request) { (scratch) throws(SMBHalt) -> NTStatus in
            switch request.type {
            case 1: try self.queryFile(request, open, &scratch)
            case 2: try self.queryFileSystem(request, open, &scratch)
            case 3: try self.querySecurity(request, open, &scratch)
            case 4: throw .status(.notSupported)
            default: throw .status(.invalidParameter)
            }
        } copy: {
            writer.bytes($0)
        }
        writer.patch(u32LE: UInt32(writer.position - start), at: place)
        _ = size
        return status
    }

    /// What lists there may be take.
    private static func scratchBytes(_ request: QueryInfoRequest) -> Int {
        switch (request.type, request.level) {
        case (1, FileLevel.fullEA): max(Int(request.outputMax), 128 << 10)
        case (1, FileLevel.stream): 1 << 20
        default: 128 << 10
        }
    }

    /// Writes into memory of its own first: the client's may be too small for the whole.
    private func withScratch(
        _ request: QueryInfoRequest, _ body: (inout Writer) throws(SMBHalt) -> NTStatus,
        copy: (UnsafeRawBufferPointer) -> Void
    ) throws(SMBHalt) -> (NTStatus, Int) {
        let block = state.block(Self.scratchBytes(request))
        var scratch = Writer(block.free)
        var status = try body(&scratch)
        guard !scratch.overflowed else { throw .status(.insufficientResources) }
        let size = scratch.position
        let limit = Int(request.outputMax)
        if size > limit {
            // Security says how much it needs.
            if request.type == 3 {
                throw .explained(.bufferTooSmall, data: withUnsafeBytes(of: UInt32(size).littleEndian) { Array($0) })
            }
            let fixed = Self.fixedBytes(request.type, request.level)
            guard limit >= fixed else { throw .status(.infoLengthMismatch) }
            status = .bufferOverflow
        }
        copy(UnsafeRawBufferPointer(rebasing: scratch.written.prefix(limit)))
        return (status, size)
    }

    /// Below this there is no answer at all.
    private static func fixedBytes(_ type: UInt8, _ level: UInt8) -> Int {
        switch (type, level) {
        case (1, FileLevel.all): 104
        case (1, FileLevel.name), (1, FileLevel.alternateName), (1, FileLevel.normalizedName): 8
        case (1, FileLevel.stream): 32
        case (2, 1): 24
        case (2, 5): 16
        default: .max
        }
    }

    // MARK: Files

    private func queryFile(_ request: QueryInfoRequest, _ open: Open, _ writer: inout Writer) throws(SMBHalt)
        -> NTStatus
    {
        if open.volume == nil { return try queryPipe(request, open, &writer) }
        let volume = try volume(open)
        let file = try attributes(open, caller(open), volume)
        let facts = FileFacts(file)
        func needAttributes() throws(SMBHalt) {
            guard open.granted.contains(.readAttributes) else { throw .status(.accessDenied) }
        }
        switch request.level {
        case FileLevel.basic:
            try needAttributes()
            basic(facts, &writer)
        case FileLevel.standard: standard(facts, open, &writer)
        case FileLevel.internal: writer.u64LE(facts.index)
        case FileLevel.ea: writer.u32LE(UInt32(FullEA.bytes(try attributeEntries(open, volume))))
        case FileLevel.access: writer.u32LE(open.granted.rawValue)
        case FileLevel.name:
            throw .status(.notSupported)
        case FileLevel.normalizedName:
            guard stream?.negotiation.dialect == .v311 else { throw .status(.notSupported) }
            try name(open, isAbsolute: false, &writer)
        case FileLevel.position: writer.u64LE(open.position)
        case FileLevel.fullEA: return try queryAttributes(request, open, volume, &writer)
        case FileLevel.mode: writer.u32LE(open.mode)
        case FileLevel.alignment: writer.u32LE(0)
        case FileLevel.all:
            try needAttributes()
            basic(facts, &writer)
            standard(facts, open, &writer)
            writer.u64LE(facts.index)
            writer.u32LE(UInt32(FullEA.bytes(try attributeEntries(open, volume))))
            writer.u32LE(open.granted.rawValue)
            writer.u64LE(open.position)
            writer.u32LE(open.mode)
            writer.u32LE(0)
            try name(open, isAbsolute: true, &writer)
        case FileLevel.alternateName: throw .status(.objectNameNotFound)
        case FileLevel.stream:
            let limit = Int(request.outputMax)
            if try streams(file, facts, open, limit: limit, &writer) { break }
            guard limit >= Self.fixedBytes(request.type, request.level) else { throw .status(.infoLengthMismatch) }
            return .bufferOverflow
        case FileLevel.compression:
            writer.u64LE(facts.size)
            writer.zeros(8)
        case FileLevel.networkOpen:
            try needAttributes()
            facts.writeTimes(into: &writer)
            writer.u64LE(facts.allocated)
            writer.u64LE(facts.size)
            writer.u32LE(facts.attributes.rawValue)
            writer.u32LE(0)
        case FileLevel.attributeTag:
            try needAttributes()
            writer.u32LE(facts.attributes.rawValue)
            writer.u32LE(facts.reparseTag)
        case FileLevel.id:
            writer.u64LE(volume.identity)
            writer.u64LE(facts.index)
            writer.u64LE(file.file.generation)
        case FileLevel.stat, FileLevel.statLinux:
            try needAttributes()
            stat(facts, open, &writer)
            guard request.level == FileLevel.statLinux else { break }
            // All of the six that follow are meant.
            writer.u32LE(0x3F)
            writer.u32LE(file.uid)
            writer.u32LE(file.gid)
            writer.u32LE(file.type.modeBits | UInt32(file.mode))
            writer.u32LE(file.major)
            writer.u32LE(file.minor)
        case FileLevel.caseSensitive: writer.u32LE(0)
        default: throw .status(.invalidInfoClass)
        }
        return .success
    }

    private func basic(_ facts: FileFacts, _ writer: inout Writer) {
        facts.writeTimes(into: &writer)
        writer.u32LE(facts.attributes.rawValue)
        writer.u32LE(0)
    }

    private func stat(_ facts: FileFacts, _ open: Open, _ writer: inout Writer) {
        writer.u64LE(facts.index)
        facts.writeTimes(into: &writer)
        writer.u64LE(facts.allocated)
        writer.u64LE(facts.size)
        writer.u32LE(facts.attributes.rawValue)
        writer.u32LE(facts.reparseTag)
        writer.u32LE(facts.links)
        writer.u32LE(open.granted.rawValue)
    }

    private func standard(_ facts: FileFacts, _ open: Open, _ writer: inout Writer) {
        writer.u64LE(facts.allocated)
        writer.u64LE(facts.size)
        let isGoing = open.held.flatMap { open.volume?.isDeletePending($0) } ?? false
        writer.u32LE(isGoing ? max(facts.links, 1) - 1 : facts.links)
        writer.u8(isGoing ? 1 : 0)
        writer.u8(facts.isDirectory ? 1 : 0)
        writer.u16LE(0)
    }

    private func name(_ open: Open, isAbsolute: Bool, _ writer: inout Writer) throws(SMBHalt) {
        let path = try path(open, try volume(open), caller(open), in: open.tree)
        let place = writer.reserve(4)
        let start = writer.position
        if isAbsolute, path.isEmpty { writer.u16LE(UInt16(UInt8(ascii: "\\"))) }
        for (index, component) in path.enumerated() {
            if index > 0 || isAbsolute { writer.u16LE(UInt16(UInt8(ascii: "\\"))) }
            component.withUnsafeBytes { _ = UTF16Name.write($0, into: &writer) }
        }
        if let stream = open.stream {
            // By now it may have another one.
            let name = open.held.flatMap { open.volume?.name(of: $0)?.name } ?? stream.name
            for unit in (":" + String(decoding: name, as: UTF8.self)).utf16 { writer.u16LE(unit) }
        }
        writer.patch(u32LE: UInt32(writer.position - start), at: place)
    }

    /// Whole entries only. False: there are more than there is room for.
    private func streams(
        _ file: Attributes, _ facts: FileFacts, _ open: Open, limit: Int, _ writer: inout Writer
    ) throws(SMBHalt) -> Bool {
        let volume = try volume(open)
        let caller = caller(open)
        var last: Int?
        func show(_ name: [UInt8], _ stream: FileFacts) -> Bool {
            let units = Array(String(decoding: [UInt8(ascii: ":")] + name, as: UTF8.self).utf16) + ":$DATA".utf16
            let begin = last == nil ? writer.position : (writer.position + 7) & ~7
            guard begin + 24 + units.count * 2 <= limit else { return false }
            if let last {
                writer.align(to: 8)
                writer.patch(u32LE: UInt32(writer.position - last), at: last)
            }
            last = writer.position
            writer.u32LE(0)
            writer.u32LE(UInt32(units.count * 2))
            writer.u64LE(stream.size)
            writer.u64LE(stream.allocated)
            for unit in units { writer.u16LE(unit) }
            return true
        }
        let base = open.stream == nil ? file : try value(volume.attributes(caller, open.subject), volume)
        if base.type != .directory, !show([], FileFacts(base)) { return false }
        var after: [UInt8] = []
        while true {
            let found = try value(
                after.withUnsafeBytes { volume.streams(caller, of: open.subject, after: $0) }, volume)
            guard let end = found.last else { return true }
            for entry in found where !show(entry.name, FileFacts(entry.stream)) { return false }
            after = end.name
        }
    }

    // MARK: File systems

    private func queryFileSystem(
        _ request: QueryInfoRequest, _ open: Open, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        let volume = try volume(open)
        let caller = caller(open)
        let unit: UInt64 = 4096
        switch request.level {
        case 1:
            let root = try value(volume.attributes(caller, open.tree.root ?? volume.root), volume)
            writer.u64LE(NTTime.from(root.born))
            writer.u32LE(UInt32(truncatingIfNeeded: volume.identity))
            let label = Array(open.tree.share.name.utf16)
            writer.u32LE(UInt32(label.count * 2))
            writer.u16LE(0)
            for unit in label { writer.u16LE(unit) }
            writer.zeros(max(0, 24 - writer.position))
        case 3:
            let space = try value(volume.space(caller, at: open.subject), volume)
            writer.u64LE(space.bytes / unit)
            writer.u64LE(space.bytesFree / unit)
            writer.u32LE(UInt32(unit / 512))
            writer.u32LE(512)
        case 4:
            writer.u32LE(7)
            writer.u32LE(0x20)
        case 5:
            // Case-sensitive searches and case-preserving names, Unicode, access lists, sparse files, reparse points; named streams,
            // hard links, extended attributes, shared extents.
            writer.u32LE(0x1 | 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x4_0000 | 0x40_0000 | 0x80_0000 | 0x800_0000)
            writer.u32LE(255)
            let name = Array("NTFS".utf16)
            writer.u32LE(UInt32(name.count * 2))
            for unit in name { writer.u16LE(unit) }
        case 6:
            // Nobody's quota is kept in the way that this speaks of.
            writer.zeros(24)
            writer.u64LE(.max)
            writer.u64LE(.max)
            writer.u64LE(0)
        case 7:
            let space = try value(volume.space(caller, at: open.subject), volume)
            writer.u64LE(space.bytes / unit)
            writer.u64LE(space.bytesFree / unit)
            writer.u64LE(space.bytesFree / unit)
            writer.u32LE(UInt32(unit / 512))
            writer.u32LE(512)
        case 8:
            writer.u64LE(volume.identity)
            writer.u64LE(volume.identity)
            writer.zeros(48)
        case 11:
            writer.u32LE(512)
            writer.u32LE(UInt32(unit))
            writer.u32LE(UInt32(unit))
            writer.u32LE(UInt32(unit))
            // Aligned, and its partition too; what is trimmed is given up.
            writer.u32LE(0xB)
            writer.u32LE(0)
            writer.u32LE(0)
        default: throw .status(.invalidInfoClass)
        }
        return .success
    }

    // MARK: Security

    static let ownerInformation: UInt32 = 1
    static let groupInformation: UInt32 = 2
    static let listInformation: UInt32 = 4
    static let auditInformation: UInt32 = 8

    private func querySecurity(
        _ request: QueryInfoRequest, _ open: Open, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        let volume = try volume(open)
        guard request.additional & Self.auditInformation == 0 else { throw .status(.accessDenied) }
        let asked = request.additional & (Self.ownerInformation | Self.groupInformation | Self.listInformation)
        guard asked == 0 || open.granted.contains(.readACL) else { throw .status(.accessDenied) }
        let file = try value(volume.attributes(caller(open), open.subject), volume)
        let security = FileSecurity(file)
        let users = server.catalog.identities
        // What the open was granted is enough; a stream's is its file's.
        let acl = try value(volume.acl(ownerCaller(open), open.subject), volume)
        var descriptor = SecurityDescriptor(security, acl, users)
        if request.additional & Self.ownerInformation == 0 { descriptor.owner = nil }
        if request.additional & Self.groupInformation == 0 { descriptor.group = nil }
        if request.additional & Self.listInformation == 0 { descriptor.acl = nil }
        descriptor.write(&writer, security, users)
        return .success
    }
}
