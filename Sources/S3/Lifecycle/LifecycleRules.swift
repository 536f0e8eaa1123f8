import Runtime
import XML

/// When objects of a bucket end by themselves.
package struct LifecycleRules: Sendable {
    package static let bytesMax = 256 << 10
    package static let rulesMax = 1000
    private static let daysMax = 1_000_000
    private static let idMax = 255
    private static let daySeconds: Int64 = 86_400

    package struct Rule: Sendable {
        package var id = ""
        var isEnabled = false
        var prefix: [UInt8] = []
        var tags: [Tag] = []
        var greaterThan: UInt64?
        var lessThan: UInt64?
        /// Of the newest version.
        var days: Int?
        /// Seconds since 1970.
        var date: Int64?
        /// A mark goes when nothing is left that it hides.
        var endsMarks = false
        /// Of older ones: so long after another one took their place, but for so many of them.
        var olderDays: Int?
        var olderKept = 0
        var uploadDays: Int?
    }

    package private(set) var rules: [Rule] = []

    /// Whether any rule looks at tags: they have to be read then.
    var wantsTags: Bool { rules.contains { !$0.tags.isEmpty } }

    package init(_ root: XMLElement) throws(S3Error) {
        guard root.name == "LifecycleConfiguration" else { throw S3Error(.malformedXML) }
        guard !root.children.isEmpty, root.children.count <= Self.rulesMax,
            root.children.allSatisfy({ $0.name == "Rule" })
        else { throw S3Error(.malformedXML) }
        var ids: Set<String> = []
        for (index, item) in root.children.enumerated() {
            var rule = try Self.rule(item)
            if rule.id.isEmpty { rule.id = "rule-\(index + 1)" }
            guard rule.id.utf8.count <= Self.idMax else {
                throw S3Error(.invalidArgument, "ID length should not exceed allowed limit of \(Self.idMax)")
            }
            guard ids.insert(rule.id).inserted else {
                throw S3Error(.invalidArgument, "Rule ID must be unique. Found same ID for more than one rule")
            }
            rules.append(rule)
        }
    }

    private static func rule(_ item: XMLElement) throws(S3Error) -> Rule {
        var rule = Rule()
        var hasAction = false
        var hasFilter = false
        for part in item.children {
            switch part.name {
            case "ID": rule.id = part.text
            case "Status":
                guard ["Enabled", "Disabled"].contains(part.text) else { throw S3Error(.malformedXML) }
                rule.isEnabled = part.text == "Enabled"
            case "Prefix", "Filter":
                guard !hasFilter else { throw S3Error(.malformedXML) }
                hasFilter = true
                if part.name == "Prefix" {
                    rule.prefix = Array(part.text.utf8)
                } else {
                    try filter(part, &rule)
                }
            case "Expiration":
                hasAction = true
                try expiration(part, &rule)
            case "NoncurrentVersionExpiration":
                hasAction = true
                rule.olderDays = try days(part, "NoncurrentDays")
                if let text = part.text("NewerNoncurrentVersions") {
                    guard let count = Int(text), (1...100).contains(count) else { throw S3Error(.malformedXML) }
                    rule.olderKept = count
                }
            case "AbortIncompleteMultipartUpload":
                hasAction = true
                rule.uploadDays = try days(part, "DaysAfterInitiation")
            case "Transition", "NoncurrentVersionTransition":
                throw S3Error(.notImplemented, "There is one storage class, STANDARD: nothing moves to another one.")
            default: throw S3Error(.malformedXML)
            }
        }
        guard item.text("Status") != nil, hasAction else {
            throw S3Error(.invalidRequest, "At least one action needs to be specified in a rule")
        }
        if !rule.tags.isEmpty, rule.uploadDays != nil || rule.endsMarks {
            throw S3Error(.invalidRequest, "This action cannot be specified with Tags.")
        }
        return rule
    }

    private static func expiration(_ part: XMLElement, _ rule: inout Rule) throws(S3Error) {
        guard part.children.count == 1 else { throw S3Error(.malformedXML) }
        if part.text("Days") != nil { rule.days = try days(part, "Days") }
        if let text = part.text("Date") {
            guard let seconds = Timestamp.extended(text), seconds % daySeconds == 0 else {
                throw S3Error(.invalidArgument, "'Date' must be at midnight GMT")
            }
            rule.date = seconds
        }
        if let text = part.text("ExpiredObjectDeleteMarker") {
            guard ["true", "false"].contains(text) else { throw S3Error(.malformedXML) }
            rule.endsMarks = text == "true"
        }
        guard rule.days != nil || rule.date != nil || part.text("ExpiredObjectDeleteMarker") != nil else {
            throw S3Error(.malformedXML)
        }
    }

    private static func days(_ part: XMLElement, _ name: String) throws(S3Error) -> Int {
        guard let text = part.text(name), let days = Int(text) else { throw S3Error(.malformedXML) }
        guard (1...daysMax).contains(days) else {
            throw S3Error(.invalidArgument, "'\(name)' for this action must be a positive integer")
        }
        return days
    }

    private static func filter(_ filter: XMLElement, _ rule: inout Rule) throws(S3Error) {
        var parts = filter.children
        if let all = filter["And"] {
            guard parts.count == 1, all.children.count >= 2 else { throw S3Error(.malformedXML) }
            parts = all.children
        } else {
            guard parts.count <= 1 else { throw S3Error(.malformedXML) }
        }
        for part in parts {
            switch part.name {
            case "Prefix": rule.prefix = Array(part.text.utf8)
            case "Tag":
                guard let key = part.text("Key"), let value = part.text("Value"), !key.isEmpty else {
                    throw S3Error(.malformedXML)
                }
                rule.tags.append(Tag(key: key, value: value))
            case "ObjectSizeGreaterThan": rule.greaterThan = try size(part)
            case "ObjectSizeLessThan": rule.lessThan = try size(part)
            default: throw S3Error(.malformedXML)
            }
        }
        try Tag.check(rule.tags, max: Tag.objectMax)
        if let low = rule.greaterThan, let high = rule.lessThan, low >= high {
            throw S3Error(
                .invalidRequest, "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.")
        }
    }

    private static func size(_ part: XMLElement) throws(S3Error) -> UInt64 {
        guard let size = UInt64(part.text) else { throw S3Error(.malformedXML) }
        return size
    }

    // MARK: Asking

    private static func isMeant(_ rule: Rule, _ key: [UInt8], _ tags: [Tag], _ size: UInt64) -> Bool {
        rule.isEnabled && key.starts(with: rule.prefix) && rule.tags.allSatisfy(tags.contains)
            && rule.greaterThan.map { size > $0 } ?? true && rule.lessThan.map { size < $0 } ?? true
    }

    /// So many days later, at the midnight that comes then (UTC).
    private static func end(_ nanoseconds: Int64, days: Int) -> Int64 {
        let time = nanoseconds / 1_000_000_000 + Int64(days) * daySeconds
        return (time + daySeconds - 1) / daySeconds * daySeconds
    }

    /// When a newest version ends, in seconds since 1970, and by which rule.
    package func end(
        _ key: [UInt8], tags: [Tag], size: UInt64, modified: Int64
    ) -> (seconds: Int64, rule: String)? {
        var first: (seconds: Int64, rule: String)?
        for rule in rules where Self.isMeant(rule, key, tags, size) {
            guard let time = rule.days.map({ Self.end(modified, days: $0) }) ?? rule.date else { continue }
            if first.map({ time < $0.seconds }) ?? true { first = (time, rule.id) }
        }
        return first
    }

    /// Whether an older version ends that lost its place at this time, with so many older ones that are newer than it.
    package func ends(
        older key: [UInt8], tags: [Tag], size: UInt64, since: Int64, newer: Int, now: Int64
    ) -> Bool {
        rules.contains { rule in
            guard let days = rule.olderDays, Self.isMeant(rule, key, tags, size) else { return false }
            return newer >= rule.olderKept && Self.end(since, days: days) <= now / 1_000_000_000
        }
    }

    /// Whether a mark ends that hides nothing.
    package func ends(mark key: [UInt8], made: Int64, now: Int64) -> Bool {
        rules.contains { rule in
            guard Self.isMeant(rule, key, [], 0) else { return false }
            return rule.endsMarks
                || rule.days.map { Self.end(made, days: $0) <= now / 1_000_000_000 } ?? false
        }
    }

    package func ends(upload key: [UInt8], began: Int64, now: Int64) -> Bool {
        rules.contains { rule in
            guard let days = rule.uploadDays, rule.isEnabled, key.starts(with: rule.prefix) else { return false }
            return Self.end(began, days: days) <= now / 1_000_000_000
        }
    }
}
