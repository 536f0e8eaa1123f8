import Logging
import Namespace
import Runtime
import XML

/// Ends what the rules of a volume's buckets end, and what a crash has left of uploads. Works in steps between which
/// requests of the loop have their turn.
final class Sweeper: FileWork, @unchecked Sendable {
    let service: S3Service
    let loop: EventLoop
    let volume: Volume
    var isReadOnly: Bool { false }
    private(set) var word: Durability?
    private var steps = 0

    init(_ service: S3Service, _ volume: Volume, _ loop: EventLoop) {
        (self.service, self.volume, self.loop) = (service, volume, loop)
    }

    /// One round over all buckets.
    func sweep() async throws(S3Error) {
        let volume = volume
        var buckets: [(name: [UInt8], file: FileID)] = []
        var cookie: UInt64 = 0
        while true {
            let from = cookie
            let known = buckets.count
            let isAll = try await value {
                buckets.removeSubrange(known...)
                cookie = from
                return volume.list(ownCaller, volume.root, after: from, limit: 256, attributes: true) { entry, name in
                    cookie = entry.cookie
                    if entry.type == .directory, let file = entry.attributes?.file {
                        buckets.append((Array(name), file))
                    }
                    return true
                }
            }
            if isAll || cookie == from { break }
            await othersTurn()
        }
        for bucket in buckets where Bucket.isShown(bucket.name) {
            do throws(S3Error) { try await sweep(String(decoding: bucket.name, as: UTF8.self)) } catch {
                // The others have theirs all the same.
                service.logger.warning(
                    "a bucket's rules could not be carried out",
                    [.init("volume", volume.name), .init("why", "\(error.code.rawValue): \(error.message)")])
            }
        }
        try await sweepLeftovers(Set(buckets.map { $0.file }))
    }

    private func sweep(_ name: String) async throws(S3Error) {
        let bucket = try await findBucket(name)
        word = bucket.settings.durability
        defer { word = nil }
        guard !bucket.settings.lifecycleText.isEmpty else { return }
        let rules = try LifecycleRules(try XMLElement(bucket.settings.lifecycleText))
        try await sweepObjects(bucket, rules)
        if bucket.settings.versioning != .none { try await sweepShelf(bucket, rules) }
        try await sweepUploads(bucket, rules)
    }

    private func step() async {
        steps += 1
        if steps % Self.turnMax == 0 { await othersTurn() }
    }

    private func tags(_ file: Attributes, _ rules: LifecycleRules) async throws(S3Error) -> [Tag] {
        guard rules.wantsTags else { return [] }
        let volume = volume
        let found = try await found {
            volume.extendedAttributes(ownCaller, file.file, prefixes: Metadata.prefixes)
        }
        return Metadata(found ?? []).record.tags
    }

    /// Newest versions. Directories stay: they are there for files, too.
    private func sweepObjects(_ bucket: Bucket, _ rules: LifecycleRules) async throws(S3Error) {
        let volume = volume
        var place: [UInt8]? = []
        while let from = place {
            var found: [(key: [UInt8], file: Attributes)] = []
            place = try await value {
                found.removeAll()
                return volume.listPaths(
                    ownCaller, below: bucket.file, from: from, prefix: [], limit: Self.entriesPerStep
                ) { path, file in
                    // What is mounted below has no rules.
                    if file.type == .file, file.file.subvolume == bucket.file.subvolume {
                        found.append((Array(path), file))
                    }
                    return true
                }
            }
            for (key, file) in found {
                await step()
                let tags = try await tags(file, rules)
                guard let end = rules.end(key, tags: tags, size: file.size, modified: file.modified),
                    end.seconds <= now / 1_000_000_000
                else { continue }
                try await expire(key, file, bucket)
            }
            await othersTurn()
        }
    }

    private func expire(_ key: [UInt8], _ file: Attributes, _ bucket: Bucket) async throws(S3Error) {
        do throws(S3Error) {
            let key = try ObjectKey(key)
            guard try await isAtHome(key, bucket) else { return }
            _ = try await deleteNewest(bucket, key, .root, match: nil, only: file)
        } catch {
            // It is another one by now, is open, or is locked: the next round looks again.
            switch error.code {
            case .noSuchKey, .conditionalRequestConflict, .operationAborted, .accessDenied: break
            default: throw error
            }
        }
    }

    /// Whether its directories lie in the bucket, and are not bound there: what lies elsewhere in the volume has other rules.
    private func isAtHome(_ key: ObjectKey, _ bucket: Bucket) async throws(S3Error) -> Bool {
        let volume = volume
        guard var place = try await locate(bucket.file, key.parents, ownCaller)?.file else { return false }
        for name in key.parents.reversed() {
            let here = place
            let above = try await found { volume.fileSystem.whereabouts(ownCaller.request, of: here) }
            guard let above = above ?? nil, above.name == name else { return false }
            place = above.directory
        }
        return place == bucket.file
    }

    /// What is known of the key whose versions are passing.
    private struct Passing {
        var key: [UInt8] = []
        /// The version before it in the order, which is newer.
        var newer: VersionID?
        var older = 0
        /// The newest of its key, and nothing else has passed.
        var mark: ShelvedVersion?
    }

    private func sweepShelf(_ bucket: Bucket, _ rules: LifecycleRules) async throws(S3Error) {
        guard let home = try await shelfHome(bucket, make: false) else { return }
        var passing = Passing()
        var place: [UInt8]? = []
        while let from = place {
            let page = try await shelved(home, prefix: [], from: from, max: Self.entriesPerStep)
            for version in page.versions {
                await step()
                if version.path.key != passing.key || passing.newer == nil {
                    try await finish(passing, rules, home)
                    passing = Passing(key: version.path.key)
                    let current = try await current(bucket, try ObjectKey(version.path.key))
                    passing.newer = current?.id
                    if current == nil, version.isMark { passing.mark = version }
                } else {
                    passing.mark = nil
                }
                if let newer = passing.newer {
                    let tags = version.isMark ? [] : try await tags(version.file, rules)
                    let isOver = rules.ends(
                        older: version.path.key, tags: tags, size: version.file.size,
                        since: Self.time(version, left: newer), newer: passing.older, now: now)
                    if isOver, try await !lock(version.file).isInForce(now) {
                        _ = try await removeShelved(home, version)
                    }
                    passing.older += 1
                }
                passing.newer = version.id
            }
            place = page.next
            await othersTurn()
        }
        try await finish(passing, rules, home)
    }

    /// When a version left its place to a newer one. A null one does not say when it came, and clients set its other times: then
    /// it is when the older one was last touched, which it was by leaving.
    private static func time(_ version: ShelvedVersion, left newer: VersionID) -> Int64 {
        switch newer {
        case .stamped(let stamp): Int64(clamping: stamp.time)
        case .null: version.file.changed
        }
    }

    /// A mark that hides nothing any more.
    private func finish(_ passing: Passing, _ rules: LifecycleRules, _ home: FileID) async throws(S3Error) {
        guard let mark = passing.mark,
            rules.ends(mark: passing.key, made: Int64(clamping: mark.path.time), now: now)
        else { return }
        _ = try await removeShelved(home, mark)
    }

    private func sweepUploads(_ bucket: Bucket, _ rules: LifecycleRules) async throws(S3Error) {
        guard let home = try await uploads(of: bucket.file, make: false) else { return }
        let volume = volume
        for (id, directory) in try await everyUpload(home.file) {
            await step()
            guard let file = try await found({ volume.attributes(ownCaller, directory) }),
                let attributes = try await found({
                    volume.extendedAttributes(ownCaller, directory, prefixes: Upload.prefixes)
                }),
                let upload = Upload(id, file, attributes),
                rules.ends(upload: upload.key, began: file.born, now: now)
            else { continue }
            _ = try await removeUpload(directory, id, bucket.file)
        }
    }

    /// Uploads and shelves of buckets that are gone: a crash came between the two.
    private func sweepLeftovers(_ buckets: Set<FileID>) async throws(S3Error) {
        let volume = volume
        let names = Set(buckets.map { UploadPlace.name(ofBucket: $0) })
        guard let home = try await locate(volume.root, UploadPlace.root, ownCaller) else { return }
        var left: [FileID] = []
        var cookie: UInt64 = 0
        while true {
            let from = cookie
            let known = left.count
            let isAll = try await value {
                left.removeSubrange(known...)
                cookie = from
                return volume.list(ownCaller, home.file, after: from, limit: 256, attributes: false) { entry, name in
                    cookie = entry.cookie
                    // What is mounted, or was, may come back.
                    if !names.contains(Array(name)), let bucket = UploadPlace.bucket(Array(name)),
                        bucket.subvolume == volume.root.subvolume
                    {
                        left.append(bucket)
                    }
                    return true
                }
            }
            if isAll || cookie == from { break }
            await othersTurn()
        }
        for bucket in left {
            // Made since the list was?
            if try await found({ volume.attributes(ownCaller, bucket) }) == nil { await removeUploads(of: bucket) }
        }
        for bucket in buckets { try await sweepEnded(bucket) }
    }

    /// Uploads that are complete, or that were never begun to the end. Those of the last minutes may be somebody's work.
    private func sweepEnded(_ bucket: FileID) async throws(S3Error) {
        guard let home = try await uploads(of: bucket, make: false) else { return }
        let volume = volume
        for (id, directory) in try await everyUpload(home.file) {
            await step()
            guard let file = try await found({ volume.attributes(ownCaller, directory) }),
                file.changed < now - Self.ownersNanoseconds,
                let attributes = try await found({
                    volume.extendedAttributes(ownCaller, directory, prefixes: Upload.prefixes)
                }), Upload(id, file, attributes) == nil
            else { continue }
            _ = try await removeUpload(directory, id, bucket)
        }
    }

    private static let ownersNanoseconds: Int64 = 600 * 1_000_000_000
}

extension S3Service {
    /// One round over all volumes. On the loop.
    public func sweep(on loop: EventLoop) async {
        for volume in volumes.all where !volume.isReadOnly {
            do throws(S3Error) { try await Sweeper(self, volume, loop).sweep() } catch {
                logger.warning(
                    "the rules of a volume's buckets could not be carried out",
                    [.init("volume", volume.name), .init("why", "\(error.code.rawValue): \(error.message)")])
            }
        }
    }

    /// From now on, as often as the limits say; the last round ends with the loop.
    public func startSweeping(on loop: EventLoop) {
        let pause = limits.sweepNanoseconds
        loop.task { [weak self] in
            while true {
                await loop.sleep(nanoseconds: pause)
                guard let self else { return }
                await sweep(on: loop)
            }
        }
    }
}
