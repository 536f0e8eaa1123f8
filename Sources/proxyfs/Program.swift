import Glibc
import JSON

@main
enum Program {
    static func main() {
        // A reader that has gone (`proxyfs doctor | head`) is an error of a write, not the end of the server.
        signal(SIGPIPE, SIG_IGN)
        exit(run(Array(CommandLine.arguments.dropFirst())).rawValue)
    }

    private static func run(_ words: [String]) -> ExitStatus {
        guard let first = words.first else {
            Terminal.error(Help.overview)
            return .misuse
        }
        if ["--help", "-h", "help"].contains(first), words.count == 1 {
            Terminal.print(Help.overview)
            return .success
        }
        if ["--help", "help"].contains(first), words.dropFirst() == ["--json"] {
            let rows = Command.all.map { JSON.string($0.words.joined(separator: " ")) }
            Terminal.print(JSON.array(rows).description + "\n")
            return .success
        }
        let words = words == ["--version"] ? ["version"] : words
        do throws(CommandFailure) {
            guard let (command, rest) = Command.find(words) else {
                throw .misuse("there is no command \"\(first)\"; proxyfs --help lists them")
            }
            if rest.contains("--help") || rest.contains("-h") {
                Terminal.print(command.help)
                return .success
            }
            return try command.run(rest)
        } catch {
            Terminal.error("proxyfs: \(error.message)\n")
            return error.status
        }
    }
}

enum ExitStatus: Int32 {
    case success = 0
    case failure = 1
    case misuse = 2
}

/// Why a command did not do what it was told: what was tried, on what, why it failed, and what to do.
struct CommandFailure: Error {
    let status: ExitStatus
    let message: String

    /// The words of the command line make no sense.
    static func misuse(_ message: String) -> CommandFailure { CommandFailure(status: .misuse, message: message) }
    static func failure(_ message: String) -> CommandFailure { CommandFailure(status: .failure, message: message) }
}

struct Command: Sendable {
    let words: [String]
    let help: String
    let run: @Sendable ([String]) throws(CommandFailure) -> ExitStatus

    static let all =
        [
            Command(words: ["serve"], help: Help.serve, run: ServeCommand.run),
            Command(words: ["config", "check"], help: Help.configCheck, run: ConfigCheckCommand.run),
            Command(words: ["doctor"], help: Help.doctor, run: DoctorCommand.run),
            Command(words: ["version"], help: Help.version, run: VersionCommand.run),
            Command(words: ["store", "check"], help: Help.storeCheck, run: StoreCommand.check),
            Command(words: ["fsck"], help: Help.fsck, run: FsckCommand.run),
            Command(words: ["bench", "engine"], help: Help.benchEngine, run: BenchCommand.runEngine),
        ] + ControlCommand.all.map(\.command)

    static func find(_ words: [String]) -> (Command, [String])? {
        for command in all where words.starts(with: command.words) {
            return (command, Array(words.dropFirst(command.words.count)))
        }
        return nil
    }
}
