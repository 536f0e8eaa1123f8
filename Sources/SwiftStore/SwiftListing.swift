import JSON

/// What Swift writes of containers and objects.
enum SwiftListing {
    /// Nil: that is none.
    static func names(_ bytes: [UInt8]) -> [String]? {
        guard !bytes.isEmpty else { return [] }
        guard let items = try? JSON(bytes).array else { return nil }
        var names: [String] = []
        for item in items {
            guard let name = item["name"]?.text else { return nil }
            names.append(name)
        }
        return names
    }

    static func objects(_ bytes: [UInt8]) -> [(name: String, size: UInt64)]? {
        guard !bytes.isEmpty else { return [] }
        guard let items = try? JSON(bytes).array else { return nil }
        var objects: [(name: String, size: UInt64)] = []
        for item in items {
            guard let name = item["name"]?.text, let size = item["bytes"]?.unsigned else { return nil }
            objects.append((name, size))
        }
        return objects
    }
}
