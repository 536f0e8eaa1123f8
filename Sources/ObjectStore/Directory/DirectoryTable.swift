import Runtime

/// Makes, removes and syncs a store's directories, and knows which of them are there to stay. On one loop.
///
/// An object is durable when its name is synced and every directory above it is. A directory may be removed when it is
/// empty, and be made again by somebody who has not synced its name yet: so each making has a number, and who put a
/// file into a directory compares the number from before with the one after.
final class DirectoryTable: @unchecked Sendable {
    private let world: World
    private let loop: EventLoop
    /// Everything above and including this one exists durably.
    private let top: String
    private var known: [String: UInt64] = [:]
    private var makings: UInt64 = 0
    private static let knownMax = 10_000
    /// Making and removing happen one at a time.
    private var isBusy = false
    private var queue: [UnsafeContinuation<Void, Never>] = []
    /// Directories that this process has synced, with all above them: what they held then, and what it added, is
    /// durable. What another process left may be visible and yet be lost with the power. Asked by the pool's threads.
    private let confirmed = Guarded(Confirmed())
    private struct Confirmed {
        var directories: Set<String> = []
        var removals = 0
    }
    private var syncs: [String: [UnsafeContinuation<Errno?, Never>]] = [:]

    init(world: World, loop: EventLoop, top: String) {
        self.world = world
        self.loop = loop
        self.top = top
    }

    /// The number of the making; 0 when nothing is known.
    func making(_ directory: String) -> UInt64 { known[directory] ?? 0 }

    /// Makes the directory and all above it, durably; answers the number of this making.
    func make(_ directory: String) async throws(Errno) -> UInt64 {
        await enter()
        defer { leave() }
        if let making = known[directory] { return making }
        let (disk, top) = (world.disk, top)
        try await world.blocking.run(on: loop) { () throws(Errno) -> Void in
            var path = top
            for part in directory.dropFirst(top.count + 1).split(separator: "/") {
                try Self.make(path + "/" + part, on: disk)
                path += "/" + part
            }
        }
        if known.count >= Self.knownMax { known.removeAll(keepingCapacity: true) }
        makings += 1
        known[directory] = makings
        return makings
    }

    /// On a thread of the pool. Syncs also what was there: who made it may have died before its name was durable.
    static func make(_ path: String, on disk: any Disk) throws(Errno) {
        do throws(Errno) {
            try disk.makeDirectory(path)
        } catch {
            guard error == .exists else { throw error }
        }
        try disk.syncDirectory(DiskPath.parent(of: path))
    }

    /// The directory turned out to be missing.
    func forget(_ directory: String, making: UInt64) {
        if known[directory] == making { known[directory] = nil }
    }

    /// Removes the directory if nothing is in it.
    func removeEmpty(_ directory: String) async {
        await enter()
        defer { leave() }
        known[directory] = nil
        confirmed.withLock { confirmed in
            confirmed.directories.remove(directory)
            confirmed.removals += 1
        }
        let disk = world.disk
        await world.blocking.run(on: loop) { try? disk.removeDirectory(directory) }
    }

    /// On a thread of the pool. What is told of a directory's names must stay true: it is synced before the first answer.
    func confirm(_ directory: String) throws(Errno) {
        let removals = confirmed.withLock { $0.directories.contains(directory) ? nil : $0.removals }
        guard let removals else { return }
        var isThere = true
        var path = directory
        while path.utf8.count >= top.utf8.count {
            do throws(Errno) {
                try world.disk.syncDirectory(path)
            } catch {
                guard error == .noEntry else { throw error }
                if path == directory { isThere = false }
            }
            path = DiskPath.parent(of: path)
        }
        confirmed.withLock { confirmed in
            // A directory that was removed since may be made again by somebody who has not synced its name yet.
            guard isThere, confirmed.removals == removals else { return }
            if confirmed.directories.count >= Self.knownMax { confirmed.directories.removeAll() }
            confirmed.directories.insert(directory)
        }
    }

    /// Makes the names in the directory durable. Callers that come while it is being synced share the next sync.
    func sync(_ directory: String) async throws(Errno) {
        let error = await withUnsafeContinuation { (continuation: UnsafeContinuation<Errno?, Never>) in
            if syncs[directory] != nil {
                syncs[directory]?.append(continuation)
            } else {
                syncs[directory] = []
                startSync(directory, [continuation])
            }
        }
        if let error { throw error }
    }

    private func startSync(_ directory: String, _ callers: [UnsafeContinuation<Errno?, Never>]) {
        let disk = world.disk
        let outcome = Outcome()
        world.blocking.submit(
            { do throws(Errno) { try disk.syncDirectory(directory) } catch { outcome.error = error } },
            then: {
                let next = self.syncs[directory] ?? []
                if next.isEmpty {
                    self.syncs[directory] = nil
                } else {
                    self.syncs[directory] = []
                    self.startSync(directory, next)
                }
                for caller in callers { caller.resume(returning: outcome.error) }
            }, on: loop)
    }

    /// Written by the pool's thread before it completes, read on the loop after.
    private final class Outcome: @unchecked Sendable { var error: Errno? }

    private func enter() async {
        guard isBusy else {
            isBusy = true
            return
        }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in queue.append(continuation) }
    }

    private func leave() {
        if queue.isEmpty { isBusy = false } else { queue.removeFirst().resume() }
    }
}
