import Runtime

/// Notification of changes.
extension Volume {
    /// Watches a directory, or all that lies below it. `tell` is called on `loop` when something has come and nothing had; then
    /// `takeEvents` has it. Nil: there are too many watches.
    public func watch(
        _ caller: Caller, _ directory: FileID, _ filter: WatchFilter, isRecursive: Bool, on loop: EventLoop,
        tell: @escaping @Sendable () -> Void
    ) -> Attempt<WatchID> {
        if let passed = passed(
            caller, directory, { $0.watch($1, directory, filter, isRecursive: isRecursive, on: loop, tell: tell) })
        {
            return passed.in(directory.subvolume)
        }
        return attempt { () throws(Halt) in
            // What an open was granted stays with it.
            if caller.handle?.file != directory || caller.handle?.granted.contains(.readData) != true {
                _ = try self.directory(caller, directory, .read)
            }
            let id = sharing.change { state, _ in
                state.watches.add(
                    directory, filter, isRecursive: isRecursive, WatchTable.Delivery(loop: loop, tell: tell))
            }
            guard let id else { throw .refused(.tooManyLocks) }
            if fileSystem.isForeign(directory) {
                fileSystem.observe(directory, isRecursive: isRecursive, isOn: true)
                sharing.look { $0.observed[id] = (directory, isRecursive) }
            }
            return .done(id, number: 0)
        }
    }

    /// What the file system tells of foreign directories.
    func tell(_ change: ForeignChange) {
        guard sharing.uses.contains(.watches) else { return }
        switch change {
        case .overrun: sharing.change { state, _ in state.watches.overrun() }
        case .ended(let directory): sharing.change { state, _ in state.watches.end(directory) }
        case .changed(let action, let filter, let directory, let name):
            var trail = [WatchTable.Step(directory: directory, name: name)]
            var place = directory
            let request = Request(reader: 0, now: sharing.clock.wall())
            while trail.count < Self.trailMax,
                case .done(let above?, _) = fileSystem.whereabouts(request, of: place),
                fileSystem.isForeign(above.directory)
            {
                trail.append(WatchTable.Step(directory: above.directory, name: above.name))
                place = above.directory
            }
            sharing.post([(action, filter, trail)])
        }
    }

    /// What has come since the last call; nil: nothing.
    public func takeEvents(_ id: WatchID) -> WatchEvents? { home(of: id)?.sharing.look { $0.watches.take(id.own) } }

    public func endWatch(_ id: WatchID) {
        if id.volume != 0 {
            home(of: id)?.endWatch(id.own)
            return
        }
        let observed = sharing.change { state, _ in
            state.watches.remove(id)
            return state.observed.removeValue(forKey: id)
        }
        if let observed {
            fileSystem.observe(observed.directory, isRecursive: observed.isRecursive, isOn: false)
        }
    }

    /// The way from a name up, as far as anybody watches; nil: nobody does. Asked for before the change, when it may still
    /// lack something.
    func trails(
        _ caller: Caller, _ directory: FileID, _ name: UnsafeRawBufferPointer
    ) throws(Halt) -> [WatchTable.Step]? {
        let uses = sharing.uses
        guard uses.contains(.watches) else { return nil }
        // What happens in a foreign directory is told by its file system to those who watch there.
        var trail = [
            WatchTable.Step(directory: directory, name: Array(name), isSilent: fileSystem.isForeign(directory))
        ]
        guard uses.contains(.recursiveWatches) else { return trail }
        var place = directory
        while place != root, trail.count < Self.trailMax {
            guard let above = try fileSystem.whereabouts(caller.request, of: place).get() else { break }
            trail.append(
                WatchTable.Step(
                    directory: above.directory, name: above.name, isSilent: fileSystem.isForeign(above.directory)))
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

extension WatchID {
    fileprivate var own: WatchID { WatchID(number: number) }
}

extension Attempt<WatchID> {
    fileprivate func `in`(_ volume: UInt32) -> Attempt<WatchID> {
        guard case .done(var id, let number) = self else { return self }
        id.volume = volume
        return .done(id, number: number)
    }
}
