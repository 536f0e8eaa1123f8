import CShim
import Namespace
import Runtime

/// Reading and writing.
extension Passthrough {
    public func open(_ request: Request, _ file: FileID) -> Attempt<Attributes> {
        look { () throws(Halt) in
            let found = try find(file)
            let type = FileType(mode: found.status.mode)
            let isThere = state.withLock { state -> Bool in
                guard state.opens[file] != nil else { return false }
                state.opens[file]?.count += 1
                return true
            }
            if isThere { return try attributes(found) }
            var open = Open(file: found.file, count: 1, isWritable: false)
            switch type {
            case .file:
                do throws(HostError) {
                    open = Open(file: try found.file.reopen(Self.writing), count: 1, isWritable: true)
                } catch {
                    open.file = try host { () throws(HostError) in try found.file.reopen(Self.reading) }
                }
            case .directory:
                open.file = try host { () throws(HostError) in try found.file.reopen(Self.listing) }
            default: break
            }
            let new = open
            let hasRoom = state.withLock { state -> Bool in
                guard state.opens[file] == nil else {
                    state.opens[file]?.count += 1
                    return true
                }
                guard state.opens.count < Self.opensMax else { return false }
                state.opens[file] = new
                return true
            }
            guard hasRoom else { throw .refused(.delay) }
            return try attributes(found)
        }
    }

    public func close(_ request: Request, _ file: FileID) -> Attempt<Void> {
        let isOpen = state.withLock { state -> Bool in
            guard let open = state.opens[file] else { return false }
            if open.count > 1 { state.opens[file]?.count -= 1 } else { state.opens[file] = nil }
            return true
        }
        return isOpen ? .done((), number: 0) : .refused(.stale)
    }

    /// The file's data, which is a plain file's.
    func data(_ file: FileID, _ how: Int, _ manner: Manner = .atOnce) throws(Halt) -> Named {
        let found = try find(file, manner)
        switch FileType(mode: found.status.mode) {
        case .file: break
        case .directory: throw .refused(.isDirectory)
        default: throw .refused(.wrongType)
        }
        if let open = state.withLock({ $0.opens[file] }), open.isWritable || how == Self.reading {
            return (open.file, found.status)
        }
        return (try host { () throws(HostError) in try found.file.reopen(how) }, found.status)
    }

    public func read(
        _ request: Request, _ file: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<Int> {
        look { () throws(Halt) in
            let found = try data(file, Self.reading)
            guard offset < found.status.size, !buffer.isEmpty else { return 0 }
            let count = buffer.count
            let got = shim_host_read(found.file.descriptor, buffer.baseAddress, count, offset, 1)
            if got == -Int(EAGAIN) {
                throw lack {
                    let block = UnsafeMutableRawBufferPointer.allocate(
                        byteCount: min(count, Self.warmBytesMax), alignment: 16)
                    _ = shim_host_read(found.file.descriptor, block.baseAddress, block.count, offset, 0)
                    block.deallocate()
                }
            }
            return try host { () throws(HostError) in try check(got) }
        }
    }

    private static let warmBytesMax = 1 << 20

    public func readAll(
        _ file: FileID, at offset: UInt64, into buffer: SendableBuffer
    ) async throws(FileError) -> Int {
        try await blocking { () throws(Halt) in
            let found = try self.data(file, Self.reading, .waiting)
            guard offset < found.status.size else { return 0 }
            return try self.host { () throws(HostError) in
                try check(
                    shim_host_read(found.file.descriptor, buffer.bytes.baseAddress, buffer.bytes.count, offset, 0))
            }
        }
    }

    public func write(
        _ request: Request, _ file: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) -> Attempt<Changed> {
        attempt { () throws(Halt) in
            let (end, isBeyond) = offset.addingReportingOverflow(UInt64(bytes.count))
            guard !isBeyond, end <= UInt64(Int64.max) else { throw .refused(.fileTooBig) }
            try requireRoom()
            let found = try data(file, Self.writing)
            if bytes.isEmpty { return (Changed(before: nil, after: try attributes(found)), 0) }
            try unseal(found)
            let put = shim_host_write(found.file.descriptor, bytes.baseAddress, bytes.count, offset)
            try host { () throws(HostError) in try check(put) }
            state.withLock { $0.unsyncedBytes += UInt64(put) }
            // A part of it is there; what did not fit is told.
            guard put == bytes.count else { throw .refused(.noSpace) }
            return (Changed(before: nil, after: try again(found)), changed([file]))
        }
    }

    /// What the content was said to be holds no more.
    func unseal(_ found: Named) throws(Halt) {
        let isSealed = try host { () throws(HostError) in try Self.record(found).seal != nil }
        guard isSealed else { return }
        try turn(found) { (found) throws(Halt) in
            try host { () throws(HostError) in
                var record = try Self.record(found)
                record.seal = nil
                try Self.keep(record, found.file)
            }
        }
    }

    static func keep(_ record: HostRecord, _ file: HostFile) throws(HostError) {
        do throws(HostError) {
            try file.setAttribute(HostRecord.name, record.isEmpty ? nil : record.bytes)
        } catch { guard record.isEmpty, error.code == ENODATA else { throw error } }
    }

    public func empty(_ request: Request, _ file: FileID) -> Attempt<Changed> {
        attempt { () throws(Halt) in
            let found = try data(file, Self.writing)
            try unseal(found)
            try host { () throws(HostError) in try check(shim_host_truncate(found.file.descriptor, 0)) }
            return (Changed(before: nil, after: try again(found)), changed([file]))
        }
    }

    public func resize(
        _ request: Request, _ file: FileID, to size: UInt64, _ others: NewAttributes
    ) async throws(FileError) -> (changed: Changed, number: UInt64) {
        guard size <= UInt64(Int64.max) else { throw .fileTooBig }
        return try await once(request) { () throws(Halt) in
            let found = try self.data(file, Self.writing, .waiting)
            if let before = try self.repeated(request) {
                return (Changed(before: nil, after: try self.attributes(found)), before.number)
            }
            try self.unseal(found)
            try self.host { () throws(HostError) in try check(shim_host_truncate(found.file.descriptor, size)) }
            var others = others
            (others.size, others.ifChanged) = (nil, nil)
            let rest = others
            if !rest.isEmpty { try self.turn(found) { (found) throws(Halt) in try self.set(rest, found) } }
            return (Changed(before: nil, after: try self.again(found)), self.changed([file], request, file))
        }
    }

    public func punch(
        _ request: Request, _ file: FileID, at offset: UInt64, length: UInt64
    ) async throws(FileError) -> UInt64 {
        try await blocking { () throws(Halt) in
            let found = try self.data(file, Self.writing, .waiting)
            guard offset < found.status.size, length > 0 else { return 0 }
            try self.unseal(found)
            let length = min(length, found.status.size - offset)
            try self.host { () throws(HostError) in
                try check(shim_host_punch(found.file.descriptor, offset, length))
            }
            return self.changed([file])
        }
    }

    public func clone(
        _ request: Request, _ source: FileID, at offset: UInt64, length: UInt64, to target: FileID, at place: UInt64
    ) async throws(FileError) -> UInt64 {
        try await blocking { () throws(Halt) in
            let from = try self.data(source, Self.reading, .waiting)
            let to = try self.data(target, Self.writing, .waiting)
            guard offset < from.status.size, length > 0 else { return 0 }
            let length = min(length, from.status.size - offset)
            let (end, isBeyond) = place.addingReportingOverflow(length)
            guard !isBeyond, end <= UInt64(Int64.max) else { throw .refused(.fileTooBig) }
            if source == target, offset < end, place < offset + length { throw .refused(.invalid) }
            try self.unseal(to)
            try self.host { () throws(HostError) in
                try check(shim_host_copy(from.file.descriptor, offset, length, to.file.descriptor, place))
            }
            return self.changed([target])
        }
    }

    public func seek(_ request: Request, _ file: FileID, from offset: UInt64, data: Bool) -> Attempt<UInt64> {
        look { () throws(Halt) in
            let found = try self.data(file, Self.reading)
            guard offset < found.status.size else { throw .refused(.noEntry) }
            return try host { () throws(HostError) in
                let place = shim_host_seek(found.file.descriptor, offset, data ? 1 : 0)
                // There is no data behind it.
                if place == -Int64(ENXIO) { throw HostError(ENOENT) }
                return UInt64(try check(place))
            }
        }
    }
}
