enum Version {
    static let number = "0.1.0"
    static let json = "{\"name\":\"proxyfs\",\"version\":\"\(number)\"}"
}

enum VersionCommand {
    static func run(_ words: [String]) throws(CommandFailure) -> ExitStatus {
        guard words.allSatisfy({ $0 == "--json" }) else {
            throw .misuse("version takes no \"\(words.first { $0 != "--json" } ?? "")\"; see proxyfs version --help")
        }
        Terminal.print(words.isEmpty ? "proxyfs \(Version.number)\n" : Version.json + "\n")
        return .success
    }
}
