import Bytes

/// The list of shares ([MS-SRVS]), as much of it as programs ask for.
struct Srvsvc {
    /// 4b324fc8-1670-01d3-1278-5a47bf6ee188, version 3.
    static let interface: [UInt8] = [
        0xC8, 0x4F, 0x32, 0x4B, 0x70, 0x16, 0xD3, 0x01, 0x12, 0x78, 0x5A, 0x47, 0xBF, 0x6E, 0xE1, 0x88, 3, 0, 0, 0,
    ]

    private enum Operation {
        static let enumerateShares: UInt16 = 15
        static let shareInformation: UInt16 = 16
        static let serverInformation: UInt16 = 21
    }

    private static let invalidLevel: UInt32 = 124
    private static let nameNotFound: UInt32 = 2310
    private static let nameUnitsMax = 1024

    private let catalog: any SMBCatalog
    private let serverName: String

    init(_ catalog: any SMBCatalog, serverName: String) {
        self.catalog = catalog
        self.serverName = serverName
    }

    /// Nil: no such operation, or arguments that do not hold together.
    func call(_ operation: UInt16, _ stub: [UInt8]) -> [UInt8]? {
        stub.withUnsafeBytes { bytes in
            var reader = Reader(bytes)
            do throws(BytesError) {
                switch operation {
                case Operation.enumerateShares: return try enumerate(&reader)
                case Operation.shareInformation: return try information(&reader)
                case Operation.serverInformation: return try server(&reader)
                default: return nil
                }
            } catch { return nil }
        }
    }

    // MARK: NDR

    @_lifetime(reader: copy reader)
    private static func string(_ reader: inout Reader) throws(BytesError) -> String {
        let max = try reader.countLE(limit: nameUnitsMax)
        try reader.skip(4)
        let count = try reader.countLE(limit: max)
        let bytes = try reader.bytes(count * 2).array()
        try reader.align(to: 4)
        guard let text = UTF16Name.string(bytes) else { throw .malformed }
        return text.hasSuffix("\0") ? String(text.dropLast()) : text
    }

    @_lifetime(reader: copy reader)
    private static func uniqueString(_ reader: inout Reader) throws(BytesError) -> String? {
        try reader.u32LE() == 0 ? nil : try string(&reader)
    }

    private static func append(_ text: String, to bytes: inout [UInt8]) {
        let units = Array(text.utf16) + [0]
        bytes.u32(UInt32(units.count))
        bytes.u32(0)
        bytes.u32(UInt32(units.count))
        for unit in units { bytes.u16(unit) }
        while bytes.count % 4 != 0 { bytes.append(0) }
    }

    // MARK: Operations

    private static let pipeType: UInt32 = 0x8000_0003

    private func type(_ share: SMBShare) -> UInt32 { share.volume == nil ? Self.pipeType : 0 }

    /// The parts of a share's information that have a fixed place; strings follow behind all of them.
    private func fixed(_ share: SMBShare, _ level: UInt32, _ referent: inout UInt32, _ bytes: inout [UInt8]) {
        func pointer() {
            referent += 4
            bytes.u32(referent)
        }
        pointer()
        guard level > 0 else { return }
        bytes.u32(type(share))
        pointer()
        guard level > 1 else { return }
        bytes.u32(0)
        bytes.u32(.max)
        bytes.u32(0)
        pointer()
        bytes.u32(0)
        if level == 502 {
            bytes.u32(0)
            bytes.u32(0)
        }
    }

    private func strings(_ share: SMBShare, _ level: UInt32, _ bytes: inout [UInt8]) {
        Self.append(share.name, to: &bytes)
        guard level > 0 else { return }
        Self.append(share.comment, to: &bytes)
        guard level > 1 else { return }
        Self.append(share.volume == nil ? "" : "C:\\" + share.name, to: &bytes)
    }

    /// NetrShareEnum ([MS-SRVS] 3.1.4.8), levels 0, 1, 2, 502.
    @_lifetime(reader: copy reader)
    private func enumerate(_ reader: inout Reader) throws(BytesError) -> [UInt8] {
        _ = try Self.uniqueString(&reader)
        let level = try reader.u32LE()
        let selector = try reader.u32LE()
        guard selector == level else { throw .malformed }
        let shares = catalog.shares
        var bytes: [UInt8] = []
        bytes.u32(level)
        bytes.u32(level)
        guard [0, 1, 2, 502].contains(level) else {
            bytes.u32(0)
            bytes.u32(0)
            bytes.u32(0)
            bytes.u32(Self.invalidLevel)
            return bytes
        }
        var referent: UInt32 = 0x2_0000
        bytes.u32(referent)
        bytes.u32(UInt32(shares.count))
        referent += 4
        bytes.u32(referent)
        bytes.u32(UInt32(shares.count))
        for share in shares { fixed(share, level, &referent, &bytes) }
        for share in shares { strings(share, level, &bytes) }
        bytes.u32(UInt32(shares.count))
        bytes.u32(0)
        bytes.u32(0)
        return bytes
    }

    /// NetrShareGetInfo ([MS-SRVS] 3.1.4.10), levels 0, 1, 2, 502 and 1005.
    @_lifetime(reader: copy reader)
    private func information(_ reader: inout Reader) throws(BytesError) -> [UInt8] {
        _ = try Self.uniqueString(&reader)
        let name = try Self.string(&reader)
        let level = try reader.u32LE()
        var bytes: [UInt8] = []
        bytes.u32(level)
        let share = catalog.share(named: name)
        guard let share, [0, 1, 2, 502, 1005].contains(level) else {
            bytes.u32(0)
            bytes.u32(share == nil ? Self.nameNotFound : Self.invalidLevel)
            return bytes
        }
        var referent: UInt32 = 0x2_0000
        bytes.u32(referent)
        if level == 1005 {
            bytes.u32(0)
        } else {
            fixed(share, level, &referent, &bytes)
            strings(share, level, &bytes)
        }
        bytes.u32(0)
        return bytes
    }

    /// NetrServerGetInfo ([MS-SRVS] 3.1.4.17), levels 100 and 101.
    @_lifetime(reader: copy reader)
    private func server(_ reader: inout Reader) throws(BytesError) -> [UInt8] {
        _ = try Self.uniqueString(&reader)
        let level = try reader.u32LE()
        var bytes: [UInt8] = []
        bytes.u32(level)
        guard level == 100 || level == 101 else {
            bytes.u32(0)
            bytes.u32(Self.invalidLevel)
            return bytes
        }
        bytes.u32(0x2_0000)
        bytes.u32(500)
        bytes.u32(0x2_0004)
        if level == 101 {
            bytes.u32(10)
            bytes.u32(0)
            // A server and a workstation.
            bytes.u32(3)
            bytes.u32(0x2_0008)
        }
        Self.append(serverName, to: &bytes)
        if level == 101 { Self.append("", to: &bytes) }
        bytes.u32(0)
        return bytes
    }
}
