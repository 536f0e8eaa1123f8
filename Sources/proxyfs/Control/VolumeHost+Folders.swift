import Bytes
import Configuration
import JSON
import Logging
import Namespace
import Runtime

/// The volumes' folders, and what the file `volume.json` in each says.
extension VolumeHost {
    func blocking<Value: Sendable>(_ work: @escaping @Sendable () -> Value) async -> Value {
        await world.blocking.run(on: loop) { () throws(Never) in work() }
    }

    /// What the file `volume.json` of a folder says.
    enum Descriptor: Sendable {
        case none
        case good(
            Durability, store: String, log: Configuration.LogPlace, lease: Configuration.Lease, size: ByteSize,
            isReadOnly: Bool)
        case deleting(store: String, log: Configuration.LogPlace, Doomed?)
        case bad(String)
    }

    /// The folders and their descriptors; the rest of what was being deleted goes.
    func found() async throws(CommandFailure) -> [(String, Descriptor)] {
        let (disk, data, logger) = (world.disk, data, logger)
        let result = await blocking { () -> Result<[(String, Descriptor)], Errno> in
            do throws(Errno) {
                do throws(Errno) { try disk.makeDirectory(Self.folder) } catch .exists {}
                try disk.syncDirectory("")
                var names: [String] = []
                try disk.list(Self.folder) { name, kind in
                    if kind == .directory { names.append(name) }
                    return true
                }
                var found: [(String, Descriptor)] = []
                for name in names {
                    let path = Self.folder + "/" + name
                    guard name.contains(Self.deleted) else {
                        found.append((name, Self.read(path + "/" + Self.descriptor, disk, data: data)))
                        continue
                    }
                    // It holds nobody up: the next start tries again.
                    do throws(Errno) { try Self.removeTree(path, disk) } catch {
                        logger.error(
                            "deleted volume not removed",
                            [.init("folder", "\(data)/\(path)"), .init("why", "\(error)")])
                    }
                }
                return .success(found)
            } catch { return .failure(error) }
        }
        switch result {
        case .success(let found): return found
        case .failure(let error): throw .failure("can not use \(data)/\(Self.folder): \(error)")
        }
    }

    /// Where a volume's objects and its log are, as the configuration or its own folder says.
    static func places(
        of name: String, _ configuration: Configuration, _ disk: any Disk
    ) -> (store: String, log: Configuration.LogPlace, isReadOnly: Bool) {
        if let declared = configuration.volumes.first(where: { $0.name == name }) {
            return (declared.store, declared.log, declared.isReadOnly)
        }
        let path = folder + "/" + name + "/" + descriptor
        if case .good(_, let store, let log, _, _, let isReadOnly) = read(path, disk, data: configuration.data) {
            return (store, log, isReadOnly)
        }
        return ("directory", .local, false)
    }

    private static func read(_ path: String, _ disk: any Disk, data: String) -> Descriptor {
        let block = Block(capacity: descriptorBytesMax)
        do throws(Errno) {
            let file = try disk.open(path, [])
            defer { file.close() }
            block.count = try file.read(into: block.free, at: 0)
        } catch {
            return error == .noEntry ? .none : .bad("can not read \(data)/\(path): \(error)")
        }
        guard let json = try? JSON(Array(block.bytes)), let durability = json["durability"]?.text.flatMap(durability)
        else { return .bad("\(data)/\(path) is damaged: write {\"durability\":\"log\",\"store\":\"directory\"} to it") }
        let store = json["store"]?.text ?? "directory"
        guard let log = Configuration.LogPlace(json["log"]?.text ?? "local") else {
            return .bad("\(data)/\(path) is damaged: its log is at no place")
        }
        if json["deleting"] == true {
            let doomed = json["identity"]?.text.flatMap { identity in
                json["header"]?.unsigned.map { Doomed(identity: identity, header: $0) }
            }
            return .deleting(store: store, log: log, doomed)
        }
        let size = json["size"]?.unsigned.map { ByteSize(amount: $0) } ?? Configuration.Volume.standardSize
        let lease = json["lease"]?.text.flatMap { Configuration.Lease($0) } ?? .byLogPlace
        let isReadOnly = json["read_only"] == true
        return .good(durability, store: store, log: log, lease: lease, size: size, isReadOnly: isReadOnly)
    }

    static func write(_ text: String, to path: String, _ disk: any Disk) throws(Errno) {
        let fresh = try disk.open(path + ".new", [.write, .create, .truncate])
        defer { fresh.close() }
        let block = Array(text.utf8).withUnsafeBytes { Block(copying: $0) }
        try fresh.write(block.bytes, at: 0)
        try fresh.sync()
        try disk.rename(path + ".new", to: path)
        try disk.syncDirectory(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
    }

    /// Deepest first, without recursion.
    static func removeTree(_ path: String, _ disk: any Disk) throws(Errno) {
        var directories = [path]
        var index = 0
        while index < directories.count {
            let directory = directories[index]
            index += 1
            var files: [String] = []
            try disk.list(directory) { name, kind in
                if kind == .directory { directories.append(directory + "/" + name) } else { files.append(name) }
                return true
            }
            for file in files { try disk.remove(directory + "/" + file) }
        }
        for directory in directories.reversed() { try disk.removeDirectory(directory) }
    }
}
