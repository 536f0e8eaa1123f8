import HTTP
import Namespace
import XML

/// What a client says of an object beside its bytes, on its way in and out.
///
/// The rule between protocols: the field `x-amz-meta-k` is the extended attribute `user.k` of the file, `k` in lower
/// case, the value's bytes as they are. File clients see and set the same attributes. One that can not be a field, by
/// its name or its value, is counted in `x-amz-missing-meta`.
struct Metadata: Sendable {
    static let prefix = "x-amz-meta-"
    static let attributePrefix = Array("user.".utf8)

    var record = ObjectRecord()
    /// `user.` attributes.
    var attributes: [ExtendedAttribute] = []
    /// What keeps the version from going.
    var lock = FileLock()
    /// The client says that nobody else may read it.
    var isPrivate = false

    init() {}

    /// The file's.
    var mode: UInt16 { isPrivate ? 0o600 : 0o644 }

    /// From the request that makes an object.
    init(_ request: S3Request, limits: S3Limits) throws(S3Error) {
        try Self.checkStorageClass(request)
        var bytes = 0
        let fields = request.head.fields
        for index in 0..<fields.count where fields.hasPrefix("x-amz-meta-", at: index) {
            let name = fields.name(at: index)
            guard name.utf8.count > Self.prefix.utf8.count else { continue }
            let key = Array(name.utf8.dropFirst(Self.prefix.utf8.count))
            let value = Array(fields.valueBytes(at: index))
            bytes += key.count + value.count
            guard bytes <= limits.metadataBytesMax, key.count <= 200 else {
                throw S3Error(
                    .metadataTooLarge, "Your metadata headers exceed the maximum allowed metadata size.",
                    details: [("Size", "\(bytes)"), ("MaxSizeAllowed", "\(limits.metadataBytesMax)")])
            }
            let attribute = Self.attributePrefix + key
            if let known = attributes.firstIndex(where: { $0.name == attribute }) {
                attributes[known].value += [UInt8(ascii: ",")] + value
            } else {
                attributes.append(ExtendedAttribute(name: attribute, value: value))
            }
        }
        for header in ObjectRecord.Header.allCases {
            guard var value = request.value(header.field.description) else { continue }
            if header == .contentEncoding {
                // Of the transfer, not of the object.
                value = value.split(separator: ",").map { $0.filter { $0 != " " } }.filter { $0 != "aws-chunked" }
                    .joined(separator: ",")
                if value.isEmpty { continue }
            }
            record.headers[header] = value
        }
        if let text = request.value("x-amz-tagging") { record.tags = try Tag.parse(text) }
        record.acl = try CannedACL(request)
        isPrivate = record.acl == .private && request.value("x-amz-acl") != nil
        lock = try FileLock(request.value)
    }

    private static func checkStorageClass(_ request: S3Request) throws(S3Error) {
        if let storage = request.value("x-amz-storage-class"), storage != "STANDARD" {
            throw S3Error(
                .notImplemented, "There is one storage class, STANDARD.", details: [("StorageClass", storage)])
        }
    }

    /// From the fields of a form; their names are in lower case.
    init(form: [String: String], fileType: String?, limits: S3Limits) throws(S3Error) {
        var bytes = 0
        for (name, text) in form.sorted(by: { $0.key < $1.key }) {
            if name == "x-amz-storage-class", text != "STANDARD" { throw S3Error(.notImplemented) }
            // What is not compared must not be believed.
            if !UnservedFields.isServed(name) || name.hasPrefix("x-amz-checksum-") || name == "content-md5" {
                throw S3Error(.notImplemented)
            }
            if name.hasPrefix(Self.prefix) {
                let key = Array(name.utf8.dropFirst(Self.prefix.utf8.count))
                bytes += key.count + text.utf8.count
                guard bytes <= limits.metadataBytesMax, (1...200).contains(key.count) else {
                    throw S3Error(.metadataTooLarge, "Your metadata is too large.")
                }
                attributes.append(ExtendedAttribute(name: Self.attributePrefix + key, value: Array(text.utf8)))
            }
        }
        for header in ObjectRecord.Header.allCases {
            if let value = form[header.field.description], !value.isEmpty { record.headers[header] = value }
        }
        if record.headers[.contentType] == nil { record.headers[.contentType] = fileType }
        if let text = form["tagging"] {
            record.tags = try Tag.parse(try XMLElement(Array(text.utf8)), max: Tag.objectMax)
        }
        lock = try FileLock { form[$0] }
        if let word = form["acl"] {
            guard let acl = CannedACL(rawValue: word) else {
                throw S3Error(.invalidArgument, details: [("ArgumentName", "acl"), ("ArgumentValue", word)])
            }
            record.acl = acl
            isPrivate = acl == .private
        }
    }

    /// From the file's attributes.
    init(_ found: [ExtendedAttribute]) {
        let own = Array(ObjectRecord.name.utf8)
        for attribute in found {
            if attribute.name == own {
                if let record = ObjectRecord(attribute.value) { self.record = record }
            } else if attribute.name.elementsEqual(FileLock.name.utf8) {
                lock = FileLock(attribute.value)
            } else if attribute.name.starts(with: Self.attributePrefix) {
                attributes.append(attribute)
            }
        }
    }

    /// What `Metadata.init` wants to see of a file.
    static let prefixes = [Array("proxyfs.".utf8), attributePrefix]
    /// What a PUT of a directory sets anew.
    static let replaceable = [Array(ObjectRecord.name.utf8), attributePrefix]

    /// As the file keeps it.
    var stored: [ExtendedAttribute] {
        (record.isEmpty ? [] : [ExtendedAttribute(ObjectRecord.name, record.encoded)])
            + (lock.isEmpty ? [] : [ExtendedAttribute(FileLock.name, lock.encoded)]) + attributes
    }

    /// The same of a version with its number and lock.
    func stored(as version: NewVersion) -> [ExtendedAttribute] {
        var metadata = self
        metadata.record.version = version.stamp
        metadata.lock = version.lock
        return metadata.stored
    }

    var unlocked: Metadata {
        var metadata = self
        metadata.lock = FileLock()
        return metadata
    }

    /// The fields of an answer to GET or HEAD.
    func add(to fields: inout ResponseFields, _ query: S3Query) {
        for header in ObjectRecord.Header.allCases {
            let standard = header == .contentType ? "binary/octet-stream" : nil
            guard let value = query[header.override] ?? record.headers[header] ?? standard else { continue }
            fields.add(header.field, value)
        }
        var missing = 0
        for attribute in attributes {
            let name =
                Self.prefix + String(decoding: attribute.name.dropFirst(Self.attributePrefix.count), as: UTF8.self)
            let value = attribute.value
            let isShort = value.count <= 8 << 10
            if !isShort || !fields.add(name: name.lowercased(), bytes: value) { missing += 1 }
        }
        if missing > 0 { fields.add("x-amz-missing-meta", "\(missing)") }
        lock.add(to: &fields)
        if !record.tags.isEmpty { fields.add("x-amz-tagging-count", "\(record.tags.count)") }
    }
}
