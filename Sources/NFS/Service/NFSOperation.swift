import Bytes
import Namespace
import RPC
import Runtime

/// Ends an operation before its results are written.
enum NFSHalt: Error {
    case status(NFS3Status)
    case auth(AuthError)
    case lacks(Lack)
    case waits
    case flushes(FileID, Volume)

    init(_ halt: Halt) {
        switch halt {
        case .refused(let error): self = .status(NFS3Status(error))
        case .lacks(let lack): self = .lacks(lack)
        }
    }
}

/// One call of NFS: who makes it, and what it is. Its procedures are in the extensions.
struct NFSOperation {
    let context: NFSContext
    let request: NFS3Request
    let identity: Identity
    let remote: SocketAddress
    let loop: EventLoop
    let now: Int64
    let token: RequestToken?

    init(
        _ context: NFSContext, _ request: NFS3Request, identity: Identity, remote: SocketAddress, loop: EventLoop,
        digest: UInt64?
    ) {
        self.context = context
        self.request = request
        self.identity = identity
        self.remote = remote
        self.loop = loop
        now = context.clock.wall()
        token = digest.map { RequestToken(client: Self.client(remote, identity, context.key), id: $0, digest: $0) }
    }

    /// A client keeps its address and its name when it comes back by another port.
    private static func client(_ remote: SocketAddress, _ identity: Identity, _ key: KeyedHash) -> UInt64 {
        let name = identity.machineName.withUnsafeBytes { key($0) }
        switch remote {
        case .ipv4(let host, _): return name ^ UInt64(host) &* 0x9e37_79b9_7f4a_7c15
        case .ipv6(let high, let low, _, _): return name ^ (high &* 31 &+ low) &* 0x9e37_79b9_7f4a_7c15
        case .unix: return name
        }
    }

    /// Where a handle leads, and in whose name the caller acts there.
    struct Place {
        let volume: Volume
        let file: FileID
        let caller: Caller
        let export: UInt32
        let root: FileID
        let durability: Durability

        func handle(_ file: FileID) -> FileHandle {
            FileHandle(export: export, volume: volume.identity, file: file)
        }
        func attributes(_ attributes: Attributes) -> NFS3Attributes {
            NFS3Attributes(attributes, volume: volume.identity)
        }
        func weak(_ changed: Changed) -> NFS3WeakData { NFS3WeakData(changed, volume: volume.identity) }

        /// The file's attributes, for results that may have them: only when they are at hand.
        func attributesAtHand(_ file: FileID) -> NFS3Attributes? {
            if case .done(let found, _) = volume.attributes(caller, file) { attributes(found) } else { nil }
        }
        var attributesAtHand: NFS3Attributes? { attributesAtHand(file) }
    }

    func place(_ handle: NFS3Handle) throws(NFSHalt) -> Place {
        guard let handle = FileHandle(handle.bytes, context.key) else { throw .status(.badHandle) }
        guard let export = context.exports.snapshot[handle.export], export.volume == handle.volume,
            let volume = context.volumes[handle.volume], handle.snapshot == 0
        else { throw .status(.stale) }
        guard let client = export.client(remote) else { throw .status(.access) }
        guard client.flavors.contains(identity.flavor) else { throw .auth(.tooWeak) }
        if client.needsPrivilegedPort, let port = remote.port, port >= 1024 { throw .status(.access) }
        var caller = Caller(
            credential(client), Request(reader: loop.index, now: now, token: token),
            isReadOnly: client.isReadOnly, isStateless: true)
        if !export.restricted.isEmpty, let rights = export.restricted[caller.credential.uid] {
            guard rights.contains(.read) else { throw .status(.access) }
            if !rights.contains(.write) { caller.isReadOnly = true }
        }
        return Place(
            volume: volume, file: handle.file, caller: caller, export: export.id, root: export.root,
            durability: export.durability ?? volume.durability)
    }

    private func credential(_ client: Export.Client) -> Credential {
        guard case .system(let uid, let gid, let groups) = identity.kind, client.squash != .all else {
            return client.anonymous
        }
        guard client.squash == .root, uid == 0 || gid == 0 || groups.first == 0 else {
            return Credential(uid: uid, gid: gid, groups: groups)
        }
        if uid == 0 { return client.anonymous }
        return Credential(
            uid: uid, gid: gid == 0 ? client.anonymous.gid : gid, groups: groups.filter { $0 != 0 })
    }

    /// The value of an attempt and its number, or the way out.
    @inline(__always)
    func done<Value>(_ attempt: Attempt<Value>) throws(NFSHalt) -> (value: Value, number: UInt64) {
        switch attempt {
        case .done(let value, let number): return (value, number)
        case .refused(let error): throw .status(NFS3Status(error))
        case .lacks(let lack): throw .lacks(lack)
        }
    }

    @inline(__always)
    func value<Value>(_ attempt: Attempt<Value>) throws(NFSHalt) -> Value { try done(attempt).value }

    /// A name as this protocol and its clients take it.
    func name(_ bytes: UnsafeRawBufferPointer) throws(NFSHalt) -> UnsafeRawBufferPointer {
        guard bytes.count <= NFSOperation.nameMax else { throw .status(.nameTooLong) }
        return bytes
    }

    /// What clients take in a listing; Linux refuses the whole listing for one name beyond.
    static let nameMax = 255

    // MARK: Performing

    /// Tries the call once, without waiting. What is written is complete unless the answer says otherwise.
    func perform(_ results: inout Results) -> NFSStep {
        do throws(NFSHalt) {
            return try dispatch(&results)
        } catch {
            switch error {
            case .status(let status):
                results.clear()
                _ = fail(status, &results)
                return .done
            case .auth(let error): return .refused(.authError(error))
            case .lacks(let lack): return .lacks(lack)
            case .waits: return .waits
            case .flushes(let file, let volume): return .flushes(file, volume)
            }
        }
    }

    @inline(__always)
    private func dispatch(_ results: inout Results) throws(NFSHalt) -> NFSStep {
        switch request {
        case .null: return .done
        case .getAttributes(let handle): return try getAttributes(handle, &results)
        case .setAttributes(let arguments): return try setAttributes(arguments, &results)
        case .lookup(let name): return try lookup(name, &results)
        case .access(let arguments): return try access(arguments, &results)
        case .readLink(let handle): return try readLink(handle, &results)
        case .read(let arguments): return try read(arguments, &results)
        case .write(let arguments): return try write(arguments, &results)
        case .create(let arguments): return try create(arguments, &results)
        case .makeDirectory(let arguments): return try makeDirectory(arguments, &results)
        case .symlink(let arguments): return try symlink(arguments, &results)
        case .makeNode(let arguments): return try makeNode(arguments, &results)
        case .remove(let name): return try remove(name, isDirectory: false, &results)
        case .removeDirectory(let name): return try remove(name, isDirectory: true, &results)
        case .rename(let arguments): return try rename(arguments, &results)
        case .link(let arguments): return try link(arguments, &results)
        case .readDirectory(let arguments): return try readDirectory(arguments, &results)
        case .readDirectoryPlus(let arguments): return try readDirectoryPlus(arguments, &results)
        case .fileSystemStatistics(let handle): return try statistics(handle, &results)
        case .fileSystemInformation(let handle): return try information(handle, &results)
        case .pathConfiguration(let handle): return try pathConfiguration(handle, &results)
        case .commit(let arguments): return try commit(arguments, &results)
        }
    }

    /// Writes a failure with the attributes of the files that it concerns, as far as they are at hand.
    func fail(_ status: NFS3Status, _ results: inout Results) -> Outcome {
        results.writer.u32(status.rawValue)
        func post(_ handle: NFS3Handle) { results.writer.optional(attributesAtHand(handle)) }
        func weak(_ handle: NFS3Handle) { NFS3WeakData(after: attributesAtHand(handle)).write(into: &results.writer) }
        switch request {
        case .null, .getAttributes: break
        case .readLink(let handle), .fileSystemStatistics(let handle), .fileSystemInformation(let handle),
            .pathConfiguration(let handle):
            post(handle)
        case .lookup(let name): post(name.directory)
        case .access(let arguments): post(arguments.object)
        case .read(let arguments): post(arguments.file)
        case .readDirectory(let arguments): post(arguments.directory)
        case .readDirectoryPlus(let arguments): post(arguments.directory)
        case .setAttributes(let arguments): weak(arguments.object)
        case .write(let arguments): weak(arguments.file)
        case .commit(let arguments): weak(arguments.file)
        case .create(let arguments): weak(arguments.place.directory)
        case .makeDirectory(let arguments): weak(arguments.place.directory)
        case .symlink(let arguments): weak(arguments.place.directory)
        case .makeNode(let arguments): weak(arguments.place.directory)
        case .remove(let name), .removeDirectory(let name): weak(name.directory)
        case .rename(let arguments):
            weak(arguments.from.directory)
            weak(arguments.to.directory)
        case .link(let arguments):
            post(arguments.file)
            weak(arguments.place.directory)
        }
        return .done
    }

    private func attributesAtHand(_ handle: NFS3Handle) -> NFS3Attributes? {
        do throws(NFSHalt) { return try place(handle).attributesAtHand } catch { return nil }
    }
}
