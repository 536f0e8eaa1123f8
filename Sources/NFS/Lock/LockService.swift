import Bytes
import Logging
import Namespace
import RPC
import Runtime
import Synchronization

/// The network lock manager, versions 1, 3 and 4, over the locks of `Namespace`.
///
/// A call is answered at once unless something has to be fetched or its host has to be written down first; a request that
/// must wait is answered so, and its client is called back when the lock is its own.
public final class LockService: RPCProgram {
    /// Messages that are being worked on; more are dropped, their clients send them again.
    static let messagesMax = 1024

    public let number = LockManager.program
    public let versions = LockManager.versions
    let context: NFSContext
    let monitor: HostMonitor
    let shares = Guarded(LockShares())
    let logger: Logger
    private let messages = Atomic<Int>(0)

    public init(_ context: NFSContext, _ monitor: HostMonitor, logger: Logger) {
        self.context = context
        self.monitor = monitor
        self.logger = logger
        monitor.forgets = { [weak self] host in self?.forget(host) }
        monitor.holdsMore = { [weak self] host in self?.shares.withLock { $0.holds(host: host) } ?? false }
    }

    var locks: ServerLocks { context.volumes.locks }

    public func serve(
        _ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results
    ) -> Outcome {
        // Version 2 is between a host's own lock manager and its monitor.
        guard call.version != 2 else { return .refused(.programMismatch(low: 1, high: 4)) }
        guard let procedure = LockProcedure(rawValue: call.procedure), procedure.isIn(call.version) else {
            return .refused(.procedureUnavailable)
        }
        do throws(BytesError) {
            switch procedure {
            case .null, .testResult, .lockResult, .cancelResult, .unlockResult: return .done
            case .grantedResult:
                let result = try LockResult(reading: &arguments)
                answered(result, from: call.remoteAddress, on: call.loop)
                return .done
            default: break
            }
            let request = try LockRequest(procedure, version: call.version, reading: &arguments)
            if procedure == .freeAll {
                monitor.restarted(request.caller, request.state, from: call.remoteAddress)
                return .done
            }
            let work = LockWork(
                request: request, procedure: procedure,
                caller: NFSCaller(context, call.identity, call.remoteAddress, call.loop),
                local: call.localAddress.unmapped)
            if procedure.result != nil { return takeMessage(work) }
            return answer(work, call, &results)
        } catch { return .refused(.garbageArguments) }
    }

    private func answer(_ work: LockWork, _ call: borrowing CallContext, _ results: inout Results) -> Outcome {
        let lack: Lack
        switch attempt(work) {
        case .done(let reply, _):
            reply.write(work.procedure, to: work.request, into: &results.writer)
            return .done
        case .refused(let error):
            LockReply(LockStatus(error)).write(work.procedure, to: work.request, into: &results.writer)
            return .done
        case .lacks(let first): lack = first
        }
        guard let held = call.hold() else { return .dropped }
        call.loop.task { [self] in
            let reply = await carryOn(work, lack)
            held.reply { results in
                reply.write(work.procedure, to: work.request, into: &results.writer)
                return .done
            }
        }
        return .held
    }

    private func carryOn(_ work: LockWork, _ first: Lack) async -> LockReply {
        var lack = first
        for _ in 0..<NFSService.attemptsMax {
            do throws(FileError) { try await lack.supplied() } catch { return LockReply(LockStatus(error)) }
            switch attempt(work) {
            case .done(let reply, _): return reply
            case .refused(let error): return LockReply(LockStatus(error))
            case .lacks(let next): lack = next
            }
        }
        return LockReply(.deniedNoLocks)
    }

    /// A call whose answer is a call of its own: it has none as a call.
    private func takeMessage(_ work: LockWork) -> Outcome {
        guard messages.wrappingAdd(1, ordering: .relaxed).newValue <= Self.messagesMax else {
            messages.wrappingSubtract(1, ordering: .relaxed)
            return .dropped
        }
        work.caller.loop.task { [self] in
            let reply: LockReply
            switch attempt(work) {
            case .done(let done, _): reply = done
            case .refused(let error): reply = LockReply(LockStatus(error))
            case .lacks(let lack): reply = await carryOn(work, lack)
            }
            send(reply, to: work)
            messages.wrappingSubtract(1, ordering: .relaxed)
        }
        return .done
    }

    // MARK: Attempts

    private func attempt(_ work: LockWork) -> Attempt<LockReply> {
        let place: NFSPlace
        do throws(NFSHalt) {
            place = try work.caller.place(work.request.file, needsFlavor: false)
        } catch {
            switch error {
            case .lacks(let lack): return .lacks(lack)
            case .status(.stale), .status(.badHandle): return .refused(.stale)
            case .status(.access): return .refused(.accessDenied)
            case .status, .auth, .waits, .flushes: return .done(LockReply(.failed), number: 0)
            }
        }
        switch work.procedure {
        case .test, .testMessage: return .done(test(work, place), number: 0)
        case .lock, .lockMessage, .lockUnmonitored: return lock(work, place)
        case .unlock, .unlockMessage: return .done(unlock(work, place), number: 0)
        case .cancel, .cancelMessage: return .done(cancel(work, place), number: 0)
        case .share: return share(work, place)
        case .unshare: return unshare(work, place)
        // This server waits for nobody's locks.
        default: return .done(LockReply(.denied), number: 0)
        }
    }

    /// The owner that a request names.
    private func owner(_ work: LockWork) -> LockOwner {
        monitor.withHosts { hosts in
            hosts.owner(
                hosts.number(of: work.request.caller, at: work.address), work.request.process, work.request.owner)
        }
    }

    private func key(_ work: LockWork, _ place: NFSPlace, _ owner: LockOwner) -> LockGrants.Key {
        LockGrants.Key(
            owner: owner, volume: place.volume.identity, file: place.file, range: work.request.range,
            isExclusive: work.request.isExclusive)
    }

    private func test(_ work: LockWork, _ place: NFSPlace) -> LockReply {
        if locks.isInGrace { return LockReply(.deniedGrace) }
        let request = work.request
        guard let holder = place.volume.testLock(place.file, request.range, request.mode, owner(work)) else {
            return LockReply(.granted)
        }
        let process = monitor.withHosts { $0.processes[holder.owner] }
        return LockReply(
            .denied,
            holder: .init(
                isExclusive: holder.mode == .exclusive, process: process?.number ?? 0, owner: process?.owner ?? [],
                range: holder.range))
    }

    private func lock(_ work: LockWork, _ place: NFSPlace) -> Attempt<LockReply> {
        let request = work.request
        // Whoever may do nothing with a file may not keep others from it.
        switch place.volume.attributes(place.caller, place.file) {
        case .refused(let error): return .refused(error)
        case .lacks(let lack): return .lacks(lack)
        case .done(let found, _):
            switch place.volume.rights(place.caller, found) {
            case .refused(let error): return .refused(error)
            case .lacks(let lack): return .lacks(lack)
            case .done(let rights, _):
                let isOwner = found.uid == place.caller.credential.uid
                if !isOwner, rights.isDisjoint(with: [.read, .write]) { return .refused(.accessDenied) }
            }
        }
        let owner: LockOwner
        let isMonitored = work.procedure != .lockUnmonitored
        switch monitor.admit(work, place, isMonitored: isMonitored) {
        case .done(let found, _): owner = found
        case .refused(let error): return .refused(error)
        case .lacks(let lack): return .lacks(lack)
        }
        let key = key(work, place, owner)
        var mayWait = request.mayBlock
        if mayWait {
            let isKnown = monitor.withGrants { grants in grants.isWaiting(key, request) }
            if isKnown { return .done(LockReply(.blocked), number: 0) }
            if monitor.withGrants({ $0.isFull }) { return .done(LockReply(.deniedNoLocks), number: 0) }
            mayWait = !monitor.withGrants { $0.hasStaleTelling(owner, place.file) }
        }
        let loop = work.caller.loop
        let waiter = LockWaiter(loop: loop) { [self] wait, refusal in ended(wait, refusal) }
        let answer = place.volume.lock(
            place.caller, place.file, request.range, request.mode, owner, waiter: mayWait ? waiter : nil,
            isReclaim: request.isReclaim)
        switch answer {
        case .refused(let error): return .refused(error)
        case .lacks(let lack): return .lacks(lack)
        case .done(.granted, _):
            // Its record may have been removed since it was looked for, because the host held nothing: then it is not granted.
            if isMonitored, let lack = monitor.recording(owner.client, place.volume) {
                _ = place.volume.unlock(place.file, request.range, owner)
                return .lacks(lack)
            }
            monitor.withGrants { $0.answered(key) }
            return .done(LockReply(.granted), number: 0)
        case .done(.waits(let wait), _):
            if isMonitored, let lack = monitor.recording(owner.client, place.volume) {
                if !place.volume.cancelLock(wait) { _ = place.volume.unlock(place.file, request.range, owner) }
                return .lacks(lack)
            }
            // Its outcome comes by this loop, so not before this.
            monitor.withGrants { $0.waits(wait, key, request, isMessage: work.procedure == .lockMessage) }
            return .done(LockReply(.blocked), number: 0)
        // The answer at which a client asks again by itself, a little later.
        case .done(.refused(.held), _) where request.mayBlock && !mayWait:
            return .done(LockReply(.deniedGrace), number: 0)
        case .done(.refused(let refusal), _): return .done(LockReply(LockStatus(refusal)), number: 0)
        }
    }

    private func unlock(_ work: LockWork, _ place: NFSPlace) -> LockReply {
        let owner = owner(work)
        monitor.withGrants { $0.unlocked(owner, place.file, work.request.range) }
        return LockReply(place.volume.unlock(place.file, work.request.range, owner) ? .granted : .deniedNoLocks)
    }

    private func cancel(_ work: LockWork, _ place: NFSPlace) -> LockReply {
        let owner = owner(work)
        switch monitor.withGrants({ $0.cancel(key(work, place, owner)) }) {
        case .wait(let wait):
            if place.volume.cancelLock(wait) { return LockReply(.granted) }
            // It has just been granted: the client was too late, and wants it no more.
            _ = place.volume.unlock(place.file, work.request.range, owner)
        case .grant: _ = place.volume.unlock(place.file, work.request.range, owner)
        case .nothing: return LockReply(.denied)
        }
        return LockReply(.granted)
    }

    // MARK: Grants

    private func ended(_ wait: LockWait, _ refusal: LockRefusal?) {
        guard let cookie = monitor.withGrants({ $0.ended(wait, isGranted: refusal == nil) }) else { return }
        monitor.client.loop.task { [self] in await tell(cookie) }
    }

    private func answered(_ result: LockResult, from address: SocketAddress, on loop: EventLoop) {
        guard result.cookie.count == 8 else { return }
        let cookie = UInt64(bigEndian: result.cookie.loadUnaligned(as: UInt64.self))
        let host = monitor.withGrants { $0.grants[cookie]?.key.owner.client }
        guard let host, monitor.withHosts({ $0.hosts[host]?.address }) == address.unmapped.with(port: 0) else { return }
        settle(cookie, result.status)
    }

    private func settle(_ cookie: UInt64, _ status: LockStatus) {
        guard let unwanted = monitor.withGrants({ $0.answered(cookie, status) }) else { return }
        guard let volume = context.volumes[unwanted.key.volume] else { return }
        _ = volume.unlock(unwanted.key.file, unwanted.key.range, unwanted.key.owner)
    }

    /// Tells a client that its lock is there, until it has understood. On the client's loop.
    private func tell(_ cookie: UInt64) async {
        var pause = LockGrants.staleNanoseconds
        for _ in 0..<LockGrants.tellingsMax {
            guard let target = lockManager(toTell: cookie) else { return }
            do throws(RPCClientError) {
                let place = try await monitor.located(target)
                // Finding the way takes time, in which the client may have done with the lock: it would take a telling of
                // this one for the next.
                guard let grant = monitor.withGrants({ $0.tell(cookie) }) else { return }
                var request = grant.request
                request.cookie = withUnsafeBytes(of: cookie.bigEndian) { Array($0) }
                let arguments = Self.granted(request)
                if grant.isMessage {
                    monitor.client.tell(place.target, LockProcedure.grantedMessage.rawValue, arguments)
                } else {
                    let results = try await monitor.call(place, target, LockProcedure.granted.rawValue, arguments)
                    if let status = Self.status(results) { settle(cookie, status) }
                }
            } catch {
                logger.info(
                    "lock client does not hear of its lock",
                    [.init("client", target.address.host), .init("why", "\(error)")])
            }
            // Also after its answer: a request of the client may have left before the telling came, and arrive after the answer.
            await monitor.client.loop.sleep(nanoseconds: LockGrants.staleNanoseconds)
            monitor.withGrants { $0.told(cookie) }
            await monitor.client.loop.sleep(nanoseconds: pause - LockGrants.staleNanoseconds)
            pause = min(pause * 2, 30_000_000_000)
        }
        monitor.withGrants { $0.giveUp(cookie) }
    }

    /// Of the client that is to be told; nil: nobody is.
    private func lockManager(toTell cookie: UInt64) -> RPCTarget? {
        guard let grant = monitor.withGrants({ $0.grants[cookie] }),
            let host = monitor.withHosts({ $0.hosts[grant.key.owner.client] })
        else { return nil }
        return RPCTarget(
            host.address, from: host.local, program: LockManager.program, version: grant.request.version)
    }

    private static func granted(_ request: LockRequest) -> [UInt8] {
        let block = Block(capacity: 4 * LockManager.objectMax + 128)
        var writer = Writer(block.free)
        func write<Width: LockWidth>(_ width: Width.Type, into writer: inout Writer) {
            request.cookie.withUnsafeBytes { cookie in
                request.caller.withUnsafeBytes { caller in
                    request.file.withUnsafeBytes { file in
                        request.owner.withUnsafeBytes { owner in
                            LockTestArguments<Width>(
                                cookie: cookie, isExclusive: request.isExclusive,
                                lock: LockDescription(
                                    caller: caller, file: file, owner: owner, process: request.process,
                                    offset: request.offset, length: request.length)
                            ).write(into: &writer)
                        }
                    }
                }
            }
        }
        if request.hasWideNumbers {
            write(LockWidth64.self, into: &writer)
        } else {
            write(LockWidth32.self, into: &writer)
        }
        return Array(writer.written)
    }

    private static func status(_ results: [UInt8]) -> LockStatus? {
        results.withUnsafeBytes { bytes in
            var reader = Reader(bytes)
            do throws(BytesError) { return try LockResult(reading: &reader).status } catch { return nil }
        }
    }

    /// The answer to a message: a message to the lock manager of its sender.
    private func send(_ reply: LockReply, to work: LockWork) {
        guard let procedure = work.procedure.result else { return }
        let block = Block(capacity: 2 * LockManager.objectMax + 128)
        var writer = Writer(block.free)
        reply.write(work.procedure, to: work.request, into: &writer)
        let target = RPCTarget(
            work.address, from: work.local, program: LockManager.program, version: work.request.version)
        let bytes = Array(writer.written)
        let (monitor, logger) = (monitor, logger)
        monitor.client.loop.task {
            do throws(RPCClientError) {
                try await monitor.tell(target, procedure.rawValue, bytes)
            } catch {
                logger.info(
                    "lock client has no lock manager",
                    [.init("client", target.address.host), .init("why", "\(error)")])
            }
        }
    }

    // MARK: Hosts that are gone

    private func forget(_ host: UInt64) {
        locks.release(client: host)
        monitor.withGrants { $0.forget(host: host) }
        let ended = shares.withLock { $0.forget(host: host) }
        for share in ended { close(share) }
    }
}

/// A request with all that is known of where it came from.
struct LockWork: Sendable {
    var request: LockRequest
    var procedure: LockProcedure
    var caller: NFSCaller
    var local: SocketAddress

    var address: SocketAddress { caller.remote.unmapped.with(port: 0) }
}

extension LockProcedure {
    /// Version 1 ends before shares.
    fileprivate func isIn(_ version: UInt32) -> Bool { version >= 3 || rawValue < LockProcedure.share.rawValue }
}

extension NFSCaller {
    func place(_ handle: [UInt8], needsFlavor: Bool) throws(NFSHalt) -> NFSPlace {
        let found = handle.withUnsafeBytes { bytes in
            Result { () throws(NFSHalt) in try place(bytes, needsFlavor: needsFlavor) }
        }
        return try found.get()
    }
}
