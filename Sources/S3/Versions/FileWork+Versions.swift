import Namespace
import Runtime

/// What a bucket was told of versions.
enum Versioning: String, Sendable {
    /// Never told: an object is its one version.
    case none = ""
    case enabled = "Enabled"
    case suspended = "Suspended"
}

/// A version that lies on the shelf, or a mark.
struct ShelvedVersion: Sendable {
    var path: ShelfPath
    var file: Attributes

    var id: VersionID { path.id }
    var isMark: Bool { path.isMark }
}

/// An object's newest version, which is the file of its key, with its number.
struct CurrentVersion: Sendable {
    var file: Attributes
    var record: ObjectRecord

    /// What a file client has made or changed is the null version.
    var id: VersionID {
        guard file.type == .file, file.seal != nil, let stamp = record.version else { return .null }
        return .stamped(stamp)
    }

    /// When it came, or was last changed: no client sets this one.
    var time: UInt64 {
        if case .stamped(let stamp) = id { return stamp.time }
        return UInt64(clamping: file.changed)
    }

    /// It may go, with its lock, as it was looked at.
    var judged: ExpectedFile { .judged(file.file, change: file.change) }
}

/// How a version comes in, and where the one before goes.
struct NewVersion: Sendable {
    var stamp: VersionID.Stamp?
    var shelf: Shelf?
    var expected: ExpectedFile
    /// The null version of the key makes room for this one.
    var endsNull = false
    var lock = FileLock()
}

/// An object as it lies there after it was put.
struct StoredObject: Sendable {
    var file: Attributes
    /// Nil: the bucket was never told of versions.
    var version: VersionID?
}

extension FileWork {
    // MARK: The shelf

    private func shelfNames(_ bucket: Bucket) -> [[UInt8]] {
        [Array(Volume.ownName.utf8), Volume.shelvesName, Volume.shelfName(of: bucket.file)]
    }

    func shelfHome(_ bucket: Bucket, make: Bool) async throws(S3Error) -> FileID? {
        try await ownDirectory(shelfNames(bucket), make: make)?.file
    }

    /// The directory and the name of a path below the shelf.
    private func shelf(_ bucket: Bucket, _ path: ShelfPath) async throws(S3Error) -> Shelf {
        guard let home = try await shelfHome(bucket, make: true) else { throw S3Error(.internalError) }
        let names = path.bytes.split(separator: UInt8(ascii: "/")).map { Array($0) }
        let directory = names.count > 1 ? try await makeOwn(names.dropLast(), in: home) : home
        return Shelf(directory: directory, name: names[names.count - 1])
    }

    /// What lies on a shelf from `start` on, in its order: up to `max`, and where it goes on.
    func shelved(
        _ home: FileID, prefix: [UInt8], from start: [UInt8], max: Int
    ) async throws(S3Error) -> (versions: [ShelvedVersion], next: [UInt8]?) {
        let volume = volume
        var found: [ShelvedVersion] = []
        var place: [UInt8]? = start
        while let from = place, found.count < max {
            let known = found.count
            place = try await value {
                found.removeSubrange(known...)
                return volume.listPaths(
                    ownCaller, below: home, from: from, prefix: prefix, limit: min(max - known, Self.entriesPerStep)
                ) { path, file in
                    if file.type == .file, let place = ShelfPath(path) {
                        found.append(ShelvedVersion(path: place, file: file))
                    }
                    return true
                }
            }
            if place != nil { await othersTurn() }
        }
        return (found, place)
    }

    /// The newest of a key that is not the file itself.
    func newestShelved(_ bucket: Bucket, _ key: [UInt8]) async throws(S3Error) -> ShelvedVersion? {
        guard bucket.settings.versioning != .none, let home = try await shelfHome(bucket, make: false) else {
            return nil
        }
        return try await shelved(home, prefix: ShelfPath.prefix(ofVersionsOf: key), from: [], max: 1).versions.first
    }

    /// The null version of a key on the shelf. Others' names tell where they are, this one's does not.
    func shelvedNull(_ bucket: Bucket, _ key: [UInt8]) async throws(S3Error) -> ShelvedVersion? {
        guard let home = try await shelfHome(bucket, make: false) else { return nil }
        let prefix = ShelfPath.prefix(ofVersionsOf: key)
        var place: [UInt8]? = []
        while let from = place {
            let page = try await shelved(home, prefix: prefix, from: from, max: Self.entriesPerStep)
            if let found = page.versions.first(where: { $0.id == .null }) { return found }
            place = page.next
        }
        return nil
    }

    func shelved(_ bucket: Bucket, _ key: [UInt8], _ id: VersionID) async throws(S3Error) -> ShelvedVersion? {
        guard bucket.settings.versioning != .none else { return nil }
        guard case .stamped(let stamp) = id else { return try await shelvedNull(bucket, key) }
        guard let home = try await shelfHome(bucket, make: false) else { return nil }
        return try await shelved(home, prefix: ShelfPath.prefix(of: stamp, of: key), from: [], max: 1).versions.first
    }

    /// The file of a key with its record; nil: there is none, or it is no file.
    func current(_ bucket: Bucket, _ key: ObjectKey) async throws(S3Error) -> CurrentVersion? {
        let volume = volume
        guard let file = try await locate(bucket.file, key.names, ownCaller), file.type == .file else { return nil }
        let found = try await self.found {
            volume.extendedAttributes(ownCaller, file.file, prefixes: Metadata.prefixes)
        }
        return found.map { CurrentVersion(file: file, record: Metadata($0).record) }
    }

    // MARK: Going by the bucket's word

    /// A change that goes by what `bucket` says of versions: `.stale` when the bucket was told otherwise since. The word can not
    /// change in between, nor can the bucket go.
    func going<Value>(by bucket: Bucket, _ caller: Caller, _ change: () -> Attempt<Value>) -> Attempt<Value> {
        volume.goingByVersions {
            switch volume.extendedAttributes(caller, bucket.file, prefixes: BucketSettings.versionPrefixes) {
            case .done(let found, _):
                let said = BucketSettings(found)
                guard said.versioning == bucket.settings.versioning, said.lock == bucket.settings.lock else {
                    return .refused(.stale)
                }
                return change()
            case .refused(let error): return .refused(error)
            case .lacks(let lack): return .lacks(lack)
            }
        }
    }

    /// The bucket with what it says now.
    func again(_ bucket: Bucket) async throws(S3Error) -> Bucket {
        let volume = volume
        let found = try await found {
            volume.extendedAttributes(ownCaller, bucket.file, prefixes: BucketSettings.prefixBytes)
        }
        guard let found else { throw bucket.isGone }
        var bucket = bucket
        bucket.settings = BucketSettings(found)
        return bucket
    }

    // MARK: Coming

    private func newStamp(after time: UInt64?) -> VersionID.Stamp {
        VersionID.Stamp(
            time: max(UInt64(clamping: now), time.map { $0 &+ 1 } ?? 0), salt: service.random.next())
    }

    /// Where the newest version goes when another one comes, or a mark.
    private func shelf(
        _ bucket: Bucket, _ key: [UInt8], for current: CurrentVersion
    ) async throws(S3Error) -> Shelf {
        var id = current.id
        var time = current.time
        if id == .null {
            // Its time is the clock's, which may have been set back since others came.
            if let before = try await newestShelved(bucket, key) { time = max(time, before.path.time &+ 1) }
            // There is one null version of a key: this one gets a number of its own, so that neither is lost.
            if bucket.settings.versioning == .enabled, try await shelvedNull(bucket, key) != nil {
                id = .stamped(VersionID.Stamp(time: time, salt: service.random.next()))
            }
        }
        return try await shelf(bucket, ShelfPath(key: key, id: id, time: time, isMark: false))
    }

    /// How a version of this key comes in now; held to what `expected` says of the file that is there.
    func newVersion(
        _ bucket: Bucket, _ key: ObjectKey, _ expected: ExpectedFile
    ) async throws(S3Error) -> NewVersion {
        let versioning = bucket.settings.versioning
        guard versioning != .none else { return NewVersion(expected: expected) }
        let bytes = key.bytes
        guard let current = try await current(bucket, key) else {
            let before = try await newestShelved(bucket, bytes)
            let isNull = versioning == .suspended
            if isNull, before != nil, let null = try await shelvedNull(bucket, bytes) {
                try await requireUnlocked(null.file)
            }
            return NewVersion(
                stamp: isNull ? nil : newStamp(after: before?.path.time), shelf: nil,
                expected: expected == .anything ? .nothing : expected, endsNull: isNull && before != nil)
        }
        let held =
            expected == .anything ? ExpectedFile.file(current.file.file, change: current.file.change) : expected
        if versioning == .suspended {
            guard current.id != .null else {
                try await requireUnlocked(current.file)
                let judged = held.compared.map { ExpectedFile.judged($0.file, change: $0.change) }
                return NewVersion(stamp: nil, shelf: nil, expected: judged ?? held)
            }
            if let null = try await shelvedNull(bucket, bytes) { try await requireUnlocked(null.file) }
            return NewVersion(
                stamp: nil, shelf: try await shelf(bucket, bytes, for: current), expected: held, endsNull: true)
        }
        return NewVersion(
            stamp: newStamp(after: current.time), shelf: try await shelf(bucket, bytes, for: current),
            expected: held)
    }

    /// Puts an object in its place, and asks again when what was found there is another one by then.
    func placing(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential, expected: ExpectedFile, lock: FileLock,
        _ place: (_ home: FileID, _ version: NewVersion, _ bucket: Bucket) async throws(FileError) -> (
            value: PlacedFile, number: UInt64
        )
    ) async throws(S3Error) -> (value: StoredObject, number: UInt64) {
        var bucket = bucket
        var tries = 0
        while true {
            tries += 1
            var version = try await newVersion(bucket, key, expected)
            // The body may have taken its time: the bucket's retention counts from now on.
            version.lock = try bucket.lock(lock, now)
            var placed: (value: PlacedFile, number: UInt64)
            do throws(FileError) {
                let home = try await makeParents(bucket, key, actor, isKept: !version.lock.isEmpty)
                placed = try await place(home, version, bucket)
            } catch {
                switch error {
                case .exists where expected == .nothing: throw Conditions.failed("If-None-Match")
                case .exists where version.expected == expected: throw S3Error(.keyConflict)
                case .stale, .noEntry, .exists:
                    let known = bucket.settings
                    bucket = try await again(bucket)
                    let isTold = known.versioning != bucket.settings.versioning || known.lock != bucket.settings.lock
                    if case .file = expected, !isTold {
                        throw error == .noEntry ? S3Error(.noSuchKey) : S3Error(.conditionalRequestConflict)
                    }
                    guard tries < Self.triesMax else { throw S3Error(.operationAborted) }
                    continue
                default: throw S3Error(file: error)
                }
            }
            if version.endsNull { placed.number = max(placed.number, try await endNull(bucket, key.bytes)) }
            guard bucket.settings.versioning != .none else {
                return (StoredObject(file: placed.value.file, version: nil), placed.number)
            }
            let id = version.stamp.map { VersionID.stamped($0) } ?? .null
            return (StoredObject(file: placed.value.file, version: id), placed.number)
        }
    }

    /// Another null version has come, at `path` if it is a mark: the ones on the shelf go, if nothing holds them.
    private func endNull(
        _ bucket: Bucket, _ key: [UInt8], but path: ShelfPath? = nil
    ) async throws(S3Error) -> UInt64 {
        guard let home = try await shelfHome(bucket, make: false) else { return 0 }
        let prefix = ShelfPath.prefix(ofVersionsOf: key)
        var number: UInt64 = 0
        var place: [UInt8]? = []
        while let from = place {
            let page = try await shelved(home, prefix: prefix, from: from, max: Self.entriesPerStep)
            for version in page.versions where version.id == .null && version.path != path {
                if try await lock(version.file).isInForce(now) { continue }
                number = max(number, try await removeShelved(home, version) ?? 0)
            }
            place = page.next
        }
        return number
    }

    // MARK: Going

    /// An object goes by its key: with versions a mark takes its place. Refused as `.noSuchKey` when there is nothing.
    func deleteNewest(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential, match: String?, only file: Attributes? = nil
    ) async throws(S3Error) -> (mark: VersionID?, number: UInt64) {
        var bucket = bucket
        for index in 0..<Self.triesMax {
            if index > 0 { bucket = try await again(bucket) }
            let versioning = bucket.settings.versioning
            let current = try await current(bucket, key)
            if let file {
                guard let current, current.file.file == file.file, current.file.change == file.change else {
                    throw S3Error(.conditionalRequestConflict)
                }
            }
            if let match {
                guard let current else { throw S3Error(.noSuchKey) }
                guard EntityTag.list(match, has: EntityTag.of(current.file)) else {
                    throw Conditions.failed("If-Match")
                }
            }
            var mark: ShelfPath?
            if versioning != .none {
                var before = current?.time
                if before == nil { before = try await newestShelved(bucket, key.bytes)?.path.time }
                let stamp = newStamp(after: before)
                mark = ShelfPath(
                    key: key.bytes, id: versioning == .enabled ? .stamped(stamp) : .null, time: stamp.time,
                    isMark: true)
            }
            guard let current else {
                guard let mark else { throw S3Error(.noSuchKey) }
                guard var number = try await leave(mark, bucket) else { continue }
                if mark.id == .null { number = max(number, try await endNull(bucket, key.bytes, but: mark)) }
                return (mark.id, number)
            }
            guard var number = try await withdraw(current, bucket, key, actor, mark) else { continue }
            if mark?.id == .null { number = max(number, try await endNull(bucket, key.bytes, but: mark)) }
            return (mark?.id, max(number, try await removeEmptyParents(bucket, key, actor)))
        }
        throw S3Error(match == nil ? .operationAborted : .conditionalRequestConflict)
    }

    /// Takes an object's name from it, as it was found; nil: it is another one by now. `isJudged`: its lock is in nobody's way.
    private func withdraw(
        _ current: CurrentVersion, _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential, _ mark: ShelfPath?,
        isJudged: Bool = false
    ) async throws(S3Error) -> UInt64? {
        let volume = volume
        var expected = ExpectedFile.file(current.file.file, change: current.file.change)
        var place: Shelf?
        var left: ShelfMark?
        if let mark {
            left = ShelfMark(try await shelf(bucket, mark), uid: actor.uid, gid: actor.gid)
            if bucket.settings.versioning == .suspended, current.id == .null {
                // The null version goes for good, and the mark is the null version then.
                try await requireUnlocked(current.file)
                expected = current.judged
            } else {
                place = try await shelf(bucket, key.bytes, for: current)
            }
        } else if isJudged {
            expected = current.judged
        }
        guard let home = try await locate(bucket.file, key.parents, caller(actor)) else { return nil }
        let name = key.name
        let (wanted, own, asking) = (expected, ownCaller, caller(actor))
        do throws(FileError) {
            return try await supplied {
                going(by: bucket, own) {
                    name.withUnsafeBytes {
                        volume.withdraw(asking, in: home.file, $0, expected: wanted, to: place, leaving: left)
                    }
                }
            }.number
        } catch {
            switch error {
            case .stale, .noEntry, .exists: return nil
            default: throw S3Error(file: error)
            }
        }
    }

    /// A mark of a key that has no file; nil: the bucket says something else by now.
    private func leave(_ mark: ShelfPath, _ bucket: Bucket) async throws(S3Error) -> UInt64? {
        let volume = volume
        let place = try await shelf(bucket, mark)
        let own = ownCaller
        do throws(FileError) {
            return try await supplied {
                going(by: bucket, own) {
                    place.name.withUnsafeBytes {
                        volume.place(
                            own, in: place.directory, $0, UnsafeRawBufferPointer(start: nil, count: 0),
                            NewFile(type: .file, mode: 0), seal: nil, expected: .nothing)
                    }
                }
            }.number
        } catch {
            switch error {
            case .stale, .noEntry: return nil
            default: throw S3Error(file: error)
            }
        }
    }

    /// A version goes for good. When it was the newest, the one before comes back in its place.
    func deleteVersion(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential, _ id: VersionID, bypasses: Bool
    ) async throws(S3Error) -> (wasMark: Bool, number: UInt64)? {
        for _ in 0..<Self.triesMax {
            let current = try await current(bucket, key)
            if let current, current.id == id {
                try await requireUnlocked(current.file, bypasses: bypasses)
                guard let number = try await deleteCurrent(bucket, key, actor, current) else { continue }
                return (false, max(number, try await removeEmptyParents(bucket, key, actor)))
            }
            guard let version = try await shelved(bucket, key.bytes, id),
                let home = try await shelfHome(bucket, make: false)
            else {
                // Between the two looks it may have come from the shelf to its key.
                let again = try await self.current(bucket, key)
                guard again?.file.file == current?.file.file, again?.file.change == current?.file.change else {
                    continue
                }
                return nil
            }
            try await requireUnlocked(version.file, bypasses: bypasses)
            if version.isMark, current == nil, let newest = try await newestShelved(bucket, key.bytes),
                newest.id == id, let before = try await shelvedBehind(home, newest), !before.isMark
            {
                do throws(S3Error) { try await bringBack(before, bucket, key, actor, expected: .nothing) } catch {
                    // The way to it has changed.
                    guard error.code == .conditionalRequestConflict else { throw error }
                    continue
                }
            }
            // It may be the key's file again by now.
            guard let number = try await removeShelved(home, version) else { continue }
            return (version.isMark, number)
        }
        throw S3Error(.operationAborted)
    }

    private func deleteCurrent(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential, _ current: CurrentVersion
    ) async throws(S3Error) -> UInt64? {
        guard let before = try await newestShelved(bucket, key.bytes), !before.isMark else {
            return try await withdraw(current, bucket, key, actor, nil, isJudged: true)
        }
        do throws(S3Error) {
            return try await bringBack(before, bucket, key, actor, expected: current.judged)
        } catch {
            // Somebody else was faster.
            guard error.code == .conditionalRequestConflict else { throw error }
            return nil
        }
    }

    /// The version that comes next on the shelf, of the same key.
    private func shelvedBehind(
        _ home: FileID, _ version: ShelvedVersion
    ) async throws(S3Error) -> ShelvedVersion? {
        try await shelved(
            home, prefix: ShelfPath.prefix(ofVersionsOf: version.path.key), from: version.path.bytes + [0], max: 1
        ).versions.first
    }

    /// A version becomes the file of its key again.
    @discardableResult
    private func bringBack(
        _ version: ShelvedVersion, _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential, expected: ExpectedFile
    ) async throws(S3Error) -> UInt64 {
        let volume = volume
        let place = try await shelf(bucket, version.path)
        let found = try await value {
            volume.extendedAttributes(ownCaller, version.file.file, prefixes: Metadata.prefixes)
        }
        if case .stamped(let stamp) = version.id, Metadata(found).record.version != stamp {
            _ = try await edit(version.file.file, ownCaller) { $0.version = stamp }
        }
        let name = key.name
        do throws(FileError) {
            let home = try await makeParents(bucket, key, actor, isKept: version.file.isLocked)
            return try await supplied {
                name.withUnsafeBytes { volume.unshelve(caller(actor), place, to: home, $0, expected: expected) }
            }.number
        } catch {
            switch error {
            // A newer one has come, or it is back already.
            case .exists where expected == .nothing, .noEntry where expected == .nothing: return 0
            case .stale, .noEntry, .exists: throw S3Error(.conditionalRequestConflict)
            default: throw S3Error(file: error)
            }
        }
    }

    /// The shelf of a bucket that is gone; nothing lies on it.
    func removeShelf(of bucket: FileID) async {
        let volume = volume
        let names = [Array(Volume.ownName.utf8), Volume.shelvesName]
        guard let above = try? await locate(volume.root, names, ownCaller) else { return }
        _ = try? await supplied {
            Volume.shelfName(of: bucket).withUnsafeBytes {
                volume.remove(ownCaller, in: above.file, $0, isDirectory: true)
            }
        }
    }

    /// Takes a version from its shelf, with a lock that who calls has judged; nil: it is another one by now, or elsewhere.
    func removeShelved(_ home: FileID, _ version: ShelvedVersion) async throws(S3Error) -> UInt64? {
        let volume = volume
        var names = version.path.bytes.split(separator: UInt8(ascii: "/")).map { Array($0) }
        guard let name = names.popLast(), let directory = try await locate(home, names, ownCaller) else { return nil }
        let judged = ExpectedFile.judged(version.file.file, change: version.file.change)
        let number: UInt64
        do throws(FileError) {
            number = try await supplied {
                name.withUnsafeBytes { volume.withdraw(ownCaller, in: directory.file, $0, expected: judged) }
            }.number
        } catch {
            switch error {
            case .noEntry, .stale: return nil
            default: throw S3Error(file: error)
            }
        }
        // Long keys have directories of their own: those that hold nothing more go.
        while let last = names.popLast(), let above = try await locate(home, names, ownCaller) {
            do throws(FileError) {
                _ = try await supplied {
                    last.withUnsafeBytes { volume.remove(ownCaller, in: above.file, $0, isDirectory: true) }
                }
            } catch { break }
        }
        return number
    }

    // MARK: Locks

    func lock(_ file: Attributes) async throws(S3Error) -> FileLock {
        guard file.isLocked else { return FileLock() }
        let volume = volume
        let found = try await value {
            volume.extendedAttributes(ownCaller, file.file, prefixes: [Array(FileLock.name.utf8)])
        }
        return found.first.map { FileLock($0.value) } ?? FileLock()
    }

    /// Refuses what may not go. `bypasses`: who asks may end a lock of the mode GOVERNANCE.
    func requireUnlocked(_ file: Attributes, bypasses: Bool = false) async throws(S3Error) {
        var lock = try await lock(file)
        if bypasses, lock.retention?.mode == .governance { lock.retention = nil }
        guard !lock.isInForce(now) else {
            throw S3Error(.accessDenied, "Access Denied because object protected by object lock.")
        }
    }

    /// Gives a file another lock than the one that was judged, when `file` was looked at; nil: it has changed since.
    func setLock(_ lock: FileLock, _ file: Attributes) async throws(S3Error) -> UInt64? {
        let volume = volume
        do throws(FileError) {
            return try await supplied {
                volume.setLock(ownCaller, file.file, lock, since: file.change)
            }.number
        } catch {
            switch error {
            case .stale: return nil
            default: throw S3Error(file: error)
            }
        }
    }

    /// Directories on the way to something locked keep their names. Answers the number of the last change.
    func keepWay(_ bucket: Bucket, _ key: ObjectKey) async throws(S3Error) -> UInt64 {
        let volume = volume
        let mark = FileLock().encoded
        var number: UInt64 = 0
        for count in 0...key.parents.count {
            guard let place = try await locate(bucket.file, key.parents.prefix(count), ownCaller) else { break }
            guard !place.isLocked else {
                // Somebody else's mark may not be safe yet.
                number = volume.newestChange(at: bucket.file)
                continue
            }
            number = try await done {
                volume.setExtendedAttribute(ownCaller, place.file, FileLock.name, mark)
            }.number
        }
        return number
    }
}
