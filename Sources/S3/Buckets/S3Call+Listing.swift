import HTTP
import Namespace
import Runtime
import XML

/// One page of a bucket's keys.
struct KeyPage {
    enum Item {
        case object(key: [UInt8], Attributes)
        case prefix([UInt8])
    }

    var items: [Item] = []
    /// What comes next begins here; nil: there is no more.
    var next: [UInt8]?
}

/// Listings in the byte order of whole keys. A page begins where the one before ended, by a search in the tree: the
/// last one costs what the first one does.
extension FileWork {
    static var entriesPerStep: Int { 256 }

    /// Up to `max` keys and common prefixes that are not before `start`.
    func page(
        _ bucket: Bucket, _ actor: Credential, prefix: [UInt8], delimiter: [UInt8], from start: [UInt8], max: Int
    ) async throws(S3Error) -> KeyPage {
        let volume = volume
        var page = KeyPage()
        page.items.reserveCapacity(max)
        var place: [UInt8]? = start
        while let from = place {
            var jump: [UInt8]??
            let next = try await value {
                volume.listPaths(
                    caller(actor), below: bucket.file, from: from, prefix: prefix, limit: Self.entriesPerStep
                ) { path, file in
                    guard Self.isObject(file) else { return true }
                    if !delimiter.isEmpty, let end = Self.end(of: delimiter, in: path, from: prefix.count) {
                        let common = Array(path[..<end])
                        guard page.items.count < max else {
                            jump = .some(Array(path))
                            return false
                        }
                        page.items.append(.prefix(common))
                        jump = .some(Self.behind(common))
                        return false
                    }
                    guard page.items.count < max else {
                        jump = .some(Array(path))
                        return false
                    }
                    page.items.append(.object(key: Array(path), file))
                    return true
                }
            }
            if let jump {
                place = jump
                guard page.items.count < max else { break }
            } else {
                place = next
            }
            await othersTurn()
        }
        // Full, and perhaps nothing follows: the next step tells.
        if let from = place, page.items.count >= max {
            page.next = try await hasMore(bucket, actor, prefix, from) ? from : nil
        }
        return page
    }

    /// Files, and directories that somebody made for their own sake.
    static func isObject(_ file: Attributes) -> Bool {
        file.type == .file || (file.type == .directory && !file.isImplied)
    }

    private func hasMore(
        _ bucket: Bucket, _ actor: Credential, _ prefix: [UInt8], _ start: [UInt8]
    ) async throws(S3Error) -> Bool {
        let volume = volume
        var place: [UInt8]? = start
        while let from = place {
            var isThere = false
            place = try await value {
                volume.listPaths(caller(actor), below: bucket.file, from: from, prefix: prefix, limit: 16) { _, file in
                    isThere = Self.isObject(file)
                    return !isThere
                }
            }
            if isThere { return true }
            await othersTurn()
        }
        return false
    }

    /// Where the delimiter ends that comes first behind `start`.
    static func end(of delimiter: [UInt8], in path: UnsafeRawBufferPointer, from start: Int) -> Int? {
        guard path.count >= delimiter.count, start <= path.count - delimiter.count else { return nil }
        for place in start...(path.count - delimiter.count)
        where path[place..<(place + delimiter.count)].elementsEqual(delimiter) { return place + delimiter.count }
        return nil
    }

    /// The first key behind all that begin with `prefix`; nil: there can be none.
    static func behind(_ prefix: [UInt8]) -> [UInt8]? {
        var key = prefix
        while let last = key.popLast() {
            if last < 0xff { return key + [last + 1] }
        }
        return nil
    }
}

// MARK: - Requests

extension S3Call {
    struct Wanted {
        var prefix: [UInt8]
        var delimiter: [UInt8]
        var max: Int
        /// Fewer than `max` when memory is short.
        var pageMax: Int
        var isURL: Bool

        func text(_ key: [UInt8]) -> [UInt8] { isURL ? PercentCoding.encode(key, keepsSlash: true) : key }
    }

    func wanted() throws(S3Error) -> Wanted {
        let encoding = query["encoding-type"] ?? ""
        guard encoding.isEmpty || encoding == "url" else {
            throw S3Error(
                .invalidArgument, "Invalid Encoding Method specified in Request",
                details: [("ArgumentName", "encoding-type"), ("ArgumentValue", encoding)])
        }
        let max = min(try query.number("max-keys") ?? limits.keysMax, limits.keysMax)
        return Wanted(
            prefix: query.bytes("prefix") ?? [], delimiter: query.bytes("delimiter") ?? [], max: max,
            pageMax: holdPage(max, each: Self.entryBytes), isURL: encoding == "url")
    }

    /// What an entry takes with a key of usual length.
    private static var entryBytes: Int { 512 }

    /// Where to go on behind a marker: a key, or a common prefix whose keys have all been told.
    func start(behind marker: [UInt8], _ wanted: Wanted) -> [UInt8]? {
        if !wanted.delimiter.isEmpty, marker.starts(with: wanted.prefix) {
            let end = marker.withUnsafeBytes { Self.end(of: wanted.delimiter, in: $0, from: wanted.prefix.count) }
            if let end, end == marker.count { return Self.behind(marker) }
        }
        return marker + [0]
    }

    func listObjects() async throws(S3Error) {
        let (bucket, actor) = try await open(.listBucket)
        let wanted = try wanted()
        let list = query["list-type"]
        guard list == nil || list == "2" else {
            throw S3Error(.invalidArgument, details: [("ArgumentName", "list-type"), ("ArgumentValue", list ?? "")])
        }
        if list == "2" { return try await listSecond(bucket, actor, wanted) }
        let marker = query.bytes("marker") ?? []
        let page = try await page(bucket, actor, wanted, from: marker.isEmpty ? [] : start(behind: marker, wanted))
        var xml = XMLWriter()
        xml.root("ListBucketResult") { xml in
            xml.element("Name", bucket.name)
            xml.element("Prefix", bytes: wanted.text(wanted.prefix))
            xml.element("Marker", bytes: wanted.text(marker))
            if page.next != nil, !wanted.delimiter.isEmpty, let last = page.items.last {
                switch last {
                case .object(let key, _), .prefix(let key): xml.element("NextMarker", bytes: wanted.text(key))
                }
            }
            writeCommon(wanted, isTruncated: page.next != nil, &xml)
            write(page, wanted, withOwner: true, &xml)
        }
        try await respondListing(xml)
    }

    private func listSecond(_ bucket: Bucket, _ actor: Credential, _ wanted: Wanted) async throws(S3Error) {
        let after = query.bytes("start-after") ?? []
        var from: [UInt8]? = after.isEmpty ? [] : start(behind: after, wanted)
        let token = query["continuation-token"]
        if let token {
            guard let place = PercentCoding.decode(token.utf8), !token.isEmpty else {
                throw S3Error(.invalidArgument, "The continuation token provided is incorrect")
            }
            from = place
        }
        let page = try await page(bucket, actor, wanted, from: from)
        var xml = XMLWriter()
        xml.root("ListBucketResult") { xml in
            xml.element("Name", bucket.name)
            xml.element("Prefix", bytes: wanted.text(wanted.prefix))
            if !after.isEmpty { xml.element("StartAfter", bytes: wanted.text(after)) }
            if let token { xml.element("ContinuationToken", token) }
            if let next = page.next {
                // The key itself, in letters that every client keeps as they are.
                xml.element("NextContinuationToken", bytes: PercentCoding.encode(next, keepsSlash: false))
            }
            xml.element("KeyCount", page.items.count)
            writeCommon(wanted, isTruncated: page.next != nil, &xml)
            write(page, wanted, withOwner: query["fetch-owner"] == "true", &xml)
        }
        try await respondListing(xml)
    }

    private func page(
        _ bucket: Bucket, _ actor: Credential, _ wanted: Wanted, from start: [UInt8]?
    ) async throws(S3Error) -> KeyPage {
        guard let start, wanted.max > 0 else { return KeyPage() }
        return try await page(
            bucket, actor, prefix: wanted.prefix, delimiter: wanted.delimiter, from: start, max: wanted.pageMax)
    }

    func respondListing(_ xml: XMLWriter) async throws(S3Error) {
        var fields = ResponseFields()
        fields.add("x-amz-bucket-region", service.region)
        try await respond(.ok, fields, xml: xml)
    }

    func writeCommon(_ wanted: Wanted, isTruncated: Bool, _ xml: inout XMLWriter) {
        xml.element("MaxKeys", wanted.max)
        if !wanted.delimiter.isEmpty { xml.element("Delimiter", bytes: wanted.text(wanted.delimiter)) }
        xml.element("IsTruncated", isTruncated)
        if wanted.isURL { xml.element("EncodingType", "url") }
    }

    private func write(_ page: KeyPage, _ wanted: Wanted, withOwner: Bool, _ xml: inout XMLWriter) {
        // Most of a page came in few seconds, and from few users.
        var time = (second: Int64(-1), text: "")
        for case .object(let key, let file) in page.items {
            if file.modified < 0 || file.modified / 1_000_000_000 != time.second {
                time = (
                    file.modified < 0 ? -1 : file.modified / 1_000_000_000,
                    Timestamp.extended(nanoseconds: file.modified)
                )
            }
            let modified = time.text
            xml.element("Contents") { xml in
                if wanted.isURL {
                    xml.element("Key", bytes: wanted.text(key))
                } else {
                    xml.element("Key", bytes: key)
                }
                xml.element("LastModified", modified)
                xml.element("ETag", EntityTag.quoted(file))
                xml.element("Size", file.type == .file ? file.size : 0)
                if withOwner { writeOwner(file.uid, "Owner", &xml) }
                xml.element("StorageClass", "STANDARD")
            }
        }
        for case .prefix(let prefix) in page.items {
            xml.element("CommonPrefixes") { $0.element("Prefix", bytes: wanted.text(prefix)) }
        }
    }
}
