/// A directory or a file: what the operating system shows, and what the medium holds.
final class DiskNode {
    let isDirectory: Bool
    var modified: Int64 = 0
    /// Names that the operating system shows, and open files: without both the space is free.
    var links = 0
    var handles = 0
    var lockHolder: ObjectIdentifier?

    // Of a file.
    var shown = Content()
    var durable = Content()
    /// Up to where space is reserved.
    var reserved: UInt64 = 0
    /// Since the last sync, in order.
    var pending: [Change] = []

    // Of a directory.
    var entries: [String: DiskNode] = [:]
    var durableEntries: [String: DiskNode] = [:]

    enum Change {
        case write(offset: UInt64, bytes: [UInt8])
        case truncate(UInt64)
        /// Space and size, without bytes.
        case extend(UInt64)
    }

    init(isDirectory: Bool) { self.isDirectory = isDirectory }

    var space: UInt64 { links > 0 || handles > 0 ? max(shown.size, reserved) : 0 }

    struct Content {
        /// Bytes behind the end of the array, up to the size, are zeros.
        var bytes: [UInt8] = []
        var size: UInt64 = 0

        mutating func apply(_ change: Change) {
            switch change {
            case .write(let offset, let data):
                guard !data.isEmpty else { return }
                let end = Int(offset) + data.count
                if bytes.count < end { bytes.append(contentsOf: repeatElement(0, count: end - bytes.count)) }
                bytes.replaceSubrange(Int(offset)..<end, with: data)
                size = max(size, UInt64(end))
            case .truncate(let new):
                if bytes.count > Int(new) { bytes.removeLast(bytes.count - Int(new)) }
                size = new
            case .extend(let new): size = max(size, new)
            }
        }

        mutating func flip(_ offset: UInt64, _ bit: UInt8) {
            guard offset < size else { return }
            if bytes.count <= Int(offset) {
                bytes.append(contentsOf: repeatElement(0, count: Int(offset) + 1 - bytes.count))
            }
            bytes[Int(offset)] ^= 1 << (bit & 7)
        }
    }
}
