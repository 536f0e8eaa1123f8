import Synchronization

/// Changes of a volume that has quotas: each is admitted, made and counted behind the meter's guard. Without quotas they
/// are the file system's own.
extension Volume {
    /// Whether quotas count the file, or what is made in the directory: what is kept elsewhere they do not.
    @inline(__always)
    func counts(_ file: FileID) -> Bool { meter.isOn && !fileSystem.isForeign(file) }

    @inline(__always)
    func makeFile(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile, uid: UInt32,
        gid: UInt32, _ disposition: Disposition
    ) throws(Halt) -> Attempt<Created> {
        guard counts(directory) else {
            return fileSystem.create(caller.request, in: directory, name, new, uid: uid, gid: gid, disposition)
        }
        return try meteredMaking(caller, in: directory, name, new, uid, gid) {
            fileSystem.create($0, in: directory, name, new, uid: uid, gid: gid, disposition)
        }
    }

    /// The making of anything with a name.
    @inline(never)
    func meteredMaking(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile, _ uid: UInt32,
        _ gid: UInt32, _ make: (Request) -> Attempt<Created>
    ) throws(Halt) -> Attempt<Created> {
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            guard let places = try state.clientPlaces(request, directory, name) else { return make(request) }
            if try isRepeated(request) { return make(request.asRepeat) }
            let owners = QuotaMeter.Owner(uid: uid, gid: gid).subjects
            do throws(Halt) {
                try state.admit(request, places + owners, bytes: UInt64(new.target.count) + new.size, files: 1)
            } catch {
                // What is there already may be opened, or is refused for that.
                guard case .done = fileSystem.lookup(request, in: directory, name) else { throw error }
            }
            let attempt = make(request)
            if case .done(let created, let number) = attempt, created.isNew, number > 0 {
                let bytes = created.file.type == .directory ? 0 : Int64(clamping: created.file.size)
                state.add(request, places + owners, of: created.file.file.inode, bytes: bytes, files: 1)
            }
            return attempt
        }
    }

    @inline(__always)
    func removeFile(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) throws(Halt) -> Attempt<Removed> {
        guard counts(directory) else {
            return fileSystem.remove(caller.request, in: directory, name, isDirectory: isDirectory)
        }
        return try meteredRemoval(caller, in: directory, name, isDirectory)
    }

    @inline(never)
    private func meteredRemoval(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ isDirectory: Bool
    ) throws(Halt) -> Attempt<Removed> {
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            if try isRepeated(request) {
                return fileSystem.remove(request.asRepeat, in: directory, name, isDirectory: isDirectory)
            }
            let found = fileSystem.lookup(request, in: directory, name)
            let loss = try state.loss(request, try found.get(), in: directory, name)
            let attempt = fileSystem.remove(request, in: directory, name, isDirectory: isDirectory)
            if case .done(let removed, let number) = attempt, number > 0, let loss {
                state.lost(request, loss, left: removed.file)
            }
            return attempt
        }
    }

    @inline(__always)
    func renameFile(
        _ caller: Caller, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode
    ) throws(Halt) -> Attempt<Renamed> {
        guard counts(source) else {
            return fileSystem.rename(caller.request, from: source, name, to: target, newName, mode)
        }
        return try meteredRename(caller, (source, name), (target, newName), mode)
    }

    private typealias Place = (directory: FileID, name: UnsafeRawBufferPointer)

    @inline(never)
    private func meteredRename(
        _ caller: Caller, _ old: Place, _ new: Place, _ mode: RenameMode
    ) throws(Halt) -> Attempt<Renamed> {
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            if try isRepeated(request) {
                return fileSystem.rename(
                    request.asRepeat, from: old.directory, old.name, to: new.directory, new.name, mode)
            }
            let moving = try fileSystem.lookup(request, in: old.directory, old.name).get()
            let other: Attributes?
            switch fileSystem.lookup(request, in: new.directory, new.name) {
            case .done(let found, _): other = found
            case .refused: other = nil
            case .lacks(let lack): throw .lacks(lack)
            }
            // Nothing goes from the server's own to the clients' by a name, nor back.
            guard let from = try state.clientPlaces(request, old.directory, old.name),
                let to = try state.clientPlaces(request, new.directory, new.name)
            else { return fileSystem.rename(request, from: old.directory, old.name, to: new.directory, new.name, mode) }
            let amount = try load(&state, request, moving, old, isMoved: from != to)
            var back = Load()
            var loss: QuotaMeter.Loss?
            if let other {
                if mode != .exchange { loss = try state.loss(request, other, in: new.directory, new.name) }
                back = try load(&state, request, other, new, isMoved: from != to && mode == .exchange)
            }
            let coming = to.filter { !from.contains($0) }
            // What makes room by the same change is not counted twice.
            let freed = mode == .exchange || other?.links == 1 ? back : Load()
            try state.admit(
                request, coming, bytes: amount.bytes - min(amount.bytes, freed.bytes),
                files: amount.files - min(amount.files, freed.files))
            if mode == .exchange {
                try state.admit(
                    request, from.filter { !to.contains($0) }, bytes: back.bytes - min(back.bytes, amount.bytes),
                    files: back.files - min(back.files, amount.files))
            }
            let attempt = fileSystem.rename(
                request, from: old.directory, old.name, to: new.directory, new.name, mode)
            guard case .done(let renamed, let number) = attempt, number > 0, other?.file != moving.file else {
                return attempt
            }
            if moving.type == .directory || other?.type == .directory { state.placesAbove.removeAll() }
            if let loss, let left = renamed.other { state.lost(request, loss, left: left) }
            guard from != to else { return attempt }
            state.move(request, moving.file.inode, amount, from: from, to: to)
            if let other, mode == .exchange { state.move(request, other.file.inode, back, from: to, to: from) }
            return attempt
        }
    }

    /// What grows in steps keeps its place and its owner until they are done: what it reserved counts there.
    private func requireStill(_ state: QuotaMeter.State, _ file: FileID) throws(Halt) {
        guard state.held[file] != nil else { return }
        throw .lacks(whenHeld { $0.held[file] == nil })
    }

    private func whenHeld(_ isTrue: @escaping @Sendable (QuotaMeter.State) -> Bool) -> Lack {
        let meter = meter
        return Lack { () async throws(FileError) in await meter.when(isTrue) }
    }

    /// What goes along when a name does.
    private func load(
        _ state: inout QuotaMeter.State, _ request: Request, _ file: Attributes, _ place: Place, isMoved: Bool
    ) throws(Halt) -> Load {
        guard file.type == .directory else {
            if isMoved { try requireStill(state, file.file) }
            let home = try state.home(request, file)
            let isHome = home?.directory == place.directory && home?.name.elementsEqual(place.name) == true
            return Load(bytes: isHome ? try state.bytes(request, file) : 0, files: 1)
        }
        guard isMoved else { return Load(bytes: 0, files: 1) }
        guard state.held.isEmpty else { throw .lacks(whenHeld { $0.held.isEmpty }) }
        let sums = try fileSystem.usage(request, below: file.file).get()
        let coming = try state.bytesComing(request, below: file.file)
        let shelved = try state.shelved(request, below: file.file)
        return Load(
            bytes: sums.bytes &+ coming &+ shelved.bytes,
            files: sums.files + sums.directories + shelved.files + shelved.directories + 1)
    }

    @inline(__always)
    func linkFile(
        _ caller: Caller, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> Attempt<Created> {
        guard counts(directory) else { return fileSystem.link(caller.request, file, in: directory, name) }
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            guard let places = try state.clientPlaces(request, directory, name) else {
                return fileSystem.link(request, file, in: directory, name)
            }
            if try isRepeated(request) { return fileSystem.link(request.asRepeat, file, in: directory, name) }
            try state.admit(request, places, bytes: 0, files: 1)
            let attempt = fileSystem.link(request, file, in: directory, name)
            if case .done(_, let number) = attempt, number > 0 {
                state.add(request, places, of: file.inode, bytes: 0, files: 1)
            }
            return attempt
        }
    }

    @inline(__always)
    func changeAttributes(_ caller: Caller, _ file: FileID, _ new: NewAttributes) throws(Halt) -> Attempt<Changed> {
        guard new.uid != nil || new.gid != nil, counts(file) else {
            return fileSystem.setAttributes(caller.request, file, new)
        }
        return try meteredOwner(caller, file, new)
    }

    @inline(never)
    private func meteredOwner(_ caller: Caller, _ file: FileID, _ new: NewAttributes) throws(Halt) -> Attempt<Changed> {
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            if try isRepeated(request) { return fileSystem.setAttributes(request.asRepeat, file, new) }
            let found = try attributes(caller, of: file)
            // What has no name does not count, a stream goes with its file, and the root is nobody's.
            guard !found.isStream, file != root, let old = try state.account(request, found) else {
                return fileSystem.setAttributes(request, file, new)
            }
            try requireStill(state, file)
            var changed = found
            changed.uid = new.uid ?? found.uid
            changed.gid = new.gid ?? found.gid
            let now = try state.account(request, changed)?.owners ?? []
            let bytes = try state.bytes(request, found)
            try state.admit(request, now.filter { !old.owners.contains($0) }, bytes: bytes, files: old.files)
            let attempt = fileSystem.setAttributes(request, file, new)
            if case .done(_, let number) = attempt, number > 0 {
                let (bytes, files) = (Int64(clamping: bytes), Int64(clamping: old.files))
                state.add(request, old.owners, of: old.inode, bytes: -bytes, files: -files)
                state.add(request, now, of: old.inode, bytes: bytes, files: files)
            }
            return attempt
        }
    }

    // MARK: Data

    @inline(__always)
    func writeData(
        _ caller: Caller, _ file: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) throws(Halt) -> Attempt<Changed> {
        guard counts(file) else { return fileSystem.write(caller.request, file, at: offset, bytes) }
        let (end, isBeyond) = offset.addingReportingOverflow(UInt64(bytes.count))
        guard !isBeyond else { throw .refused(.fileTooBig) }
        return try meteredSize(caller, file, end: bytes.isEmpty ? 0 : end) {
            fileSystem.write(caller.request, file, at: offset, bytes)
        }
    }

    /// Whether quotas let so much be written. Nothing is counted or reserved.
    func admitWrite(_ caller: Caller, _ file: FileID, at offset: UInt64, count: Int) throws(Halt) {
        guard counts(file), count > 0 else { return }
        let (end, isBeyond) = offset.addingReportingOverflow(UInt64(count))
        guard !isBeyond else { throw .refused(.fileTooBig) }
        let request = caller.request
        try meter.change { (state) throws(Halt) in
            let found = try attributes(caller, of: file)
            _ = try state.account(request, try state.whole(request, found), from: found.size, growingTo: end)
        }
    }

    @inline(__always)
    func emptyFile(_ caller: Caller, _ file: FileID) throws(Halt) -> Attempt<Changed> {
        guard counts(file) else { return fileSystem.empty(caller.request, file) }
        return try meteredSize(caller, file, end: 0) { fileSystem.empty(caller.request, file) }
    }

    func linkFile(_ caller: Caller, _ file: FileID, to target: [UInt8]) throws(Halt) -> Attempt<Changed> {
        guard counts(file) else { return fileSystem.makeLink(caller.request, file, to: target) }
        return try meteredSize(caller, file, end: UInt64(target.count)) {
            fileSystem.makeLink(caller.request, file, to: target)
        }
    }

    /// A change of a file's size at once; `end`: as far as it may reach then.
    @inline(never)
    private func meteredSize(
        _ caller: Caller, _ file: FileID, end: UInt64, _ change: () -> Attempt<Changed>
    ) throws(Halt) -> Attempt<Changed> {
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            let found = try attributes(caller, of: file)
            let whole = try state.whole(request, found)
            // The engine lets no write in either while it works on a file's ranges.
            try requireStill(state, whole.file)
            guard let account = try state.account(request, whole, from: found.size, growingTo: end) else {
                return change()
            }
            let attempt = change()
            if case .done(let changed, _) = attempt {
                let grown = Int64(clamping: changed.after.size) - Int64(clamping: found.size)
                state.add(request, account.subjects, of: account.inode, bytes: grown, files: 0)
            }
            return attempt
        }
    }

    /// A change of a file's size in several steps.
    func growing<Value>(
        _ request: Request, _ file: FileID, to end: UInt64, _ change: () async throws(FileError) -> Value
    ) async throws(FileError) -> Value {
        guard counts(file) else {
            meter.unheld.wrappingAdd(1, ordering: .acquiringAndReleasing)
            defer { meter.unheld.wrappingSubtract(1, ordering: .acquiringAndReleasing) }
            return try await change()
        }
        let reserved = try await hold(request, file, to: end)
        let result: Result<Value, FileError>
        do throws(FileError) { result = .success(try await change()) } catch { result = .failure(error) }
        await release(request, reserved)
        return try result.get()
    }

    private struct Reservation {
        /// What is held: of a stream the file that it goes with.
        var file: FileID
        var subjects: [QuotaSubject]
        var bytes: UInt64
        var inode: UInt64
    }

    private func hold(_ request: Request, _ file: FileID, to end: UInt64) async throws(FileError) -> Reservation {
        var key = file
        while true {
            let awaited = key
            await meter.when { !$0.wantsQuiet && $0.held[awaited] == nil }
            let attempt: Attempt<Reservation?> = attempt { () throws(Halt) in
                try meter.change { (state) throws(Halt) -> Attempt<Reservation?> in
                    let found = try fileSystem.attributes(request, file).get()
                    let whole = try state.whole(request, found)
                    key = whole.file
                    // One after the other, as the engine does them, too: what is cut meanwhile would be grown again unreserved.
                    if state.wantsQuiet || state.held[key] != nil { return .done(nil, number: 0) }
                    let account = try state.account(request, whole, from: found.size, growingTo: end)
                    let before = try state.bytes(request, whole)
                    let more = account == nil ? 0 : end - min(end, found.size)
                    let inode = account?.inode ?? 0
                    state.held[key] = before
                    // Of those that are being counted some may not have come to it: they take none.
                    let taken = (account?.subjects ?? []).filter { !state.uncounted.contains($0) }
                    state.add(request, taken, of: inode, bytes: Int64(clamping: more), files: 0)
                    return .done(Reservation(file: key, subjects: taken, bytes: more, inode: inode), number: 0)
                }
            }
            switch attempt {
            case .done(let reservation?, _): return reservation
            case .done(nil, _): continue
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
    }

    /// The steps are done: the file counts as long as it is now.
    private func release(_ request: Request, _ reserved: Reservation) async {
        let file = reserved.file
        var isDone = false
        while !isDone {
            let lack = meter.change { state -> Lack? in
                let attempt: Attempt<(account: QuotaMeter.Account, bytes: UInt64)?> = attempt { () throws(Halt) in
                    let found = try fileSystem.attributes(request, file).get()
                    guard let account = try state.account(request, found) else { return .done(nil, number: 0) }
                    return .done((account, try state.bytesNow(request, found)), number: 0)
                }
                if case .lacks(let lack) = attempt { return lack }
                isDone = true
                let there = reserved.subjects.filter { state.table[$0] != nil && !state.uncounted.contains($0) }
                state.add(request, there, of: reserved.inode, bytes: -Int64(clamping: reserved.bytes), files: 0)
                let counted = state.held.removeValue(forKey: file) ?? 0
                if case .done(let (account, bytes)?, _) = attempt {
                    let grown = Int64(clamping: bytes) - Int64(clamping: counted)
                    state.add(request, account.subjects, of: account.inode, bytes: grown, files: 0)
                }
                return nil
            }
            guard let lack else { continue }
            // The volume has failed: nothing grows in it any more, whatever is counted.
            do throws(FileError) { try await lack.supplied() } catch {
                meter.change { $0.held[file] = nil }
                return
            }
        }
    }

    // MARK: Streams

    func removeFileStream(
        _ caller: Caller, of file: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> Attempt<Void> {
        guard counts(file) else { return fileSystem.removeStream(caller.request, of: file, name) }
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            try requireStill(state, file)
            let stream = try fileSystem.stream(request, of: file, name).get()
            let account = try state.account(request, try attributes(caller, of: file))
            let attempt = fileSystem.removeStream(request, of: file, name)
            if case .done(_, let number) = attempt, number > 0, let account {
                state.add(request, account.subjects, of: account.inode, bytes: -Int64(clamping: stream.size), files: 0)
            }
            return attempt
        }
    }

    func renameFileStream(
        _ caller: Caller, of file: FileID, _ name: UnsafeRawBufferPointer, to newName: UnsafeRawBufferPointer,
        replaces: Bool
    ) throws(Halt) -> Attempt<Void> {
        let request = caller.request
        guard replaces, counts(file) else {
            return fileSystem.renameStream(request, of: file, name, to: newName, replaces: replaces)
        }
        return try meter.change { (state) throws(Halt) in
            try requireStill(state, file)
            let moving = try fileSystem.stream(request, of: file, name).get()
            let gone = try stream(request, of: file, newName)
            let account = try state.account(request, try attributes(caller, of: file))
            let attempt = fileSystem.renameStream(request, of: file, name, to: newName, replaces: replaces)
            if case .done(_, let number) = attempt, number > 0, let account, let gone, gone.file != moving.file {
                state.add(request, account.subjects, of: account.inode, bytes: -Int64(clamping: gone.size), files: 0)
            }
            return attempt
        }
    }
}

/// What a name stands for in the places where it is.
struct Load {
    var bytes: UInt64 = 0
    var files: UInt64 = 0
}

extension QuotaMeter.State {
    /// What counts a file's bytes; nil: nothing does. Refuses growth, of the file or of a stream of its, that is not allowed; what
    /// was removed and is still open must fit as a whole.
    mutating func account(
        _ request: Request, _ file: Attributes, from size: UInt64, growingTo end: UInt64
    ) throws(Halt) -> Account? {
        guard let account = try account(request, file) else {
            let owner = QuotaMeter.Owner(uid: file.uid, gid: file.gid)
            if end > size { try admit(request, [.volume] + owner.subjects, bytes: end, files: 0) }
            return nil
        }
        if end > size { try admit(request, account.subjects, bytes: end - size, files: 0) }
        return account
    }

    mutating func move(_ request: Request, _ inode: UInt64, _ load: Load, from: [QuotaSubject], to: [QuotaSubject]) {
        let (bytes, files) = (Int64(clamping: load.bytes), Int64(clamping: load.files))
        add(request, from.filter { !to.contains($0) }, of: inode, bytes: -bytes, files: -files)
        add(request, to.filter { !from.contains($0) }, of: inode, bytes: bytes, files: files)
    }
}
