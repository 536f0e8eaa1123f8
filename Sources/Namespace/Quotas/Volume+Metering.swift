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
            fileSystem.create(caller.request, in: directory, name, new, uid: uid, gid: gid, disposition)
        }
    }

    /// The making of anything with a name.
    @inline(never)
    func meteredMaking(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile, _ uid: UInt32,
        _ gid: UInt32, _ make: () -> Attempt<Created>
    ) throws(Halt) -> Attempt<Created> {
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            guard let places = try state.places(request, directory, name) else { return make() }
            let owners: [QuotaSubject] = [.user(uid), .group(gid)]
            do throws(Halt) {
                try state.admit(request, places + owners, bytes: UInt64(new.target.count), files: 1)
            } catch {
                // What is there already may be opened, or is refused for that.
                guard case .done = fileSystem.lookup(request, in: directory, name) else { throw error }
            }
            let attempt = make()
            if case .done(let created, let number) = attempt, created.isNew, number > 0 {
                let bytes = Int64(clamping: state.bytes(created.file))
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
            let found = fileSystem.lookup(request, in: directory, name)
            if try isRepeated(caller, found) {
                return fileSystem.remove(request, in: directory, name, isDirectory: isDirectory)
            }
            let file = try found.get()
            let home = try state.home(request, file)
            let places = try state.places(request, directory, name)
            let attempt = fileSystem.remove(request, in: directory, name, isDirectory: isDirectory)
            if case .done(let removed, let number) = attempt, number > 0, let places {
                state.lost(request, file, home: home, in: directory, name, places: places, left: removed.file)
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
            let moving = try fileSystem.lookup(request, in: old.directory, old.name).get()
            let other: Attributes?
            switch fileSystem.lookup(request, in: new.directory, new.name) {
            case .done(let found, _): other = found
            case .refused: other = nil
            case .lacks(let lack): throw .lacks(lack)
            }
            // Nothing goes from the server's own to the clients' by a name, nor back.
            guard let from = try state.places(request, old.directory, old.name),
                let to = try state.places(request, new.directory, new.name)
            else { return fileSystem.rename(request, from: old.directory, old.name, to: new.directory, new.name, mode) }
            let amount = try load(&state, request, moving, old, isMoved: from != to)
            var back = Load()
            var otherHome: Whereabouts?
            if let other {
                otherHome = try state.home(request, other)
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
            if let other, mode != .exchange, let left = renamed.other {
                state.lost(request, other, home: otherHome, in: new.directory, new.name, places: to, left: left)
            }
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
            return Load(bytes: isHome ? state.bytes(file) : 0, files: 1)
        }
        guard isMoved else { return Load(bytes: 0, files: 1) }
        guard state.held.isEmpty else { throw .lacks(whenHeld { $0.held.isEmpty }) }
        let sums = try fileSystem.usage(request, below: file.file).get()
        return Load(bytes: sums.bytes, files: sums.files + sums.directories + 1)
    }

    @inline(__always)
    func linkFile(
        _ caller: Caller, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> Attempt<Created> {
        guard counts(directory) else { return fileSystem.link(caller.request, file, in: directory, name) }
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            guard let places = try state.places(request, directory, name) else {
                return fileSystem.link(request, file, in: directory, name)
            }
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
            let found = try attributes(caller, of: file)
            // The root is not counted, what has no name neither.
            guard file != root, try !state.counting(request, [found]).isEmpty else {
                return fileSystem.setAttributes(request, file, new)
            }
            try requireStill(state, file)
            let bytes = state.bytes(found)
            let old = state.owners(found)
            let now: [QuotaSubject] = [.user(new.uid ?? found.uid), .group(new.gid ?? found.gid)]
            try state.admit(request, now.filter { !old.contains($0) }, bytes: bytes, files: 1)
            let attempt = fileSystem.setAttributes(request, file, new)
            if case .done(_, let number) = attempt, number > 0 {
                state.add(request, old, of: file.inode, bytes: -Int64(clamping: bytes), files: -1)
                state.add(request, now, of: file.inode, bytes: Int64(clamping: bytes), files: 1)
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

    @inline(__always)
    func emptyFile(_ caller: Caller, _ file: FileID) throws(Halt) -> Attempt<Changed> {
        guard counts(file) else { return fileSystem.empty(caller.request, file) }
        return try meteredSize(caller, file, end: 0) { fileSystem.empty(caller.request, file) }
    }

    /// A change of a file's size at once; `end`: as far as it may reach then.
    @inline(never)
    private func meteredSize(
        _ caller: Caller, _ file: FileID, end: UInt64, _ change: () -> Attempt<Changed>
    ) throws(Halt) -> Attempt<Changed> {
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            // The engine lets no write in either while it works on a file's ranges.
            try requireStill(state, file)
            let found = try attributes(caller, of: file)
            guard let subjects = try state.counted(request, found, growingTo: end) else { return change() }
            let before = state.bytes(found)
            let attempt = change()
            if case .done(let changed, _) = attempt {
                state.resized(request, file, subjects, from: before, to: changed.after.size)
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
        await release(request, file, reserved)
        return try result.get()
    }

    private struct Reservation {
        var subjects: [QuotaSubject]
        var bytes: UInt64
    }

    private func hold(_ request: Request, _ file: FileID, to end: UInt64) async throws(FileError) -> Reservation {
        while true {
            await meter.when { !$0.wantsQuiet && $0.held[file] == nil }
            let attempt: Attempt<Reservation?> = attempt { () throws(Halt) in
                try meter.change { (state) throws(Halt) -> Attempt<Reservation?> in
                    // One after the other, as the engine does them, too: what is cut meanwhile would be grown again unreserved.
                    if state.wantsQuiet || state.held[file] != nil { return .done(nil, number: 0) }
                    let found = try fileSystem.attributes(request, file).get()
                    let subjects = try state.counted(request, found, growingTo: end)
                    let before = state.bytes(found)
                    let more = subjects == nil ? 0 : end - min(end, before)
                    state.add(request, subjects ?? [], of: file.inode, bytes: Int64(clamping: more), files: 0)
                    state.held[file, default: QuotaMeter.Held(size: before, holders: 0)].holders += 1
                    // Of those that are being counted some may not have taken it.
                    let taken = (subjects ?? []).filter { !state.uncounted.contains($0) }
                    for subject in subjects ?? [] where !taken.contains(subject) {
                        state.add(request, [subject], of: file.inode, bytes: -Int64(clamping: more), files: 0)
                    }
                    return .done(Reservation(subjects: taken, bytes: more), number: 0)
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
    private func release(_ request: Request, _ file: FileID, _ reserved: Reservation) async {
        var isDone = false
        while !isDone {
            let lack = meter.change { state -> Lack? in
                let attempt: Attempt<([QuotaSubject], Attributes)?> = attempt { () throws(Halt) in
                    let found = try fileSystem.attributes(request, file).get()
                    guard let subjects = try state.counted(request, found, growingTo: 0) else {
                        return .done(nil, number: 0)
                    }
                    return .done((subjects, found), number: 0)
                }
                if case .lacks(let lack) = attempt { return lack }
                isDone = true
                let there = reserved.subjects.filter { state.table[$0] != nil && !state.uncounted.contains($0) }
                state.add(request, there, of: file.inode, bytes: -Int64(clamping: reserved.bytes), files: 0)
                if case .done(let (subjects, found)?, _) = attempt {
                    state.resized(request, file, subjects, from: state.bytes(found), to: found.size)
                }
                guard let held = state.held[file] else { return nil }
                state.held[file] = held.holders > 1 ? .init(size: held.size, holders: held.holders - 1) : nil
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

    // MARK: Objects

    @inline(__always)
    func placeFile(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, size: UInt64, uid: UInt32, gid: UInt32,
        _ place: () -> Attempt<PlacedFile>
    ) throws(Halt) -> Attempt<PlacedFile> {
        guard counts(directory) else { return place() }
        return try meteredPlacing(caller, in: directory, name, size, uid, gid, place)
    }

    @inline(never)
    private func meteredPlacing(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ size: UInt64, _ uid: UInt32,
        _ gid: UInt32, _ place: () -> Attempt<PlacedFile>
    ) throws(Halt) -> Attempt<PlacedFile> {
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            let other: Attributes?
            switch fileSystem.lookup(request, in: directory, name) {
            case .done(let found, _): other = found
            case .refused: other = nil
            case .lacks(let lack): throw .lacks(lack)
            }
            guard let places = try state.places(request, directory, name) else {
                try state.admit(request, [.volume, .user(uid), .group(gid)], bytes: size, files: 0)
                return place()
            }
            var home: Whereabouts?
            var freed: UInt64 = 0
            if let other {
                home = try state.home(request, other)
                if other.links == 1 { freed = state.bytes(other) }
            }
            let more = size - min(size, freed)
            try state.admit(request, places, bytes: more, files: other == nil ? 1 : 0)
            for (owner, isSame) in [
                (QuotaSubject.user(uid), other?.uid == uid), (.group(gid), other?.gid == gid),
            ] {
                let replaces = isSame && other?.links == 1
                try state.admit(request, [owner], bytes: replaces ? more : size, files: replaces ? 0 : 1)
            }
            let attempt = place()
            if case .done(let placed, let number) = attempt, number > 0 {
                if let other, let left = placed.other {
                    state.lost(request, other, home: home, in: directory, name, places: places, left: left)
                }
                let subjects = places + state.owners(placed.file)
                let size = Int64(clamping: placed.file.size)
                state.add(request, subjects, of: placed.file.file.inode, bytes: size, files: 1)
                state.held[placed.file.file]?.size = placed.file.size
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
    /// The subjects that a file's bytes count for; nil: for none, as it has no name. Refuses growth that they do not allow; a
    /// file without a name must fit as a whole, as it would when it gets one.
    mutating func counted(
        _ request: Request, _ file: Attributes, growingTo end: UInt64
    ) throws(Halt) -> [QuotaSubject]? {
        guard let home = try home(request, file), let places = try places(request, home.directory) else {
            if end > file.size { try admit(request, [.volume] + owners(file), bytes: end, files: 0) }
            return nil
        }
        let subjects = places + owners(file)
        let before = bytes(file)
        if end > before { try admit(request, subjects, bytes: end - before, files: 0) }
        return subjects
    }

    mutating func move(_ request: Request, _ inode: UInt64, _ load: Load, from: [QuotaSubject], to: [QuotaSubject]) {
        let (bytes, files) = (Int64(clamping: load.bytes), Int64(clamping: load.files))
        add(request, from.filter { !to.contains($0) }, of: inode, bytes: -bytes, files: -files)
        add(request, to.filter { !from.contains($0) }, of: inode, bytes: bytes, files: files)
    }
}
