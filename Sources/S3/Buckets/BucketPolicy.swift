import JSON
import Runtime

/// A bucket's policy: who may do what, beyond what the files' own rights say. A policy with anything that would not be
/// enforced is refused when it is set.
package struct BucketPolicy: Sendable {
    package static let bytesMax = 20 << 10
    package static let statementsMax = 256

    package enum Decision: Equatable { case none, allow, deny }

    /// What a request is, as conditions see it.
    package struct Context {
        /// Nil: not signed.
        var user: String?
        var uid: UInt32?
        var action: String
        /// The same of a version of an object, when one was named: a denial may mean either, and who may do it may not do it
        /// to every version.
        var actionOfVersion: String?
        /// `arn:aws:s3:::BUCKET/KEY`
        var resource: String
        var address: SocketAddress
        var isSecure: Bool
        /// `s3:prefix` and its like; a name that is not there has no value.
        var values: [String: String]
    }

    private struct Statement {
        var isAllowing: Bool
        /// Nil: everybody.
        var principals: [String]?
        var actions: [String]
        var isActionNegated: Bool
        var resources: [String]
        var isResourceNegated: Bool
        var conditions: [Condition]
    }

    private struct Condition {
        var test: Test
        var key: String
        var values: [String]
    }

    private enum Test: String {
        case stringEquals = "StringEquals"
        case stringNotEquals = "StringNotEquals"
        case stringEqualsIgnoreCase = "StringEqualsIgnoreCase"
        case stringLike = "StringLike"
        case stringNotLike = "StringNotLike"
        case ipAddress = "IpAddress"
        case notIPAddress = "NotIpAddress"
        case bool = "Bool"
        case null = "Null"
    }

    /// What is served, in lower case.
    private static let actions = S3Action.allCases.flatMap { action in
        [action.rawValue, action.nameOfVersion].compactMap { $0?.lowercased() }
    }

    /// Which tests there are of a key; nil: it is not served.
    private static func tests(of key: String) -> Set<Test>? {
        switch key {
        case "aws:sourceip": [.ipAddress, .notIPAddress]
        case "aws:securetransport": [.bool, .null]
        case "aws:referer", "aws:useragent", "aws:username", "s3:prefix", "s3:delimiter", "s3:x-amz-acl":
            [.stringEquals, .stringNotEquals, .stringEqualsIgnoreCase, .stringLike, .stringNotLike, .null]
        default: nil
        }
    }

    private var statements: [Statement] = []

    /// Of a bucket of this name.
    package init(_ bytes: [UInt8], bucket: String) throws(S3Error) {
        guard bytes.count <= Self.bytesMax else { throw Self.fault("Policies may be 20 KiB long.") }
        let root: JSON
        do throws(JSONFault) { root = try JSON(bytes) } catch {
            throw Self.fault("This policy contains invalid Json: \(error.reason)")
        }
        guard let members = root.members else { throw Self.fault("Policies must be valid JSON objects") }
        for member in members where !["Version", "Id", "Statement"].contains(member.name) {
            throw Self.fault("Unknown field \(member.name)")
        }
        if let version = root["Version"]?.text, version != "2012-10-17", version != "2008-10-17" {
            throw Self.fault("The policy must contain a valid version string")
        }
        guard let list = root["Statement"] else { throw Self.fault("Missing required field Statement") }
        let items = list.array ?? [list]
        guard !items.isEmpty, items.count <= Self.statementsMax else {
            throw Self.fault("Could not parse the policy: Statement is empty!")
        }
        for item in items { statements.append(try Self.statement(item, bucket)) }
    }

    private static func fault(_ what: String) -> S3Error { S3Error(.malformedPolicy, what) }

    private static func texts(_ value: JSON?) -> [String]? {
        guard let value else { return nil }
        if let text = value.text { return [text] }
        if let bool = value.bool { return [bool ? "true" : "false"] }
        guard let items = value.array else { return nil }
        let texts = items.compactMap(\.text)
        return texts.count == items.count && !texts.isEmpty ? texts : nil
    }

    private static func statement(_ item: JSON, _ bucket: String) throws(S3Error) -> Statement {
        guard let members = item.members else { throw fault("A statement is no object") }
        let known = [
            "Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition",
        ]
        for member in members where !known.contains(member.name) {
            throw fault("\(member.name) of a statement is not served")
        }
        guard let effect = item["Effect"]?.text, effect == "Allow" || effect == "Deny" else {
            throw fault("Invalid effect: \(item["Effect"]?.text ?? "")")
        }
        guard let actions = texts(item["Action"]) ?? texts(item["NotAction"]),
            item["Action"] == nil || item["NotAction"] == nil
        else { throw fault("Missing required field Action") }
        guard let resources = texts(item["Resource"]) ?? texts(item["NotResource"]),
            item["Resource"] == nil || item["NotResource"] == nil
        else { throw fault("Missing required field Resource") }
        for resource in resources {
            let own = "arn:aws:s3:::\(bucket)"
            guard resource == "*" || resource == own || resource.hasPrefix(own + "/") || resource.hasPrefix(own + "*")
            else { throw fault("Policy has invalid resource") }
        }
        for action in actions {
            // One that no request is known by would be a rule that never holds.
            guard Self.actions.contains(where: { matches(action.lowercased(), $0) }) else {
                throw fault("Policy has invalid action: \(action) is not served")
            }
        }
        return Statement(
            isAllowing: effect == "Allow", principals: try principals(item["Principal"]),
            actions: actions.map { $0.lowercased() }, isActionNegated: item["Action"] == nil, resources: resources,
            isResourceNegated: item["Resource"] == nil, conditions: try conditions(item["Condition"]))
    }

    private static func principals(_ value: JSON?) throws(S3Error) -> [String]? {
        guard let value else { throw fault("Missing required field Principal") }
        if value.text == "*" { return nil }
        guard let members = value.members, members.count == 1, members[0].name == "AWS",
            let names = texts(members[0].value)
        else { throw fault("Invalid principal in policy") }
        if names.contains("*") { return nil }
        // `arn:aws:iam::ANY:user/NAME` is our user NAME; there are no roles or groups.
        var users: [String] = []
        for name in names {
            let parts = name.split(separator: ":", omittingEmptySubsequences: false)
            guard name.hasPrefix("arn:") else {
                users.append(name)
                continue
            }
            guard parts.count == 6, parts[2] == "iam", parts[5].hasPrefix("user/"),
                let user = parts[5].split(separator: "/").last,
                user != "user"
            else { throw fault("Invalid principal in policy") }
            users.append(String(user))
        }
        return users
    }

    private static func conditions(_ value: JSON?) throws(S3Error) -> [Condition] {
        guard let value else { return [] }
        guard let operators = value.members else { throw fault("Conditions must be objects") }
        var conditions: [Condition] = []
        for each in operators {
            guard let test = Test(rawValue: each.name) else {
                throw fault("The condition \(each.name) is not served")
            }
            guard let members = each.value.members, !members.isEmpty else {
                throw fault("The condition \(each.name) must be an object with a key")
            }
            for member in members {
                let key = member.name.lowercased()
                guard let tests = tests(of: key) else { throw fault("Conditions on \(member.name) are not served") }
                guard tests.contains(test) else { throw fault("\(each.name) of \(member.name) is not served") }
                guard let values = texts(member.value) else { throw fault("A condition has no values") }
                for value in values {
                    switch test {
                    case .ipAddress, .notIPAddress:
                        guard AddressRange(value) != nil else { throw fault("\(value) is no address range") }
                    case .bool, .null:
                        guard ["true", "false"].contains(value.lowercased()) else {
                            throw fault("\(each.name) is true or false, not \(value)")
                        }
                    case .stringEquals, .stringNotEquals, .stringEqualsIgnoreCase, .stringLike, .stringNotLike: break
                    }
                }
                conditions.append(Condition(test: test, key: key, values: values))
            }
        }
        return conditions
    }

    // MARK: Deciding

    /// Whether it lets in whoever asks.
    package var isPublic: Bool {
        statements.contains { $0.isAllowing && $0.principals == nil && $0.conditions.isEmpty }
    }

    /// Whoever is denied once is denied.
    package func decide(_ context: Context) -> Decision {
        var decision = Decision.none
        for statement in statements where Self.applies(statement, context) {
            guard statement.isAllowing else { return .deny }
            decision = .allow
        }
        return decision
    }

    private static func applies(_ statement: Statement, _ context: Context) -> Bool {
        if let principals = statement.principals {
            guard let user = context.user else { return false }
            guard principals.contains(where: { $0 == user || $0 == context.uid.map(String.init) }) else { return false }
        }
        let names =
            statement.isAllowing
            ? [(context.actionOfVersion ?? context.action).lowercased()]
            : [context.action, context.actionOfVersion].compactMap { $0?.lowercased() }
        let isMeant = names.contains { name in
            statement.actions.contains { matches($0, name) } != statement.isActionNegated
        }
        guard isMeant,
            statement.resources.contains(where: { matches($0, context.resource) }) != statement.isResourceNegated
        else { return false }
        return statement.conditions.allSatisfy { holds($0, context) }
    }

    private static func holds(_ condition: Condition, _ context: Context) -> Bool {
        let value: String?
        switch condition.key {
        case "aws:sourceip":
            let isIn = condition.values.contains { AddressRange($0)?.contains(context.address) == true }
            return isIn == (condition.test == .ipAddress)
        case "aws:securetransport": value = context.isSecure ? "true" : "false"
        case "aws:username": value = context.user
        default: value = context.values[condition.key]
        }
        switch condition.test {
        case .null: return condition.values.contains { ($0.lowercased() == "true") == (value == nil) }
        case .stringEquals: return value.map { condition.values.contains($0) } ?? false
        case .stringNotEquals: return value.map { !condition.values.contains($0) } ?? true
        case .stringEqualsIgnoreCase, .bool:
            return value.map { found in condition.values.contains { $0.lowercased() == found.lowercased() } } ?? false
        case .stringLike: return value.map { found in condition.values.contains { matches($0, found) } } ?? false
        case .stringNotLike: return value.map { found in !condition.values.contains { matches($0, found) } } ?? true
        case .ipAddress, .notIPAddress: preconditionFailure("tests of addresses are of aws:sourceip alone")
        }
    }

    /// `*` is any run of characters, `?` is any one.
    package static func matches(_ pattern: String, _ text: String) -> Bool {
        let pattern = Array(pattern.utf8)
        let text = Array(text.utf8)
        var (place, index) = (0, 0)
        /// Where to go on when what follows the last star does not fit: one more is the star's.
        var star: (pattern: Int, text: Int)?
        while index < text.count {
            if place < pattern.count, pattern[place] == UInt8(ascii: "*") {
                star = (place, index)
                place += 1
            } else if place < pattern.count, pattern[place] == UInt8(ascii: "?") || pattern[place] == text[index] {
                place += 1
                index += 1
            } else if let last = star {
                star = (last.pattern, last.text + 1)
                place = last.pattern + 1
                index = last.text + 1
            } else {
                return false
            }
        }
        return pattern[place...].allSatisfy { $0 == UInt8(ascii: "*") }
    }
}

/// `192.0.2.0/24`, or an address alone.
package struct AddressRange: Sendable {
    private let high: UInt64
    private let low: UInt64
    private let bits: Int

    package init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let address = SocketAddress(numeric: String(parts[0]), port: 0),
            let (high, low, isShort) = Self.number(address)
        else { return nil }
        let width = isShort ? 32 : 128
        var prefix = width
        if parts.count == 2 {
            guard let given = Int(parts[1]), (0...width).contains(given) else { return nil }
            prefix = given
        }
        (self.high, self.low, bits) = (high, low, isShort ? prefix + 96 : prefix)
    }

    /// IPv4 is the part of IPv6 that is kept for it.
    private static func number(_ address: SocketAddress) -> (high: UInt64, low: UInt64, isShort: Bool)? {
        switch address {
        case .ipv4(let host, _): (0, 0xffff_0000_0000 | UInt64(host), true)
        case .ipv6(let high, let low, _, _): (high, low, high == 0 && low >> 32 == 0xffff)
        case .unix: nil
        }
    }

    package func contains(_ address: SocketAddress) -> Bool {
        guard let (high, low, _) = Self.number(address) else { return false }
        func mask(_ count: Int) -> UInt64 { count <= 0 ? 0 : count >= 64 ? .max : ~(UInt64.max >> UInt64(count)) }
        return (high ^ self.high) & mask(bits) == 0 && (low ^ self.low) & mask(bits - 64) == 0
    }
}
