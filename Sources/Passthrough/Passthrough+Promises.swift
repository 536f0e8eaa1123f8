import CShim
import Namespace
import Runtime

/// How safe changes are: as the host makes them. `memory` asks for nothing; the other words for a sync, which is all that a
/// directory can give.
extension Passthrough {
    public func whenSettled(
        _ number: UInt64, _ durability: Durability, on loop: EventLoop, _ done: @escaping @Sendable (FileError?) -> Void
    ) {
        let isSettled = state.withLock { state in
            durability == .memory || number == 0
                || state.promises.isSettled(number, else: { failure in loop.execute { done(failure) } })
        }
        if isSettled { return done(nil) }
        nextRound()
    }

    private func nextRound() {
        guard let round = state.withLock({ $0.promises.begin() }) else { return }
        world.blocking.submit(
            {
                let failure = self.sync(round.files)
                self.state.withLock { state in
                    state.promises.end(round, isGood: failure == nil)
                    if failure != nil { state.failures += 1 }
                }
                for waiter in round.waiters { waiter.done(failure) }
            }, then: { self.nextRound() }, on: loop)
    }

    private func sync(_ files: [FileID]?) -> FileError? {
        do throws(HostError) {
            var isWhole = files == nil
            for file in files ?? [] {
                // One that is gone, or is no file with data, is synced with all the rest.
                guard case .success(let found) = Self.settled({ () throws(Halt) in try find(file, .waiting) }),
                    [.file, .directory].contains(FileType(mode: found.status.mode)),
                    let open = try? found.file.reopen(Self.reading)
                else {
                    isWhole = true
                    break
                }
                try check(shim_host_sync(open.descriptor))
            }
            if isWhole { try syncAll() }
            return nil
        } catch { return .inputOutput("syncing \(path): error \(error.code)") }
    }

    private func syncAll() throws(HostError) {
        let root = try base.reopen(Self.listing)
        try check(shim_host_sync_all(root.descriptor))
        state.withLock { $0.unsyncedBytes = 0 }
    }

    /// A change, in the order of changes.
    func changed(_ files: [FileID]) -> UInt64 {
        state.withLock { $0.promises.changed(files) }
    }

    public func flush(_ file: FileID) async throws(FileError) -> UInt64 {
        let result = Guarded<FileError?>(nil)
        try await blocking { () throws(Halt) in
            let found = try self.find(file, .waiting)
            do throws(HostError) {
                let open = try found.file.reopen(Self.reading)
                try check(shim_host_sync(open.descriptor))
                self.state.withLock { state in state.unsyncedBytes -= min(state.unsyncedBytes, found.status.size) }
            } catch {
                let failure = FileError.inputOutput("syncing a file below \(self.path): error \(error.code)")
                self.state.withLock { $0.failures += 1 }
                result.withLock { $0 = failure }
            }
        }
        if let failure = result.withLock({ $0 }) { throw failure }
        return newestChange
    }

    /// More is taken in only when the disk has some of it.
    func requireRoom() throws(Halt) {
        guard state.withLock({ $0.unsyncedBytes }) >= Self.unsyncedBytesMax else { return }
        throw lack {
            do throws(HostError) { try self.syncAll() } catch {
                self.state.withLock { state in
                    state.failures += 1
                    state.unsyncedBytes = 0
                }
            }
        }
    }

    public func space(_ request: Request) -> Attempt<Space> {
        look { () throws(Halt) in
            guard
                case .space(let space) = try answer(
                    .space,
                    { () throws(Halt) in
                        var space = Space(bytes: 0, bytesFree: 0, files: 0, filesFree: 0)
                        try self.host { () throws(HostError) in
                            try check(
                                shim_host_space(
                                    self.base.descriptor, &space.bytes, &space.bytesFree, &space.files, &space.filesFree
                                ))
                        }
                        return .space(space)
                    })
            else { throw .refused(.stale) }
            return space
        }
    }
}
