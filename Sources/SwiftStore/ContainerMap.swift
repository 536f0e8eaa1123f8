import ObjectStore

/// Which container an object is in. Depends on its name and on the configuration only, so that a copy of the containers
/// is enough to find everything.
struct ContainerMap: Sendable {
    private let name: String
    private let spread: SwiftOptions.Containers.Spread
    private static let digits = 4

    init(_ containers: SwiftOptions.Containers) {
        name = containers.name
        spread = containers.spread
    }

    func container(of object: String) -> String {
        switch spread {
        case .single: name
        case .hash(let count): numbered(Int(Self.hash(object) % UInt64(count)))
        // What has no number is seldom: it goes to the first.
        case .number(let perContainer): numbered(Int(clamping: (Self.number(object) ?? 0) / perContainer))
        }
    }

    /// All that there can be; nil: as many as there are.
    var all: [String]? {
        switch spread {
        case .single: [name]
        case .hash(let count): (0..<count).map { numbered($0) }
        case .number: nil
        }
    }

    /// What their names begin with.
    var lead: String { spread == .single ? name : name + "-" }

    /// Whether a container of the account is one of ours.
    func owns(_ container: String) -> Bool {
        guard spread != .single else { return container == name }
        guard container.hasPrefix(lead) else { return false }
        let rest = container.dropFirst(lead.count)
        return rest.utf8.count >= Self.digits && rest.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 }
    }

    /// Nil: it is none of ours.
    func index(of container: String) -> Int? {
        guard spread != .single, owns(container) else { return nil }
        return Int(container.dropFirst(lead.count))
    }

    func numbered(_ index: Int) -> String {
        let text = String(index)
        return lead + String(repeating: "0", count: max(Self.digits - text.count, 0)) + text
    }

    /// FNV-1a: part of the format, as names are.
    private static func hash(_ text: String) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        // Its low bits alone are weak, and a remainder takes just those.
        return hash ^ hash >> 32
    }

    /// The 16 hexadecimal digits that a numbered object's name ends with.
    private static func number(_ text: String) -> UInt64? {
        guard let last = text.split(separator: "/").last, last.utf8.count == 16 else { return nil }
        return UInt64(last, radix: 16)
    }
}
