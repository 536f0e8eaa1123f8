/// Where the parts of uploads lie until they become an object: files in `.proxyfs/uploads/BUCKET/UPLOAD`. BUCKET has the numbers of
/// the bucket's directory, so that a bucket that gets another name keeps its uploads; who owns UPLOAD has begun it.
public enum UploadPlace {
    public static let root = [Array(Volume.ownName.utf8), Array("uploads".utf8)]

    public static func name(ofBucket bucket: FileID) -> [UInt8] {
        let numbers = [bucket.inode, bucket.generation, UInt64(bucket.subvolume)]
        return Array(numbers.map { String($0, radix: 16) }.joined(separator: "-").utf8)
    }

    /// The directory that such a name stands for.
    public static func bucket(_ name: [UInt8]) -> FileID? {
        let numbers = String(decoding: name, as: UTF8.self).split(separator: "-").map { UInt64($0, radix: 16) }
        guard numbers.count == 3, let inode = numbers[0], let generation = numbers[1],
            let subvolume = numbers[2].flatMap({ UInt32(exactly: $0) })
        else { return nil }
        return FileID(subvolume: subvolume, inode: inode, generation: generation)
    }
}
