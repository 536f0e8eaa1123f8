import Bytes

/// The name in a CREATE or a rename: components below the share's root, and a stream of the last one ([MS-FSCC] 2.1.5).
struct SMBPath {
    static let componentsMax = 1024

    /// In the bytes of the file system.
    var components: [[UInt8]] = []
    /// Bytes of the client's text behind each component.
    var rests: [Int] = []
    /// Of a named stream; nil: the file itself.
    var stream: [UInt8]?
    /// It said `::$DATA`, so that it can be no directory.
    var namesData = false

    init() {}

    init(_ bytes: UnsafeRawBufferPointer) throws(SMBHalt) {
        guard bytes.count % 2 == 0 else { throw .status(.invalidParameter) }
        var units: [UInt16] = []
        units.reserveCapacity(bytes.count / 2)
        for index in stride(from: 0, to: bytes.count, by: 2) {
            units.append(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: index, as: UInt16.self)))
        }
        try self.init(units)
    }

    init(_ units: [UInt16]) throws(SMBHalt) {
        guard !units.isEmpty else { return }
        let (backslash, slash) = (UInt16(UInt8(ascii: "\\")), UInt16(UInt8(ascii: "/")))
        // A path that begins at a root belongs to other protocols.
        guard units[0] != backslash, units[0] != slash else { throw .status(.invalidParameter) }
        // Those beside each other count once, and one at the end changes nothing. No name has either in it, so clients that write the
        // one for the other are understood.
        let parts = units.split { $0 == backslash || $0 == slash }
        guard parts.count <= Self.componentsMax else { throw .status(.objectPathNotFound) }
        for (index, part) in parts.enumerated() {
            var name = part
            if let colon = part.firstIndex(of: UInt16(UInt8(ascii: ":"))) {
                guard index == parts.count - 1 else { throw .status(.objectNameInvalid) }
                name = part[..<colon]
                try takeStream(part[part.index(after: colon)...])
            }
            if name.isEmpty, stream != nil || namesData, parts.count == 1 { continue }
            components.append(try Self.component(name))
            rests.append((units.count - part.endIndex) * 2)
        }
    }

    /// One component; `.` and `..` are resolved by clients, and never mean anything here.
    static func component(_ units: ArraySlice<UInt16>) throws(SMBHalt) -> [UInt8] {
        let dot = UInt16(UInt8(ascii: "."))
        if units.count <= 2, units.allSatisfy({ $0 == dot }), !units.isEmpty { throw .status(.objectPathSyntaxBad) }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(units.count)
        let isGood = units.withUnsafeBufferPointer { UTF16Name.append(component: $0, to: &bytes) }
        guard isGood, !bytes.isEmpty else { throw .status(.objectNameInvalid) }
        // Nor do they in the range where what Windows can not write is shown.
        guard bytes != [UInt8(ascii: ".")], bytes != [UInt8(ascii: "."), UInt8(ascii: ".")] else {
            throw .status(.objectNameInvalid)
        }
        return bytes
    }

    /// What stands behind the colon: a stream's name and, perhaps, its type, of which there is one.
    private mutating func takeStream(_ units: ArraySlice<UInt16>) throws(SMBHalt) {
        let parts = units.split(separator: UInt16(UInt8(ascii: ":")), omittingEmptySubsequences: false)
        guard parts.count <= 2, let name = parts.first else { throw .status(.objectNameInvalid) }
        if parts.count == 2 {
            let type = String(decoding: parts[1], as: UTF16.self)
            guard UTF16Name.upper(type) == "$DATA" else { throw .status(.objectNameInvalid) }
        }
        if name.isEmpty {
            guard parts.count == 2 else { throw .status(.objectNameInvalid) }
            namesData = true
            return
        }
        guard name.count <= SMB2.componentUnitsMax else { throw .status(.objectNameInvalid) }
        for unit in name where unit == UInt16(UInt8(ascii: "/")) || unit == 0 { throw .status(.objectNameInvalid) }
        var bytes: [UInt8] = []
        for unit in String(decoding: name, as: UTF16.self).utf8 { bytes.append(unit) }
        stream = bytes
    }
}
