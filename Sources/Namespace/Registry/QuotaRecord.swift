/// The limit of one subject in a volume.
public struct QuotaRecord: Equatable, Sendable {
    static let version: UInt8 = 1

    public var subject: QuotaSubject
    /// Of a tree, when the quota was set: for people. The directory may have moved since; the quota goes with it.
    public var path: String
    public var limit: QuotaLimit

    public init(subject: QuotaSubject, path: String = "", limit: QuotaLimit) {
        self.subject = subject
        self.path = path
        self.limit = limit
    }

    /// Of the setting, behind `quota/`.
    var key: String { subject.key }

    func record() -> [UInt8] {
        var writer = RecordWriter(version: Self.version)
        switch subject {
        case .volume: writer.number(0 as UInt8)
        case .tree(let file):
            writer.number(1 as UInt8)
            writer.number(file.subvolume)
            writer.number(file.inode)
            writer.number(file.generation)
        case .user(let uid):
            writer.number(2 as UInt8)
            writer.number(uid)
        case .group(let gid):
            writer.number(3 as UInt8)
            writer.number(gid)
        }
        writer.text(path)
        for number in [limit.softBytes, limit.hardBytes, limit.softFiles, limit.hardFiles, limit.graceNanoseconds] {
            writer.number(number)
        }
        return writer.bytes
    }

    init(record: [UInt8]) throws(RecordFault) {
        var reader = try RecordReader(record, version: Self.version)
        switch try reader.number(UInt8.self) {
        case 0: subject = .volume
        case 1:
            subject = .tree(
                FileID(subvolume: try reader.number(), inode: try reader.number(), generation: try reader.number()))
        case 2: subject = .user(try reader.number())
        case 3: subject = .group(try reader.number())
        default: throw .malformed
        }
        path = try reader.text(limit: ExportRecord.pathBytesMax)
        limit = QuotaLimit(
            softBytes: try reader.number(), hardBytes: try reader.number(), softFiles: try reader.number(),
            hardFiles: try reader.number(), graceNanoseconds: try reader.number())
        try reader.finish()
    }
}
