import Crypto
import Namespace

/// An upload in parts under way: a directory below `.proxyfs/uploads/BUCKET`, whose files are the parts. BUCKET is the
/// number of the bucket's directory, so that a bucket that gets another name keeps its uploads.
struct Upload: Sendable {
    static let root = [Array(".proxyfs".utf8), Array("uploads".utf8)]
    static let prefix = "proxyfs.upload."
    static let prefixes = Metadata.prefixes
    static let key = prefix + "key"
    static let algorithm = prefix + "checksum"
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
        metadata = Metadata(found)
        let sum = value(Self.algorithm) ?? []
        algorithm = sum.count == 2 ? ChecksumAlgorithm(rawValue: sum[0]) : nil
        isComposite = sum.count == 2 && sum[1] == 1
    }

    static func name(ofBucket bucket: FileID) -> [UInt8] {
        Array("\(String(bucket.inode, radix: 16))-\(String(bucket.generation, radix: 16))".utf8)
    }

    /// The bucket that such a name stands for, in the file system that has this root.
    static func bucket(ofName name: [UInt8], _ root: FileID) -> FileID? {
        let parts = String(decoding: name, as: UTF8.self).split(separator: "-")
        guard parts.count == 2, let inode = UInt64(parts[0], radix: 16), let generation = UInt64(parts[1], radix: 16)
        else { return nil }
        return FileID(subvolume: root.subvolume, inode: inode, generation: generation)
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
    var place: Bucket { Bucket(name: id, directory: directory) }
}

/// A part as it lies there.
struct UploadedPart: Sendable {
    var number: Int
    var file: Attributes
}
