import Namespace

/// A key as a path: what lies between its slashes are names. Some keys can not be paths.
package struct ObjectKey: Sendable {
    /// What file clients of every protocol take.
    package static let nameBytesMax = 255

    package let bytes: [UInt8]
    package let names: [[UInt8]]
    /// Ends with a slash: the key of a directory.
    package let isDirectory: Bool

    package init(_ key: [UInt8]) throws(S3Error) {
        bytes = key
        var names = key.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { Array($0) }
        isDirectory = names.count > 1 && names.last == []
        if isDirectory { names.removeLast() }
        for name in names {
            guard !name.isEmpty else { throw Self.fault("has an empty part between slashes") }
            guard name != [0x2e], name != [0x2e, 0x2e] else { throw Self.fault("has a part . or ..") }
            guard !name.contains(0) else { throw Self.fault("has a zero byte") }
            guard name.count <= Self.nameBytesMax else {
                throw S3Error(
                    .keyTooLong, "A part of the key between slashes is longer than \(Self.nameBytesMax) bytes.",
                    details: [("Size", "\(name.count)"), ("MaxSizeAllowed", "\(Self.nameBytesMax)")])
            }
        }
        self.names = names
    }

    /// Whether a request can name it, and it is a file's.
    package static func check(_ key: [UInt8]) throws(S3Error) {
        guard key.count <= S3Request.keyBytesMax else { throw S3Error(.keyTooLong) }
        _ = try ObjectKey(key)
    }

    /// Keys that can not be a file's are no object's: looking for one finds nothing.
    package static func ifPath(_ key: [UInt8]) throws(S3Error) -> ObjectKey {
        do throws(S3Error) { return try ObjectKey(key) } catch { throw S3Error(.noSuchKey) }
    }

    private static func fault(_ what: String) -> S3Error {
        S3Error(.invalidArgument, "Keys are paths here, and this one \(what).", details: [("ArgumentName", "Key")])
    }

    package var name: [UInt8] { names[names.count - 1] }
    package var parents: ArraySlice<[UInt8]> { names[..<(names.count - 1)] }
}

/// Entity tags: the MD5 of what an object client wrote, as long as the file is that; else what changes with the file.
package enum EntityTag {
    private static let digits = Array("0123456789abcdef".utf8)
    /// Of the empty object that a directory is.
    package static let empty = "d41d8cd98f00b204e9800998ecf8427e"

    /// Without the quotes.
    package static func of(_ file: Attributes) -> String {
        if file.type == .directory { return empty }
        guard let seal = file.seal else {
            // The dash keeps clients from taking it for an MD5.
            return hexadecimal(file.file.inode &* 0x9e37_79b9_7f4a_7c15 ^ file.file.generation, file.change) + "-1"
        }
        let digest = hexadecimal(seal.high, seal.low)
        return seal.parts == 0 ? digest : "\(digest)-\(seal.parts)"
    }

    package static func quoted(_ file: Attributes) -> String { "\"\(of(file))\"" }

    private static func hexadecimal(_ high: UInt64, _ low: UInt64) -> String {
        String(unsafeUninitializedCapacity: 32) { text in
            for index in 0..<16 {
                let word = index < 8 ? high : low
                let byte = UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * (index & 7)))
                text[2 * index] = digits[Int(byte >> 4)]
                text[2 * index + 1] = digits[Int(byte & 15)]
            }
            return 32
        }
    }

    package static func seal(_ digest: [UInt8], parts: Int = 0) -> ContentSeal {
        precondition(digest.count == 16, "an MD5 has 16 bytes")
        return ContentSeal(
            high: digest[..<8].reduce(0) { $0 << 8 | UInt64($1) }, low: digest[8...].reduce(0) { $0 << 8 | UInt64($1) },
            parts: UInt32(parts))
    }

    /// Whether a list such as `"a", W/"b"` or `*` has the tag.
    package static func list(_ list: String, has tag: String) -> Bool {
        list.split(separator: ",").contains { part in
            var item = part.drop { $0 == " " }
            while item.last == " " { item.removeLast() }
            if item == "*" { return true }
            if item.hasPrefix("W/") { item = item.dropFirst(2) }
            if item.first == "\"", item.last == "\"", item.utf8.count >= 2 { item = item.dropFirst().dropLast() }
            return item == tag
        }
    }
}
