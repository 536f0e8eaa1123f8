import Bytes
import LogFS
import Runtime

/// Reading and writing files.
extension Volume {
    public func open(_ caller: Caller, _ file: FileID) -> Attempt<Attributes> {
        fileSystem.open(caller.request, file)
    }

    public func close(_ caller: Caller, _ file: FileID) -> Attempt<Void> {
        if let guest = formerGuest(file) { return guest.call(caller, isReadOnly: isReadOnly) { $0.close($1, file) } }
        return meter.hasDrafts ? closeDraft(caller, file) : fileSystem.close(caller.request, file)
    }

    private func regular(_ caller: Caller, _ file: FileID) throws(Halt) -> Attributes {
        let found = try attributes(caller, of: file)
        switch found.type {
        case .file: return found
        case .directory: throw .refused(.isDirectory)
        case .symlink, .fifo, .socket, .characterDevice, .blockDevice: throw .refused(.wrongType)
        }
    }

    /// What is in memory. When it lacks something, `readAll` is the way.
    public func read(
        _ caller: Caller, _ file: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<(count: Int, file: Attributes)> {
        if let passed = passed(caller, file, { $0.read($1, file, at: offset, into: buffer) }) { return passed }
        return attempt { () throws(Halt) in
            let found = try regular(caller, file)
            try requireData(.read, caller, found)
            try sharing.admit(caller, file, .read(LockRange(accessed: offset, count: UInt64(buffer.count))))
            let count = try read(caller.request, file, at: offset, into: buffer).get()
            return .done((count, found), number: 0)
        }
    }

    /// The same by the caller's handle, when nobody asks for the attributes.
    public func read(
        _ caller: Caller, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<Int> {
        if let file = caller.handle?.file, let passed = passed(caller, file, { $0.read($1, at: offset, into: buffer) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            guard let handle = caller.handle, !handle.granted.isDisjoint(with: [.readData, .execute]) else {
                throw .refused(.accessDenied)
            }
            try sharing.admit(caller, handle.file, .read(LockRange(accessed: offset, count: UInt64(buffer.count))))
            return read(caller.request, handle.file, at: offset, into: buffer)
        }
    }

    /// So much at least is lent.
    public static let lendBytesMin = LogFS.lendBytesMin

    /// The same for who has the file open: bytes as `read` would copy them, where they lie.
    public func lend(_ caller: Caller, at offset: UInt64, count: Int) -> Attempt<[BlockPart]?> {
        if let file = caller.handle?.file, let passed = passed(caller, file, { $0.lend($1, at: offset, count: count) })
        {
            return passed
        }
        return attempt { () throws(Halt) in
            guard let handle = caller.handle, !handle.granted.isDisjoint(with: [.readData, .execute]) else {
                throw .refused(.accessDenied)
            }
            try sharing.admit(caller, handle.file, .read(LockRange(accessed: offset, count: UInt64(max(0, count)))))
            return fileSystem.lend(caller.request, handle.file, at: offset, count: count)
        }
    }

    /// Bytes as `read` would copy them, where they lie: for who sends them as they are. Nil: they are not there, and `read` may have them.
    public func lend(
        _ caller: Caller, _ file: FileID, at offset: UInt64, count: Int
    ) -> Attempt<(parts: [BlockPart], file: Attributes)?> {
        if let passed = passed(caller, file, { $0.lend($1, file, at: offset, count: count) }) { return passed }
        return attempt { () throws(Halt) in
            let found = try regular(caller, file)
            try requireData(.read, caller, found)
            try sharing.admit(caller, file, .read(LockRange(accessed: offset, count: UInt64(max(0, count)))))
            let parts = try fileSystem.lend(caller.request, file, at: offset, count: count).get()
            return .done(parts.map { ($0, found) }, number: 0)
        }
    }

    /// Whether the caller may read these bytes; then `readAll` does.
    public func mayRead(_ caller: Caller, _ file: FileID, at offset: UInt64, count: Int) -> Attempt<Void> {
        if let passed = passed(caller, file, { $0.mayRead($1, file, at: offset, count: count) }) { return passed }
        return attempt { () throws(Halt) in
            try requireData(.read, caller, try regular(caller, file))
            try sharing.admit(caller, file, .read(LockRange(accessed: offset, count: UInt64(max(0, count)))))
            return .done((), number: 0)
        }
    }

    /// The same for writing, or for a hole that is to be made there.
    public func mayWrite(_ caller: Caller, _ file: FileID, at offset: UInt64, count: UInt64) -> Attempt<Void> {
        if let passed = passed(caller, file, { $0.mayWrite($1, file, at: offset, count: count) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let found = try regular(caller, file)
            try requireData(.write, caller, found, from: offset)
            try requireFree(caller, found)
            try sharing.admit(caller, file, .write(LockRange(accessed: offset, count: count)))
            if caller.credential.uid != 0 { try dropSetID(caller, found) }
            return .done((), number: 0)
        }
    }

    public func readAll(
        _ file: FileID, at offset: UInt64, into buffer: SendableBuffer
    ) async throws(FileError) -> Int {
        try await fileSystem.readAll(file, at: offset, into: buffer)
    }

    /// Takes the bytes in; a flush brings them to a safe place.
    public func write(
        _ caller: Caller, _ file: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) -> Attempt<Changed> {
        if let passed = passed(caller, file, { $0.write($1, file, at: offset, bytes) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            let found = try regular(caller, file)
            try requireData(.write, caller, found, from: offset)
            try requireFree(caller, found)
            try sharing.admit(caller, file, .write(LockRange(accessed: offset, count: UInt64(bytes.count))))
            let trail = try trails(caller, of: file)
            if found.mode & 0o6000 != 0, caller.credential.uid != 0 {
                try dropSetID(caller, found, beforeWriting: bytes.count, at: offset)
            }
            let attempt = try writeData(caller, file, at: offset, bytes)
            guard case .done(var changed, let number) = attempt else { return attempt }
            certain(found, &changed)
            sharing.changed(file, by: caller.handle?.lease)
            if let trail { sharing.post([(.modified, [.size, .lastWrite], trail)]) }
            return .done(changed, number: number)
        }
    }

    /// A write by somebody else takes set-user-ID and set-group-ID away first; one that is refused has changed nothing.
    private func dropSetID(
        _ caller: Caller, _ file: Attributes, beforeWriting count: Int, at offset: UInt64
    ) throws(Halt) {
        guard Self.withoutSetID(file.mode) != file.mode else { return }
        try admitWrite(caller, file.file, at: offset, count: count)
        let (end, isBeyond) = offset.addingReportingOverflow(UInt64(count))
        guard !isBeyond, end <= fileBytesMax(at: file.file) else { throw .refused(.fileTooBig) }
        _ = try fileSystem.write(caller.request, file.file, at: offset, UnsafeRawBufferPointer(start: nil, count: 0))
            .get()
        try dropSetID(caller, file)
    }

    /// Before the content is another one by somebody else's hand. A repeated request is known by the change that follows.
    func dropSetID(_ caller: Caller, _ file: Attributes) throws(Halt) {
        guard file.type == .file, Self.withoutSetID(file.mode) != file.mode else { return }
        var request = caller.request
        request.token = nil
        var new = NewAttributes()
        new.dropsSetID = true
        try keepInStep(request, file, &new)
        _ = try fileSystem.setAttributes(request, file.file, new).get()
    }

    /// What was written before the call is safe when this returns, under every durability word. `word`: what the way in
    /// promises, if not what the volume does.
    public func flush(_ file: FileID, _ word: Durability? = nil, on loop: EventLoop) async throws(FileError) {
        if let guest = guest(file) { return try await guest.volume.flush(file, word, on: loop) }
        let number = try await fileSystem.flush(file)
        guard number > 0 else { return }
        try await settled(number, max(word ?? durability, .log), on: loop)
    }

    /// Returns when change `number` is as safe as that.
    public func settled(_ number: UInt64, _ durability: Durability, on loop: EventLoop) async throws(FileError) {
        let failure = await withUnsafeContinuation { (continuation: UnsafeContinuation<FileError?, Never>) in
            fileSystem.whenSettled(number, durability, on: loop) { continuation.resume(returning: $0) }
        }
        if let failure { throw failure }
    }

    /// Whether the caller may set these attributes, a size with them; then `resize` does.
    public func mayResize(_ caller: Caller, _ file: FileID, _ new: NewAttributes) -> Attempt<NewAttributes> {
        if let passed = passed(caller, file, { $0.mayResize($1, file, new) }) { return passed }
        return attempt { () throws(Halt) in
            try requireWritable(caller)
            var new = new
            let found = try regular(caller, file)
            // What it did when it was made first is no reason to refuse it now, nor what it does at this moment.
            if let token = caller.request.token, let lack = running.lack(token) { throw .lacks(lack) }
            if try isRepeated(caller.request) {
                new.isRepeat = true
                return .done(new, number: 0)
            }
            try authorize(caller, found, &new)
            if let time = new.ifChanged, time != found.changed { throw .refused(.notSynchronized) }
            if let size = new.size, size != found.size {
                guard size <= fileSystem.fileBytesMax(at: file) else { throw .refused(.fileTooBig) }
                try requireFree(caller, found)
                // What is cut away, or comes: locks on it are in the way.
                let first = min(size, found.size)
                try sharing.admit(
                    caller, file, .write(LockRange(accessed: first, count: max(size, found.size) - first)))
            }
            // Whatever the mode is now: it is looked at when the content is about to change.
            if caller.credential.uid != 0, new.mode == nil { new.dropsSetID = true }
            new.actor = caller.handle?.lease
            new.judge = caller.credential
            return .done(new, number: 0)
        }
    }

    private func isRepeated(_ request: Request) async throws(FileError) -> Bool {
        guard request.token != nil else { return false }
        return try await supplied { fileSystem.isRepeated(request) }.value
    }

    /// Sets the size and what was allowed with it. A copy of the request that comes meanwhile waits: between two of the steps it
    /// would cut again.
    public func resize(
        _ request: Request, _ file: FileID, to size: UInt64, _ allowed: NewAttributes
    ) async throws(FileError) -> (changed: Changed, number: UInt64) {
        if let guest = guest(file) {
            let (changed, number) = try await guest.volume.resize(request, file, to: size, allowed)
            guard number > 0 else { return (changed, 0) }
            // As in `passed`.
            guard self.guest(file) === guest else { throw .stale }
            return (changed, number | MountTree.foreignNumber)
        }
        guard let token = request.token else { return try await resizeNow(request, file, to: size, allowed) }
        return try await running.alone(token) { () async throws(FileError) in
            try await resizeNow(request, file, to: size, allowed)
        }
    }

    private func resizeNow(
        _ request: Request, _ file: FileID, to size: UInt64, _ allowed: NewAttributes
    ) async throws(FileError) -> (changed: Changed, number: UInt64) {
        // Its first answer, whatever room there is now, and whoever may do it now.
        let isKnown = if allowed.isRepeat { true } else { try await isRepeated(request) }
        if isKnown {
            let answer = try await supplied {
                attempt { () throws(Halt) in try answered(Caller(.root, request), file) }
            }
            return (answer.value, answer.number)
        }
        var before: Attributes?
        if case .done(let found, _) = fileSystem.attributes(request, file) { before = found }
        var others = allowed
        // Mode, owner and list are changed by themselves, last, and from what they are then: somebody may change them while the size
        // is on its way. The last change remembers the request.
        var access = others.takeAccess()
        // What lends rights goes before the content changes.
        let dropsSetID = access?.dropsSetID ?? false
        if access?.mode == nil, access?.uid == nil, access?.gid == nil { access = nil }
        var plain = request
        plain.token = nil
        if var owner = access, counts(file), owner.uid != nil || owner.gid != nil {
            (owner.mode, owner.dropsSetID) = (nil, false)
            _ = try await changeAccess(plain, file, owner)
            access?.uid = nil
            access?.gid = nil
        }
        let (first, rest) = (access == nil ? request : plain, others)
        var (changed, number) = try await growing(request, file, to: size) { () async throws(FileError) in
            if dropsSetID {
                var drop = NewAttributes()
                drop.dropsSetID = true
                _ = try await changeAccess(plain, file, drop)
            }
            // What is refused may have cut the content all the same, and so may what comes before a refused mode.
            defer { resized(file, request, by: allowed.actor) }
            return try await fileSystem.resize(first, file, to: size, rest)
        }
        if let access { (changed, number) = try await changeAccess(request, file, access) }
        if let before { certain(before, &changed) }
        return (changed, number)
    }

    /// Tells who was granted a lease since the change was allowed, and watchers. What can not be found now is not waited for after the
    /// fact.
    private func resized(_ file: FileID, _ request: Request, by actor: LeaseKey?) {
        sharing.changed(file, by: actor)
        if sharing.uses.contains(.watches) { try? notify(Caller(.root, request), modified: file, [.size, .lastWrite]) }
    }

    /// Calls made again for want of something, or because somebody else was first.
    private static let attemptsMax = 1000

    private func supplied<Value>(
        _ call: () -> Attempt<Value>
    ) async throws(FileError) -> (value: Value, number: UInt64) {
        for _ in 0..<Self.attemptsMax {
            switch call() {
            case .done(let value, let number): return (value, number)
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
        throw .delay
    }

    /// The answer to a request that was made before and that nobody judges again: it changes nothing, also when it has been forgotten
    /// in between. What it did then is waited for with all that has been done since.
    func answered(_ caller: Caller, _ file: FileID) throws(Halt) -> Attempt<Changed> {
        let found = try attributes(caller, of: file)
        return .done(Changed(before: nil, after: found), number: fileSystem.newestChange(at: file))
    }

    /// Changes mode, owner or group of the file as it is when that is done, if that is allowed then.
    private func changeAccess(
        _ request: Request, _ file: FileID, _ wanted: NewAttributes
    ) async throws(FileError) -> (changed: Changed, number: UInt64) {
        let caller = Caller(.root, request)
        let change = try await supplied {
            attempt { () throws(Halt) in
                let found = try attributes(caller, of: file)
                var new = wanted
                if let judge = new.judge { try authorize(Caller(judge, request), found, &new) }
                try keepInStep(request, found, &new)
                if new.isEmpty {
                    guard request.token != nil else { return try answered(caller, file) }
                    // The request has to be remembered, whatever is left of it to do.
                    new.mode = found.mode
                    new.basis = AccessBasis(found, try list(request, found))
                }
                return try changeAttributes(caller, file, new)
            }
        }
        return (change.value, change.number)
    }
}

extension NewAttributes {
    /// What says who may do what, apart from the rest; nil: that is not to change.
    fileprivate mutating func takeAccess() -> NewAttributes? {
        guard mode != nil || uid != nil || gid != nil || dropsSetID else { return nil }
        var access = NewAttributes()
        (access.mode, access.uid, access.gid, access.dropsSetID, access.judge) = (mode, uid, gid, dropsSetID, judge)
        (mode, uid, gid, dropsSetID) = (nil, nil, nil, false)
        return access
    }
}
