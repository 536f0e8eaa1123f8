import Crypto
import Namespace

/// An upload in parts under way: a directory whose files are the parts (`UploadPlace`).
struct Upload: Sendable {
    static let prefix = "proxyfs.upload."
    static let prefixes = Metadata.prefixes
    static let key = prefix + "key"
    static let algorithm = prefix + "checksum"
    /// The object is for nobody else.
    static let access = prefix + "private"
    static let idBytes = 16

    let id: String
    let directory: Attributes
    let key: [UInt8]
    let metadata: Metadata
    let algorithm: ChecksumAlgorithm?
    let isComposite: Bool

    var initiator: UInt32 { directory.uid }

    /// Nil: the directory is no upload.
    init?(_ id: String, _ directory: Attributes, _ found: [ExtendedAttribute]) {
        func value(_ name: String) -> [UInt8]? { found.first { $0.name.elementsEqual(name.utf8) }?.value }
        guard let key = value(Self.key) else { return nil }
        self.id = id
        self.directory = directory
        self.key = key
        var metadata = Metadata(found)
        metadata.isPrivate = value(Self.access) != nil
        self.metadata = metadata
        let sum = value(Self.algorithm) ?? []
        algorithm = sum.count == 2 ? ChecksumAlgorithm(rawValue: sum[0]) : nil
        isComposite = sum.count == 2 && sum[1] == 1
    }

    /// `00017`: parts in the order of their names are in the order of their numbers.
    static func name(ofPart number: Int) -> [UInt8] {
        let digits = Array(String(number).utf8)
        return Array(repeating: UInt8(ascii: "0"), count: max(0, 5 - digits.count)) + digits
    }

    static func isID(_ text: String) -> Bool {
        text.utf8.count == 2 * idBytes && text.utf8.allSatisfy { Hexadecimal.value($0) != nil }
    }

    /// As the place where `S3Call.take` puts a part.
    var place: Bucket { Bucket(name: id, directory: directory, upload: id) }
}

/// A part as it lies there.
struct UploadedPart: Sendable {
    var number: Int
    var file: Attributes
}
