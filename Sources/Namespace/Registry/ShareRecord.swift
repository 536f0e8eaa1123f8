/// A directory that SMB clients may connect to. Each volume is a share of its own name, too, unless one says otherwise.
public struct ShareRecord: Equatable, Sendable {
    public static let nameBytesMax = 80
    public static let commentBytesMax = 1024
    /// The second one knows signing, guests, and who sees what.
    static let version: UInt8 = 2

    public var name: String
    /// Below the root of its volume; empty: the root.
    public var directory: String
    public var comment = ""
    public var isReadOnly = false
    /// Not in the list of shares; who knows the name connects.
    public var isHidden = false
    public var needsEncryption = false
    /// Who neither signs nor encrypts is refused.
    public var needsSigning = false
    /// Whoever has no name here, or none at all, may use it as nobody.
    public var allowsGuests = false
    /// Listings leave out what their reader may not read.
    public var hidesUnreadable = false
    public var durability: Durability?

    public init(name: String, directory: String = "") {
        self.name = name
        self.directory = directory
    }

    func record() -> [UInt8] {
        var writer = RecordWriter(version: Self.version)
        writer.text(name)
        writer.text(directory)
        writer.text(comment)
        writer.flag(isReadOnly)
        writer.flag(isHidden)
        writer.flag(needsEncryption)
        writer.number(Durability.number(durability))
        writer.flag(needsSigning)
        writer.flag(allowsGuests)
        writer.flag(hidesUnreadable)
        return writer.bytes
    }

    init(record: [UInt8]) throws(RecordFault) {
        var reader = try RecordReader(record, version: Self.version)
        name = try reader.text(limit: Self.nameBytesMax)
        directory = try reader.text(limit: ExportRecord.pathBytesMax)
        comment = try reader.text(limit: Self.commentBytesMax)
        isReadOnly = try reader.flag()
        isHidden = try reader.flag()
        needsEncryption = try reader.flag()
        durability = try Durability.read(try reader.number())
        if reader.version >= 2 {
            needsSigning = try reader.flag()
            allowsGuests = try reader.flag()
            hidesUnreadable = try reader.flag()
        }
        try reader.finish()
    }
}
