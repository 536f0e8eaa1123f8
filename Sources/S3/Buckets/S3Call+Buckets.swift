import HTTP
import Namespace
import Runtime
import XML

/// Requests about buckets themselves.
extension S3Call {
    func listBuckets() async throws(S3Error) {
        guard let grant else { throw S3Error(.accessDenied) }
        let volume = volume
        let prefix = query.bytes("prefix") ?? []
        var buckets: [(name: [UInt8], born: Int64)] = []
        var cookie: UInt64 = 0
        while true {
            let from = cookie
            let known = buckets.count
            let isAll = try await value {
                // What lacked something may have told of some already.
                buckets.removeSubrange(known...)
                cookie = from
                return volume.list(ownCaller, volume.root, after: from, limit: 256, attributes: true) { entry, name in
                    cookie = entry.cookie
                    if entry.type == .directory, let born = entry.attributes?.born, Bucket.isShown(Array(name)),
                        name.starts(with: prefix)
                    {
                        buckets.append((Array(name), born))
                    }
                    return true
                }
            }
            if isAll || cookie == from { break }
            await othersTurn()
        }
        // All are in one region.
        if let region = query["bucket-region"], !region.isEmpty, region != service.region { buckets = [] }
        buckets.sort { $0.name.lexicographicallyPrecedes($1.name) }
        let max = min(try query.number("max-buckets") ?? limits.bucketsMax, limits.bucketsMax)
        if let token = query.bytes("continuation-token") {
            buckets.removeAll { !token.lexicographicallyPrecedes($0.name) }
        }
        let shown = buckets.prefix(max)
        var xml = XMLWriter()
        xml.root("ListAllMyBucketsResult") { xml in
            writeOwner(grant.credential.uid, "Owner", &xml)
            xml.element("Buckets") { xml in
                for bucket in shown {
                    xml.element("Bucket") { xml in
                        xml.element("Name", bytes: bucket.name)
                        xml.element("CreationDate", Timestamp.extended(nanoseconds: bucket.born))
                    }
                }
            }
            if shown.count < buckets.count, let last = shown.last { xml.element("ContinuationToken", bytes: last.name) }
            if !prefix.isEmpty { xml.element("Prefix", bytes: prefix) }
        }
        try await respond(xml: xml)
    }

    func writeOwner(_ uid: UInt32, _ element: StaticString, _ xml: inout XMLWriter) {
        xml.element(element) { xml in
            xml.element("ID", "\(uid)")
            xml.element("DisplayName", service.credentials.userName(uid: uid) ?? "\(uid)")
        }
    }

    func createBucket() async throws(S3Error) {
        guard let grant else { throw S3Error(.accessDenied) }
        try Bucket.check(request.bucket)
        try requireOwner(grant.credential.uid, as: "x-amz-expected-bucket-owner")
        let acl = try CannedACL(request)
        let isLocking = request.value("x-amz-bucket-object-lock-enabled").map { $0.lowercased() != "false" } ?? false
        if let text = request.value("x-amz-object-ownership"), text != "ObjectWriter" {
            throw S3Error(.notImplemented, "Files are owned by who writes them: ObjectWriter.")
        }
        var tags: [Tag] = []
        if let body, body.length != 0 {
            let bytes = try await body.whole(max: limits.documentBytesMax)
            if !bytes.isEmpty { tags = try createdTags(try XMLElement(bytes)) }
        }
        guard !isLocking || !volume.fileSystem.isForeign(volume.root) else {
            throw S3Error(.notImplemented, "A directory that is mounted into the volume keeps no versions.")
        }
        var settings: [ExtendedAttribute] = []
        if acl != .private { settings.append(ExtendedAttribute(BucketSettings.acl, Array(acl.rawValue.utf8))) }
        if !tags.isEmpty { settings.append(ExtendedAttribute(BucketSettings.tags, Tag.encode(tags))) }
        if isLocking {
            settings.append(
                ExtendedAttribute(BucketSettings.versioning, Array(Versioning.enabled.rawValue.utf8)))
            settings.append(ExtendedAttribute(BucketSettings.lock, BucketLock().encoded))
        }
        let isPrivate = acl == .private && request.value("x-amz-acl") != nil
        let number: UInt64
        do throws(FileError) { number = try await makeBucket(settings, isPrivate ? 0o700 : 0o755) } catch {
            guard error == .exists else { throw S3Error(file: error) }
            let bucket = try await openBucket()
            guard bucket.directory.uid == grant.credential.uid || grant.credential.uid == 0 else {
                throw S3Error(.bucketAlreadyExists)
            }
            // Who asks for locks must not take a bucket without them for his.
            guard service.region == "us-east-1", !isLocking || bucket.settings.lock != nil,
                tags.isEmpty || bucket.settings.tagList == tags
            else {
                throw S3Error(.bucketAlreadyOwnedByYou)
            }
            try await settleAll()
            return respondCreated()
        }
        try await settle(number)
        respondCreated()
    }

    /// With its settings in one change: there is no bucket that has only some of them.
    private func makeBucket(_ settings: [ExtendedAttribute], _ mode: UInt16) async throws(FileError) -> UInt64 {
        let (volume, name) = (volume, Array(request.bucket.utf8))
        var new = NewFile(type: .directory, mode: mode)
        let isForeign = volume.fileSystem.isForeign(volume.root)
        if !isForeign { new.own = settings }
        let file = new
        let made = try await supplied {
            name.withUnsafeBytes { volume.create(caller, in: volume.root, $0, file) }
        }
        var number = made.number
        // A directory of the host gets them one by one; it keeps no versions.
        for setting in settings where isForeign {
            let name = String(decoding: setting.name, as: UTF8.self)
            number = try await supplied {
                volume.setExtendedAttribute(caller, made.value.file.file, name, setting.value)
            }.number
        }
        return number
    }

    /// The tags of a bucket that is to be made, if it is to be made here.
    private func createdTags(_ root: XMLElement) throws(S3Error) -> [Tag] {
        guard root.name == "CreateBucketConfiguration" else { throw S3Error(.malformedXML) }
        try root.requireOnly("LocationConstraint", "Tags")
        let tags =
            try root["Tags"].map { (list) throws(S3Error) in try Tag.parse(list: list, max: Tag.bucketMax) } ?? []
        guard let place = root.text("LocationConstraint"), !place.isEmpty, place != service.region else { return tags }
        if place == "us-east-1" || place == "EU" { return tags }
        throw S3Error(
            .illegalLocationConstraint,
            "The \(place) location constraint is incompatible for the region specific endpoint this request was sent to."
        )
    }

    private func respondCreated() {
        var fields = ResponseFields()
        fields.add("location", "/\(request.bucket)")
        respond(.ok, fields)
    }

    func headBucket() async throws(S3Error) {
        let (bucket, actor) = try await open(.listBucket)
        // Whether it may be listed.
        let volume = volume
        _ = try await value {
            volume.list(caller(actor), bucket.file, after: 0, limit: 1, attributes: false) { _, _ in false }
        }
        var fields = ResponseFields()
        fields.add("x-amz-bucket-region", service.region)
        fields.add("x-amz-access-point-alias", "false")
        respond(.ok, fields)
    }

    func deleteBucket() async throws(S3Error) {
        let (bucket, actor) = try await open(.deleteBucket)
        let versionsLeft = S3Error(
            .bucketNotEmpty,
            "The bucket you tried to delete is not empty. You must delete all versions in the bucket.")
        if let home = try await shelfHome(bucket, make: false) {
            guard try await shelved(home, prefix: [], from: [], max: 1).versions.isEmpty else { throw versionsLeft }
        }
        try await prune(bucket.file, actor)
        let name = Array(bucket.name.utf8)
        let volume = volume
        let number: UInt64
        do throws(FileError) {
            number = try await supplied {
                name.withUnsafeBytes { volume.remove(caller(actor), in: volume.root, $0, isDirectory: true) }
            }.number
        } catch {
            // Objects, or a version that came to the shelf since it was looked at.
            if error == .notEmpty {
                throw bucket.settings.versioning == .none ? S3Error(.bucketNotEmpty) : versionsLeft
            }
            throw error == .noEntry ? S3Error(.noSuchBucket) : S3Error(file: error)
        }
        await removeUploads(of: bucket.file)
        await removeShelf(of: bucket.file)
        try await settle(number)
        respond(.noContent)
    }

    /// Directories that were there only for what lay in them, and nothing does any more.
    private func prune(_ bucket: FileID, _ actor: Credential) async throws(S3Error) {
        let volume = volume
        var empty: [[UInt8]] = []
        var start: [UInt8]? = []
        while let from = start {
            var isBare = true
            start = try await value {
                volume.listPaths(ownCaller, below: bucket, from: from, prefix: [], limit: 256) { path, file in
                    guard file.type == .directory, file.isImplied else {
                        isBare = false
                        return false
                    }
                    empty.append(Array(path.dropLast()))
                    return true
                }
            }
            guard isBare else { return }
            await othersTurn()
        }
        for (index, path) in empty.reversed().enumerated() {
            if index % Self.turnMax == Self.turnMax - 1 { await othersTurn() }
            let names = path.split(separator: UInt8(ascii: "/")).map { Array($0) }
            guard let home = try await locate(bucket, names.dropLast(), ownCaller) else { continue }
            _ = try await found {
                names[names.count - 1].withUnsafeBytes {
                    volume.remove(caller(actor), in: home.file, $0, isDirectory: true)
                }
            }
        }
    }

    func bucketLocation() async throws(S3Error) {
        _ = try await open(.getBucketLocation)
        var xml = XMLWriter()
        // The first region has no name here.
        xml.raw("<LocationConstraint xmlns=\"\(XMLWriter.namespace)\">")
        if service.region != "us-east-1" { xml.append(service.region.utf8) }
        xml.raw("</LocationConstraint>")
        try await respond(xml: xml)
    }

    // MARK: Tags and access lists

    func getBucketTagging() async throws(S3Error) {
        let bucket = try await open(.getBucketTagging).bucket
        guard !bucket.settings.tagList.isEmpty else { throw S3Error(.noSuchTagSet) }
        var xml = XMLWriter()
        Tag.write(bucket.settings.tagList, into: &xml)
        try await respond(xml: xml)
    }

    func putBucketTagging() async throws(S3Error) {
        let (bucket, actor) = try await open(.putBucketTagging)
        let tags = try Tag.parse(try await document(), max: Tag.bucketMax)
        try await set(BucketSettings.tags, tags.isEmpty ? nil : Tag.encode(tags), bucket, actor)
        respond(.noContent)
    }

    func deleteBucketTagging() async throws(S3Error) {
        let (bucket, actor) = try await open(.putBucketTagging)
        try await set(BucketSettings.tags, nil, bucket, actor)
        respond(.noContent)
    }

    /// Only the bucket's owner, whatever others may write into it. `check` is held to what the bucket says in that very moment.
    func set(
        _ name: String, _ value: [UInt8]?, _ bucket: Bucket, _ actor: Credential,
        _ check: (BucketSettings) throws(S3Error) -> Void = { _ in }
    ) async throws(S3Error) {
        guard actor.uid == bucket.directory.uid || actor.uid == 0 else { throw S3Error(.accessDenied) }
        let volume = volume
        let (own, asking) = (ownCaller, caller(actor))
        let set: (value: S3Error?, number: UInt64)
        do throws(FileError) {
            set = try await supplied {
                volume.changingVersions { () -> Attempt<S3Error?> in
                    switch volume.extendedAttributes(own, bucket.file, prefixes: BucketSettings.versionPrefixes) {
                    case .done(let found, _):
                        do throws(S3Error) { try check(BucketSettings(found)) } catch { return .done(error, number: 0) }
                    case .refused(let error): return .refused(error)
                    case .lacks(let lack): return .lacks(lack)
                    }
                    switch volume.setExtendedAttribute(asking, bucket.file, name, value) {
                    case .done(_, let number): return .done(nil, number: number)
                    case .refused(let error): return .refused(error)
                    case .lacks(let lack): return .lacks(lack)
                    }
                }
            }
        } catch {
            guard error == .noAttribute else { throw S3Error(file: error) }
            return try await settleAll(bucket)
        }
        if let refusal = set.value { throw refusal }
        try await settle(set.number)
    }

    /// The body as XML.
    func document() async throws(S3Error) -> XMLElement {
        guard let body else { throw S3Error(.missingRequestBody, "Request Body is empty") }
        let bytes = try await body.whole(max: limits.documentBytesMax)
        guard !bytes.isEmpty else { throw S3Error(.missingRequestBody, "Request Body is empty") }
        return try XMLElement(bytes)
    }

    func getBucketACL() async throws(S3Error) {
        let bucket = try await open(.getBucketAcl).bucket
        try await respond(xml: accessList(bucket.directory.uid, bucket.settings.cannedACL))
    }

    func putBucketACL() async throws(S3Error) {
        let (bucket, actor) = try await open(.putBucketAcl)
        let acl = try await requestedACL(bucket.directory.uid)
        try await set(
            BucketSettings.acl, acl == .private ? nil : Array(acl.rawValue.utf8), bucket, actor)
        try await set(acl, bucket.directory, actor)
        respond()
    }

    /// By a header, or by a list that says what a canned one does.
    func requestedACL(_ owner: UInt32) async throws(S3Error) -> CannedACL {
        let acl = try CannedACL(request)
        if request.value("x-amz-acl") != nil { return acl }
        guard let body, body.length != 0 else {
            throw S3Error(.missingSecurityHeader, details: [("MissingHeaderName", "x-amz-acl")])
        }
        let root = try await document()
        guard root.name == "AccessControlPolicy", let list = root["AccessControlList"] else {
            throw S3Error(.malformedACL, "The XML you provided was not well-formed or did not validate.")
        }
        var rights: Set<String> = []
        for grant in list.all("Grant") {
            let who = grant["Grantee"]?.text("URI") ?? grant["Grantee"]?.text("ID") ?? ""
            let name = who == "\(owner)" ? "owner" : String(who.split(separator: "/").last ?? "")
            rights.insert("\(name) \(grant.text("Permission") ?? "")")
        }
        rights.remove("owner FULL_CONTROL")
        switch rights {
        case []: return .private
        case ["AllUsers READ"]: return .publicRead
        case ["AllUsers READ", "AllUsers WRITE"]: return .publicReadWrite
        case ["AuthenticatedUsers READ"]: return .authenticatedRead
        default:
            throw S3Error(
                .notImplemented, "Access lists other than canned ones are not implemented; use a bucket policy.")
        }
    }

    func accessList(_ owner: UInt32, _ acl: CannedACL) -> XMLWriter {
        func grant(_ who: String, _ right: String) -> String {
            "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"Group\">"
                + "<URI>http://acs.amazonaws.com/groups/global/\(who)</URI></Grantee>"
                + "<Permission>\(right)</Permission></Grant>"
        }
        var xml = XMLWriter()
        xml.root("AccessControlPolicy") { xml in
            writeOwner(owner, "Owner", &xml)
            xml.element("AccessControlList") { xml in
                xml.raw(
                    "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">"
                )
                xml.element("ID", "\(owner)")
                xml.element("DisplayName", service.credentials.userName(uid: owner) ?? "\(owner)")
                xml.raw("</Grantee><Permission>FULL_CONTROL</Permission></Grant>")
                switch acl {
                case .private, .bucketOwnerRead, .bucketOwnerFullControl: break
                case .publicRead: xml.raw(grant("AllUsers", "READ"))
                case .publicReadWrite: xml.raw(grant("AllUsers", "READ") + grant("AllUsers", "WRITE"))
                case .authenticatedRead: xml.raw(grant("AuthenticatedUsers", "READ"))
                }
            }
        }
        return xml
    }

    // MARK: What is not served

    /// Clients ask for these to see what there is, and must not take silence for a failure: S3's own answer of a bucket
    /// that has none.
    func getUnserved(_ part: StaticString) async throws(S3Error) {
        guard let action = S3Action.get(part) else { throw S3Error(.notImplemented) }
        _ = try await open(action)
        var xml = XMLWriter()
        switch part.description {
        case "encryption": throw S3Error(.noSuchEncryption, "The server side encryption configuration was not found")
        case "ownershipControls":
            throw S3Error(.noSuchOwnershipControls, "The bucket ownership controls were not found")
        case "publicAccessBlock":
            throw S3Error(.noSuchPublicAccessBlock, "The public access block configuration was not found")
        case "replication":
            throw S3Error(.noSuchReplication, "The replication configuration was not found")
        case "website":
            throw S3Error(.noSuchWebsite, "The specified bucket does not have a website configuration")
        case "notification": xml.root("NotificationConfiguration") { _ in }
        case "logging": xml.root("BucketLoggingStatus") { _ in }
        case "accelerate": xml.root("AccelerateConfiguration") { _ in }
        case "requestPayment":
            xml.root("RequestPaymentConfiguration") { $0.element("Payer", "BucketOwner") }
        default: throw S3Error(.notImplemented)
        }
        try await respond(xml: xml)
    }

    /// Nothing is there, and nothing is there afterwards.
    func deleteUnserved(_ part: StaticString) async throws(S3Error) {
        guard let action = S3Action.delete(part) else { throw S3Error(.notImplemented) }
        _ = try await open(action)
        respond(.noContent)
    }
}
