import Bytes
import Crypto
import HTTP
import Namespace
import Runtime

/// Writing objects: the new content is complete before it takes the name, in one change.
extension S3Call {
    /// Written to a file in pieces of this size, when it is too long for one change.
    static var pieceBytes: Int { 512 << 10 }

    func putObject() async throws(S3Error) {
        let (bucket, actor) = try await open(.putObject)
        let key = try ObjectKey(request.key)
        var metadata = try Metadata(request, limits: limits)
        guard let body else { throw S3Error(.missingContentLength) }
        if let length = body.length, length > limits.putBytesMax { throw RequestBody.tooLarge(limits.putBytesMax) }
        var existing = try await checkPlace(bucket, key, actor)
        // One that is there only for what lies in it is no object.
        if existing?.isImplied == true { existing = nil }
        let expected = try Conditions(request).expected(existing)
        try checkLock(metadata.lock, bucket, request.key, actor)
        try checkMetadata(metadata.record, bucket, request.key)
        if key.isDirectory {
            // A directory keeps its lock for good: nobody could take it away.
            guard metadata.lock.retention == nil, !metadata.lock.isHeld else { throw S3Error(.invalidRequest) }
            return try await putDirectory(bucket, key, metadata, actor, body, expected)
        }
        body.wantMD5()
        let placed = try await take(body, &metadata, bucket, key, actor, expected)
        var fields = ResponseFields()
        fields.add("etag", EntityTag.quoted(placed.file))
        addSum(metadata.record.sum, to: &fields)
        addVersion(placed.version, to: &fields)
        addExpiry(of: FoundVersion(file: placed.file, metadata: metadata, id: nil), bucket, key, to: &fields)
        respond(.ok, fields)
    }

    /// Takes the body in and puts it in its place; returns when that is as safe as the volume promises.
    func take(
        _ body: RequestBody, _ metadata: inout Metadata, _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential,
        _ expected: ExpectedFile
    ) async throws(S3Error) -> StoredObject {
        let most = volume.placeBytesMax
        let first = try await body.next(min(most, Int(clamping: body.length ?? UInt64(most))) + 1)
        let isWhole: Bool
        var second: Block?
        if let first, first.count <= most {
            // Less than was asked for: then it is the last one, or empty; what follows must still be waited for.
            second = try await body.next(Self.pieceBytes)
            isWhole = second == nil
        } else {
            isWhole = first == nil
        }
        if isWhole {
            setSum(body, &metadata)
            // The bucket may have a lock to give.
            if metadata.stored.count + 1 < volume.placeAttributesMax {
                return try await placeWhole(
                    first, metadata, EntityTag.seal(body.md5Value), bucket, key, actor, expected)
            }
        }
        let file = try await nameless(bucket, key, metadata.mode)
        do throws(S3Error) {
            var offset: UInt64 = 0
            for block in [first, second] {
                guard let block else { continue }
                try await write(block, to: file, at: offset, actor)
                offset += UInt64(block.count)
                body.release(block)
            }
            while !isWhole, let block = try await body.next(Self.pieceBytes) {
                try await write(block, to: file, at: offset, actor)
                offset += UInt64(block.count)
                body.release(block)
            }
            setSum(body, &metadata)
            let placed = try await place(
                file, metadata, EntityTag.seal(body.md5Value), bucket, key, actor, expected)
            await close(file)
            return placed
        } catch {
            await close(file)
            throw error
        }
    }

    private func setSum(_ body: RequestBody, _ metadata: inout Metadata) {
        guard let algorithm = body.algorithm, let value = body.checksumValue else { return }
        metadata.record.sum = ObjectRecord.Sum(algorithm: algorithm, isComposite: false, value: value)
    }

    private func placeWhole(
        _ content: Block?, _ metadata: Metadata, _ seal: ContentSeal, _ bucket: Bucket, _ key: ObjectKey,
        _ actor: Credential, _ expected: ExpectedFile
    ) async throws(S3Error) -> StoredObject {
        let volume = volume
        let name = key.name
        let placed = try await placing(bucket, key, actor, expected: expected, lock: metadata.lock) {
            (home, version, bucket) async throws(FileError) in
            let stored = metadata.stored(as: version)
            let bytes = content?.bytes ?? UnsafeRawBufferPointer(start: nil, count: 0)
            let new = NewFile(type: .file, mode: metadata.mode)
            let (own, asking) = (ownCaller, caller(actor))
            return try await supplied {
                going(by: bucket, own) {
                    name.withUnsafeBytes { name in
                        guard let shelf = version.shelf else {
                            return volume.place(
                                asking, in: home, name, bytes, new, attributes: stored, seal: seal,
                                expected: version.expected)
                        }
                        return volume.place(
                            asking, in: home, name, bytes, new, attributes: stored, seal: seal,
                            expected: version.expected, shelf: shelf)
                    }
                }
            }
        }
        extendLifetime(content)
        try await settle(placed.number)
        return placed.value
    }

    // MARK: Files without a name

    /// The deepest directory of the key's way that is there.
    private func home(_ bucket: Bucket, _ key: ObjectKey?) async throws(S3Error) -> FileID {
        var home = bucket.file
        for name in key?.parents ?? [] {
            guard let next = try await locate(home, [name], ownCaller), next.type == .directory else { break }
            home = next.file
        }
        return home
    }

    /// What an answer has to wait for that says of this key only what somebody else has changed.
    func newestChange(_ bucket: Bucket, _ key: ObjectKey?) async throws(S3Error) -> UInt64 {
        volume.newestChange(at: try await home(bucket, key))
    }

    /// A file that goes away unless it is placed; open until `close`. It is made where it can get the key's name: what is
    /// mounted on the way has files of its own.
    func nameless(_ bucket: Bucket, _ key: ObjectKey?, _ mode: UInt16) async throws(S3Error) -> FileID {
        let volume = volume
        let home = try await home(bucket, key)
        let isMounted = home.subvolume != bucket.file.subvolume
        let (near, maker) = isMounted ? (home, ownCaller) : (bucket.file, caller(bucket.owner))
        do throws(FileError) {
            return try await supplied {
                // Whether the caller may put it in its place is asked there.
                volume.createNameless(maker, near: near, NewFile(type: .file, mode: mode))
            }.value.file
        } catch {
            switch error {
            case .stale, .noEntry: throw bucket.isGone
            default: throw S3Error(file: error)
            }
        }
    }

    func write(_ block: Block, to file: FileID, at offset: UInt64, _ actor: Credential) async throws(S3Error) {
        let volume = volume
        _ = try await value { volume.write(ownCaller, file, at: offset, block.bytes) }
        extendLifetime(block)
    }

    func close(_ file: FileID) async {
        let volume = volume
        _ = try? await supplied { volume.close(ownCaller, file) }
    }

    /// Gives such a file its attributes, its owner and its name. With it the upload that it is made of ends.
    func place(
        _ file: FileID, _ metadata: Metadata, _ seal: ContentSeal?, _ bucket: Bucket, _ key: ObjectKey,
        _ actor: Credential, _ expected: ExpectedFile, of upload: Upload? = nil
    ) async throws(S3Error) -> StoredObject {
        let volume = volume
        for attribute in metadata.unlocked.stored {
            let name = String(decoding: attribute.name, as: UTF8.self)
            _ = try await value { volume.setExtendedAttribute(ownCaller, file, name, attribute.value) }
        }
        if bucket.directory.uid != actor.uid || file.subvolume != bucket.file.subvolume {
            var owner = NewAttributes()
            owner.uid = actor.uid
            owner.gid = bucket.directory.mode & 0o2000 != 0 ? bucket.directory.gid : actor.gid
            _ = try await value { volume.setAttributes(ownCaller, file, owner) }
        }
        do throws(FileError) { _ = try await volume.flushed(file) } catch { throw S3Error(file: error) }
        let name = key.name
        var lock = FileLock()
        var record = metadata.record
        let placed = try await placing(bucket, key, actor, expected: expected, lock: metadata.lock) {
            (home, version, bucket) async throws(FileError) in
            // A try before this one may have given it another.
            if version.stamp != record.version {
                record.version = version.stamp
                _ = try await supplied {
                    volume.setExtendedAttribute(
                        ownCaller, file, ObjectRecord.name, record.isEmpty ? nil : record.encoded)
                }
            }
            if version.lock != lock {
                // Nobody else knows the file yet.
                _ = try await supplied { () -> Attempt<Attributes> in
                    switch volume.attributes(ownCaller, file) {
                    case .done(let found, _): volume.setLock(ownCaller, file, version.lock, since: found.change)
                    case .refused(let error): .refused(error)
                    case .lacks(let lack): .lacks(lack)
                    }
                }
                lock = version.lock
            }
            let (own, asking) = (ownCaller, caller(actor))
            return try await supplied {
                going(by: bucket, own) {
                    name.withUnsafeBytes {
                        guard let shelf = version.shelf else {
                            return volume.place(asking, in: home, $0, file, seal: seal, expected: version.expected)
                        }
                        return volume.place(
                            asking, in: home, $0, file, seal: seal, expected: version.expected, shelf: shelf)
                    }
                }
            }
        }
        var number = placed.number
        if let upload {
            // Of two file systems the one that has the object comes first: who asks again after a crash finds one or the other.
            if file.subvolume != bucket.file.subvolume { try await settle(number) }
            number = max(number, try await end(upload))
        }
        try await settle(number)
        return placed.value
    }

    // MARK: Directories

    /// `name/` without bytes is a directory.
    private func putDirectory(
        _ bucket: Bucket, _ key: ObjectKey, _ metadata: Metadata, _ actor: Credential, _ body: RequestBody,
        _ expected: ExpectedFile
    ) async throws(S3Error) {
        guard try await body.next(1) == nil else {
            throw S3Error(.invalidArgument, "A key that ends with a slash is a directory: it can not have bytes.")
        }
        let volume = volume
        let home: FileID
        do throws(FileError) { home = try await makeParents(bucket, key, actor) } catch { throw S3Error(file: error) }
        let name = key.name
        var made: FileID?
        if expected.compared == nil {
            do throws(FileError) {
                let new = try await supplied {
                    name.withUnsafeBytes {
                        volume.create(caller(actor), in: home, $0, NewFile(type: .directory, mode: 0o755))
                    }
                }
                made = new.value.file.file
            } catch {
                guard error == .exists else { throw S3Error(file: error) }
            }
        }
        let number: UInt64
        if let made {
            number = try await claim(made, metadata, actor, .anything)
        } else {
            let there = try await value { name.withUnsafeBytes { volume.lookup(caller(actor), in: home, $0) } }
            guard there.type == .directory else { throw S3Error(.keyConflict) }
            number = try await claim(there.file, metadata, actor, expected)
        }
        try await settle(number)
        var fields = ResponseFields()
        fields.add("etag", "\"\(EntityTag.empty)\"")
        respond(.ok, fields)
    }

    /// Makes a directory that is there an object with this metadata, if it is what the request expects. Of two who make the same one
    /// under `If-None-Match` one is the first. What lies in it changes it, and is nothing to `If-Match`.
    private func claim(
        _ directory: FileID, _ metadata: Metadata, _ actor: Credential, _ expected: ExpectedFile
    ) async throws(S3Error) -> UInt64 {
        let (volume, own, asking) = (volume, ownCaller, caller(actor))
        do throws(FileError) {
            return try await supplied {
                service.records.withLock { _ -> Attempt<Void> in
                    do throws(Halt) {
                        let now = try volume.attributes(own, directory).get()
                        if expected == .nothing, !now.isImplied { return .refused(.exists) }
                        // What was deleted meanwhile has no tag any more, though it is there for what lies in it.
                        if let file = expected.compared?.file, now.file != file || now.isImplied {
                            return .refused(.stale)
                        }
                        let number = try Self.replace(metadata, of: directory, volume, asking)
                        // Last: what lacks something before is begun anew, and is the first still.
                        let last = now.isImplied ? try volume.setImplied(asking, directory, false).change() : number
                        return .done((), number: last ?? volume.newestChange(at: directory))
                    } catch { return Attempt(error) }
                }
            }.number
        } catch {
            switch error {
            case .exists: throw Conditions.failed("If-None-Match")
            case .stale where expected.compared != nil: throw Conditions.failed("If-Match")
            default: throw S3Error(file: error)
            }
        }
    }

    /// Gives a file other metadata than it has, behind the guard: of two requests at a time it is one's in the end. Answers the last
    /// change; nil: there is none to be made.
    static func replace(
        _ metadata: Metadata, of file: FileID, _ volume: Volume, _ asking: Caller
    ) throws(Halt) -> UInt64? {
        let old = try volume.extendedAttributes(asking, file, prefixes: Metadata.replaceable).get()
        let new = metadata.stored
        let gone = old.filter { attribute in !new.contains { $0.name == attribute.name } }.map {
            ($0.name, nil as [UInt8]?)
        }
        var newest: UInt64?
        // What is new first: where it finds no room, nothing is lost.
        for (name, value) in new.filter({ !old.contains($0) }).map({ ($0.name, $0.value) }) + gone {
            let name = String(decoding: name, as: UTF8.self)
            do throws(Halt) {
                newest = try volume.setExtendedAttribute(asking, file, name, value).change()
            } catch {
                // A client of files took it away meanwhile.
                guard case .refused(.noAttribute) = error else { throw error }
            }
        }
        return newest
    }

    func addSum(_ sum: ObjectRecord.Sum?, parts: Int = 0, to fields: inout ResponseFields) {
        guard let sum else { return }
        let suffix = sum.isComposite && parts > 0 ? "-\(parts)" : ""
        fields.add(name: sum.algorithm.field, Base64.encode(sum.value) + suffix)
        fields.add("x-amz-checksum-type", sum.isComposite ? "COMPOSITE" : "FULL_OBJECT")
    }
}
