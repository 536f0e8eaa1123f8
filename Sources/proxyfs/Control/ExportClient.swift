import NFS
import Namespace

/// `HOSTS` or `HOSTS(OPTION,...)`, as exports(5) has it: what an operator knows already.
extension ExportRecord.Client {
    private static let flavorNames: [(String, ExportRecord.Flavor)] = [
        ("sys", .system), ("krb5", .kerberos), ("krb5i", .kerberosIntegrity), ("krb5p", .kerberosPrivacy),
    ]

    static func parse(_ text: String) throws(CommandFailure) -> ExportRecord.Client {
        var hosts = text[...]
        var options: [Substring] = []
        if let open = text.firstIndex(of: "(") {
            guard text.hasSuffix(")") else { throw .misuse("\"\(text)\": the options end with )") }
            hosts = text[..<open]
            options = text[text.index(after: open)...].dropLast().split(separator: ",")
        }
        guard isHosts(hosts) else {
            throw .misuse(
                "\"\(hosts)\" names no clients: *, an address, a network such as 10.0.0.0/8, a host's name or @NETGROUP"
            )
        }
        var client = ExportRecord.Client(String(hosts))
        client.isReadOnly = true
        for option in options { try client.set(String(option)) }
        return client
    }

    private static func isHosts(_ hosts: Substring) -> Bool {
        if Hosts(String(hosts)) != nil { return true }
        let name = hosts.hasPrefix("@") ? hosts.dropFirst() : hosts
        guard (1...ExportRecord.hostBytesMax).contains(name.utf8.count), name.contains(where: \.isLetter) else {
            return false
        }
        return name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
                true
            default: false
            }
        }
    }

    private mutating func set(_ option: String) throws(CommandFailure) {
        let parts = option.split(separator: "=", maxSplits: 1).map(String.init)
        switch (parts.first ?? "", parts.count > 1 ? parts[1] : nil) {
        case ("ro", nil): isReadOnly = true
        case ("rw", nil): isReadOnly = false
        case ("root_squash", nil): squash = .root
        case ("no_root_squash", nil): squash = .none
        case ("all_squash", nil): squash = .all
        case ("secure", nil): needsPrivilegedPort = true
        case ("insecure", nil): needsPrivilegedPort = false
        case ("anonuid", let number?): anonymousUID = try Self.number(number, option)
        case ("anongid", let number?): anonymousGID = try Self.number(number, option)
        case ("sec", let names?):
            flavors = []
            for name in names.split(separator: ":") {
                guard let flavor = Self.flavorNames.first(where: { $0.0 == name })?.1 else {
                    throw .misuse("\"\(option)\": security flavors are sys, krb5, krb5i and krb5p")
                }
                if !flavors.contains(flavor) { flavors.append(flavor) }
            }
            guard !flavors.isEmpty else { throw .misuse("\"\(option)\" names no security flavor") }
        default:
            throw .misuse(
                "\"\(option)\" is no option of an export: ro, rw, root_squash, no_root_squash, all_squash, anonuid=N, "
                    + "anongid=N, sec=sys:krb5:krb5i:krb5p, secure, insecure")
        }
    }

    private static func number(_ text: String, _ option: String) throws(CommandFailure) -> UInt32 {
        guard let number = UInt32(text) else { throw .misuse("\"\(option)\": a number is expected") }
        return number
    }

    var text: String {
        var options = [isReadOnly ? "ro" : "rw"]
        switch squash {
        case .none: options.append("no_root_squash")
        case .root: options.append("root_squash")
        case .all: options.append("all_squash")
        }
        if anonymousUID != 65534 { options.append("anonuid=\(anonymousUID)") }
        if anonymousGID != 65534 { options.append("anongid=\(anonymousGID)") }
        if flavors != [.system] {
            let names = flavors.compactMap { flavor in Self.flavorNames.first { $0.1 == flavor }?.0 }
            options.append("sec=" + names.joined(separator: ":"))
        }
        options.append(needsPrivilegedPort ? "secure" : "insecure")
        return "\(hosts)(\(options.joined(separator: ",")))"
    }
}
