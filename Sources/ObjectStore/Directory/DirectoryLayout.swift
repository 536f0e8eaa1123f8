/// Where an object's file lies.
///
/// ```
/// ROOT/objects/PARENT/+GROUP/LAST     the object PARENT/LAST
/// ROOT/tmp/INCARNATION/N              being written; left by a crash, removed at the next start
/// ```
/// `GROUP` keeps directories small. Of a name that ends in 16 hexadecimal digits it is the first 13 of them: up to
/// 4,096 objects lie together, and a listing goes through the groups in order and reads only those that it needs. The
/// engine's names are of that kind. Other names are spread over 64 groups by a hash; each page of a listing of them
/// reads the names of the whole parent, but keeps no more of them than the page has. No part of a name begins with
/// `+`, so groups and parents can not be confused.
struct DirectoryLayout: Sendable {
    let root: String

    struct Place {
        let directory: String
        let path: String
    }

    var objects: String { root + "/objects" }
    var temporary: String { root + "/tmp" }

    func place(_ name: ObjectName) -> Place {
        let text = name.text
        let slash = text.utf8.lastIndex(of: UInt8(ascii: "/"))
        let last = slash.map { text[text.utf8.index(after: $0)...] } ?? text[...]
        let parents = slash.map { "/" + text[..<$0] } ?? ""
        let directory = objects + parents + "/" + Self.group(last)
        return Place(directory: directory, path: directory + "/" + last)
    }

    static let numberDigits = 16
    static let groupDigits = 13

    static func group(_ last: Substring) -> String {
        if isHexadecimal(last, numberDigits) { return "+" + last.prefix(groupDigits) }
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in last.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        let spread = (hash ^ hash >> 29) & 63
        return "+x" + (spread < 16 ? "0" : "") + String(spread, radix: 16)
    }

    /// Whether a group holds names that end in numbers.
    static func isOfNumbers(_ group: String) -> Bool { isHexadecimal(group.dropFirst(), groupDigits) }

    private static func isHexadecimal(_ text: Substring, _ count: Int) -> Bool {
        text.utf8.count == count && text.utf8.allSatisfy { ($0 >= 48 && $0 <= 57) || ($0 >= 97 && $0 <= 102) }
    }
}
