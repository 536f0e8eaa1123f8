import JSON
import Namespace
import Runtime
import S3

/// Buckets: the directories in a volume's root.
extension Control {
    private static let entriesPerStep = 256

    private func bucketVolume(_ arguments: inout Arguments) throws(CommandFailure) -> Volume {
        try host.open(try arguments.optional("volume") ?? "default").volume
    }

    private func bucket(
        _ doing: String, _ body: () async throws(FileError) -> JSON
    ) async throws(CommandFailure) -> JSON {
        do throws(FileError) { return try await body() } catch { throw .failure("\(doing): \(error)") }
    }

    func listBuckets(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let volume = try bucketVolume(&arguments)
        try arguments.finish()
        let paths = FilePath(volume, clock: world.clock, loop: loop)
        return try await bucket("listing the buckets of volume \(volume.name)") { () async throws(FileError) in
            var buckets: [(name: [UInt8], file: Attributes)] = []
            var cookie: UInt64 = 0
            while true {
                let (from, known) = (cookie, buckets.count)
                let isAll = try await paths.run { request in
                    buckets.removeSubrange(known...)
                    cookie = from
                    return volume.fileSystem.list(
                        request, volume.root, after: from, limit: Self.entriesPerStep, attributes: true
                    ) { entry, name in
                        cookie = entry.cookie
                        if entry.type == .directory, let file = entry.attributes, S3Service.isBucket(Array(name)) {
                            buckets.append((Array(name), file))
                        }
                        return true
                    }
                }
                if isAll || cookie == from { break }
            }
            buckets.sort { $0.name.lexicographicallyPrecedes($1.name) }
            var shown: [JSON] = []
            for bucket in buckets {
                shown.append(
                    try await describe(String(decoding: bucket.name, as: UTF8.self), bucket.file, volume, paths))
            }
            return .array(shown)
        }
    }

    private func describe(
        _ name: String, _ file: Attributes, _ volume: Volume, _ paths: FilePath
    ) async throws(FileError) -> JSON {
        // With what is written and not flushed, as a listing has it.
        let totals = try await paths.run { volume.fileSystem.usage($0, below: file.file) }
        var older = DirectoryTotals(files: 0, directories: 0, bytes: 0)
        let shelf = [Array(Volume.ownName.utf8), Volume.shelvesName, Volume.shelfName(of: file.file)]
            .map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
        do throws(FileError) {
            let place = try await paths.find(shelf)
            older = try await paths.run { volume.fileSystem.totals($0, below: place.file) }
        } catch .noEntry {}
        let settings = try await paths.run {
            volume.fileSystem.extendedAttributes($0, file.file, prefixes: [S3Service.settingsPrefix])
        }
        let word = S3Service.durability(settings) ?? volume.durability
        return [
            "name": .string(name), "durability": .string("\(word)"),
            "owner": .string(registry.snapshot.users.user(uid: file.uid)?.name ?? "\(file.uid)"),
            "files": .number(totals.files), "bytes": .number(totals.bytes), "older_versions": .number(older.files),
            "older_bytes": .number(older.bytes), "created": .string(Timestamp.extended(nanoseconds: file.born)),
        ]
    }

    func showBucket(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let volume = try bucketVolume(&arguments)
        try arguments.finish()
        let paths = FilePath(volume, clock: world.clock, loop: loop)
        return try await bucket("looking at bucket \(name) of volume \(volume.name)") { () async throws(FileError) in
            guard S3Service.isBucket(Array(name.utf8)), !name.contains("/") else { throw .badName }
            let found = try await paths.find(name)
            guard found.type == .directory else { throw .notDirectory }
            return try await describe(name, found, volume, paths)
        }
    }

    func createBucket(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let name = try arguments.text("name")
        let owner = try arguments.optional("owner")
        let durability = try durability(&arguments)
        let volume = try bucketVolume(&arguments)
        try arguments.finish()
        guard S3Service.mayMakeBucket(name) else {
            throw .misuse(
                "\"\(name)\" can not be a bucket: 3 to 63 small letters, digits, dots and dashes, no address of a host")
        }
        var (uid, gid): (UInt32, UInt32) = (0, 0)
        if let owner {
            guard let user = registry.snapshot.users.user(owner) else { throw .failure("there is no user \(owner)") }
            (uid, gid) = (user.uid, user.gid)
        }
        var new = NewFile(type: .directory, mode: 0o755)
        if let durability { new.own = [S3Service.setting(durability)] }
        let directory = new
        let paths = FilePath(volume, clock: world.clock, loop: loop)
        return try await bucket("making bucket \(name) in volume \(volume.name)") { () async throws(FileError) in
            _ = try await paths.run { request in
                Array(name.utf8).withUnsafeBytes {
                    volume.fileSystem.create(request, in: volume.root, $0, directory, uid: uid, gid: gid, .exclusive)
                }
            }
            try await paths.settle()
            let word = durability.map { ", durability \($0)" } ?? ""
            return Self.message("bucket \(name) made in volume \(volume.name), owner \(owner ?? "root")\(word)")
        }
    }
}
