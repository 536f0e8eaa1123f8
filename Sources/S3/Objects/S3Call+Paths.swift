import Namespace

/// Keys as paths of a bucket.
extension FileWork {
    /// The file at the end of some names; nil when there is none, or something on the way is no directory.
    func locate(
        _ root: FileID, _ names: some Collection<[UInt8]>, _ caller: Caller
    ) async throws(S3Error) -> Attributes? {
        let volume = volume
        return try await found {
            do throws(Halt) {
                var place = try volume.attributes(caller, root).get()
                for name in names {
                    place = try name.withUnsafeBytes { volume.lookup(caller, in: place.file, $0) }.get()
                }
                return .done(place, number: 0)
            } catch {
                switch error {
                case .refused(let error): return .refused(error)
                case .lacks(let lack): return .lacks(lack)
                }
            }
        }
    }

    /// The directory that a key lies in, with those on the way made that are missing. `isKept`: they keep their names from
    /// here on, and `.stale` says that one of them had another by then.
    func makeParents(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential, isKept: Bool = false
    ) async throws(FileError) -> FileID {
        let volume = volume
        var home = bucket.file
        if isKept { try await keep(home) }
        for name in key.parents {
            let above = home
            do throws(FileError) {
                let found = try await supplied {
                    name.withUnsafeBytes { volume.lookup(caller(actor), in: home, $0) }
                }.value
                guard found.type == .directory else { throw .notDirectory }
                home = found.file
            } catch {
                guard error == .noEntry else { throw error }
                home = try await makeDirectory(name, in: home, actor)
            }
            guard isKept else { continue }
            try await keep(home)
            let there: Attributes?
            do throws(FileError) {
                there = try await supplied { name.withUnsafeBytes { volume.lookup(ownCaller, in: above, $0) } }.value
            } catch {
                guard error == .noEntry else { throw error }
                there = nil
            }
            guard there?.file == home else { throw .stale }
        }
        return home
    }

    /// A directory on the way to something locked keeps its name.
    private func keep(_ directory: FileID) async throws(FileError) {
        let volume = volume
        let found = try await supplied { volume.attributes(ownCaller, directory) }.value
        guard !found.isLocked else { return }
        let mark = FileLock().encoded
        _ = try await supplied { volume.setExtendedAttribute(ownCaller, directory, FileLock.name, mark) }
    }

    private func makeDirectory(
        _ name: [UInt8], in home: FileID, _ actor: Credential
    ) async throws(FileError) -> FileID {
        let volume = volume
        do throws(FileError) {
            return try await supplied {
                name.withUnsafeBytes { volume.createImplied(caller(actor), in: home, $0, mode: 0o755) }
            }.value.file.file
        } catch {
            guard error == .exists else { throw error }
            // Somebody else was faster.
            let found = try await supplied {
                name.withUnsafeBytes { volume.lookup(caller(actor), in: home, $0) }
            }.value
            guard found.type == .directory else { throw .notDirectory }
            return found.file
        }
    }

    /// Directories that were there only for an object that is gone: they go, too, from the innermost outwards.
    func removeEmptyParents(_ bucket: Bucket, _ key: ObjectKey, _ actor: Credential) async throws(S3Error) -> UInt64 {
        let volume = volume
        var number: UInt64 = 0
        var names = Array(key.parents)
        while let name = names.popLast() {
            guard let home = try await locate(bucket.file, names, caller(actor)),
                let directory = try await locate(home.file, [name], caller(actor)), directory.type == .directory,
                directory.isImplied
            else { break }
            do throws(FileError) {
                number = try await supplied {
                    name.withUnsafeBytes { volume.remove(caller(actor), in: home.file, $0, isDirectory: true) }
                }.number
            } catch { break }
        }
        return number
    }

    static var triesMax: Int { 8 }
}

extension S3Call {
    /// The object of a key; nil when there is none. A directory is the object of its name with a slash, unless it is
    /// there only for what lies in it; links and devices are no objects.
    func object(_ bucket: Bucket, _ key: ObjectKey, _ actor: Credential) async throws(S3Error) -> Attributes? {
        // Nobody's request may find a file that is open to all below directories that are not.
        guard let file = try await locate(bucket.file, key.names, grant == nil ? caller(bucket.owner) : caller(actor))
        else { return nil }
        switch file.type {
        case .file: return key.isDirectory ? nil : file
        case .directory: return key.isDirectory && !file.isImplied ? file : nil
        case .symlink, .fifo, .socket, .characterDevice, .blockDevice: return nil
        }
    }

    /// Refuses what could not be put in its place, before its bytes are sent: a part of the path that is a file, or a
    /// directory that may not be written to. Answers what has the name now.
    func checkPlace(
        _ bucket: Bucket, _ key: ObjectKey, _ actor: Credential
    ) async throws(S3Error) -> Attributes? {
        let volume = volume
        var home = bucket.directory
        for name in key.parents {
            let next: Attributes? = try await place(name, in: home, actor)
            guard let next else {
                // What is missing will be made here.
                _ = try await value { name.withUnsafeBytes { volume.mayPlace(caller(actor), in: home.file, $0) } }
                return nil
            }
            guard next.type == .directory else { throw S3Error(.keyConflict) }
            home = next
        }
        let last = key.name
        let there = try await place(last, in: home, actor)
        _ = try await value { last.withUnsafeBytes { volume.mayPlace(caller(actor), in: home.file, $0) } }
        if let there, (there.type == .directory) != key.isDirectory { throw S3Error(.keyConflict) }
        return there
    }

    private func place(
        _ name: [UInt8], in home: Attributes, _ actor: Credential
    ) async throws(S3Error) -> Attributes? {
        let volume = volume
        do throws(FileError) {
            return try await supplied {
                name.withUnsafeBytes { volume.lookup(caller(actor), in: home.file, $0) }
            }.value
        } catch {
            if error == .noEntry { return nil }
            throw S3Error(file: error)
        }
    }
}
