import Bytes

/// Extended attributes as clients say them ([MS-FSCC] 2.4.15.1). `NAME` is the attribute `user.NAME` of the file for NFS and S3, too;
/// as in NT, case makes no difference.
package enum FullEA {
    /// Of a list, and of those of a file that are looked at.
    package static let countMax = 1024
    package static let nameBytesMax = 250
    /// The length of a value has two bytes.
    package static let valueBytesMax = 65_535
    /// Of a list: a file has no more altogether.
    static let bytesMax = 1 << 20
    static let prefix: [UInt8] = Array("user.".utf8)
    static let needed: UInt8 = 0x80

    package struct Entry: Equatable, Sendable {
        package var name: [UInt8]
        /// Empty: there is to be none.
        package var value: [UInt8]

        package init(name: [UInt8], value: [UInt8]) {
            self.name = name
            self.value = value
        }

        /// Nil: it is none that could be said.
        init?(attribute name: [UInt8], _ value: [UInt8]) {
            guard name.starts(with: FullEA.prefix),
                (1...FullEA.nameBytesMax).contains(name.count - FullEA.prefix.count),
                value.count <= FullEA.valueBytesMax
            else { return nil }
            self.init(name: Array(name.dropFirst(FullEA.prefix.count)), value: value)
        }

        var attribute: String { String(decoding: FullEA.prefix + name, as: UTF8.self) }
        var bytes: Int { 8 + name.count + 1 + value.count }
    }

    package enum Fault: Error, Equatable {
        case malformed
        case badName
    }

    /// The same for all that are one name.
    static func key(_ name: [UInt8]) -> [UInt8] { name.map { upper($0) } }

    private static func upper(_ byte: UInt8) -> UInt8 { 0x61...0x7A ~= byte ? byte - 0x20 : byte }

    private static func isGood(_ name: [UInt8]) -> Bool {
        !name.isEmpty && name.count <= nameBytesMax && name.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
            && String(validating: name, as: UTF8.self) != nil
    }

    /// What is to be set.
    package static func list(_ bytes: UnsafeRawBufferPointer) throws(Fault) -> [Entry] {
        try each(bytes) { (reader) throws(BytesError) in
            try reader.skip(1)
            let count = Int(try reader.u8())
            let value = Int(try reader.u16LE())
            let name = try reader.bytes(count).array()
            guard try reader.u8() == 0 else { throw .malformed }
            return Entry(name: name, value: try reader.bytes(value).array())
        }
    }

    /// Names of what is asked for ([MS-FSCC] 2.4.15.1.1).
    package static func names(_ bytes: UnsafeRawBufferPointer) throws(Fault) -> [[UInt8]] {
        try each(bytes) { (reader) throws(BytesError) in
            let count = Int(try reader.u8())
            let name = try reader.bytes(count).array()
            guard try reader.u8() == 0 else { throw .malformed }
            return Entry(name: name, value: [])
        }.map(\.name)
    }

    private static func each(
        _ bytes: UnsafeRawBufferPointer, _ read: (inout Reader) throws(BytesError) -> Entry
    ) throws(Fault) -> [Entry] {
        var found: [Entry] = []
        var start = 0
        while start < bytes.count {
            guard found.count < countMax else { throw .malformed }
            var reader = Reader(UnsafeRawBufferPointer(rebasing: bytes[start...]))
            let next: Int
            let entry: Entry
            do throws(BytesError) {
                next = Int(try reader.u32LE())
                entry = try read(&reader)
            } catch { throw .malformed }
            guard isGood(entry.name) else { throw .badName }
            found.append(entry)
            guard next > 0 else { break }
            guard next % 4 == 0, next >= 8, next < bytes.count - start else { throw .malformed }
            start += next
        }
        return found
    }

    /// What the whole list takes.
    static func bytes(_ entries: [Entry]) -> Int { entries.reduce(0) { ($0 + 3) & ~3 + $1.bytes } }

    /// Writes as many whole entries as there is room for; answers how many.
    static func write(_ entries: [Entry], limit: Int, into writer: inout Writer) -> Int {
        let start = writer.position
        var last: Int?
        for (index, entry) in entries.enumerated() {
            let begin = (writer.position - start + 3) & ~3 + start
            guard begin - start + entry.bytes <= limit else { return index }
            writer.zeros(begin - writer.position)
            if let last { writer.patch(u32LE: UInt32(begin - last), at: last) }
            last = begin
            writer.u32LE(0)
            writer.u8(0)
            writer.u8(UInt8(entry.name.count))
            writer.u16LE(UInt16(entry.value.count))
            entry.name.withUnsafeBytes { writer.bytes($0) }
            writer.u8(0)
            entry.value.withUnsafeBytes { writer.bytes($0) }
        }
        return entries.count
    }
}
