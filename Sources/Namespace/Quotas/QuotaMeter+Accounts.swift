/// What counts where.
///
/// What has a name counts in the directory of its first one, with its streams; what is to become an object counts in the directory
/// that it was made for: a draft in its bucket, the parts of an upload in the upload's.
extension QuotaMeter {
    struct Owner: Equatable {
        var uid: UInt32
        var gid: UInt32

        var subjects: [QuotaSubject] { [.user(uid), .group(gid)] }
    }

    /// Where names in a directory count.
    struct Places: Equatable {
        /// The volume, and the trees with quotas.
        var subjects: [QuotaSubject]
        /// Parts of an upload lie here: bytes of who began it, and no files yet.
        var uploader: Owner?
    }

    /// What the bytes of a file count for.
    struct Account {
        var places: [QuotaSubject]
        var owners: [QuotaSubject]
        /// 0: it is none yet.
        var files: UInt64
        /// Where a count that goes by inodes meets it; 0: before the first one.
        var inode: UInt64

        var subjects: [QuotaSubject] { places + owners }
    }

    /// What goes when a name does.
    struct Loss {
        var file: Attributes
        var account: Account
        var bytes: UInt64
        /// Where the name counts.
        var places: [QuotaSubject]
        var isHome: Bool
        /// Of a directory: what is on its way to it, and is the volume's alone from then on.
        var coming: UInt64
    }
}

extension QuotaMeter.State {
    typealias Places = QuotaMeter.Places
    typealias Account = QuotaMeter.Account

    // MARK: Places

    /// The directories that this one lies in, itself the first; of the server's own the names below its root are told, too.
    private func climb(
        _ request: Request, from directory: FileID
    ) throws(Halt) -> (directories: [FileID], own: [[UInt8]]?) {
        var directories: [FileID] = []
        var names: [[UInt8]] = []
        var place = directory
        while true {
            directories.append(place)
            guard place != fileSystem.root, let above = try fileSystem.whereabouts(request, of: place).get() else {
                return (directories, nil)
            }
            names.append(above.name)
            if above.directory == fileSystem.root, above.name.withUnsafeBytes({ Volume.isOwn($0) }) {
                return (directories, names.reversed())
            }
            place = above.directory
        }
    }

    /// Where a draft made for this directory counts.
    func draft(_ request: Request, near directory: FileID) throws(Halt) -> QuotaMeter.Draft {
        guard let own = try climb(request, from: directory).own else { return QuotaMeter.Draft(near: directory) }
        let depth = UploadPlace.root.count
        guard own.count == depth + 2, Array(own.prefix(depth)) == UploadPlace.root,
            let bucket = UploadPlace.bucket(own[depth])
        else { return QuotaMeter.Draft(near: nil) }
        let upload = try fileSystem.attributes(request, directory).get()
        return QuotaMeter.Draft(near: bucket, uploader: QuotaMeter.Owner(uid: upload.uid, gid: upload.gid))
    }

    /// The directories that what comes to a bucket counts in. One that is gone leaves it to the volume.
    private func way(_ request: Request, to bucket: FileID) throws(Halt) -> [FileID] {
        do throws(Halt) {
            let (directories, own) = try climb(request, from: bucket)
            return own == nil && directories.last == fileSystem.root ? directories : [fileSystem.root]
        } catch {
            if case .lacks = error { throw error }
            return [fileSystem.root]
        }
    }

    private func subjects(_ directories: [FileID]) -> [QuotaSubject] {
        [.volume] + directories.map { .tree($0) }.filter { table[$0] != nil }
    }

    /// Where what lies in a directory counts; nil: it is the server's own and does not.
    mutating func places(_ request: Request, _ directory: FileID) throws(Halt) -> Places? {
        if let known = placesAbove[directory] { return known }
        let (directories, own) = try climb(request, from: directory)
        var found = own == nil ? Places(subjects: subjects(directories)) : nil
        if let own, own.count > Volume.shelvesRoot.count,
            Array(own.prefix(Volume.shelvesRoot.count)) == Volume.shelvesRoot
        {
            // Older versions count where their bucket does, as files of their owners.
            guard let bucket = UploadPlace.bucket(own[Volume.shelvesRoot.count]) else {
                return nil
            }
            return Places(subjects: subjects(try way(request, to: bucket)), uploader: nil)
        }
        if own != nil {
            let draft = try draft(request, near: directory)
            if let bucket = draft.near {
                // The bucket may be gone at any time: nothing to remember.
                found = Places(subjects: subjects(try way(request, to: bucket)), uploader: draft.uploader)
                return found
            }
        }
        if placesAbove.count >= QuotaMeter.placesAboveMax { placesAbove.removeAll() }
        placesAbove.updateValue(found, forKey: directory)
        return found
    }

    /// The same of a name in a directory.
    mutating func places(
        _ request: Request, _ directory: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> Places? {
        if directory == fileSystem.root, Volume.isOwn(name) { return nil }
        return try places(request, directory)
    }

    /// Of a name that clients know; nil: they do not.
    mutating func clientPlaces(
        _ request: Request, _ directory: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> [QuotaSubject]? {
        guard let places = try places(request, directory, name), places.uploader == nil else { return nil }
        return places.subjects
    }

    // MARK: Files

    /// The directory where the file's bytes count; nil: it has no name that would count.
    func home(_ request: Request, _ file: Attributes) throws(Halt) -> Whereabouts? {
        file.links == 0 ? nil : try fileSystem.whereabouts(request, of: file.file).get()
    }

    /// The file that counts: of a stream the one that it goes with.
    func whole(_ request: Request, _ file: Attributes) throws(Halt) -> Attributes {
        guard file.isStream else { return file }
        return try fileSystem.owner(request, ofStream: file.file).get() ?? file
    }

    /// What the file's bytes count for; nil: for nothing.
    mutating func account(_ request: Request, _ file: Attributes) throws(Halt) -> Account? {
        let owner = QuotaMeter.Owner(uid: file.uid, gid: file.gid)
        let inode = file.file.inode
        if let draft = drafts[file.file] {
            guard let bucket = draft.near else { return nil }
            return Account(
                places: subjects(try way(request, to: bucket)), owners: (draft.uploader ?? owner).subjects, files: 0,
                inode: 0)
        }
        // It is nobody's file, but may have streams.
        if file.file == fileSystem.root {
            return Account(
                places: try places(request, file.file)?.subjects ?? [], owners: [], files: 0, inode: inode)
        }
        guard !file.isStream, let home = try home(request, file),
            let places = try home.name.withUnsafeBytes({ name in
                Result { () throws(Halt) in try places(request, home.directory, name) }
            }).get()
        else { return nil }
        // The streams of a directory lie in it.
        let inside = file.type == .directory ? try self.places(request, file.file) : places
        return Account(
            places: inside?.subjects ?? [], owners: (places.uploader ?? owner).subjects,
            files: places.uploader == nil ? 1 : 0, inode: inode)
    }

    /// Bytes of a file that count, with those of its streams.
    func bytes(_ request: Request, _ file: Attributes) throws(Halt) -> UInt64 {
        if let counted = held[file.file] { return counted }
        return try bytesNow(request, file)
    }

    /// The same, whatever has been counted so far.
    func bytesNow(_ request: Request, _ file: Attributes) throws(Halt) -> UInt64 {
        if let draft = drafts[file.file] { return draft.parts.isEmpty ? file.size : 0 }
        if file.links == 0 || spent[file.file] != nil { return 0 }
        let own = file.type == .directory ? 0 : file.size
        return file.hasStreams ? own &+ (try fileSystem.streamBytes(request, of: file.file).get()) : own
    }

    // MARK: On the way

    /// Drafts and parts of uploads that count in a directory or below it.
    func bytesComing(_ request: Request, below directory: FileID) throws(Halt) -> UInt64 {
        var buckets = Set(try buckets(request))
        buckets.formUnion(drafts.values.compactMap(\.near))
        var sum: UInt64 = 0
        for bucket in buckets where try way(request, to: bucket).contains(directory) {
            sum &+= try bytesComing(request, to: bucket)
        }
        return sum
    }

    /// The same for one bucket.
    private func bytesComing(_ request: Request, to bucket: FileID) throws(Halt) -> UInt64 {
        var sum: UInt64 = 0
        for (file, draft) in drafts where draft.near == bucket {
            sum &+= try bytesNow(request, try fileSystem.attributes(request, file).get())
        }
        if let home = try uploads(request, of: bucket) {
            sum &+= try fileSystem.usage(request, below: home).get().bytes
        }
        return spent.values.reduce(sum) { sum, part in part.bucket == bucket ? sum - min(sum, part.size) : sum }
    }

    private func uploads(_ request: Request, of bucket: FileID? = nil) throws(Halt) -> FileID? {
        try own(request, UploadPlace.root + (bucket.map { [UploadPlace.name(ofBucket: $0)] } ?? []))
    }

    /// A directory of the server's own.
    private func own(_ request: Request, _ names: [[UInt8]]) throws(Halt) -> FileID? {
        var home = fileSystem.root
        for name in names {
            switch name.withUnsafeBytes({ fileSystem.lookup(request, in: home, $0) }) {
            case .done(let found, _): home = found.file
            case .refused: return nil
            case .lacks(let lack): throw .lacks(lack)
            }
        }
        return home
    }

    /// Older versions, and what marks that there was none, of the buckets in a directory or below it.
    func shelved(_ request: Request, below directory: FileID) throws(Halt) -> DirectoryTotals {
        var sum = DirectoryTotals(files: 0, directories: 0, bytes: 0)
        guard let home = try own(request, Volume.shelvesRoot) else { return sum }
        for bucket in try buckets(request, in: home) where try way(request, to: bucket).contains(directory) {
            guard let shelf = try own(request, Volume.shelvesRoot + [UploadPlace.name(ofBucket: bucket)]) else {
                continue
            }
            let part = try fileSystem.usage(request, below: shelf).get()
            sum.bytes &+= part.bytes
            sum.files += part.files
            sum.directories += part.directories
        }
        return sum
    }

    private static var bucketsPerLook: Int { 256 }

    /// The buckets that have had uploads.
    private func buckets(_ request: Request) throws(Halt) -> [FileID] {
        guard let home = try uploads(request) else { return [] }
        return try buckets(request, in: home)
    }

    private func buckets(_ request: Request, in home: FileID) throws(Halt) -> [FileID] {
        var found: [FileID] = []
        var cookie: UInt64 = 0
        while true {
            let from = cookie
            let isAll = try fileSystem.list(
                request, home, after: from, limit: Self.bucketsPerLook, attributes: false
            ) { entry, name in
                cookie = entry.cookie
                if let bucket = UploadPlace.bucket(Array(name)) { found.append(bucket) }
                return true
            }.get()
            if isAll || cookie == from { return found }
        }
    }

    // MARK: Counting

    /// Users and groups are counted from here on: drafts at once, files as they are met.
    mutating func beginCount(_ request: Request, _ owners: Set<QuotaSubject>) throws(Halt) {
        var coming: [(account: Account, bytes: UInt64)] = []
        for file in drafts.keys {
            let found = try fileSystem.attributes(request, file).get()
            if let account = try account(request, found) { coming.append((account, try bytes(request, found))) }
        }
        let there = owners.intersection(uncounted)
        for subject in there { _ = table.setUsage(subject, QuotaUsage(), now: 0) }
        count = QuotaMeter.Count(subjects: there)
        for (account, bytes) in coming { count(request, account, bytes) }
    }

    mutating func count(_ request: Request, _ account: Account, _ bytes: UInt64) {
        guard let count else { return }
        let subjects = account.owners.filter { count.subjects.contains($0) }
        table.add(subjects, bytes: bytes, files: account.files, now: UInt64(clamping: request.now))
    }

    /// Refuses what a limit does not allow.
    func admit(_ request: Request, _ subjects: [QuotaSubject], bytes: UInt64, files: UInt64) throws(Halt) {
        if bytes == 0, files == 0 { return }
        let binding = subjects.filter { !uncounted.contains($0) }
        guard table.refusal(binding, bytes: bytes, files: files, now: UInt64(clamping: request.now)) == nil else {
            throw .refused(.quotaExceeded)
        }
    }

    func admit(_ request: Request, _ bill: Bill) throws(Halt) {
        for entry in bill.entries {
            try admit(
                request, [entry.subject], bytes: UInt64(max(0, entry.bytes)), files: UInt64(max(0, entry.files)))
        }
    }

    /// What has come or gone, of a file with this inode.
    mutating func add(
        _ request: Request, _ subjects: [QuotaSubject], of inode: UInt64, bytes: Int64, files: Int64
    ) {
        let now = UInt64(clamping: request.now)
        let counted = subjects.filter { subject in
            guard uncounted.contains(subject) else { return true }
            guard let count, count.subjects.contains(subject) else { return false }
            return inode <= count.reached
        }
        if bytes < 0 || files < 0 {
            _ = table.refund(
                counted, bytes: bytes < 0 ? bytes.magnitude : 0, files: files < 0 ? files.magnitude : 0, now: now)
        }
        if bytes > 0 || files > 0 {
            table.add(counted, bytes: UInt64(max(bytes, 0)), files: UInt64(max(files, 0)), now: now)
        }
    }

    // MARK: Names that go

    /// What a name's removal will take away, as it is now; nil: nothing that counts.
    mutating func loss(
        _ request: Request, _ file: Attributes, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> QuotaMeter.Loss? {
        guard let places = try places(request, directory, name), let account = try account(request, file) else {
            return nil
        }
        let home = try home(request, file)
        return QuotaMeter.Loss(
            file: file, account: account, bytes: try bytes(request, file), places: places.subjects,
            isHome: home?.directory == directory && home?.name.elementsEqual(name) == true,
            coming: file.type == .directory ? try bytesComing(request, to: file.file) : 0)
    }

    /// A name went from a directory, perhaps with the file.
    mutating func lost(_ request: Request, _ loss: QuotaMeter.Loss, left: Attributes) {
        let (file, account) = (loss.file, loss.account)
        let (bytes, files) = (Int64(clamping: loss.bytes), Int64(clamping: account.files))
        add(request, loss.places, of: account.inode, bytes: 0, files: -files)
        if left.links == 0 || file.type == .directory {
            add(request, account.places, of: account.inode, bytes: -bytes, files: 0)
            add(request, account.owners, of: account.inode, bytes: -bytes, files: -files)
            if held[file.file] != nil { held[file.file] = 0 }
            spent[file.file] = nil
            if file.type == .directory {
                placesAbove[file.file] = nil
                let rest = subjects([fileSystem.root])
                let trees = account.places.filter { !rest.contains($0) }
                add(request, trees, of: 0, bytes: -Int64(clamping: loss.coming), files: 0)
            }
        } else if loss.isHome {
            add(request, account.places, of: account.inode, bytes: -bytes, files: 0)
            do throws(Halt) {
                guard let now = try self.account(request, left) else { return }
                add(request, now.places, of: account.inode, bytes: bytes, files: 0)
            } catch {
                // What is done is done: where the bytes count now is not known, so all trees are counted anew.
                for subject in table.all.keys { if case .tree = subject { uncounted.insert(subject) } }
                if table[.volume] != nil { uncounted.insert(.volume) }
            }
        }
    }
}

/// What a change adds to each subject and takes from it.
struct Bill {
    private(set) var entries: [(subject: QuotaSubject, bytes: Int64, files: Int64)] = []

    mutating func add(_ subjects: [QuotaSubject], bytes: Int64, files: Int64) {
        for subject in subjects {
            if let index = entries.firstIndex(where: { $0.subject == subject }) {
                entries[index].bytes += bytes
                entries[index].files += files
            } else {
                entries.append((subject, bytes, files))
            }
        }
    }
}
