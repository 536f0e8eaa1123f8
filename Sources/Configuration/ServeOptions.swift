import Logging

/// The options of `proxyfs serve`. What they say goes before what the file says.
public struct ServeOptions: Sendable, Equatable {
    public var config: String?
    public var data: String?
    public var address: String?
    public var userFile: String?
    public var selfSigned = false
    public var users: [Configuration.User] = []
    public var help = false
    private var ports: [String: UInt16] = [:]

    public init() {}

    static let names = [
        "--config", "--data", "--address", "--nfs-port", "--smb-port", "--http-port", "--https-port", "--admin-port",
        "--tls", "--user", "--user-file", "--help",
    ]

    /// The words behind `serve`: `--name value` or `--name=value`. Throws the first thing that is wrong.
    public init(_ words: [String]) throws(Issue) {
        var rest = words[...]
        while let word = rest.popFirst() {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            if name == "--help" || name == "-h" {
                help = true
                continue
            }
            guard Self.names.contains(name) else {
                let noun = word.hasPrefix("-") ? "unknown option" : "unexpected word"
                throw Issue(place: "serve", message: "\(noun) \(quoted(name))\(suggestion(name, Self.names))")
            }
            guard let value = parts.count == 2 ? String(parts[1]) : rest.popFirst(), !value.isEmpty else {
                throw Issue(place: name, message: "needs a value")
            }
            try set(name, value)
        }
    }

    private mutating func set(_ name: String, _ value: String) throws(Issue) {
        switch name {
        case "--config": config = value
        case "--data": data = value
        case "--address": address = value
        case "--user-file": userFile = value
        case "--tls":
            guard value == "self-signed" else {
                throw Issue(place: name, message: "takes self-signed; certificates are named in the configuration file")
            }
            selfSigned = true
        case "--user": users.append(try Self.user(value, place: name))
        default:
            guard let port = UInt16(value) else {
                throw Issue(place: name, message: "\(quoted(value)) is not a port: 0 (off) to 65535")
            }
            ports[String(name.dropFirst(2).prefix { $0 != "-" })] = port
        }
    }

    /// `NAME:SECRET`, split at the first colon. The secret is never part of a message.
    static func user(_ text: String, place: String) throws(Issue) -> Configuration.User {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[1].isEmpty else {
            throw Issue(place: place, message: "expected NAME:SECRET")
        }
        let name = String(parts[0])
        if let fault = Configuration.fault(inUserName: name) { throw Issue(place: place, message: fault) }
        return Configuration.User(
            name: name, secret: Secret(String(parts[1])), uid: nil, gid: nil, groups: [],
            volumes: ["default"], place: place)
    }

    /// Users by lines, as in a user file or PROXYFS_USERS; empty lines and those that begin with # are skipped.
    public static func users(_ text: String, source: String) throws(Configuration.Invalid) -> [Configuration.User] {
        var users: [Configuration.User] = []
        var issues: [Issue] = []
        // By bytes: to Swift a carriage return and a line feed are one character.
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, bytes) in lines.enumerated() {
            let line = Substring(bytes.last == UInt8(ascii: "\r") ? bytes.dropLast() : bytes)
            if line.isEmpty || line.hasPrefix("#") { continue }
            let place = "\(source):\(index + 1)"
            do throws(Issue) {
                let user = try Self.user(String(line), place: place)
                if let other = users.first(where: { $0.name == user.name }) {
                    throw Issue(place: place, message: "\(quoted(user.name)) is there already, at \(other.place)")
                }
                guard users.count < Configuration.usersMax else {
                    throw Issue(place: place, message: "more than \(Configuration.usersMax) users")
                }
                users.append(user)
            } catch {
                issues.append(error)
                if issues.count == Findings.issuesMax { break }
            }
        }
        if !issues.isEmpty { throw Configuration.Invalid(issues: issues) }
        return users
    }

    func apply(to configuration: inout Configuration, _ places: inout [String: String]) {
        if let data { (configuration.data, places["data"]) = (data, "--data") }
        if let address { (configuration.address, places["address"]) = (address, "--address") }
        if let userFile { (configuration.userFile, places["user_file"]) = (userFile, "--user-file") }
        if selfSigned { (configuration.tls, places["tls.self_signed"]) = (.selfSigned, "--tls") }
        for (name, port) in ports {
            switch name {
            case "nfs": configuration.ports.nfs = port
            case "smb": configuration.ports.smb = port
            case "http": configuration.ports.http = port
            case "https": configuration.ports.https = port
            default: configuration.ports.admin = port
            }
            places["ports.\(name)"] = "--\(name)-port"
        }
        for user in users {
            configuration.users.removeAll { $0.name == user.name }
            configuration.users.append(user)
        }
    }
}
