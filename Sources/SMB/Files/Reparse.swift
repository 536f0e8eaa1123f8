import Bytes

/// A symbolic link as Windows says it ([MS-FSCC] 2.1.2.4, [MS-SMB2] 2.2.2.2.1): components between backslashes, and whether it begins at
/// the link's own directory.
package struct Reparse: Equatable, Sendable {
    /// As a file system keeps it: bytes between slashes.
    package var target: [UInt8]

    /// "SYML".
    private static let errorTag: UInt32 = 0x4C4D_5953
    private static let relative: UInt32 = 1
    package static let targetBytesMax = 4095
    private static let slash = UInt8(ascii: "/")
    private static let backslash = UInt16(UInt8(ascii: "\\"))

    package init(target: [UInt8]) { self.target = target }

    /// Of what a client sets. Nil: it is no symbolic link, or one that leads to a place that only the client's own machine knows.
    package init?(reading bytes: UnsafeRawBufferPointer) {
        let read = Result { () throws(BytesError) in try Self.target(bytes) }
        guard case .success(let target?) = read else { return nil }
        self.target = target
    }

    private static func target(_ bytes: UnsafeRawBufferPointer) throws(BytesError) -> [UInt8]? {
        var reader = Reader(bytes)
        guard try reader.u32LE() == FileFacts.symlinkTag else { return nil }
        let count = Int(try reader.u16LE())
        try reader.skip(2)
        var data = try reader.sub(count)
        let (offset, length) = (Int(try data.u16LE()), Int(try data.u16LE()))
        try data.skip(4)
        let flags = try data.u32LE()
        try data.skip(offset)
        guard length > 0, length % 2 == 0, flags & ~relative == 0 else { return nil }
        let name = try data.bytes(length).array()
        var units: [UInt16] = []
        for index in stride(from: 0, to: length, by: 2) {
            units.append(UInt16(name[index]) | UInt16(name[index + 1]) << 8)
        }
        guard flags == relative || units.first == backslash else { return nil }
        // `\??\` is the beginning of names on the client's machine.
        if units.starts(with: "\\??\\".utf16) { return nil }
        var target: [UInt8] = []
        for (index, part) in units.split(separator: backslash, omittingEmptySubsequences: false).enumerated() {
            if index > 0 { target.append(slash) }
            guard !part.isEmpty else { continue }
            guard part.withUnsafeBufferPointer({ UTF16Name.append(component: $0, to: &target) }) else { return nil }
        }
        return target.count <= targetBytesMax && !target.contains(0) ? target : nil
    }

    private var units: [UInt16] {
        var units: [UInt16] = []
        for (index, part) in target.split(separator: Self.slash, omittingEmptySubsequences: false).enumerated() {
            if index > 0 { units.append(Self.backslash) }
            // These two mean here what they mean there; a file's name can be neither.
            if part.elementsEqual([UInt8(ascii: ".")]) || part.elementsEqual([UInt8(ascii: "."), UInt8(ascii: ".")]) {
                units += part.map { UInt16($0) }
            } else {
                part.withUnsafeBytes { UTF16Name.units(of: $0) { units.append($0) } }
            }
        }
        return units
    }

    private func writeNames(_ units: [UInt16], into writer: inout Writer) {
        let bytes = UInt16(units.count * 2)
        // One text serves as the name to go on with and as the one to show.
        for _ in 0..<2 {
            writer.u16LE(0)
            writer.u16LE(bytes)
        }
        writer.u32LE(target.first == Self.slash ? 0 : Self.relative)
        for unit in units { writer.u16LE(unit) }
    }

    /// What FSCTL_GET_REPARSE_POINT answers.
    package func write(into writer: inout Writer) {
        let units = units
        writer.u32LE(FileFacts.symlinkTag)
        writer.u16LE(UInt16(12 + units.count * 2))
        writer.u16LE(0)
        writeNames(units, into: &writer)
    }

    /// What a CREATE answers that has met the link: `unparsed` bytes of its name are left behind it.
    package func error(unparsed: Int) -> [UInt8] {
        let units = units
        let count = 28 + units.count * 2
        return [UInt8](unsafeUninitializedCapacity: count) { memory, filled in
            var writer = Writer(UnsafeMutableRawBufferPointer(memory))
            writer.u32LE(UInt32(count - 4))
            writer.u32LE(Self.errorTag)
            writer.u32LE(FileFacts.symlinkTag)
            writer.u16LE(UInt16(12 + units.count * 2))
            writer.u16LE(UInt16(unparsed))
            writeNames(units, into: &writer)
            filled = writer.position
        }
    }
}
