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

    /// What was made for it, and has nothing in it, gives its name to a link. The handle stays with what it was opened for.
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
        var caller = caller(open)
        let file = try value(volume.attributes(caller, open.file), volume)
        switch file.type {
        case .file: guard file.size == 0 else { throw .status(.invalidParameter) }
        case .directory: break
        // Another link: it leads elsewhere from now on.
        case .symlink: break
        case .fifo, .socket, .characterDevice, .blockDevice: throw .status(.reparseTagMismatch)
        }
        var new = NewFile(type: .symlink, mode: 0o777)
        new.target = link.target
        // It comes in one step, under a name that nobody waits for.
        let name = [UInt8]("~link-\(String(open.handle.volatile, radix: 16))".utf8)
        let made = name.withUnsafeBytes { volume.create(caller, in: place.directory, $0, new, .exclusive) }
        if case .refused(.exists) = made {
            // An attempt before this one has come so far.
        } else {
            _ = try value(made, volume)
        }
        if file.type == .directory {
            caller.handle = held
            _ = try value(
                place.name.withUnsafeBytes { volume.remove(caller, in: place.directory, $0, isDirectory: true) }, volume
            )
        }
        let renamed = name.withUnsafeBytes { name in
            place.name.withUnsafeBytes {
                volume.rename(caller, from: place.directory, name, to: place.directory, $0, .replace)
            }
        }
        if case .refused = renamed {
            _ = name.withUnsafeBytes { volume.remove(caller, in: place.directory, $0, isDirectory: false) }
        }
        _ = try value(renamed, volume)
        return answer(request, &writer) { _ in }
    }
}
