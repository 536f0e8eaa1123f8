import Admin
import CShim
import Configuration
import Glibc
import JSON
import Logging
import Runtime

/// A command that a server carries out, or this process when there is none: what may stand on its command line, and how
/// its answer is shown.
struct ControlCommand: Sendable {
    enum Kind: Sendable {
        /// Without a value.
        case flag
        case text
        /// Any number of times.
        case list
        case number
        /// A number of bytes: `10GiB`.
        case size
        /// A time: `7d`.
        case span
    }

    struct Option: Sendable {
        var name: String
        var kind: Kind

        init(_ name: String, _ kind: Kind) {
            self.name = name
            self.kind = kind
        }
    }

    let words: [String]
    /// Names of what stands without an option; one in brackets may be left out.
    var positional: [String] = []
    var options: [Option] = []
    /// Takes a secret, from a place that the process list does not show.
    var takesSecret = false
    /// Of an answer that is a list: keys and titles.
    var columns: [(key: String, title: String)] = []
    let help: String

    var command: Command {
        Command(words: words, help: help) { (words) throws(CommandFailure) in try run(words) }
    }

    private var title: String { words.joined(separator: " ") }

    /// Where to go, and how to answer.
    private struct Manner {
        var serve: [String] = []
        var admin: String?
        var tokenFile: String?
        var isJSON = false
        var secretFile: String?
        var isRandom = false
    }

    private func run(_ words: [String]) throws(CommandFailure) -> ExitStatus {
        var manner = Manner()
        var members = try parse(words, &manner)
        let settings = try Settings(Settings.options(manner.serve, of: title))
        var shown: String?
        if takesSecret {
            let (secret, isNew) = try Self.secret(manner, isNeeded: self.words == ["user", "add"])
            if let secret { members.append(.init("secret", .string(secret.revealed))) }
            if isNew { shown = secret?.revealed }
        }
        let request = ControlRequest(title, .object(members), wantsProgress: !manner.isJSON && isatty(2) == 1)
        defer { if request.wantsProgress { Progress.clear() } }
        let answer = try Self.perform(request, manner.admin, manner.tokenFile, settings)
        if request.wantsProgress { Progress.clear() }
        if manner.isJSON {
            var json = answer
            if let shown, let members = answer.members { json = .object(members + [.init("secret", .string(shown))]) }
            Terminal.print(json.description + "\n")
        } else {
            Terminal.print(text(answer))
            if let shown { Terminal.print("secret: \(shown)\n") }
        }
        return .success
    }

    // MARK: The command line

    private func misuse(_ text: String) -> CommandFailure { .misuse("\(title): \(text); see proxyfs \(title) --help") }

    private func parse(_ words: [String], _ manner: inout Manner) throws(CommandFailure) -> [JSON.Member] {
        var members: [JSON.Member] = []
        var lists: [String: [JSON]] = [:]
        var names = positional[...]
        var rest = words[...]
        while let word = rest.popFirst() {
            guard word.hasPrefix("--") else {
                guard let name = names.popFirst() else { throw misuse("\"\(word)\" is one word too many") }
                members.append(.init(Self.key(name), .string(word)))
                continue
            }
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            let given = parts.count == 2 ? parts[1] : nil
            func value() throws(CommandFailure) -> String {
                guard let value = given ?? rest.popFirst(), !value.isEmpty else {
                    throw misuse("\(parts[0]) needs a value")
                }
                return value
            }
            switch parts[0] {
            case "--json": manner.isJSON = true
            case "--config", "--data": manner.serve += [parts[0], try value()]
            case "--admin": manner.admin = try value()
            case "--token-file": manner.tokenFile = try value()
            case "--secret-file" where takesSecret: manner.secretFile = try value()
            case "--random" where takesSecret: manner.isRandom = true
            default:
                guard let option = options.first(where: { "--" + $0.name == parts[0] }) else {
                    throw misuse("unknown option \(parts[0])")
                }
                if lists[option.name] == nil, members.contains(where: { $0.name == option.name }) {
                    throw misuse("\(parts[0]) is there twice")
                }
                switch option.kind {
                case .flag:
                    guard given == nil else { throw misuse("\(parts[0]) takes no value") }
                    members.append(.init(option.name, true))
                case .text: members.append(.init(option.name, .string(try value())))
                case .list: lists[option.name, default: []].append(.string(try value()))
                case .number, .size, .span: members.append(.init(option.name, .number(try number(option, try value()))))
                }
            }
        }
        if let missing = names.first, !missing.hasPrefix("[") { throw misuse("\(missing) is missing") }
        return members + lists.map { JSON.Member($0.key, .array($0.value)) }
    }

    private func number(_ option: Option, _ text: String) throws(CommandFailure) -> UInt64 {
        let found: UInt64? =
            switch option.kind {
            case .size: ByteSize(text)?.bytes ?? UInt64(text)
            case .span: TimeSpan(text)?.nanoseconds
            default: UInt64(text)
            }
        if let found { return found }
        let wanted =
            switch option.kind {
            case .size: "a size such as 10GiB"
            case .span: "a time such as 7d"
            default: "a whole number"
            }
        throw misuse("--\(option.name): \"\(text)\" is not \(wanted)")
    }

    private static func key(_ name: String) -> String { name.filter { $0 != "[" && $0 != "]" }.lowercased() }

    // MARK: Secrets

    /// From a file, made here, or from standard input; never from the command line, which everybody can read.
    private static func secret(_ manner: Manner, isNeeded: Bool) throws(CommandFailure) -> (Secret?, isNew: Bool) {
        if manner.isRandom {
            var bytes = [UInt8](repeating: 0, count: 16)
            bytes.withUnsafeMutableBytes { SystemRandom().fill($0) }
            return (Secret(bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()), true)
        }
        if let file = manner.secretFile {
            let text = String(decoding: try Settings.read(file, "the secret file"), as: UTF8.self)
            let line = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
            guard !line.isEmpty else { throw .failure("the secret file \(file) is empty") }
            return (Secret(line), false)
        }
        guard isNeeded else { return (nil, false) }
        if isatty(0) == 1 {
            guard let text = getpass("Secret: ") else { throw .failure("no secret was typed") }
            return (Secret(String(cString: text)), false)
        }
        guard let line = readLine(), !line.isEmpty else {
            throw .misuse("a user needs a secret: on standard input, in --secret-file FILE, or made by --random")
        }
        return (Secret(line), false)
    }

    // MARK: Where it is done

    private static func perform(
        _ request: ControlRequest, _ admin: String?, _ tokenFile: String?, _ settings: Settings
    ) throws(CommandFailure) -> JSON {
        let data = settings.configuration.data
        if let admin {
            let client = try client(admin, tokenFile ?? data + "/" + AdminToken.file)
            let sent: Result<JSON, CommandFailure>
            do throws(ControlClient.Failure) { sent = try client.send(request, Progress.show) } catch {
                throw failure(request, client, error)
            }
            return try sent.get()
        }
        guard let socket = ControlSocket(data: data) else { return try Offline.run(request, settings) }
        let client = ControlClient(address: socket.address, token: nil, name: data + "/" + ControlService.socket)
        let sent: Result<JSON, CommandFailure>
        do throws(ControlClient.Failure) { sent = try client.send(request, Progress.show) } catch {
            if case .nobody = error { return try Offline.run(request, settings) }
            throw failure(request, client, error)
        }
        return try sent.get()
    }

    private static func failure(
        _ request: ControlRequest, _ client: ControlClient, _ error: ControlClient.Failure
    ) -> CommandFailure {
        switch error {
        case .nobody: .failure("\(request.command): no server listens at \(client.name); start it, or name another")
        case .failed(let why): .failure("\(request.command): asking the server at \(client.name): \(why)")
        }
    }

    /// `http://ADDRESS:PORT`, or just `ADDRESS:PORT`.
    private static func client(_ text: String, _ tokenFile: String) throws(CommandFailure) -> ControlClient {
        guard !text.hasPrefix("https://") else {
            throw .misuse("--admin \(text): the admin listener speaks http; reach it over a tunnel")
        }
        var rest = text.hasPrefix("http://") ? text.dropFirst(7) : text[...]
        while rest.hasSuffix("/") { rest = rest.dropLast() }
        guard let colon = rest.lastIndex(of: ":"), let port = UInt16(rest[rest.index(after: colon)...]),
            let address = SocketAddress(
                numeric: rest[..<colon].filter { $0 != "[" && $0 != "]" }, port: port)
        else { throw .misuse("--admin \(text): expected http://ADDRESS:PORT with a number for the address") }
        let token = String(decoding: try Settings.read(tokenFile, "the token file"), as: UTF8.self)
        return ControlClient(address: address, token: Secret(String(token.prefix { !$0.isNewline })), name: text)
    }

    // MARK: Showing

    private func text(_ answer: JSON) -> String {
        if let rows = answer.array { return table(rows) }
        if let message = answer["message"]?.text, answer.members?.count == 1 { return message + "\n" }
        let members = answer.members ?? []
        let width = members.map(\.name.count).max() ?? 0
        return members.map { member in
            let name = member.name + String(repeating: " ", count: width - member.name.count)
            let lines = Self.lines(member.value)
            return lines.map { "\(name)  \($0)\n" }.first.map { first in
                first + lines.dropFirst().map { String(repeating: " ", count: width + 2) + $0 + "\n" }.joined()
            } ?? "\(name)  -\n"
        }.joined()
    }

    private static func lines(_ value: JSON) -> [String] {
        switch value {
        case .array(let items) where items.contains { $0.members != nil }: return items.map { cell($0) }
        case .object(let members): return members.map { "\($0.name): \(cell($0.value))" }
        default: return [cell(value)]
        }
    }

    private static func cell(_ value: JSON) -> String {
        switch value {
        case .null: "-"
        case .bool(let value): value ? "yes" : "no"
        case .integer(let number): "\(number)"
        case .unsigned(let number): "\(number)"
        case .string(let text): text.isEmpty ? "-" : Terminal.plain(text)
        case .array(let items): items.isEmpty ? "-" : items.map { cell($0) }.joined(separator: ", ")
        case .object(let members): members.map { "\($0.name) \(cell($0.value))" }.joined(separator: ", ")
        }
    }

    private func table(_ rows: [JSON]) -> String {
        if rows.isEmpty { return "none\n" }
        let cells = [columns.map(\.title)] + rows.map { row in columns.map { Self.cell(row[$0.key] ?? .null) } }
        let widths = columns.indices.map { column in cells.map { $0[column].count }.max() ?? 0 }
        return cells.map { row in
            let line = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
                .joined(separator: "  ")
            return line.reversed().drop { $0 == " " }.reversed().map(String.init).joined() + "\n"
        }.joined()
    }
}
