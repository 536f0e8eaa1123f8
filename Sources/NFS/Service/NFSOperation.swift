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
    case flushes(FileID, Volume, Durability)

    init(_ halt: Halt) {
        switch halt {
        case .refused(let error): self = .status(NFS3Status(error))
        case .lacks(let lack): self = .lacks(lack)
        }
    }
}

/// One call of NFS: who makes it, and what it is. Its procedures are in the extensions.
struct NFSOperation {
    typealias Place = NFSPlace

    let caller: NFSCaller
    let request: NFS3Request

    var context: NFSContext { caller.context }
    var loop: EventLoop { caller.loop }
    var now: Int64 { caller.now }

    init(
        _ context: NFSContext, _ request: NFS3Request, identity: Identity, remote: SocketAddress, loop: EventLoop,
        repeatable: Repeatable?
    ) {
        self.request = request
        caller = NFSCaller(
            context, identity, remote, loop,
            token: repeatable.map {
                RequestToken(client: Self.client(remote, identity, $0.key), id: $0.digest, digest: $0.digest)
            })
    }

    /// Of a request that would do something else when it is made twice.
    struct Repeatable {
        var digest: UInt64
        var key: KeyedHash
    }

    /// A client keeps its address and its name when it comes back by another port.
    private static func client(_ remote: SocketAddress, _ identity: Identity, _ key: KeyedHash) -> UInt64 {
        // Of IPv6 a machine takes any address of its network.
        let address: (network: UInt64, rest: UInt64) =
            switch remote {
            case .ipv4(let address, _): (UInt64(address), 0)
            case .ipv6(let high, let low, _, _): (high, low)
            case .unix: (0, 0)
            }
        return RequestToken.client(
            network: withUnsafeBytes(of: address.network) { key($0) },
            machine: withUnsafeBytes(of: address) { key($0) },
            name: identity.machineName.withUnsafeBytes { key($0) })
    }

    func place(_ handle: NFS3Handle) throws(NFSHalt) -> Place { try caller.place(handle.bytes) }

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
            case .flushes(let file, let volume, let durability): return .flushes(file, volume, durability)
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

    /// Writes a failure with the attributes of the files that it concerns, as far as they are at hand. What was refused has
    /// changed nothing, so before and after are the same; `isChanged`: it was made, and is not safe.
    func fail(_ status: NFS3Status, _ results: inout Results, isChanged: Bool = false) -> Outcome {
        results.writer.u32(status.rawValue)
        func post(_ handle: NFS3Handle) { results.writer.optional(weakAtHand(handle, isChanged: isChanged).after) }
        func weak(_ handle: NFS3Handle) { weakAtHand(handle, isChanged: isChanged).write(into: &results.writer) }
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

    private func weakAtHand(_ handle: NFS3Handle, isChanged: Bool) -> NFS3WeakData {
        do throws(NFSHalt) {
            let place = try place(handle)
            guard case .done(let found, _) = place.volume.attributes(place.caller, place.file) else {
                return NFS3WeakData()
            }
            return place.weak(Changed(before: isChanged ? nil : Fingerprint(found), after: found))
        } catch { return NFS3WeakData() }
    }
}
