import Bytes
import Namespace

/// Symbolic links: FSCTL_GET_REPARSE_POINT, FSCTL_SET_REPARSE_POINT, FSCTL_DELETE_REPARSE_POINT ([MS-FSA] 2.1.5.9).
extension Exchange {
    func getReparsePoint(
        _ request: IoctlRequest, _ open: Open, _ volume: Volume, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        guard open.stream == nil else { throw .status(.notAReparsePoint) }
        let tag = FileFacts(try attributes(open, caller(open), volume)).reparseTag
        guard tag != 0 else { throw .status(.notAReparsePoint) }
        guard request.outputMax >= 8 else { throw .status(.bufferTooSmall) }
        guard tag == FileFacts.symlinkTag else {
            // A pipe, a socket, a device: its kind is all that is said of it.
            return answer(request, &writer) { writer in
                writer.u32LE(tag)
                writer.u32LE(0)
            }
        }
        let link = Reparse(target: try value(volume.target(caller(open), of: open.file), volume))
        let begin = writer.position
        let status = answer(request, &writer) { link.write(into: &$0) }
        guard writer.position - begin - 48 <= Int(request.outputMax) else { throw .status(.bufferOverflow) }
        return status
    }

    /// What was made for it, and has nothing in it, is a link from now on. A directory, or what lies in a file system of the host's, gives
    /// its name to one, and the handle stays with what it was opened for.
    func setReparsePoint(
        _ request: IoctlRequest, _ open: Open, _ volume: Volume, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        guard !open.granted.isDisjoint(with: [.writeData, .writeAttributes]) else { throw .status(.accessDenied) }
        guard request.input.count >= 8 else { throw .status(.invalidBufferSize) }
        let tag = UInt32(littleEndian: request.input.loadUnaligned(as: UInt32.self))
        guard tag == FileFacts.symlinkTag else { throw .status(.notSupported) }
        guard let link = Reparse(reading: request.input) else { throw .status(.invalidReparseData) }
        guard open.stream == nil, let held = open.held, let place = volume.name(of: held) else {
            throw .status(.invalidParameter)
        }
        let caller = caller(open)
        let file = try value(volume.attributes(caller, open.file), volume)
        switch file.type {
        case .file: guard file.size == 0 else { throw .status(.invalidParameter) }
        case .directory: break
        // Another link: it leads elsewhere from now on.
        case .symlink: break
        case .fifo, .socket, .characterDevice, .blockDevice: throw .status(.reparseTagMismatch)
        }
        if file.type == .directory { try requireEmpty(open, volume) }
        var new = NewFile(type: .symlink, mode: 0o777)
        new.target = link.target
        let change = LinkChange(
            caller: caller, volume: volume, file: file, place: place, new: new,
            // It comes under a name that nobody waits for.
            passing: [UInt8]("~link-\(String(open.handle.volatile, radix: 16))".utf8))
        let (code, handle) = (request.code, request.file)
        throw .later { (exchange) async throws(SMBHalt) in
            do throws(FileError) { exchange.settle(try await change.make(), volume) } catch {
                throw .status(NTStatus(error))
            }
            return SMBAnswer { Self.write(code, handle, &$0) { _ in } }
        }
    }

    private func requireEmpty(_ open: Open, _ volume: Volume) throws(SMBHalt) {
        var isEmpty = true
        var caller = ownerCaller(open)
        caller.handle = nil
        let listed = volume.list(caller, open.file, after: 0, limit: 1, attributes: false) { _, _ in
            isEmpty = false
            return false
        }
        _ = try value(listed, volume)
        guard isEmpty else { throw .status(.directoryNotEmpty) }
    }
}

/// A file or directory that gives its name to a link. Used on one loop.
private struct LinkChange: @unchecked Sendable {
    let caller: Caller
    let volume: Volume
    let file: Attributes
    let place: (directory: FileID, name: [UInt8])
    let new: NewFile
    let passing: [UInt8]

    /// The number of the last change.
    func make() async throws(FileError) -> UInt64 {
        if file.type != .directory {
            do throws(FileError) {
                return try await Exchange.done { volume.makeLink(caller, file.file, to: new.target) }.number
            } catch {
                guard error == .notSupported else { throw error }
            }
        }
        _ = try await Exchange.done {
            passing.withUnsafeBytes { volume.create(caller, in: place.directory, $0, new, .exclusive) }
        }
        do throws(FileError) { return try await replace() } catch {
            _ = try? await Exchange.done {
                passing.withUnsafeBytes { volume.remove(caller, in: place.directory, $0, isDirectory: false) }
            }
            throw error
        }
    }

    private func replace() async throws(FileError) -> UInt64 {
        if file.type != .symlink {
            let streams = try await Exchange.done {
                [UInt8]().withUnsafeBytes { volume.streams(caller, of: file.file, after: $0) }
            }
            guard streams.value.isEmpty else { throw .invalid }
        }
        // Others may have changed it meanwhile, or what has its name.
        let now = try await Exchange.done {
            place.name.withUnsafeBytes { volume.lookup(caller, in: place.directory, $0) }
        }.value
        guard now.file == file.file, now.type != .file || now.size == 0 else { throw .sharingViolation }
        let isDirectory = file.type == .directory
        if isDirectory {
            _ = try await Exchange.done {
                place.name.withUnsafeBytes { volume.remove(caller, in: place.directory, $0, isDirectory: true) }
            }
        }
        return try await Exchange.done { () -> Attempt<Renamed> in
            // Once more in the same attempt: it may have waited for another client's lease, who wrote to the file meanwhile.
            if !isDirectory {
                switch place.name.withUnsafeBytes({ volume.lookup(caller, in: place.directory, $0) }) {
                case .done(let now, _):
                    guard now.file == file.file, now.type != .file || now.size == 0 else {
                        return .refused(.sharingViolation)
                    }
                case .refused(let error): return .refused(error)
                case .lacks(let lack): return .lacks(lack)
                }
            }
            return passing.withUnsafeBytes { passing in
                place.name.withUnsafeBytes {
                    volume.rename(
                        caller, from: place.directory, passing, to: place.directory, $0,
                        isDirectory ? .noReplace : .replace)
                }
            }
        }.number
    }
}
