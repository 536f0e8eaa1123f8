/// A record that a volume keeps can not be understood.
public enum RecordFault: Error, Equatable, Sendable {
    /// Of a later version of this program.
    case newer
    case malformed
}

/// The bytes of a registry's record: a version byte, then numbers (little-endian), texts and bytes with their length
/// (u16) before them.
struct RecordWriter {
    private(set) var bytes: [UInt8]

    init(version: UInt8) { bytes = [version] }

    mutating func number<Number: FixedWidthInteger>(_ number: Number) {
        withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// Callers keep their limits below 64 KiB.
    mutating func bytes(_ value: [UInt8]) {
        number(UInt16(value.count))
        bytes += value
    }

    mutating func text(_ value: String) { bytes(Array(value.utf8)) }
    mutating func flag(_ value: Bool) { number(value ? 1 as UInt8 : 0) }

    mutating func list<Items: Collection>(_ items: Items, _ write: (inout RecordWriter, Items.Element) -> Void) {
        number(UInt32(items.count))
        for item in items { write(&self, item) }
    }
}

struct RecordReader {
    private let bytes: [UInt8]
    private var offset = 1
    /// Which form this record has.
    let version: UInt8

    /// `version` is the newest that is understood.
    init(_ bytes: [UInt8], version: UInt8) throws(RecordFault) {
        guard let first = bytes.first, first > 0 else { throw .malformed }
        guard first <= version else { throw .newer }
        self.bytes = bytes
        self.version = first
    }

    private mutating func take(_ count: Int) throws(RecordFault) -> ArraySlice<UInt8> {
        guard count <= bytes.count - offset else { throw .malformed }
        defer { offset += count }
        return bytes[offset..<offset + count]
    }

    mutating func number<Number: FixedWidthInteger>(_ type: Number.Type = Number.self) throws(RecordFault) -> Number {
        var number: Number = 0
        for (index, byte) in try take(MemoryLayout<Number>.size).enumerated() {
            number |= Number(truncatingIfNeeded: UInt64(byte)) << Number(truncatingIfNeeded: 8 * index)
        }
        return number
    }

    mutating func bytes(limit: Int) throws(RecordFault) -> [UInt8] {
        let count = Int(try number(UInt16.self))
        guard count <= limit else { throw .malformed }
        return Array(try take(count))
    }

    mutating func text(limit: Int) throws(RecordFault) -> String {
        guard let text = String(validating: try bytes(limit: limit), as: UTF8.self) else { throw .malformed }
        return text
    }

    mutating func flag() throws(RecordFault) -> Bool {
        let byte = try number(UInt8.self)
        guard byte <= 1 else { throw .malformed }
        return byte == 1
    }

    mutating func list<Item>(
        limit: Int, _ read: (inout RecordReader) throws(RecordFault) -> Item
    ) throws(RecordFault) -> [Item] {
        let count = Int(try number(UInt32.self))
        guard count <= limit else { throw .malformed }
        var items: [Item] = []
        for _ in 0..<count { items.append(try read(&self)) }
        return items
    }

    func finish() throws(RecordFault) {
        guard offset == bytes.count else { throw .malformed }
    }
}

extension Durability {
    /// 0: what the volume says.
    static func number(_ durability: Durability?) -> UInt8 { durability.map { $0.rawValue + 1 } ?? 0 }

    static func read(_ number: UInt8) throws(RecordFault) -> Durability? {
        if number == 0 { return nil }
        guard let durability = Durability(rawValue: number - 1) else { throw .malformed }
        return durability
    }
}
