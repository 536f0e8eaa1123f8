/// What an operator mounted in a volume, as the volume keeps it.
public struct MountRecord: Equatable, Sendable {
    public static let pathBytesMax = 1024
    public static let directoryBytesMax = 4096
    static let version: UInt8 = 3

    /// In the identities of its files: given once, never to another mount of the volume.
    public internal(set) var subvolume: UInt32
    /// Below the root of the volume.
    public var path: String
    /// Of the host; of a bind, or of another volume: where in the volume the directory was when it was bound.
    public var directory: String
    public var isReadOnly: Bool
    /// A directory of the volume itself, or of `volume`, wherever its names lead by now.
    public var bound: FileID?
    /// The other volume that is seen there.
    public var volume: String?

    public init(
        path: String, directory: String, isReadOnly: Bool, bound: FileID? = nil, volume: String? = nil
    ) {
        subvolume = 0
        self.path = path
        self.directory = directory
        self.isReadOnly = isReadOnly
        self.bound = bound
        self.volume = volume
    }

    func record() -> [UInt8] {
        var writer = RecordWriter(version: Self.version)
        writer.number(subvolume)
        writer.text(path)
        writer.text(directory)
        writer.flag(isReadOnly)
        writer.flag(bound != nil)
        if let bound { writer.file(bound) }
        writer.flag(volume != nil)
        if let volume { writer.text(volume) }
        return writer.bytes
    }

    init(record: [UInt8]) throws(RecordFault) {
        var reader = try RecordReader(record, version: Self.version)
        subvolume = try reader.number()
        path = try reader.text(limit: Self.pathBytesMax)
        directory = try reader.text(limit: Self.directoryBytesMax)
        isReadOnly = try reader.flag()
        // Records of version 1 have no binds.
        if reader.version > 1, try reader.flag() { bound = try reader.file() }
        if reader.version > 2, try reader.flag() { volume = try reader.text(limit: Self.pathBytesMax) }
        try reader.finish()
    }
}

/// The mounts of one volume, durable with it. On the settings' loop only; one change at a time.
public struct MountBook: Sendable {
    private static let prefix = "mount/"
    /// The number that the next one gets.
    private static let next = "mounts"

    private let settings: VolumeSettings

    public init(_ settings: VolumeSettings) { self.settings = settings }

    private static func name(_ subvolume: UInt32) -> String { prefix + String(subvolume, radix: 16) }

    /// Those that can be read, and how many can not.
    public func all() async throws(FileError) -> (mounts: [MountRecord], unreadable: Int) {
        var mounts: [MountRecord] = []
        var unreadable = 0
        for name in try await settings.names(Self.prefix) {
            guard let bytes = try await settings.value(name) else { continue }
            if let record = try? MountRecord(record: bytes) { mounts.append(record) } else { unreadable += 1 }
        }
        return (mounts.sorted { $0.subvolume < $1.subvolume }, unreadable)
    }

    /// A number that no mount of this volume ever had.
    public func number() async throws(FileError) -> UInt32 {
        var number = MountTree.firstSubvolume
        if let bytes = try await settings.value(Self.next) {
            do throws(RecordFault) {
                var reader = try RecordReader(bytes, version: MountRecord.version)
                number = try reader.number()
                try reader.finish()
            } catch { throw .inputOutput("the number of the next mount can not be read") }
        }
        guard number < .max else { throw .tooManyAttributes }
        var writer = RecordWriter(version: MountRecord.version)
        writer.number(number + 1)
        // Before it is used: a crash loses a number, and gives none twice.
        try await settings.set(Self.next, writer.bytes)
        return number
    }

    public func keep(_ record: MountRecord, _ subvolume: UInt32) async throws(FileError) {
        var record = record
        record.subvolume = subvolume
        try await settings.set(Self.name(subvolume), record.record())
    }

    public func remove(_ subvolume: UInt32) async throws(FileError) {
        try await settings.set(Self.name(subvolume), nil)
    }
}

extension Volume {
    /// Whether somebody has a file of this subvolume open.
    public func isInUse(_ subvolume: UInt32) -> Bool { sharing.look { $0.opens.isUsed(subvolume) } }
}
