import Headhunter

/// A named stream of a file.
public struct Stream: Sendable {
    public var name: [UInt8]
    /// As a file: it is read, written, cut and opened like any other.
    public var inode: Inode
}

/// Named streams: each is a regular file of its own that has no name in any directory, and goes with its file.
extension LogFS {
    public func stream(_ request: Request, of id: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Inode> {
        let glance = glance
        let attempt = read(request.reader) { (records) throws(Halt) -> Inode in
            try Self.checkAttribute(name)
            guard let stream = try records.stream(try records.inode(id), name) else { throw .refused(.noEntry) }
            return stream
        }
        return complete(attempt, since: glance, request.reader)
    }

    /// Makes an empty stream. `mayExist`: one that is there is the answer.
    public func createStream(
        _ request: Request, of id: FileID, _ name: UnsafeRawBufferPointer, mayExist: Bool = false
    ) -> Attempt<Inode> {
        let glance = glance
        let epoch = headhunter.epoch
        let attempt = change(request.reader) { (edit) throws(Halt) -> Inode in
            if let answer = try edit.answer(request) {
                guard let stream = try edit.inode(answer) else { throw .refused(.stale) }
                return stream
            }
            try Self.checkAttribute(name)
            var file = try edit.inode(id)
            guard file.type == .file || file.isDirectory else { throw .refused(.wrongType) }
            try needSpace()
            if let there = try edit.stream(file, name) {
                guard mayExist else { throw .refused(.exists) }
                return there
            }
            try edit.requireFree(file)
            // Whose clients have streams, to them a name is the same one in each case.
            guard try !edit.hasStream(file, name) else { throw .refused(.exists) }
            guard file.streams < UInt32(Limits.streamsMax) else { throw .refused(.tooManyAttributes) }
            if file.extras == 0 { file.extras = try edit.fork() }
            var record = try edit.subvolume()
            var stream = Inode()
            stream.number = record.nextInode
            record.nextInode += 1
            edit.store(record)
            stream.type = .file
            stream.flags = Inode.isStream
            stream.cookie = file.number
            stream.mode = file.mode
            stream.uid = file.uid
            stream.gid = file.gid
            stream.links = 1
            stream.generation = epoch
            stream.fork = stream.number
            stream.born = request.now
            stream.accessed = request.now
            stream.modified = request.now
            edit.touch(&stream, request.now)
            edit.store(stream)
            edit.putStream(file.extras, name, stream.number)
            file.streams += 1
            edit.touch(&file, request.now)
            edit.store(file)
            try edit.remember(request, stream.number)
            return stream
        }
        return complete(attempt, since: glance, request.reader)
    }

    public func removeStream(_ request: Request, of id: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Void> {
        let attempt = change(request.reader) { (edit) throws(Halt) -> Inode? in
            if try edit.answer(request) != nil { return nil }
            try Self.checkAttribute(name)
            var file = try edit.inode(id)
            guard var stream = try edit.stream(file, name) else { throw .refused(.noEntry) }
            try edit.requireFree(file)
            edit.delete(edit.scratch.key(file.extras | KeyLayout.forkSpace, .stream, name))
            edit.touch(&stream, request.now)
            edit.end(&stream)
            file.streams -= min(file.streams, 1)
            try edit.countStreams(&file, -Int64(clamping: stream.size))
            edit.touch(&file, request.now)
            edit.store(file)
            try edit.remember(request, stream.number)
            return stream
        }
        if case .done(let gone?, _) = attempt { forget(gone) }
        return attempt.with(())
    }

    /// Gives a stream another name. `replaces`: the stream that has it, spelled just so, goes.
    public func renameStream(
        _ request: Request, of id: FileID, _ name: UnsafeRawBufferPointer, to newName: UnsafeRawBufferPointer,
        replaces: Bool = false
    ) -> Attempt<Void> {
        let attempt = change(request.reader) { (edit) throws(Halt) -> Inode? in
            if try edit.answer(request) != nil { return nil }
            try Self.checkAttribute(name)
            try Self.checkAttribute(newName)
            var file = try edit.inode(id)
            guard let stream = try edit.stream(file, name) else { throw .refused(.noEntry) }
            try edit.requireFree(file)
            var gone = try edit.stream(file, newName)
            if gone?.number == stream.number { return nil }
            if gone != nil {
                guard replaces else { throw .refused(.exists) }
            } else if !FoldTable.areEqual(name, newName), try edit.hasStream(file, newName) {
                throw .refused(.exists)
            }
            if var old = gone {
                edit.touch(&old, request.now)
                edit.end(&old)
                file.streams -= min(file.streams, 1)
                try edit.countStreams(&file, -Int64(clamping: old.size))
                gone = old
            }
            edit.delete(edit.scratch.key(file.extras | KeyLayout.forkSpace, .stream, name))
            edit.putStream(file.extras, newName, stream.number)
            edit.touch(&file, request.now)
            edit.store(file)
            try edit.remember(request, stream.number)
            return gone
        }
        if case .done(let gone?, _) = attempt { forget(gone) }
        return attempt.with(())
    }

    /// Streams behind `name`, in byte order, at most `Limits.listingMax` at a time.
    public func streams(
        _ request: Request, of id: FileID, after name: UnsafeRawBufferPointer
    ) -> Attempt<[Stream]> {
        let glance = glance
        let attempt = read(request.reader) { (records) throws(Halt) -> [Stream] in
            let file = try records.inode(id)
            guard file.extras != 0 else { return [] }
            var found: [(name: [UInt8], inode: UInt64)] = []
            _ = try records.names(file.extras, .stream, after: name, limit: Limits.listingMax) {
                (name, value) throws(Halt) in
                guard let number = value.recordNumber else { throw .wrong(file.extras | KeyLayout.forkSpace, .stream) }
                found.append((Array(name), number))
            }
            var streams: [Stream] = []
            for entry in found {
                guard let inode = try records.inode(entry.inode) else { continue }
                streams.append(Stream(name: entry.name, inode: inode))
            }
            return streams
        }
        guard glance.isDirty, case .done(var streams, _) = attempt else { return attempt }
        for index in streams.indices {
            streams[index].inode = completed(streams[index].inode, since: glance, request.reader)
        }
        return .done(streams, number: 0)
    }
}

extension Records {
    fileprivate func stream(_ file: Inode, _ name: UnsafeRawBufferPointer) throws(Halt) -> Inode? {
        guard file.extras != 0 else { return nil }
        let id = file.extras | KeyLayout.forkSpace
        guard let value = try get(scratch.key(id, .stream, name)) else { return nil }
        guard let number = value.recordNumber else { throw .wrong(id, .stream) }
        return try inode(number)
    }

    /// In whatever case.
    fileprivate func hasStream(_ file: Inode, _ name: UnsafeRawBufferPointer) throws(Halt) -> Bool {
        guard file.streams > 0, file.extras != 0 else { return false }
        let id = file.extras | KeyLayout.forkSpace
        var isThere = false
        try scan(from: scratch.key(id, .stream, UnsafeRawBufferPointer(start: nil, count: 0)), budget: .max) { key, _ in
            guard key.isKey(id, .stream) else { return false }
            isThere = FoldTable.areEqual(key.from(KeyLayout.prefixCount), name)
            return !isThere
        }
        return isThere
    }
}

extension Editing {
    fileprivate func putStream(_ fork: UInt64, _ name: UnsafeRawBufferPointer, _ stream: UInt64) {
        let key = scratch.key(fork | KeyLayout.forkSpace, .stream, name)
        scratch.value.put(KeyLayout.version, at: 0)
        scratch.value.put(stream, at: 1)
        put(key, UnsafeRawBufferPointer(start: scratch.value, count: 9))
    }
}
