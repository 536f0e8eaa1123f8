import Namespace
import Runtime

/// Finds files of a volume by path, as nobody in particular: an operator may see all. On `loop` only.
struct FilePath {
    private static let attemptsMax = 1000
    static let partsMax = 4096

    private let volume: Volume
    private var fileSystem: any FileSystem { volume.fileSystem }
    private let clock: any WorldClock
    private let loop: EventLoop

    init(_ volume: Volume, clock: any WorldClock, loop: EventLoop) {
        self.volume = volume
        self.clock = clock
        self.loop = loop
    }

    /// From the root; symbolic links are not followed.
    func find(_ path: String) async throws(FileError) -> Attributes {
        var found = try await run { fileSystem.attributes($0, fileSystem.root) }
        let parts = path.utf8.split(separator: UInt8(ascii: "/"))
        guard parts.count <= Self.partsMax else { throw .tooDeep }
        for part in parts {
            let (directory, name) = (found.file, Array(part))
            guard found.type == .directory else { throw .notDirectory }
            found = try await run { request in
                name.withUnsafeBytes { fileSystem.lookup(request, in: directory, $0) }
            }
        }
        return found
    }

    /// Makes the last of the names when it is not there.
    func makeDirectory(_ path: String) async throws(FileError) {
        var parts = path.split(separator: "/").map(String.init)
        guard let last = parts.popLast() else { throw .badName }
        let home = try await find(parts.joined(separator: "/"))
        let name = Array(last.utf8)
        do throws(FileError) {
            _ = try await run { request in
                name.withUnsafeBytes {
                    fileSystem.create(
                        request, in: home.file, $0, NewFile(type: .directory, mode: 0o755), uid: 0, gid: 0, .exclusive)
                }
            }
        } catch .exists {
            guard try await find(path).type == .directory else { throw .notDirectory }
        }
        try await settle()
    }

    /// Returns when all that was done here is as safe as the volume's word says.
    func settle() async throws(FileError) {
        try await volume.settled(volume.newestChange, volume.durability, on: loop)
    }

    /// The access list of a file that has one.
    func acl(of file: Attributes) async throws(FileError) -> ACL? {
        guard file.hasACL else { return nil }
        return try await run { fileSystem.acl($0, file.file) }
    }

    func attributes(_ file: FileID) async throws(FileError) -> Attributes {
        try await run { fileSystem.attributes($0, file) }
    }

    func run<Value>(_ call: (Request) -> Attempt<Value>) async throws(FileError) -> Value {
        for _ in 0..<Self.attemptsMax {
            switch call(Request(reader: loop.index, now: clock.wall())) {
            case .done(let value, _): return value
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
        throw .delay
    }
}
