import Bytes
import Namespace
import RPC
import Runtime

/// What the services of this room share.
public final class NFSContext: Sendable {
    public let volumes: Volumes
    public let exports: ExportTable
    let clock: any WorldClock
    /// The server's own, the same after every start: the numbers of hosts that lock are made with it, and handles of volumes that keep no
    /// key of their own.
    let key: HandleKey
    let groups: (any GroupSource)?
    let principals: (any PrincipalSource)?

    public init(
        volumes: Volumes, exports: ExportTable, clock: any WorldClock, key: HandleKey,
        groups: (any GroupSource)? = nil, principals: (any PrincipalSource)? = nil
    ) {
        self.volumes = volumes
        self.exports = exports
        self.clock = clock
        self.key = key
        self.groups = groups
        self.principals = principals
    }

    /// What a request that changes something is known again by: each server of the volume makes the same of it.
    func key(ofArguments arguments: UnsafeRawBufferPointer) -> KeyedHash {
        FileHandle.export(inArguments: arguments).flatMap { exports.snapshot[$0]?.key } ?? key.hash
    }
}

/// NFS version 3 over `Namespace`.
///
/// A call is tried at once, in place, without waiting. When the file system lacks something in memory, or when what the
/// answer promises is not true yet, the call is held and a task of its loop, or the volume itself, goes on with it.
public final class NFSService: RPCProgram {
    /// How often a call is made again because something was missing; then the client is asked to come back.
    static let attemptsMax = 1000

    public let number = NFS3.program
    public let versions = NFS3.version...NFS3.version
    let context: NFSContext

    public init(_ context: NFSContext) { self.context = context }

    public func serve(
        _ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results
    ) -> Outcome {
        guard let procedure = NFS3Procedure(rawValue: call.procedure) else { return .refused(.procedureUnavailable) }
        let request: NFS3Request
        do throws(BytesError) {
            request = try NFS3Request(procedure, reading: &arguments)
        } catch { return .refused(.garbageArguments) }
        if case .null = request { return .done }
        let operation = NFSOperation(
            context, request, identity: call.identity, remote: call.remoteAddress, loop: call.loop,
            repeatable: procedure.isRetriedSafely ? nil : repeatable(call.xid, call.procedure, call.arguments))
        let step = operation.perform(&results)
        switch step {
        case .done: return .done
        case .refused(let status): return .refused(status)
        case .settles(let number, let volume, let durability):
            guard let held = call.hold(keeping: results) else { return .dropped }
            volume.whenSettled(number, durability, on: call.loop) { failure in
                if failure == nil {
                    held.replyKept()
                } else {
                    held.reply { Self.unsettled(procedure, held.keptResults, &$0) }
                }
            }
            return .held
        case .lacks, .flushes, .waits:
            guard let held = call.hold(expecting: request.resultBytes) else { return .dropped }
            if case .flushes = step { held.keep(results) }
            let loop = call.loop
            loop.task { [self] in await carryOn(held, procedure, step, loop) }
            return .held
        }
    }

    /// What tells a request apart from all others but its own repetition.
    private func repeatable(
        _ xid: UInt32, _ procedure: UInt32, _ arguments: UnsafeRawBufferPointer
    ) -> NFSOperation.Repeatable {
        let key = context.key(ofArguments: arguments)
        return NFSOperation.Repeatable(
            digest: key(arguments) &+ (UInt64(xid) << 32 | UInt64(procedure)) &* 0x9e37_79b9_7f4a_7c15, key: key)
    }

    /// Goes on with a call that could not be answered at once.
    private func carryOn(
        _ held: RPCCall, _ procedure: NFS3Procedure, _ first: NFSStep, _ loop: EventLoop
    ) async {
        guard let request = Self.request(procedure, held.arguments) else { return held.refuse(.garbageArguments) }
        let operation = NFSOperation(
            context, request, identity: held.identity, remote: held.remoteAddress, loop: loop,
            repeatable: procedure.isRetriedSafely ? nil : repeatable(held.xid, held.procedure, held.arguments))
        var step = first
        for _ in 0..<Self.attemptsMax {
            do throws(FileError) {
                switch step {
                case .done, .refused: return
                case .waits: return await operation.performSlowly(held)
                case .settles(let number, let volume, let durability):
                    try await volume.settled(number, durability, on: loop)
                    return held.replyKept()
                case .flushes(let file, let volume, let durability):
                    try await volume.flush(file, durability, on: loop)
                    return held.replyKept()
                case .lacks(let lack): try await lack.supplied()
                }
            } catch {
                let isChanged = if case .settles = step { true } else { false }
                return held.reply { operation.fail(NFS3Status(error), &$0, isChanged: isChanged) }
            }
            held.reply { results in
                step = operation.perform(&results)
                switch step {
                case .done: return .done
                case .refused(let status): return .refused(status)
                case .settles, .flushes:
                    held.keep(results)
                    return .held
                case .lacks, .waits: return .held
                }
            }
        }
        held.reply { operation.fail(.jukebox, &$0) }
    }

    static func request(_ procedure: NFS3Procedure, _ arguments: UnsafeRawBufferPointer) -> NFS3Request? {
        var reader = Reader(arguments)
        do throws(BytesError) { return try NFS3Request(procedure, reading: &reader) } catch { return nil }
    }

    /// The failure of a change that was made and is not safe, with what its results would have said of the files.
    private static func unsettled(
        _ procedure: NFS3Procedure, _ made: UnsafeRawBufferPointer, _ results: inout Results
    ) -> Outcome {
        var reader = Reader(made)
        func begin() { results.writer.u32(NFS3Status.inputOutput.rawValue) }
        func weak(_ data: NFS3WeakData?) { NFS3WeakData(after: data?.after).write(into: &results.writer) }
        do throws(BytesError) {
            switch procedure {
            case .setAttributes, .remove, .removeDirectory:
                let data = try NFS3Results.Remove(reading: &reader).success
                begin()
                weak(data)
            case .create, .makeDirectory, .symlink, .makeNode:
                let created = try NFS3Results.Create(reading: &reader).success
                begin()
                weak(created?.directory)
            case .rename:
                let renamed = try NFS3Results.Rename(reading: &reader).success
                begin()
                weak(renamed?.from)
                weak(renamed?.to)
            case .link:
                let linked = try NFS3Results.Link(reading: &reader).success
                begin()
                results.writer.optional(linked?.attributes)
                weak(linked?.directory)
            case .null, .getAttributes, .lookup, .access, .readLink, .read, .write, .readDirectory, .readDirectoryPlus,
                .fileSystemStatistics, .fileSystemInformation, .pathConfiguration, .commit:
                return .refused(.systemError)
            }
        } catch { return .refused(.systemError) }
        return .done
    }
}

/// What became of one attempt.
enum NFSStep: Sendable {
    /// The results are written.
    case done
    case refused(ReplyStatus)
    /// They are written, and may be sent when this change is safe.
    case settles(UInt64, Volume, Durability)
    /// They are written, and may be sent when the file has been flushed.
    case flushes(FileID, Volume, Durability)
    case lacks(Lack)
    /// Only a task can do it: `performSlowly`.
    case waits
}

extension NFS3Procedure {
    /// Whether the same call made twice has the same answer and does no harm. CREATE has a verifier for that, and
    /// without one it may find its own file.
    var isRetriedSafely: Bool {
        switch self {
        case .setAttributes, .create, .makeDirectory, .symlink, .makeNode, .remove, .removeDirectory, .rename, .link:
            false
        default: true
        }
    }
}

extension NFS3Request {
    /// About how much memory the results take.
    var resultBytes: Int {
        switch self {
        case .read(let arguments): min(Int(arguments.count), NFS3.dataMax)
        case .readDirectory, .readDirectoryPlus: 64 << 10
        default: 0
        }
    }
}
