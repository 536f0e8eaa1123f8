import Namespace
import Runtime
import Simulator
import Testing

/// Named streams, and what is on its way to become an object.
extension QuotaModelTests.Run {
    typealias Model = QuotaModelTests.Model

    private func server(_ uid: UInt32 = 0) -> Caller {
        var caller = Caller(Credential(uid: uid, gid: uid), rig.caller().request)
        caller.isServer = true
        return caller
    }

    private mutating func did(_ way: String, _ error: FileError?) {
        if !steps.isEmpty { steps[steps.count - 1] += " \(way)" }
        if error == nil { ways.insert(way) }
    }

    // MARK: Streams

    mutating func changeStream() async throws {
        let all = model.files.keys.sorted()
        let number = all[generator.below(all.count)]
        guard let file = model.files[number] else { return }
        let key = generator.below(2)
        let name = "s\(key)"
        let (volume, caller) = (rig.volume, rig.caller())
        var after = model
        guard let size = file.streams[key] else {
            _ = try await rig.done { with(name) { volume.createStream(caller, of: file.id, $0) } }
            after.files[number]?.streams[key] = 0
            return take(after, nil)
        }
        let stream = try await rig.done { with(name) { volume.stream(caller, of: file.id, $0) } }.file
        let error: FileError?
        switch generator.below(6) {
        case 0:
            error = await rig.error { with(name) { volume.removeStream(caller, of: file.id, $0) } }
            after.files[number]?.streams[key] = nil
            did("stream removed", error)
        case 1:
            let size = UInt64(generator.below(20_000))
            error = await rig.resizeError(stream, to: size)
            after.files[number]?.streams[key] = size
            did("stream resized", error)
        default:
            let offset = UInt64(generator.below(10_000))
            let bytes = [UInt8](repeating: 3, count: 1 + generator.below(8000))
            error = await rig.error { bytes.withUnsafeBytes { volume.write(caller, stream, at: offset, $0) } }
            after.files[number]?.streams[key] = max(size, offset + UInt64(bytes.count))
            did(file.isDirectory ? "directory's stream written" : "stream written", error)
        }
        take(after, error)
    }

    // MARK: Drafts

    private mutating func someDirectory() -> Int {
        let all = model.files.filter(\.value.isDirectory).keys.sorted()
        return all[generator.below(all.count)]
    }

    private func createDraft(_ uid: UInt32, near directory: FileID) async throws -> FileID {
        let (volume, caller) = (rig.volume, server(uid))
        return try await rig.done { volume.createNameless(caller, near: directory, NewFile(type: .file, mode: 0o666)) }
            .file
    }

    private func place(_ file: FileID, in directory: FileID, _ name: String) async throws -> FileError? {
        _ = try await rig.volume.flushed(file)
        let (volume, caller) = (rig.volume, server())
        let error = await rig.error { with(name) { volume.place(caller, in: directory, $0, file, seal: nil) } }
        if error == nil { try await close(file) }
        return error
    }

    private func close(_ file: FileID) async throws {
        let (volume, caller) = (rig.volume, server())
        try await rig.done { volume.close(caller, file) }
    }

    mutating func changeDraft() async throws {
        guard model.drafts.count >= 3 || generator.below(2) == 0,
            let key = model.drafts.keys.sorted().first, let draft = model.drafts[key]
        else {
            let (near, uid) = (someDirectory(), UInt32(generator.below(3)))
            let file = try await createDraft(uid, near: model.files[near]?.id ?? rig.root)
            model.drafts[model.next] = .init(id: file, near: near, uid: uid, gid: uid, size: 0)
            model.next += 1
            return
        }
        var after = model
        let error: FileError?
        switch generator.below(6) {
        case 0:
            try await close(draft.id)
            error = nil
            after.drafts[key] = nil
        case 1:
            var new = NewAttributes()
            new.uid = UInt32(generator.below(3))
            let (volume, caller, owner) = (rig.volume, rig.caller(), new)
            error = await rig.error { volume.setAttributes(caller, draft.id, owner) }
            after.drafts[key]?.uid = owner.uid ?? 0
        case 2, 3:
            let name = QuotaModelTests.Name(directory: someDirectory(), text: "n\(generator.below(6))")
            guard model.names[name] == nil, let home = model.files[name.directory]?.id else { return }
            error = try await place(draft.id, in: home, name.text)
            after.drafts[key] = nil
            after.add(draft.id, draft.uid, draft.gid, draft.size, name)
            did("draft placed", error)
        default:
            let bytes = [UInt8](repeating: 5, count: 1 + generator.below(12_000))
            let (volume, caller) = (rig.volume, server())
            error = await rig.error { bytes.withUnsafeBytes { volume.write(caller, draft.id, at: draft.size, $0) } }
            after.drafts[key]?.size += UInt64(bytes.count)
            did("draft written", error)
        }
        take(after, error)
    }

    // MARK: Uploads

    private func directory(_ name: [UInt8], in home: FileID, _ uid: UInt32) async throws -> FileID {
        let (volume, caller) = (rig.volume, server())
        var new = NewFile(type: .directory, mode: 0o777)
        (new.uid, new.gid) = (uid, uid)
        let wanted = new
        do {
            return try await rig.done { name.withUnsafeBytes { volume.create(caller, in: home, $0, wanted) } }.file.file
        } catch FileError.exists {
            return try await rig.done { name.withUnsafeBytes { volume.lookup(caller, in: home, $0) } }.file
        }
    }

    private mutating func beginUpload() async throws {
        let bucket = someDirectory()
        guard let id = model.files[bucket]?.id else { return }
        let owner = UInt32(generator.below(3))
        var home = rig.root
        for name in UploadPlace.root + [UploadPlace.name(ofBucket: id)] {
            home = try await directory(name, in: home, 0)
        }
        let made = try await directory(Array("u\(model.next)".utf8), in: home, owner)
        model.uploads[model.next] = .init(directory: made, bucket: bucket, owner: owner)
        model.next += 1
    }

    mutating func changeUpload() async throws {
        guard model.uploads.count >= 3 || generator.below(2) == 0, let key = model.uploads.keys.sorted().first,
            let upload = model.uploads[key]
        else { return try await beginUpload() }
        switch generator.below(6) {
        case 0:
            try await removeParts(upload)
            var after = model
            after.uploads[key] = nil
            did("upload given up", nil)
            take(after, nil)
        case 1: try await complete(key, upload)
        default: try await addPart(key, upload)
        }
    }

    private mutating func addPart(_ key: Int, _ upload: QuotaModelTests.Upload) async throws {
        let file = try await createDraft(0, near: upload.directory)
        let bytes = [UInt8](repeating: 9, count: 1 + generator.below(9000))
        let (volume, caller) = (rig.volume, server())
        var error = await rig.error { bytes.withUnsafeBytes { volume.write(caller, file, at: 0, $0) } }
        if error == nil { error = try await place(file, in: upload.directory, "p\(upload.parts.count)") }
        if error != nil { try await close(file) }
        var after = model
        after.uploads[key]?.parts.append((file, UInt64(bytes.count)))
        did("part added", error)
        take(after, error)
    }

    private func removeParts(_ upload: QuotaModelTests.Upload) async throws {
        let (volume, caller) = (rig.volume, server())
        for index in upload.parts.indices {
            _ = try await rig.done {
                with("p\(index)") { volume.remove(caller, in: upload.directory, $0, isDirectory: false) }
            }
        }
    }

    /// The object takes the parts' place in one change; they go afterwards.
    private mutating func complete(_ key: Int, _ upload: QuotaModelTests.Upload) async throws {
        let name = QuotaModelTests.Name(directory: someDirectory(), text: "n\(generator.below(6))")
        guard !upload.parts.isEmpty, model.names[name] == nil, let home = model.files[name.directory]?.id,
            let bucket = model.files[upload.bucket]?.id
        else { return }
        let owner = UInt32(generator.below(3))
        let file = try await createDraft(owner, near: bucket)
        _ = try await rig.volume.join(upload.parts.map(\.id), to: file, now: rig.world.clock.wall())
        let joined = isSame()
        #expect(joined, "what is joined counts twice: \(difference)")
        let error = try await place(file, in: home, name.text)
        if error != nil { try await close(file) }
        var after = model
        after.uploads[key] = nil
        after.add(file, owner, owner, upload.parts.reduce(0) { $0 + $1.size }, name)
        did("upload completed", error)
        take(after, error)
        guard error == nil else { return }
        let taken = isSame()
        #expect(taken, "what is an object by now counts as parts, too: \(difference)")
        // A count from the beginning finds the same.
        if generator.below(4) == 0 {
            try await rig.set(quotas: [:])
            try await rig.set(quotas: model.limits)
        }
        try await removeParts(upload)
    }
}

extension QuotaModelTests.Model {
    mutating func add(_ id: FileID, _ uid: UInt32, _ gid: UInt32, _ size: UInt64, _ name: QuotaModelTests.Name) {
        files[next] = .init(id: id, uid: uid, gid: gid, size: size, isDirectory: false, home: name)
        names[name] = next
        next += 1
    }
}
