import HTTP
import Namespace
import Runtime
import XML

/// A page of all versions of a bucket's objects.
private struct VersionPage {
    enum Item {
        case version(key: [UInt8], VersionID, Attributes, isMark: Bool, isNewest: Bool)
        case prefix([UInt8])
    }

    var items: [Item] = []
    var isTruncated = false
}

/// Files and what lies on the shelf, both in the order of their keys: a page is a merge of the two that begins where the
/// last one ended, so that the last page costs what the first one does.
extension S3Call {
    private struct Files {
        var ahead: ArraySlice<(key: [UInt8], file: Attributes)> = []
        /// Nil: there are no more.
        var next: [UInt8]?
    }

    private struct Shelved {
        var ahead: ArraySlice<ShelvedVersion> = []
        var next: [UInt8]?
    }

    /// Where a page begins.
    private struct Start {
        var files: [UInt8]?
        var shelved: [UInt8]?
        /// Versions of this key have been told already.
        var key: [UInt8]?
    }

    private func fill(
        _ files: inout Files, _ bucket: Bucket, _ actor: Credential, _ prefix: [UInt8]
    ) async throws(S3Error) {
        let volume = volume
        while files.ahead.isEmpty, let from = files.next {
            var found: [(key: [UInt8], file: Attributes)] = []
            files.next = try await value {
                found.removeAll()
                return volume.listPaths(
                    caller(actor), below: bucket.file, from: from, prefix: prefix, limit: Self.entriesPerStep
                ) { path, file in
                    if Self.isObject(file) { found.append((Array(path), file)) }
                    return true
                }
            }
            files.ahead = found[...]
            await othersTurn()
        }
    }

    private func fill(_ shelved: inout Shelved, _ home: FileID?, _ prefix: [UInt8]) async throws(S3Error) {
        guard let home else {
            shelved.next = nil
            return
        }
        while shelved.ahead.isEmpty, let from = shelved.next {
            let page = try await self.shelved(home, prefix: prefix, from: from, max: Self.entriesPerStep)
            shelved.ahead = page.versions[...]
            shelved.next = page.next
        }
    }

    private func page(
        _ bucket: Bucket, _ actor: Credential, _ wanted: Wanted, _ start: Start
    ) async throws(S3Error) -> VersionPage {
        let home = bucket.settings.versioning == .none ? nil : try await shelfHome(bucket, make: false)
        let shelfPrefix = ShelfPath.prefix(ofKeys: wanted.prefix)
        var files = Files(next: start.files)
        var shelved = Shelved(next: start.shelved)
        var page = VersionPage()
        var told = start.key
        while true {
            try await fill(&files, bucket, actor, wanted.prefix)
            try await fill(&shelved, home, shelfPrefix)
            let file = files.ahead.first
            let older = shelved.ahead.first
            guard let key = Self.first(file?.key, older?.path.key) else { return page }
            guard page.items.count < wanted.pageMax else {
                page.isTruncated = true
                return page
            }
            if !wanted.delimiter.isEmpty,
                let end = key.withUnsafeBytes({ Self.end(of: wanted.delimiter, in: $0, from: wanted.prefix.count) })
            {
                let common = Array(key[..<end])
                page.items.append(.prefix(common))
                let behind = Self.behind(common)
                files = Files(next: behind)
                shelved = Shelved(next: behind.map { ShelfPath.prefix(ofKeys: $0) })
                continue
            }
            if let file, file.key == key {
                files.ahead.removeFirst()
                let id = try await id(of: file.file, bucket)
                page.items.append(.version(key: key, id, file.file, isMark: false, isNewest: true))
            } else if let older {
                shelved.ahead.removeFirst()
                // What a file client has removed has older versions and no newest one.
                let isNewest = told != key && older.isMark
                page.items.append(.version(key: key, older.id, older.file, isMark: older.isMark, isNewest: isNewest))
            }
            told = key
        }
    }

    private static func first(_ a: [UInt8]?, _ b: [UInt8]?) -> [UInt8]? {
        guard let a else { return b }
        guard let b else { return a }
        return b.lexicographicallyPrecedes(a) ? b : a
    }

    private func id(of file: Attributes, _ bucket: Bucket) async throws(S3Error) -> VersionID {
        guard bucket.settings.versioning != .none, file.type == .file, file.seal != nil else { return .null }
        let volume = volume
        let found = try await found {
            volume.extendedAttributes(ownCaller, file.file, prefixes: Metadata.prefixes)
        }
        return CurrentVersion(file: file, record: Metadata(found ?? []).record).id
    }

    /// Behind the version that the markers name, or behind all of the key.
    private func start(_ bucket: Bucket, _ wanted: Wanted) async throws(S3Error) -> Start {
        let marker = query.bytes("key-marker") ?? []
        let text = query["version-id-marker"] ?? ""
        guard !marker.isEmpty else {
            guard text.isEmpty else {
                throw S3Error(.invalidArgument, "A version-id marker cannot be specified without a key marker.")
            }
            return Start(files: [], shelved: [])
        }
        let behind = start(behind: marker, wanted)
        guard !text.isEmpty else {
            // Nothing that is a version's has a byte 255 there.
            let shelved =
                behind == marker + [0]
                ? ShelfPath.prefix(ofVersionsOf: marker) + [0xff] : behind.map { ShelfPath.prefix(ofKeys: $0) }
            return Start(files: behind, shelved: shelved, key: marker)
        }
        guard let id = VersionID(text) else {
            throw S3Error(
                .invalidArgument, "Invalid version id specified",
                details: [("ArgumentName", "version-id-marker"), ("ArgumentValue", text)])
        }
        var shelved = ShelfPath.prefix(ofVersionsOf: marker)
        switch id {
        case .stamped(let stamp): shelved = ShelfPath.prefix(of: stamp, of: marker) + [0xff]
        case .null:
            // Its name does not tell where it lies: on the shelf, or it was the file itself.
            if let found = try await shelvedNull(bucket, marker) { shelved = found.path.bytes + [0] }
        }
        return Start(files: marker + [0], shelved: shelved, key: marker)
    }

    func listVersions() async throws(S3Error) {
        let (bucket, actor) = try await open(.listBucketVersions)
        let wanted = try wanted()
        let marker = query.bytes("key-marker") ?? []
        let start = try await start(bucket, wanted)
        var page = VersionPage()
        if wanted.max > 0 { page = try await self.page(bucket, actor, wanted, start) }
        var xml = XMLWriter()
        xml.root("ListVersionsResult") { xml in
            xml.element("Name", bucket.name)
            xml.element("Prefix", bytes: wanted.text(wanted.prefix))
            xml.element("KeyMarker", bytes: wanted.text(marker))
            xml.element("VersionIdMarker", query["version-id-marker"] ?? "")
            if page.isTruncated, let last = page.items.last {
                switch last {
                case .version(let key, let id, _, _, _):
                    xml.element("NextKeyMarker", bytes: wanted.text(key))
                    xml.element("NextVersionIdMarker", id.text)
                case .prefix(let key): xml.element("NextKeyMarker", bytes: wanted.text(key))
                }
            }
            writeCommon(wanted, isTruncated: page.isTruncated, &xml)
            for case .version(let key, let id, let file, let isMark, let isNewest) in page.items {
                xml.element(isMark ? "DeleteMarker" : "Version") { xml in
                    xml.element("Key", bytes: wanted.text(key))
                    xml.element("VersionId", id.text)
                    xml.element("IsLatest", isNewest)
                    xml.element("LastModified", Timestamp.extended(nanoseconds: file.modified))
                    if !isMark {
                        xml.element("ETag", EntityTag.quoted(file))
                        xml.element("Size", file.type == .file ? file.size : 0)
                        xml.element("StorageClass", "STANDARD")
                    }
                    // A mark of a key that had no file is the server's own.
                    writeOwner(isMark && file.uid == 0 ? bucket.directory.uid : file.uid, "Owner", &xml)
                }
            }
            for case .prefix(let prefix) in page.items {
                xml.element("CommonPrefixes") { $0.element("Prefix", bytes: wanted.text(prefix)) }
            }
        }
        try await respondListing(xml)
    }
}
