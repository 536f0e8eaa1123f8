/// Which user a Kerberos principal is: by a table of principals, by rules for realms, else nobody.
public struct PrincipalMap: Equatable, Sendable {
    public static let entriesMax = 65_536
    public static let rulesMax = 256
    public static let principalBytesMax = 1024

    public enum Rule: Equatable, Sendable {
        /// `NAME@REALM` is user NAME. Principals of several parts, as services have, are nobody.
        case name(realm: String)
        /// `NAME/INSTANCE@REALM` is user NAME, whatever the instance.
        case firstPart(realm: String)
        /// Everybody of the realm is this user.
        case everybody(realm: String, user: String)
    }

    private var table: [String: String] = [:]
    private var rules: [Rule] = []

    public init() {}

    /// False: there are too many already.
    public mutating func set(_ principal: String, to user: String) -> Bool {
        guard principal.utf8.count <= Self.principalBytesMax else { return false }
        guard table[principal] != nil || table.count < Self.entriesMax else { return false }
        table[principal] = user
        return true
    }

    public mutating func remove(_ principal: String) { table[principal] = nil }

    /// Rules are asked in the order in which they were added; the first that fits decides.
    public mutating func add(_ rule: Rule) -> Bool {
        guard rules.count < Self.rulesMax else { return false }
        rules.append(rule)
        return true
    }

    /// The user's name. Realms and principals are compared byte by byte, as Kerberos does.
    public func user(of principal: String) -> String? {
        guard principal.utf8.count <= Self.principalBytesMax else { return nil }
        if let user = table[principal] { return user }
        // A name may hold an escaped `@`: no rule is made for such.
        guard let at = principal.lastIndex(of: "@"), !principal.contains("\\") else { return nil }
        let realm = principal[principal.index(after: at)...]
        let parts = principal[..<at].split(separator: "/", omittingEmptySubsequences: false)
        guard let first = parts.first, !first.isEmpty, !first.contains("@") else { return nil }
        for rule in rules {
            switch rule {
            case .name(let ours): if ours == realm, parts.count == 1 { return String(first) }
            case .firstPart(let ours): if ours == realm { return String(first) }
            case .everybody(let ours, let user): if ours == realm { return user }
            }
        }
        return nil
    }
}
