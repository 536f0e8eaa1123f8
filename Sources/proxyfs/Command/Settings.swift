import Configuration
import Glibc
import Namespace
import Runtime

/// The configuration of a command: its file, its options, and the users of the other sources.
struct Settings {
    let options: ServeOptions
    let loaded: LoadedConfiguration
    var configuration: Configuration { loaded.configuration }
    /// Of the file, the options, the user file and PROXYFS_USERS; of one name the first counts.
    let users: [Configuration.User]
    let exports: [DeclaredExport]

    /// A configuration, or a list of users, of a size that nobody writes is another file.
    static let fileBytesMax = 16 << 20

    static func options(_ words: [String], of command: String) throws(CommandFailure) -> ServeOptions {
        do {
            return try ServeOptions(words)
        } catch {
            throw .misuse("\(error); see proxyfs \(command) --help")
        }
    }

    init(_ options: ServeOptions) throws(CommandFailure) {
        self.options = options
        var text: [UInt8]?
        if let file = options.config { text = try Self.read(file, "the configuration") }
        do {
            loaded = try Configuration.load(text, file: options.config ?? "options", options: options)
            var users = loaded.configuration.users
            func add(_ more: [Configuration.User]) {
                users += more.filter { user in !users.contains { $0.name == user.name } }
            }
            if let file = loaded.configuration.userFile {
                let text = try Self.read(file, "the user file")
                add(try ServeOptions.users(String(decoding: text, as: UTF8.self), source: file))
            }
            if let text = getenv("PROXYFS_USERS") {
                add(try ServeOptions.users(String(cString: text), source: "PROXYFS_USERS"))
            }
            self.users = users
            var exports: [DeclaredExport] = []
            for export in loaded.configuration.exports { exports.append(try Self.export(export)) }
            self.exports = exports
        } catch let error as CommandFailure {
            throw error
        } catch {
            throw .failure("the configuration can not be used; nothing was started\n\(error)")
        }
    }

    private static func export(_ export: Configuration.Export) throws(CommandFailure) -> DeclaredExport {
        do throws(CommandFailure) {
            var clients: [ExportRecord.Client] = []
            for text in export.clients { clients.append(try .parse(text)) }
            let durability = export.durability.flatMap { VolumeHost.durability($0.rawValue) }
            let record = ExportRecord(path: export.path, clients: clients, durability: durability)
            do throws(RegistryError) { _ = try Registry.parts(export.path) } catch { throw .misuse("\(error)") }
            return DeclaredExport(record, place: export.place)
        } catch {
            throw .failure("the configuration can not be used; nothing was started\n\(export.place): \(error.message)")
        }
    }

    static func read(_ path: String, _ what: String) throws(CommandFailure) -> [UInt8] {
        func fail(_ code: Int32) -> CommandFailure {
            .failure("can not read \(what) \(path): \(Errno(code)); name a file that this user can read")
        }
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw fail(errno) }
        defer { close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = Glibc.read(file, &buffer, buffer.count)
            if count == 0 { return bytes }
            guard count > 0 else {
                if errno == EINTR { continue }
                throw fail(errno)
            }
            bytes += buffer[..<count]
            guard bytes.count <= fileBytesMax else {
                throw .failure(
                    "can not read \(what) \(path): it has more than \(fileBytesMax >> 20) MiB; is it the right file?")
            }
        }
    }
}

enum ConfigCheckCommand {
    static func run(_ words: [String]) throws(CommandFailure) -> ExitStatus {
        let settings = try Settings(Settings.options(words, of: "config check"))
        Terminal.print(settings.loaded.report)
        return .success
    }
}
