import Runtime

/// Notification of changes.
extension Volume {
    /// Watches a directory, or all that lies below it. `tell` is called on `loop` when something has come and nothing had; then
    /// `takeEvents` has it. Nil: there are too many watches.
    public func watch(
        _ caller: Caller, _ directory: FileID, _ filter: WatchFilter, isRecursive: Bool, on loop: EventLoop,
        tell: @escaping @Sendable () -> Void
    ) -> Attempt<WatchID> {
        attempt { () throws(Halt) in
            // What an open was granted stays with it.
            if caller.handle?.file != directory || caller.handle?.granted.contains(.readData) != true {
                _ = try self.directory(caller, directory, .read)
            }
            let id = sharing.change { state, _ in
                state.watches.add(
                    directory, filter, isRecursive: isRecursive, WatchTable.Delivery(loop: loop, tell: tell))
            }
            guard let id else { throw .refused(.tooManyLocks) }
            return .done(id, number: 0)
        }
    }

    /// What has come since the last call; nil: nothing.
    public func takeEvents(_ id: WatchID) -> WatchEvents? { sharing.look { $0.watches.take(id) } }

    public func endWatch(_ id: WatchID) { sharing.change { state, _ in state.watches.remove(id) } }

    /// The way from a name up, as far as anybody watches; nil: nobody does. Asked for before the change, when it may still
    /// lack something.
    func trails(
        _ caller: Caller, _ directory: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> [WatchTable.Step]? {
        let uses = sharing.uses
        guard uses.contains(.watches) else { return nil }
        var trail = [WatchTable.Step(directory: directory, name: Array(name))]
        guard uses.contains(.recursiveWatches) else { return trail }
        var place = directory
        while place != root, trail.count < Self.trailMax {
            guard let above = try fileSystem.whereabouts(caller.request, of: place).get() else { break }
            trail.append(WatchTable.Step(directory: above.directory, name: above.name))
            place = above.directory
        }
        return trail
    }

    /// Directories above a file; deeper changes reach the watches that are nearer.
    static let trailMax = 4096

    /// The file's own way up, by its first name.
    func trails(_ caller: Caller, of file: FileID) throws(Halt) -> [WatchTable.Step]? {
        guard sharing.uses.contains(.watches), file != root,
            let place = try fileSystem.whereabouts(caller.request, of: file).get()
        else { return nil }
        let found = place.name.withUnsafeBytes { name in
            Result { () throws(Halt) in try trails(caller, place.directory, name) }
        }
        return try found.get()
    }

    func notify(_ caller: Caller, modified file: FileID, _ filter: WatchFilter) throws(Halt) {
        if let trail = try trails(caller, of: file) { sharing.post([(.modified, filter, trail)]) }
    }
}
