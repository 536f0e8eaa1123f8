import Namespace

/// Uploads in parts as they lie there, and their end.
extension FileWork {
    /// The directory of a bucket's uploads; made when it is missing and wanted.
    func uploads(of bucket: FileID, make: Bool) async throws(S3Error) -> Attributes? {
        try await ownDirectory(UploadPlace.root + [UploadPlace.name(ofBucket: bucket)], make: make)
    }

    /// Its object is there: from this change on nobody finds the upload, so no second object is made of its parts. These go when
    /// there is time; what a crash leaves of them goes with the sweeper.
    func end(_ upload: Upload) async throws(S3Error) -> UInt64 {
        let volume = volume
        do throws(FileError) {
            return try await supplied {
                volume.setExtendedAttribute(ownCaller, upload.directory.file, Upload.key, nil)
            }.number
        } catch {
            switch error {
            // Somebody has given it up, or has ended it as well.
            case .noAttribute, .stale, .noEntry: return 0
            default: throw S3Error(file: error)
            }
        }
    }

    /// The parts first: what a crash leaves is an upload with fewer parts, which can be given up again.
    func removeUpload(_ directory: FileID, _ id: String, _ bucket: FileID) async throws(S3Error) -> UInt64 {
        for _ in 0..<Self.triesMax {
            try await removeParts(directory)
            guard let home = try await uploads(of: bucket, make: false) else { return 0 }
            do throws(FileError) {
                return try await supplied {
                    Array(id.lowercased().utf8).withUnsafeBytes {
                        volume.remove(ownCaller, in: home.file, $0, isDirectory: true)
                    }
                }.number
            } catch {
                switch error {
                case .noEntry, .stale: return 0
                // A part that was on its way has come: it goes, too.
                case .notEmpty: continue
                default: throw S3Error(file: error)
                }
            }
        }
        // Somebody sends parts without an end: what is left goes with the sweeper.
        return 0
    }

    private func removeParts(_ directory: FileID) async throws(S3Error) {
        let volume = volume
        while true {
            var names: [[UInt8]] = []
            let isAll = try await found {
                names.removeAll()
                return volume.list(ownCaller, directory, after: 0, limit: 256, attributes: false) { _, name in
                    names.append(Array(name))
                    return true
                }
            }
            for (index, name) in names.enumerated() {
                if index % Self.turnMax == 0 { await othersTurn() }
                _ = try await found {
                    name.withUnsafeBytes { volume.remove(ownCaller, in: directory, $0, isDirectory: false) }
                }
            }
            if isAll != false || names.isEmpty { return }
        }
    }

    /// With a bucket its uploads go; what is left of them after a crash is nobody's and harms nobody.
    func removeUploads(of bucket: FileID) async {
        let volume = volume
        guard let home = try? await uploads(of: bucket, make: false) else { return }
        guard let all = try? await everyUpload(home.file) else { return }
        for (id, directory) in all { _ = try? await removeUpload(directory, id, bucket) }
        let names = UploadPlace.root
        guard let root = try? await locate(volume.root, names, ownCaller) else { return }
        _ = try? await supplied {
            UploadPlace.name(ofBucket: bucket).withUnsafeBytes {
                volume.remove(ownCaller, in: root.file, $0, isDirectory: true)
            }
        }
    }

    func everyUpload(_ home: FileID) async throws(S3Error) -> [(id: String, directory: FileID)] {
        let volume = volume
        var all: [(id: String, directory: FileID)] = []
        var cookie: UInt64 = 0
        while true {
            let from = cookie
            let known = all.count
            let isAll = try await value {
                all.removeSubrange(known...)
                cookie = from
                return volume.list(ownCaller, home, after: from, limit: 256, attributes: true) { entry, name in
                    cookie = entry.cookie
                    if let file = entry.attributes?.file { all.append((String(decoding: name, as: UTF8.self), file)) }
                    return true
                }
            }
            if isAll || cookie == from { return all }
            await othersTurn()
        }
    }
}
