import Glibc
import JSON
import Logging
import Namespace
import Passthrough
import Runtime

/// What is mounted in volumes: directories of the host, and other volumes.
extension Control {
    private func book(_ hosted: HostedVolume) -> MountBook {
        MountBook(VolumeSettings(hosted.volume, clock: world.clock, loop: loop))
    }

    private static func parts(_ path: String) throws(CommandFailure) -> (volume: String, directory: String) {
        let parts = path.split(separator: "/").map(String.init)
        guard path.hasPrefix("/"), let volume = parts.first, parts.count > 1, !parts.contains("."),
            !parts.contains(".."), path.utf8.count <= MountRecord.pathBytesMax
        else { throw .misuse("\"\(path)\" is no path for a mount: /VOLUME/DIRECTORY") }
        return (volume, parts.dropFirst().joined(separator: "/"))
    }

    /// What is kept with the volume, when it is opened. One that can not be made keeps none of the others away.
    func mountAll(_ volume: String) async {
        guard let hosted = host[volume]?.hosted else { return }
        unmounted.withLock { $0[volume] = nil }
        // Its owner's directories are others on this host, and whoever writes that volume must not choose among these.
        if !hosted.volume.follows { await mountKept(volume, hosted) }
        await mountGuest(volume)
    }

    private func mountKept(_ volume: String, _ hosted: HostedVolume) async {
        do throws(FileError) {
            let (records, unreadable) = try await book(hosted).all()
            if unreadable > 0 {
                logger.error("mounts left out", [.init("volume", volume), .init("count", unreadable)])
            }
            for record in records {
                do throws(CommandFailure) { try await mount(record, record.subvolume, hosted) } catch {
                    unmounted.withLock { $0[volume, default: [:]][record.path] = error.message }
                    logger.error(
                        "not mounted", [.init("path", "/\(volume)/\(record.path)"), .init("why", error.message)])
                }
            }
        } catch { logger.error("mounts not read", [.init("volume", volume), .init("why", "\(error)")]) }
    }

    /// Where a volume is to be seen that has come later than the one it is mounted in.
    private func mountGuest(_ guest: String) async {
        for entry in host.entries where unmounted.withLock({ $0[entry.name]?.isEmpty == false }) {
            guard let hosted = entry.hosted else { continue }
            do throws(FileError) {
                for record in try await book(hosted).all().mounts where record.volume == guest {
                    do throws(CommandFailure) { try await mount(record, record.subvolume, hosted) } catch { continue }
                    unmounted.withLock { $0[entry.name]?[record.path] = nil }
                }
            } catch {
                logger.error("mounts not read", [.init("volume", entry.name), .init("why", "\(error)")])
            }
        }
    }

    private func mount(
        _ record: MountRecord, _ subvolume: UInt32, _ hosted: HostedVolume
    ) async throws(CommandFailure) {
        let place: Attributes
        do throws(FileError) {
            place = try await FilePath(hosted.volume, clock: world.clock, loop: loop).find(record.path)
        } catch { throw .failure("/\(hosted.volume.name)/\(record.path): \(error)") }
        guard place.type == .directory else {
            throw .failure("/\(hosted.volume.name)/\(record.path) is no directory")
        }
        if let volume = record.volume { return try await show(volume, on: place.file, record, hosted) }
        if let bound = record.bound { return try await bind(bound, on: place.file, subvolume, record, hosted) }
        let (world, directory) = (world, record.directory)
        let opened = await world.blocking.run(on: loop) {
            () throws(Never) -> Result<Passthrough, Passthrough.Failure> in
            do throws(Passthrough.Failure) {
                return .success(try Passthrough(path: directory, subvolume: subvolume, world: world))
            } catch { return .failure(error) }
        }
        switch opened {
        case .failure(.host(let code, let doing)): throw .failure("\(doing): \(code)")
        case .success(let files):
            do throws(MountTree.Fault) {
                try hosted.tree.mount(files, on: place.file, isReadOnly: record.isReadOnly)
            } catch {
                throw .failure("/\(hosted.volume.name)/\(record.path): \(Self.text(error))")
            }
        }
    }

    private func bind(
        _ bound: FileID, on place: FileID, _ number: UInt32, _ record: MountRecord, _ hosted: HostedVolume
    ) async throws(CommandFailure) {
        let paths = FilePath(hosted.volume, clock: world.clock, loop: loop)
        let fault: MountTree.Fault?
        do throws(FileError) {
            guard try await paths.attributes(bound).type == .directory else { throw .notDirectory }
            fault = try await paths.run { hosted.tree.bind(bound, on: place, number: number, $0) }
        } catch { throw .failure("/\(hosted.volume.name)/\(record.directory): \(error)") }
        if let fault { throw .failure("/\(hosted.volume.name)/\(record.path): \(Self.text(fault))") }
    }

    private func show(
        _ volume: String, on place: FileID, _ record: MountRecord, _ hosted: HostedVolume
    ) async throws(CommandFailure) {
        let guest = try host.open(volume)
        let root = record.bound ?? guest.volume.root
        do throws(FileError) {
            let paths = FilePath(guest.volume, clock: world.clock, loop: loop)
            guard try await paths.attributes(root).type == .directory else { throw .notDirectory }
        } catch { throw .failure("/\(volume)/\(record.directory): \(error)") }
        do throws(MountTree.Fault) {
            try hosted.tree.mount(guest.volume, guest.tree, root: root, on: place, isReadOnly: record.isReadOnly)
        } catch { throw .failure("/\(hosted.volume.name)/\(record.path): \(Self.text(error))") }
    }

    /// The number by which a mount is known while it is there.
    private func number(of record: MountRecord) -> UInt32 {
        guard let volume = record.volume else { return record.subvolume }
        return record.bound?.subvolume ?? host[volume]?.hosted?.volume.root.subvolume ?? 0
    }

    private func isInUse(_ record: MountRecord, _ hosted: HostedVolume) -> Bool {
        guard record.volume != nil else { return hosted.volume.isInUse(record.subvolume) }
        let number = number(of: record)
        return hosted.tree.mounts.contains { $0.number == number && $0.guest?.isInUse == true }
    }

    /// Why the volume can not be deleted: it is to be seen in others. Of volumes that are not open nothing is known.
    func requireUnmounted(_ volume: String) async throws(CommandFailure) {
        for entry in host.entries {
            guard entry.name != volume, let hosted = entry.hosted else { continue }
            do throws(FileError) {
                for record in try await book(hosted).all().mounts where record.volume == volume {
                    throw FileError.inputOutput(
                        "it is mounted at /\(entry.name)/\(record.path): unmount it there first")
                }
            } catch {
                if case .inputOutput(let why) = error { throw .failure("deleting volume \(volume): \(why)") }
                throw .failure("deleting volume \(volume): reading the mounts of volume \(entry.name): \(error)")
            }
        }
    }

    private static func text(_ fault: MountTree.Fault) -> String {
        switch fault {
        case .inUse: "something is mounted there already"
        case .numberTaken: "its number is taken"
        case .tooMany: "a volume has \(MountTree.mountsMax) mounts at most"
        case .notMounted: "nothing is mounted there"
        case .hasMounts: "something is mounted below it, or bound from there; unmount that first"
        case .circle: "a directory would lie below itself"
        case .notOurs: "the directory is another volume's, which is mounted there: mount it in that volume's own tree"
        case .isGuest: "the volume is mounted in another one, where mounts in it would not be seen"
        case .guestHasMounts: "a volume is not mounted in itself, nor one that has mounts of its own"
        }
    }

    /// The same file by two ways would have two sets of locks; and what the server keeps for itself is nobody else's.
    private func requireAlone(_ directory: String) async throws(CommandFailure) -> String {
        guard directory.hasPrefix("/") else { throw .misuse("\"\(directory)\": a directory is named from the root on") }
        let data = host.data
        let real = await world.blocking.run(on: loop) { () throws(Never) in
            (Self.real(directory), Self.real(data))
        }
        guard let path = real.0, path.utf8.count <= MountRecord.directoryBytesMax else {
            throw .failure("\(directory): there is no such directory on this host; make it first")
        }
        func overlaps(_ other: String) -> Bool {
            path == other || path.hasPrefix(other == "/" ? other : other + "/")
                || other.hasPrefix(path == "/" ? path : path + "/")
        }
        if let own = real.1, overlaps(own) {
            throw .failure("\(directory) is, holds or lies in the data directory \(own), which is the server's own")
        }
        for entry in host.entries {
            for mount in entry.hosted?.tree.mounts ?? [] {
                guard let other = (mount.fileSystem as? Passthrough)?.path, overlaps(other) else { continue }
                throw .failure("\(directory) is in use: \(other) is mounted in volume \(entry.name)")
            }
        }
        return path
    }

    private static func real(_ path: String) -> String? {
        guard let found = realpath(path, nil) else { return nil }
        defer { free(found) }
        return String(validatingCString: found)
    }

    func addMount(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let path = try arguments.text("path")
        let directory = try arguments.optional("directory")
        let other = try arguments.optional("bind")
        let guest = try arguments.optional("volume")
        let isReadOnly = try arguments.flag("read-only") ?? false
        try arguments.finish()
        let (volume, below) = try Self.parts(path)
        let hosted = try host.open(volume)
        let record: MountRecord
        switch (directory, other, guest) {
        case (let directory?, nil, nil):
            record = MountRecord(path: below, directory: try await requireAlone(directory), isReadOnly: isReadOnly)
        case (nil, nil, let guest?): record = try await shown(guest, at: below, hosted, isReadOnly: isReadOnly)
        case (nil, let other?, nil):
            guard !isReadOnly else {
                throw .misuse(
                    "--read-only: what is bound is the same directory by both names; an export or a share can be read-only"
                )
            }
            record = try await bound(other, at: below, hosted)
        default:
            throw .misuse(
                "name what is to be seen at \(path): --directory DIR of the host, --bind OTHER of the same volume, or "
                    + "--volume NAME")
        }
        let source = directory ?? other ?? guest.map { "volume \($0)" } ?? ""
        let doing = "mounting \(source) at \(path)"
        do throws(FileError) {
            if try await book(hosted).all().mounts.contains(where: { $0.path == below }) {
                throw FileError.exists
            }
            try await FilePath(hosted.volume, clock: world.clock, loop: loop).makeDirectory(below)
        } catch { throw .failure("\(doing): \(error == .exists ? "something is mounted there already" : "\(error)")") }
        let number: UInt32
        do throws(FileError) { number = try await book(hosted).number() } catch { throw .failure("\(doing): \(error)") }
        try await mount(record, number, hosted)
        do throws(FileError) { try await book(hosted).keep(record, number) } catch {
            // What is not kept is not to be seen; nobody has it open yet.
            _ = try? hosted.tree.unmount(guest == nil ? number : self.number(of: record))
            throw .failure("\(doing): \(error)")
        }
        return Self.message(
            "\(source) is \(other == nil ? "mounted" : "bound") at \(path)"
                + (isReadOnly ? ", read-only" : ""))
    }

    private func bound(
        _ path: String, at below: String, _ hosted: HostedVolume
    ) async throws(CommandFailure) -> MountRecord {
        let (volume, source) = try Self.parts(path)
        guard volume == hosted.volume.name else {
            throw .failure(
                "binding \(path): it is in another volume than its new place; --volume \(volume):/\(source) shows it there"
            )
        }
        do throws(FileError) {
            let found = try await FilePath(hosted.volume, clock: world.clock, loop: loop).find(source)
            guard found.type == .directory else { throw .notDirectory }
            return MountRecord(path: below, directory: source, isReadOnly: false, bound: found.file)
        } catch { throw .failure("binding \(path): \(error)") }
    }

    /// `NAME`, or `NAME:/DIRECTORY`.
    private func shown(
        _ text: String, at below: String, _ hosted: HostedVolume, isReadOnly: Bool
    ) async throws(CommandFailure) -> MountRecord {
        let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
        let directory = parts.count > 1 ? parts[1].split(separator: "/").joined(separator: "/") : ""
        guard let name = parts.first, parts.count == 1 || parts[1].hasPrefix("/"),
            directory.utf8.count <= MountRecord.directoryBytesMax
        else { throw .misuse("--volume \(text): it is NAME or NAME:/DIRECTORY") }
        let guest = try host.open(name)
        var root = guest.volume.root
        if !directory.isEmpty {
            do throws(FileError) {
                let found = try await FilePath(guest.volume, clock: world.clock, loop: loop).find(directory)
                guard found.type == .directory else { throw .notDirectory }
                root = found.file
            } catch { throw .failure("mounting \(text): \(error)") }
        }
        return MountRecord(path: below, directory: directory, isReadOnly: isReadOnly, bound: root, volume: name)
    }

    func removeMount(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let path = try arguments.text("path")
        let isForced = try arguments.flag("force") ?? false
        try arguments.finish()
        let (volume, below) = try Self.parts(path)
        let hosted = try host.open(volume)
        do throws(FileError) {
            guard let record = try await book(hosted).all().mounts.first(where: { $0.path == below }) else {
                throw FileError.noEntry
            }
            if isInUse(record, hosted), !isForced {
                throw FileError.sharingViolation
            }
            do throws(MountTree.Fault) { try hosted.tree.unmount(number(of: record)) } catch {
                // One that could not be made is only forgotten.
                guard error == .notMounted else {
                    throw FileError.inputOutput(Self.text(error))
                }
            }
            try await book(hosted).remove(record.subvolume)
            _ = unmounted.withLock { $0[volume]?.removeValue(forKey: below) }
        } catch {
            let why =
                switch error {
                case .noEntry: "nothing is mounted there; proxyfs volume mounts \(volume) shows what is"
                case .sharingViolation: "files in it are open; --force takes it away all the same"
                case .inputOutput(let why): why
                default: "\(error)"
                }
            throw .failure("unmounting \(path): \(why)")
        }
        return Self.message("\(path) is not mounted any more")
    }

    func listMounts(_ arguments: inout Arguments) async throws(CommandFailure) -> JSON {
        let wanted = try arguments.optional("volume")
        try arguments.finish()
        if let wanted { _ = try host.open(wanted) }
        var rows: [JSON] = []
        for entry in host.entries where wanted == nil || wanted == entry.name {
            guard let hosted = entry.hosted else { continue }
            do throws(FileError) {
                for record in try await book(hosted).all().mounts {
                    let problem = unmounted.withLock { $0[entry.name]?[record.path] }
                    rows.append([
                        "path": .string("/\(entry.name)/\(record.path)"),
                        "directory": .string(
                            record.bound == nil
                                ? record.directory : "/\(record.volume ?? entry.name)/\(record.directory)"),
                        "kind": .string(record.volume != nil ? "volume" : record.bound == nil ? "host" : "bind"),
                        "access": .string(record.isReadOnly ? "ro" : "rw"),
                        "state": .string(problem == nil ? "mounted" : "not mounted"),
                        "problem": problem.map { .string($0) } ?? .null,
                    ])
                }
            } catch { throw .failure("reading the mounts of volume \(entry.name): \(error)") }
        }
        return .array(rows)
    }
}
