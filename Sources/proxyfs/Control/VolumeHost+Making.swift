import Configuration
import Headhunter
import JSON
import Namespace
import ObjectStore
import Runtime

/// Volumes are made and deleted.
extension VolumeHost {
    /// Answers whether there was a volume in the folder already, which is served again then.
    func create(
        _ name: String, _ durability: Durability, store: String = "directory",
        log: Configuration.LogPlace = .local, lease: Configuration.Lease = .byLogPlace,
        size: ByteSize = Configuration.Volume.standardSize, takesOver: Bool = false, isReadOnly: Bool = false,
        meter: Meter = Meter()
    ) async throws(CommandFailure) -> Bool {
        if let fault = book.configuration.fault(inStore: store) { throw .misuse(fault) }
        if let fault = log.fault(store: store) { throw .misuse(fault) }
        if let fault = Configuration.fault(inVolumeName: name) { throw .misuse("\"\(name)\": \(fault)") }
        if let there = book.entries[name] {
            throw .failure("there is a volume \(name) already" + (there.place.map { ", declared at \($0)" } ?? ""))
        }
        guard book.entries.count < Configuration.volumesMax else {
            throw .failure("there are \(Configuration.volumesMax) volumes already, which is the most; delete one first")
        }
        let disk = world.disk
        let home = try home(of: name, log)
        let isThere = await blocking { (try? home.world.disk.status(home.folder + "/log")) != nil }
        book.entries[name] = Entry(
            name: name, durability: durability, store: store, place: nil, log: log, lease: lease, size: size,
            isReadOnly: isReadOnly, isNew: true)
        do throws(CommandFailure) {
            try await open(entry: name, takesOver: takesOver, meter: meter)
            book.entries[name]?.isNew = false
            // Last: a crash before it leaves a folder that the same command completes.
            let text = JSON.object([
                .init("durability", .string("\(durability)")), .init("store", .string(store)),
                .init("log", .string("\(log)")), .init("lease", .string(lease.description)),
                .init("size", .number(size.bytes)), .init("read_only", .bool(isReadOnly)),
            ])
            let failure = await blocking { () -> Errno? in
                do throws(Errno) {
                    do throws(Errno) { try disk.makeDirectory(Self.folder + "/" + name) } catch .exists {}
                    try Self.write("\(text)\n", to: Self.folder + "/" + name + "/" + Self.descriptor, disk)
                    try disk.syncDirectory(Self.folder)
                    return nil
                } catch { return error }
            }
            if let failure {
                throw .failure("can not write \(data)/\(Self.folder)/\(name)/\(Self.descriptor): \(failure)")
            }
        } catch {
            await forget(name)
            throw error
        }
        return isThere
    }

    private func forget(_ name: String) async {
        _ = volumes.remove(name)
        if let hosted = book.entries[name]?.hosted { await closeAnyway(hosted) }
        if let entry = book.entries[name] { disconnect(entry) }
        book.entries[name] = nil
    }

    /// All that it holds is gone when this returns; what a crash leaves of the folder goes with the next start, and objects
    /// elsewhere with the same command. False: the volume was not open here, so its objects elsewhere are left: they may be
    /// another server's.
    func delete(_ name: String, _ meter: Meter) async throws(CommandFailure) -> Bool {
        guard var entry = book.entries[name] else {
            throw .failure("there is no volume \(name); proxyfs volume list shows those that there are")
        }
        if let place = entry.place {
            throw .failure(
                "volume \(name) is declared at \(place), and what is declared there wins: remove it there first")
        }
        guard !entry.isLeaving else { throw .failure("volume \(name) is just being given up: try again") }
        let described = try StoreCommand.describe(entry.store, book.configuration)
        var isOurs = !entry.isReadOnly && (entry.hosted != nil || entry.isDeleting)
        if let hosted = entry.hosted, !entry.isReadOnly {
            meter.follow("closing volume \(name)", unit: "KiB") { hosted.unstoredBytes >> 10 }
            if described != nil {
                isOurs = try await closeToDelete(name, hosted)
                let whose = hosted.whose
                entry.doomed = Doomed(identity: whose.identity, header: whose.header)
            }
        } else if let described, let doomed = entry.doomed {
            isOurs = try await isStillThere(doomed, described)
        }
        if described != nil, isOurs { try await markDeleting(entry) }
        await forget(name)
        if let described, isOurs { try await deleteObjects(of: entry, at: described, meter) }
        meter.follow("removing the folder of volume \(name)", unit: "folders") { (0, 1) }
        // What others may have by now is left: a log at a path that this server did not have open.
        if case .path = entry.log, isOurs { try await removeFolder(try home(of: name, entry.log)) }
        try await removeFolder(try home(of: name, .local))
        return described == nil || isOurs
    }

    private func removeFolder(_ home: Home) async throws(CommandFailure) {
        let (disk, random, folder) = (home.world.disk, world.random, home.folder)
        let failure = await blocking { () -> Errno? in
            let doomed = folder + Self.deleted + String(random.next(), radix: 16)
            do throws(Errno) {
                try disk.rename(folder, to: doomed)
                try disk.syncDirectory(String(folder[..<(folder.lastIndex(of: "/") ?? folder.startIndex)]))
                try Self.removeTree(doomed, disk)
                return nil
            } catch { return error }
        }
        if let failure { throw .failure("can not remove \(home.path): \(failure)") }
    }

    /// Whether its objects are this server's to delete: one that was taken meets that at its last header at the latest.
    private func closeToDelete(_ name: String, _ hosted: HostedVolume) async throws(CommandFailure) -> Bool {
        // Nobody takes it, or gives it up, meanwhile.
        book.entries[name]?.isLeaving = true
        book.entries[name]?.hosted = nil
        _ = volumes.remove(name)
        defer { book.entries[name]?.isLeaving = false }
        let failure = await hosted.loop.task { () async -> HostingError? in
            var hasHeader = !hosted.isReadOnly
            do throws(HostingError) { try await hosted.close() } catch {
                if case .volume(.fenced) = error { return error }
                hasHeader = false
            }
            // What wrote no last header has to ask.
            guard !hasHeader else { return nil }
            do throws(HostingError) { try await hosted.confirm() } catch { return error }
            return nil
        }.value
        switch failure {
        case nil:
            book.entries[name]?.isDeleting = true
            book.entries[name]?.problem = Self.halfDeleted
            return true
        case .volume(.fenced)?: return false
        case let failure?:
            if let entry = book.entries[name] { disconnect(entry) }
            book.entries[name]?.connected = nil
            book.entries[name]?.problem = "its deletion ended before it began: \(Self.text(failure))"
            throw .failure("can not delete volume \(name): \(Self.text(failure))")
        }
    }

    /// From here on nobody opens it any more.
    private func markDeleting(_ entry: Entry) async throws(CommandFailure) {
        let text = JSON.object([
            .init("durability", .string("\(entry.durability)")), .init("store", .string(entry.store)),
            .init("log", .string("\(entry.log)")), .init("deleting", true),
            .init("identity", entry.doomed.map { .string($0.identity) } ?? .null),
            .init("header", entry.doomed.map { .number($0.header) } ?? .null),
        ])
        let disk = world.disk
        let failure = await blocking { () -> Errno? in
            do throws(Errno) {
                try Self.write("\(text)\n", to: Self.folder + "/" + entry.name + "/" + Self.descriptor, disk)
                return nil
            } catch { return error }
        }
        if let failure { throw .failure("can not write \(data)/\(Self.folder)/\(entry.name): \(failure)") }
    }

    /// Whether nobody has gone on with the volume, or made another one there, since its deletion began.
    private func isStillThere(_ doomed: Doomed, _ described: Configuration.Store) async throws(CommandFailure) -> Bool {
        let loop = loop
        let connected = try ConnectedStore(described, world: world, loop: loop)
        defer { connected.stop() }
        do throws(StoreError) {
            let there = try await HostedVolume.whose(connected.store)
            return there.identity.map { $0 == doomed.identity } ?? true && there.header ?? 0 <= doomed.header
        } catch {
            throw .failure("can not see whose the objects at \(described.address) are: \(error); try again")
        }
    }

    /// Those in a store elsewhere.
    private func deleteObjects(
        of entry: Entry, at described: Configuration.Store, _ meter: Meter
    ) async throws(CommandFailure) {
        let loop = loop
        let connected = try ConnectedStore(described, world: world, loop: loop)
        defer { connected.stop() }
        do throws(StoreError) { try await connected.deleteAll(meter) } catch {
            // It is still there, and may be deleted again.
            book.entries[entry.name] = entry
            book.entries[entry.name]?.hosted = nil
            book.entries[entry.name]?.problem = Self.halfDeleted
            book.entries[entry.name]?.isDeleting = true
            throw .failure("can not delete the objects at \(described.address): \(error); try again")
        }
    }
}
