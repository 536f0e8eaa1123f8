import Bytes
import Namespace
import RPC
import Runtime

/// MOUNT, versions 1 to 3: gives a client the first handle of an export, and shows what is exported.
public final class MountService: RPCProgram {
    public let number = Mount.program
    public let versions = Mount.versions
    private let context: NFSContext
    private let mounts = MountTable()
    private static let errnoAccess: UInt32 = 13

    public init(_ context: NFSContext) { self.context = context }

    /// Who says that he has mounted what.
    public var mounted: [(host: String, path: String)] { mounts.all.map { ($0.host, $0.path) } }

    public func serve(
        _ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results
    ) -> Outcome {
        guard let procedure = MountProcedure(rawValue: call.procedure), procedure.isIn(call.version) else {
            return .refused(.procedureUnavailable)
        }
        do throws(BytesError) {
            switch procedure {
            case .null, .pathConfiguration: return .done
            case .mount: return mount(call, try MountPath(reading: &arguments).text, &results)
            case .dump: return dump(&results)
            case .unmount:
                let path = try MountPath(reading: &arguments).text
                mounts.remove(MountTable.Entry(host: call.remoteAddress.unmapped.host, path: path))
                return .done
            case .unmountAll:
                mounts.removeAll(of: call.remoteAddress.unmapped.host)
                return .done
            case .export, .exportAll: return export(&results)
            }
        } catch { return .refused(.garbageArguments) }
    }

    // MARK: Mounting

    private func mount(_ call: borrowing CallContext, _ path: String, _ results: inout Results) -> Outcome {
        guard call.version == 3 else {
            // Handles of the versions before have 32 bytes, and belong to a version of NFS that is not served.
            MountResultV1.failed(errno: Self.errnoAccess).write(into: &results.writer)
            return .done
        }
        switch attempt(path, call.remoteAddress, call.loop) {
        case .done(let entry, _):
            answer(path, call.remoteAddress, .success(entry), &results)
            return .done
        case .refused(let error):
            answer(path, call.remoteAddress, .failure(error), &results)
            return .done
        case .lacks(let lack):
            guard let held = call.hold() else { return .dropped }
            let loop = call.loop
            loop.task { [self] in await carryOn(held, path, lack, loop) }
            return .held
        }
    }

    private func carryOn(_ held: RPCCall, _ path: String, _ first: Lack, _ loop: EventLoop) async {
        var lack = first
        for _ in 0..<NFSService.attemptsMax {
            do throws(FileError) { try await lack.supplied() } catch {
                return held.reply { results in
                    answer(path, held.remoteAddress, .failure(error), &results)
                    return .done
                }
            }
            switch attempt(path, held.remoteAddress, loop) {
            case .lacks(let next): lack = next
            case .done(let entry, _):
                return held.reply { results in
                    answer(path, held.remoteAddress, .success(entry), &results)
                    return .done
                }
            case .refused(let error):
                return held.reply { results in
                    answer(path, held.remoteAddress, .failure(error), &results)
                    return .done
                }
            }
        }
        held.refuse(.systemError)
    }

    private struct Entry {
        var handle: FileHandle
        var key: KeyedHash
        var flavors: [UInt32]
    }

    /// Finds the export that the path lies in, and walks from its root down to a directory. As root: who may mount is
    /// the export's word, who may do what with files is said for each call.
    private func attempt(_ path: String, _ remote: SocketAddress, _ loop: EventLoop) -> Attempt<Entry> {
        guard let (export, rest) = context.exports.snapshot.containing(path),
            let volume = context.volumes[export.volume]
        else { return .refused(.noEntry) }
        guard let client = export.client(remote) else { return .refused(.accessDenied) }
        if client.needsPrivilegedPort, let port = remote.port, port >= 1024 { return .refused(.accessDenied) }
        let caller = Caller(.root, Request(reader: loop.index, now: context.clock.wall()), isReadOnly: true)
        var attributes: Attributes
        switch volume.attributes(caller, export.root) {
        case .done(let found, _): attributes = found
        case .refused(let error): return .refused(error)
        case .lacks(let lack): return .lacks(lack)
        }
        for name in rest.utf8.split(separator: UInt8(ascii: "/")) {
            if name.elementsEqual(".".utf8) { continue }
            // A path from outside never leads above the export.
            guard !name.elementsEqual("..".utf8) else { return .refused(.accessDenied) }
            let found = Array(name).withUnsafeBytes { volume.lookup(caller, in: attributes.file, $0) }
            switch found {
            case .done(let next, _): attributes = next
            case .refused(let error): return .refused(error)
            case .lacks(let lack): return .lacks(lack)
            }
        }
        guard attributes.type == .directory else { return .refused(.notDirectory) }
        let handle = FileHandle(export: export.id, volume: volume.identity, file: attributes.file)
        return .done(Entry(handle: handle, key: export.key ?? context.key.hash, flavors: client.flavors), number: 0)
    }

    private func answer(
        _ path: String, _ remote: SocketAddress, _ result: Result<Entry, FileError>, _ results: inout Results
    ) {
        switch result {
        case .success(let entry):
            mounts.add(MountTable.Entry(host: remote.unmapped.host, path: path))
            results.writer.u32(MountStatus.ok.rawValue)
            entry.handle.write(into: &results.writer, entry.key)
            results.writer.array(entry.flavors.prefix(Mount.flavorsMax).map { MountFlavor($0) })
        case .failure(let error): MountResult.failed(MountStatus(error)).write(into: &results.writer)
        }
    }

    // MARK: Showing

    private func dump(_ results: inout Results) -> Outcome {
        list(mounts.all, &results) { entry, writer in
            writer.opaque(text: entry.host)
            writer.opaque(text: entry.path)
        }
    }

    private func export(_ results: inout Results) -> Outcome {
        list(context.exports.snapshot.exports, &results) { export, writer in
            writer.opaque(text: export.path)
            for client in export.clients {
                writer.bool(true)
                writer.opaque(text: client.hosts.description)
            }
            writer.bool(false)
        }
    }

    /// What a list may take: the longest record of ours.
    static let listBytesMax = NFS3.dataMax

    /// As many as fit: a list that is cut is of more use than none.
    private func list<Entry>(
        _ entries: [Entry], _ results: inout Results, _ write: (Entry, inout Writer) -> Void
    ) -> Outcome {
        results.provide(results.inPlaceMax)
        guard !Self.write(entries, into: &results.writer, write), results.takesBlocks else { return .done }
        results.clear()
        let block = results.makeBlock(Self.listBytesMax)
        var writer = Writer(UnsafeMutableRawBufferPointer(rebasing: block.free.prefix(Self.listBytesMax)))
        _ = Self.write(entries, into: &writer, write)
        block.count = writer.position
        results.attach(block, count: block.count)
        return .done
    }

    /// False: not all fit.
    private static func write<Entry>(
        _ entries: [Entry], into writer: inout Writer, _ write: (Entry, inout Writer) -> Void
    ) -> Bool {
        var isWhole = true
        for entry in entries {
            let position = writer.position
            writer.bool(true)
            write(entry, &writer)
            guard writer.remaining >= 4, !writer.overflowed else {
                writer.rewind(to: position)
                isWhole = false
                break
            }
        }
        writer.bool(false)
        return isWhole
    }
}

extension MountProcedure {
    fileprivate func isIn(_ version: UInt32) -> Bool {
        switch self {
        case .exportAll: version < 3
        // Answers a handle's limits, for a version of NFS that is not served.
        case .pathConfiguration: false
        default: true
        }
    }
}

extension MountPath {
    /// Names that are not UTF-8 name no export.
    fileprivate var text: String { String(decoding: path, as: UTF8.self) }
}

extension MountStatus {
    fileprivate init(_ error: FileError) {
        self =
            switch error {
            case .noEntry, .stale, .offline: .noEntry
            case .accessDenied, .notPermitted: .access
            case .notDirectory, .wrongType: .notDirectory
            case .nameTooLong: .nameTooLong
            case .badName, .invalid: .invalid
            case .inputOutput: .inputOutput
            default: .serverFault
            }
    }
}

extension Writer {
    fileprivate mutating func opaque(text: String) {
        var text = text
        text.withUTF8 { opaque(UnsafeRawBufferPointer($0)) }
    }
}
