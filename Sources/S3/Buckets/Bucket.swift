import HTTP
import Namespace
import XML

/// A top-level directory of the volume.
package struct Bucket: Sendable {
    let name: String
    let directory: Attributes
    var settings = BucketSettings()
    /// Of the upload whose parts are put here, if it is one's.
    var upload: String?

    /// What there is to say when it was there and is not any more.
    var isGone: S3Error {
        upload.map { S3Error(.noSuchUpload, details: [("UploadId", $0)]) }
            ?? S3Error(.noSuchBucket, details: [("BucketName", name)])
    }

    var file: FileID { directory.file }
    var owner: Credential { Credential(uid: directory.uid, gid: directory.gid) }

    /// Of buckets that are made here: 3 to 63 small letters, digits, dots and dashes. A directory that a file client
    /// made under another name is a bucket, too, if a request can name it.
    static func check(_ name: String) throws(S3Error) {
        let bytes = Array(name.utf8)
        func isEdge(_ byte: UInt8) -> Bool { (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte) }
        let isGood =
            (3...63).contains(bytes.count) && bytes.allSatisfy { isEdge($0) || $0 == 0x2d || $0 == 0x2e }
            && isEdge(bytes[0]) && isEdge(bytes[bytes.count - 1]) && !name.contains("..")
            && !name.hasPrefix("xn--") && !isAddress(name)
        guard isGood else { throw S3Error(.invalidBucketName, details: [("BucketName", name)]) }
    }

    private static func isAddress(_ name: String) -> Bool {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
    }

    /// Whether a directory of the volume's root is shown as a bucket.
    package static func isShown(_ name: [UInt8]) -> Bool {
        name.first != UInt8(ascii: ".") && name.count <= 255 && String(validating: name, as: UTF8.self) != nil
    }
}

/// What a bucket was told beyond its name: in extended attributes of the directory.
struct BucketSettings: Sendable {
    static let prefix = "proxyfs.bucket."
    static let tags = prefix + "tags"
    static let acl = prefix + "acl"
    static let policy = prefix + "policy"
    static let cors = prefix + "cors"
    static let versioning = prefix + "versioning"
    static let lock = prefix + "lock"
    static let lifecycle = prefix + "lifecycle"
    static let durability = prefix + "durability"
    static let prefixBytes = [Array(prefix.utf8)]
    static let versionPrefixes = [Array(lock.utf8), Array(versioning.utf8)]

    var tagList: [Tag] = []
    var cannedACL = CannedACL.private
    /// As they were sent; empty: there is none.
    var policyText: [UInt8] = []
    var corsText: [UInt8] = []
    var versioning = Versioning.none
    /// Nil: no object lock.
    var lock: BucketLock?
    var lifecycleText: [UInt8] = []
    /// What an answer promises; nil: what the volume does.
    var durability: Durability?

    init() {}

    init(_ found: [ExtendedAttribute]) {
        for attribute in found {
            switch String(decoding: attribute.name, as: UTF8.self) {
            case Self.tags: tagList = Tag.decode(attribute.value) ?? []
            case Self.acl:
                cannedACL = CannedACL(rawValue: String(decoding: attribute.value, as: UTF8.self)) ?? .private
            case Self.policy: policyText = attribute.value
            case Self.cors: corsText = attribute.value
            case Self.versioning:
                versioning = Versioning(rawValue: String(decoding: attribute.value, as: UTF8.self)) ?? .none
            case Self.lock: lock = BucketLock(attribute.value)
            case Self.lifecycle: lifecycleText = attribute.value
            case Self.durability:
                durability = [.memory, .log, .store].first { Array("\($0)".utf8) == attribute.value }
            default: break
            }
        }
    }
}

extension FileWork {
    func findBucket(_ name: String) async throws(S3Error) -> Bucket {
        let bytes = Array(name.utf8)
        guard Bucket.isShown(bytes), !bytes.isEmpty else {
            throw S3Error(.noSuchBucket, details: [("BucketName", name)])
        }
        let volume = volume
        let found = try await found { bytes.withUnsafeBytes { volume.lookup(ownCaller, in: volume.root, $0) } }
        guard let found, found.type == .directory else {
            throw S3Error(.noSuchBucket, details: [("BucketName", name)])
        }
        var bucket = Bucket(name: name, directory: found)
        let attributes = try await self.found {
            volume.extendedAttributes(ownCaller, found.file, prefixes: BucketSettings.prefixBytes)
        }
        if let attributes, !attributes.isEmpty { bucket.settings = BucketSettings(attributes) }
        return bucket
    }
}

extension S3Service {
    /// What says in a bucket's directory that its answers promise something else than the volume's do.
    public static func setting(_ durability: Durability) -> ExtendedAttribute {
        ExtendedAttribute(BucketSettings.durability, Array("\(durability)".utf8))
    }

    /// Of the attributes of a bucket's directory whose names begin with `settingsPrefix`. Nil: what the volume promises.
    public static func durability(_ settings: [ExtendedAttribute]) -> Durability? {
        BucketSettings(settings).durability
    }

    public static let settingsPrefix = BucketSettings.prefixBytes[0]
}

extension S3Call {
    /// The bucket, and in whose name the request may do this in it. Users act in their own name, and the files' rights
    /// decide; who is let in by the bucket's access list acts in its owner's.
    func open(
        _ action: S3Action, key: [UInt8]? = nil
    ) async throws(S3Error) -> (bucket: Bucket, actor: Credential) {
        let bucket = try await openBucket()
        return (bucket, try actor(action, bucket, key ?? request.key, ofVersion: hasVersion))
    }

    /// The same of what a copy is made of, which the request's own query says nothing of.
    func openSource(
        _ name: String, _ key: [UInt8], ofVersion: Bool
    ) async throws(S3Error) -> (bucket: Bucket, actor: Credential) {
        let bucket = try await findBucket(name)
        try requireOwner(bucket.directory.uid, as: "x-amz-source-expected-bucket-owner")
        return (bucket, try actor(.getObject, bucket, key, ofVersion: ofVersion))
    }

    /// The request's bucket, if it is whose the client takes it for.
    func openBucket() async throws(S3Error) -> Bucket {
        let bucket = try await findBucket(request.bucket)
        word = bucket.settings.durability
        try requireOwner(bucket.directory.uid, as: "x-amz-expected-bucket-owner")
        try admitOrigin(bucket)
        return bucket
    }

    /// Lets the page of another site at the answer, if the bucket does.
    func admitOrigin(_ bucket: Bucket) throws(S3Error) {
        guard let origin = request.value("origin"), !bucket.settings.corsText.isEmpty else { return }
        let rules = try CORSRules(try XMLElement(bucket.settings.corsText))
        crossOrigin = rules.rule(origin, request.method.name).map { ($0, origin) }
    }

    func requireOwner(_ uid: UInt32, as field: String) throws(S3Error) {
        guard let owner = request.value(field), owner != "\(uid)", owner != service.credentials.userName(uid: uid)
        else { return }
        throw S3Error(.accessDenied)
    }

    /// Whether the request names a version.
    var hasVersion: Bool { query["versionId"]?.isEmpty == false }

    func actor(
        _ action: S3Action, _ bucket: Bucket, _ key: [UInt8], ofVersion: Bool = false
    ) throws(S3Error) -> Credential {
        switch try decide(action, bucket, key, ofVersion: ofVersion) {
        case .deny: throw S3Error(.accessDenied, "A statement of the bucket's policy denies this.")
        case .allow: return bucket.owner
        case .none: break
        }
        let acl = bucket.settings.cannedACL
        let isListing =
            action == .listBucket || action == .listBucketVersions || action == .listBucketMultipartUploads
        // A version goes for good by its owner's word only, whatever else everybody may write.
        let isWriting = action == .putObject || action == .deleteObject && !ofVersion
        if let grant {
            if acl == .publicReadWrite && (isListing || isWriting) { return bucket.owner }
            if (acl == .publicRead || acl == .authenticatedRead) && isListing { return bucket.owner }
            return grant.credential
        }
        if (acl == .publicRead || acl == .publicReadWrite) && isListing { return bucket.owner }
        if acl == .publicReadWrite && isWriting { return bucket.owner }
        // An object may be open to all though its bucket is not: that is seen when it is found.
        if action == .getObject { return .nobody }
        throw S3Error(.accessDenied)
    }

    func decide(
        _ action: S3Action, _ bucket: Bucket, _ key: [UInt8], ofVersion: Bool = false
    ) throws(S3Error) -> BucketPolicy.Decision {
        guard !bucket.settings.policyText.isEmpty else { return .none }
        if action.isOfPolicy, let grant, grant.credential.uid == bucket.directory.uid { return .none }
        var values: [String: String] = [:]
        values["aws:referer"] = request.field("referer")
        values["aws:useragent"] = request.field("user-agent")
        values["s3:x-amz-acl"] = form.map { $0["acl"] } ?? request.value("x-amz-acl")
        if action == .listBucket || action == .listBucketVersions {
            values["s3:prefix"] = query["prefix"] ?? ""
            values["s3:delimiter"] = query["delimiter"]
        }
        let isOfObjects =
            !key.isEmpty && action != .listBucket && action != .listBucketVersions && action != .deleteBucket
        let resource = "arn:aws:s3:::\(bucket.name)" + (isOfObjects ? "/" + String(decoding: key, as: UTF8.self) : "")
        let policy = try BucketPolicy(bucket.settings.policyText, bucket: bucket.name)
        return policy.decide(
            BucketPolicy.Context(
                user: grant?.user, uid: grant?.credential.uid, action: action.rawValue,
                actionOfVersion: ofVersion ? action.nameOfVersion : nil, resource: resource,
                address: exchange.remoteAddress, isSecure: exchange.isSecure, values: values))
    }

    /// Refuses an access list or tags that who asks may not give to what he makes: whom a policy lets in may do what it says.
    func checkMetadata(_ record: ObjectRecord, _ bucket: Bucket, _ key: [UInt8]) throws(S3Error) {
        guard !bucket.settings.policyText.isEmpty else { return }
        var actions: [S3Action] = []
        if record.acl != .private { actions.append(.putObjectAcl) }
        if !record.tags.isEmpty { actions.append(.putObjectTagging) }
        for action in actions {
            switch try decide(action, bucket, key) {
            case .deny: throw S3Error(.accessDenied, "A statement of the bucket's policy denies this.")
            case .allow: continue
            case .none:
                let isRuler = grant.map { $0.credential.uid == bucket.directory.uid || $0.credential.uid == 0 } ?? false
                if isRuler { continue }
                guard try decide(.putObject, bucket, key) != .allow else { throw S3Error(.accessDenied) }
            }
        }
    }

    /// Whether the object may be read by who asks, when it is found.
    func checkRead(_ record: ObjectRecord, _ actor: Credential) throws(S3Error) {
        // Whoever was let in by the bucket acts as its owner.
        guard grant == nil, actor == .nobody else { return }
        switch record.acl {
        case .publicRead, .publicReadWrite: return
        case .private, .authenticatedRead, .bucketOwnerRead, .bucketOwnerFullControl: throw S3Error(.accessDenied)
        }
    }
}
