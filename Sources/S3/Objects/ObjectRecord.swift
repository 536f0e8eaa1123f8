import Bytes
import Crypto
import HTTP
import Namespace
import XML

/// What an object has beside its bytes and its clients' metadata. Kept in the file's extended attribute
/// `proxyfs.object`, which only the server sees.
///
/// The form: a version, then fields, each with a tag (1 byte), a length (4 bytes, little endian) and its bytes.
/// Fields that are not known are kept.
package struct ObjectRecord: Equatable, Sendable {
    static let name = "proxyfs.object"
    static let version: UInt8 = 1

    package struct Sum: Equatable, Sendable {
        package var algorithm: ChecksumAlgorithm
        /// Made of the parts' values; else of the bytes themselves.
        package var isComposite: Bool
        package var value: [UInt8]

        package init(algorithm: ChecksumAlgorithm, isComposite: Bool, value: [UInt8]) {
            (self.algorithm, self.isComposite, self.value) = (algorithm, isComposite, value)
        }
    }

    /// Fields of HTTP that come back as they were sent.
    package enum Header: UInt8, CaseIterable, Sendable {
        case contentType = 1
        case contentEncoding, contentDisposition, contentLanguage, cacheControl, expires

        var field: StaticString {
            switch self {
            case .contentType: "content-type"
            case .contentEncoding: "content-encoding"
            case .contentDisposition: "content-disposition"
            case .contentLanguage: "content-language"
            case .cacheControl: "cache-control"
            case .expires: "expires"
            }
        }
        var override: StaticString {
            switch self {
            case .contentType: "response-content-type"
            case .contentEncoding: "response-content-encoding"
            case .contentDisposition: "response-content-disposition"
            case .contentLanguage: "response-content-language"
            case .cacheControl: "response-cache-control"
            case .expires: "response-expires"
            }
        }
    }

    package var headers: [Header: String] = [:]
    package var tags: [Tag] = []
    /// Of the bytes that the seal speaks of.
    package var sum: Sum?
    /// Of an object that was made of parts: their sizes, and their sums if they have any.
    package var partSizes: [UInt64] = []
    package var partSums: [[UInt8]] = []
    /// Of the upload that made it: a client that asks again to complete it gets its answer.
    package var uploadID = ""
    package var acl = CannedACL.private
    /// Of the version that the content is, when it has a number; it counts as long as the seal is there.
    package var version: VersionID.Stamp?
    private var unknown: [(tag: UInt8, bytes: [UInt8])] = []

    private enum Field: UInt8 {
        case sum = 16
        case partSizes, partSums, tags, uploadID, acl, version
    }

    package init() {}

    package static func == (a: ObjectRecord, b: ObjectRecord) -> Bool { a.encoded == b.encoded }

    var isEmpty: Bool {
        headers.isEmpty && tags.isEmpty && sum == nil && partSizes.isEmpty && uploadID.isEmpty && acl == .private
            && version == nil && unknown.isEmpty
    }

    /// Drops what is true of the content only.
    mutating func forgetContent() {
        sum = nil
        partSizes = []
        partSums = []
        uploadID = ""
        version = nil
    }

    // MARK: The form

    package var encoded: [UInt8] {
        var bytes = [Self.version]
        func append(_ tag: UInt8, _ field: [UInt8]) {
            bytes.append(tag)
            for shift in stride(from: 0, to: 32, by: 8) {
                bytes.append(UInt8(truncatingIfNeeded: UInt32(field.count) >> UInt32(shift)))
            }
            bytes += field
        }
        for header in Header.allCases {
            if let value = headers[header] { append(header.rawValue, Array(value.utf8)) }
        }
        if let sum { append(Field.sum.rawValue, [sum.algorithm.rawValue, sum.isComposite ? 1 : 0] + sum.value) }
        if !partSizes.isEmpty { append(Field.partSizes.rawValue, Self.encode(partSizes)) }
        if !partSums.isEmpty { append(Field.partSums.rawValue, partSums.flatMap { $0 }) }
        if !tags.isEmpty { append(Field.tags.rawValue, Tag.encode(tags)) }
        if !uploadID.isEmpty { append(Field.uploadID.rawValue, Array(uploadID.utf8)) }
        if acl != .private { append(Field.acl.rawValue, Array(acl.rawValue.utf8)) }
        if let version { append(Field.version.rawValue, version.bytes) }
        for field in unknown { append(field.tag, field.bytes) }
        return bytes
    }

    /// Nil: it is damaged, or of another program.
    package init?(_ bytes: [UInt8]) {
        guard bytes.first == Self.version else { return nil }
        var place = 1
        while place < bytes.count {
            guard bytes.count - place >= 5 else { return nil }
            let tag = bytes[place]
            let count = (0..<4).reduce(0) { $0 | Int(bytes[place + 1 + $1]) << (8 * $1) }
            place += 5
            guard count <= bytes.count - place else { return nil }
            let field = Array(bytes[place..<(place + count)])
            place += count
            guard read(tag, field) else { return nil }
        }
    }

    private mutating func read(_ tag: UInt8, _ field: [UInt8]) -> Bool {
        if let header = Header(rawValue: tag) {
            headers[header] = String(decoding: field, as: UTF8.self)
            return true
        }
        switch Field(rawValue: tag) {
        case .sum:
            guard field.count > 2, let algorithm = ChecksumAlgorithm(rawValue: field[0]),
                field.count == 2 + algorithm.count
            else { return false }
            sum = Sum(algorithm: algorithm, isComposite: field[1] == 1, value: Array(field[2...]))
        case .partSizes:
            guard let sizes = Self.decodeSizes(field) else { return false }
            partSizes = sizes
        case .partSums:
            // The sum comes before.
            guard let width = sum?.algorithm.count, field.count % width == 0 else { return false }
            partSums = stride(from: 0, to: field.count, by: width).map { Array(field[$0..<($0 + width)]) }
        case .tags:
            guard let found = Tag.decode(field) else { return false }
            tags = found
        case .uploadID: uploadID = String(decoding: field, as: UTF8.self)
        case .acl: acl = CannedACL(rawValue: String(decoding: field, as: UTF8.self)) ?? .private
        case .version:
            guard let stamp = VersionID.Stamp(field) else { return false }
            version = stamp
        case nil: unknown.append((tag, field))
        }
        return true
    }

    /// Runs of equal sizes: how often, and which, seven bits to a byte.
    private static func encode(_ sizes: [UInt64]) -> [UInt8] {
        var bytes: [UInt8] = []
        func append(_ value: UInt64) {
            var value = value
            while value >= 0x80 {
                bytes.append(UInt8(truncatingIfNeeded: value) | 0x80)
                value >>= 7
            }
            bytes.append(UInt8(value))
        }
        var index = 0
        while index < sizes.count {
            var end = index + 1
            while end < sizes.count, sizes[end] == sizes[index] { end += 1 }
            append(UInt64(end - index))
            append(sizes[index])
            index = end
        }
        return bytes
    }

    private static let partsMax = 10_000
    private static let bytesMax: UInt64 = 5 << 40

    private static func decodeSizes(_ bytes: [UInt8]) -> [UInt64]? {
        var sizes: [UInt64] = []
        var numbers: [UInt64] = []
        var value: UInt64 = 0
        var shift: UInt64 = 0
        for byte in bytes {
            guard shift < 63 else { return nil }
            value |= UInt64(byte & 0x7f) << shift
            shift += 7
            guard byte < 0x80 else { continue }
            numbers.append(value)
            (value, shift) = (0, 0)
        }
        guard shift == 0, numbers.count % 2 == 0 else { return nil }
        var left = bytesMax
        for index in stride(from: 0, to: numbers.count, by: 2) {
            guard numbers[index] <= UInt64(partsMax - sizes.count), numbers[index + 1] <= bytesMax,
                numbers[index] * numbers[index + 1] <= left
            else { return nil }
            left -= numbers[index] * numbers[index + 1]
            sizes += Array(repeating: numbers[index + 1], count: Int(numbers[index]))
        }
        return sizes
    }
}

/// A label of an object or a bucket.
package struct Tag: Equatable, Sendable {
    static let objectMax = 10
    static let bucketMax = 50
    static let keyMax = 128
    static let valueMax = 256

    package var key: String
    package var value: String

    package init(key: String, value: String) { (self.key, self.value) = (key, value) }

    static func check(_ tags: [Tag], max: Int) throws(S3Error) {
        guard tags.count <= max else {
            throw S3Error(.invalidTag, "There can not be more than \(max) tags.")
        }
        var seen: Set<String> = []
        for tag in tags {
            guard !tag.key.isEmpty, tag.key.unicodeScalars.count <= keyMax, isGood(tag.key) else {
                throw S3Error(.invalidTag, "The TagKey you have provided is invalid")
            }
            guard tag.value.unicodeScalars.count <= valueMax, isGood(tag.value) else {
                throw S3Error(.invalidTag, "The TagValue you have provided is invalid")
            }
            guard seen.insert(tag.key).inserted else {
                throw S3Error(.invalidTag, "Cannot provide multiple Tags with the same key")
            }
        }
    }

    private static func isGood(_ text: String) -> Bool {
        text.unicodeScalars.allSatisfy { scalar in
            scalar.properties.isAlphabetic || scalar.properties.numericType != nil
                || " +-=._:/@".unicodeScalars.contains(scalar)
        }
    }

    /// `a=1&b=2`, as `x-amz-tagging` has it.
    static func parse(_ text: String) throws(S3Error) -> [Tag] {
        var tags: [Tag] = []
        for part in text.utf8.split(separator: UInt8(ascii: "&")) {
            let end = part.firstIndex(of: UInt8(ascii: "=")) ?? part.endIndex
            let rest = end == part.endIndex ? part[end...] : part[part.index(after: end)...]
            guard let key = PercentCoding.decode(part[..<end], plusIsSpace: true),
                let value = PercentCoding.decode(rest, plusIsSpace: true), tags.count <= objectMax
            else {
                throw S3Error(
                    .invalidArgument,
                    "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "
                        + "parameters without tag name duplicates.")
            }
            tags.append(Tag(key: String(decoding: key, as: UTF8.self), value: String(decoding: value, as: UTF8.self)))
        }
        try check(tags, max: objectMax)
        return tags
    }

    /// `<Tagging><TagSet><Tag><Key/><Value/></Tag>...`
    static func parse(_ root: XMLElement, max: Int) throws(S3Error) -> [Tag] {
        guard root.name == "Tagging", let set = root["TagSet"] else { throw S3Error(.malformedXML) }
        return try parse(list: set, max: max)
    }

    /// `<Tag><Key/><Value/></Tag>...`
    static func parse(list: XMLElement, max: Int) throws(S3Error) -> [Tag] {
        var tags: [Tag] = []
        for element in list.children {
            guard element.name == "Tag", let key = element.text("Key"), let value = element.text("Value") else {
                throw S3Error(.malformedXML)
            }
            tags.append(Tag(key: key, value: value))
        }
        try check(tags, max: max)
        return tags
    }

    static func write(_ tags: [Tag], into xml: inout XMLWriter) {
        xml.root("Tagging") { xml in
            xml.element("TagSet") { xml in
                for tag in tags {
                    xml.element("Tag") { xml in
                        xml.element("Key", tag.key)
                        xml.element("Value", tag.value)
                    }
                }
            }
        }
    }

    /// Texts that each end with a zero.
    static func encode(_ tags: [Tag]) -> [UInt8] {
        tags.flatMap { Array($0.key.utf8) + [0] + Array($0.value.utf8) + [0] }
    }

    static func decode(_ bytes: [UInt8]) -> [Tag]? {
        let parts = bytes.split(separator: 0, omittingEmptySubsequences: false)
        guard parts.count % 2 == 1, parts.count <= 2 * bucketMax + 1 else { return nil }
        return stride(from: 0, to: parts.count - 1, by: 2).map {
            Tag(key: String(decoding: parts[$0], as: UTF8.self), value: String(decoding: parts[$0 + 1], as: UTF8.self))
        }
    }
}

/// Rights that a request names by one word.
package enum CannedACL: String, Sendable {
    case `private`
    case publicRead = "public-read"
    case publicReadWrite = "public-read-write"
    case authenticatedRead = "authenticated-read"
    case bucketOwnerRead = "bucket-owner-read"
    case bucketOwnerFullControl = "bucket-owner-full-control"

    /// Of a file or directory that gets this list: `private` is the owner's alone. The owner of the bucket reads as the users
    /// of the volume do.
    func mode(_ file: Attributes) -> UInt16 {
        let others: UInt16 = file.type == .directory ? 0o055 : 0o044
        return self == .private ? file.mode & ~0o077 : file.mode | others
    }

    init(_ request: S3Request) throws(S3Error) {
        for index in 0..<request.head.fields.count where request.head.fields.hasPrefix("x-amz-grant-", at: index) {
            throw S3Error(
                .notImplemented, "Access lists other than canned ones are not implemented; use a bucket policy.")
        }
        guard let word = request.value("x-amz-acl") else {
            self = .private
            return
        }
        guard let acl = CannedACL(rawValue: word) else {
            if ["log-delivery-write", "aws-exec-read"].contains(word) { throw S3Error(.notImplemented) }
            throw S3Error(
                .invalidArgument, details: [("ArgumentName", "x-amz-acl"), ("ArgumentValue", word)])
        }
        self = acl
    }
}
