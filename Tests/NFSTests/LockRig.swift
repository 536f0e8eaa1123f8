import Bytes
import Logging
import NFS
import Namespace
import RPC
import Runtime
import Synchronization
import TestSupport
import Testing

/// A volume in memory behind NFS and its lock manager on a real socket, for a client host that is `FakeHost`.
final class LockRig: Sendable {
    let loop: EventLoop
    let volumes: Volumes
    let monitor: HostMonitor
    let exports = ExportTable()
    let listener: Listener
    let context: NFSContext
    let volume: Volume

    init(_ files: MemoryFileSystem, _ host: FakeHost, grace: UInt64 = 60_000_000_000) throws {
        loop = try EpollLoop(index: 0)
        volumes = Volumes()
        volume = Volume("default", identity: Rig.volume, files, locks: volumes.locks)
        #expect(volumes.add(volume))
        var client = Export.Client(.loopback)
        client.needsPrivilegedPort = false
        client.squash = .none
        context = NFSContext(volumes: volumes, exports: exports, clock: SystemClock(), key: HandleKey(1, 2))
        #expect(
            exports.replace([
                Export(id: 5, path: "/default", volume: Rig.volume, root: files.root, clients: [client])
            ]))
        let logger = Logger(level: .off, format: .logfmt, wall: { 0 }, monotonic: { 0 })
        let caller = RPCClient(
            network: EpollNetwork(), loop: loop, random: SystemRandom(), rpcbindPort: host.port)
        monitor = HostMonitor(
            context, client: caller, random: SystemRandom(), logger: logger, name: "server",
            graceNanoseconds: grace)
        let server = RPCServer(
            programs: [
                NFSService(context), MountService(context), LockService(context, monitor, logger: logger),
                MonitorService(monitor, logger: logger), ACLService(context), QuotaService(context),
            ], on: [loop], logger: logger)
        listener = try server.listen(on: .loopback(port: 0), network: EpollNetwork())
    }

    deinit { (loop as? EpollLoop)?.stop() }

    /// As the server's start does.
    func attach() async { await attach(volumes.all) }

    func attach(_ served: [Volume]) async {
        let monitor = monitor
        await loop.task { await monitor.attach(served) }.value
    }

    func client(_ name: String = "one") throws -> LockClient {
        LockClient(NFSClient(try RPCPeer(listener.address), uid: 0, gid: 0, groups: []), name)
    }
}

/// A host that locks: its calls, one at a time.
final class LockClient {
    let nfs: NFSClient
    let name: String
    var version: UInt32 = 4
    var state: Int32 = 0
    private var cookie: UInt32 = 0

    init(_ nfs: NFSClient, _ name: String) {
        self.nfs = nfs
        self.name = name
    }

    func description<Width: LockWidth>(
        _ file: NFS3Handle, _ process: Int32, _ offset: UInt64, _ length: UInt64, _ width: Width.Type
    ) -> LockDescription<Width> {
        LockDescription(
            caller: nfs.keep(name), file: file.bytes, owner: nfs.keep("\(process)@\(name)"), process: process,
            offset: offset, length: length)
    }

    func call<Result: XDRMessage>(
        _ procedure: LockProcedure, _ arguments: some XDRMessage, _ type: Result.Type
    ) throws -> Result {
        let bytes = encoded { arguments.write(into: &$0) }
        return try nfs.results(
            nfs.peer.call(nfs.message(LockManager.program, version, procedure.rawValue, bytes)), type)
    }

    private func next() -> UnsafeRawBufferPointer {
        cookie += 1
        return nfs.keep("\(cookie)")
    }

    func lock(
        _ file: NFS3Handle, _ process: Int32, _ offset: UInt64 = 0, _ length: UInt64 = 0, shared: Bool = false,
        blocks: Bool = false, reclaim: Bool = false, _ procedure: LockProcedure = .lock
    ) throws -> LockStatus {
        let cookie = next()
        func ask<Width: LockWidth>(_ width: Width.Type) throws -> LockResult {
            try call(
                procedure,
                LockArguments(
                    cookie: cookie, mayBlock: blocks, isExclusive: !shared,
                    lock: description(file, process, offset, length, width), isReclaim: reclaim, state: state),
                LockResult.self)
        }
        let result = version == 4 ? try ask(LockWidth64.self) : try ask(LockWidth32.self)
        #expect(result.cookie.elementsEqual(cookie))
        return result.status
    }

    func unlock(_ file: NFS3Handle, _ process: Int32, _ offset: UInt64 = 0, _ length: UInt64 = 0) throws -> LockStatus {
        let arguments = LockUnlockArguments(
            cookie: next(), lock: description(file, process, offset, length, LockWidth64.self))
        return try call(.unlock, arguments, LockResult.self).status
    }

    func cancel(
        _ file: NFS3Handle, _ process: Int32, _ offset: UInt64 = 0, _ length: UInt64 = 0
    ) throws -> LockStatus {
        let arguments = LockCancelArguments(
            cookie: next(), mayBlock: true, isExclusive: true,
            lock: description(file, process, offset, length, LockWidth64.self))
        return try call(.cancel, arguments, LockResult.self).status
    }

    func test(
        _ file: NFS3Handle, _ process: Int32, _ offset: UInt64 = 0, _ length: UInt64 = 0, shared: Bool = false
    ) throws -> LockTestResult<LockWidth64> {
        let arguments = LockTestArguments(
            cookie: next(), isExclusive: !shared, lock: description(file, process, offset, length, LockWidth64.self))
        return try call(.test, arguments, LockTestResult<LockWidth64>.self)
    }

    /// Of SHARE and UNSHARE.
    func share(
        _ file: NFS3Handle, _ owner: String, _ access: ShareBits, deny: ShareBits, _ procedure: LockProcedure = .share
    ) throws -> LockStatus {
        let arguments = LockShareArguments(
            cookie: next(), caller: nfs.keep(name), file: file.bytes, owner: nfs.keep(owner), deny: deny,
            access: access, isReclaim: false)
        return try call(procedure, arguments, LockShareResult.self).status
    }

    /// Tells the server's monitor that this host restarted.
    func restarted(_ state: Int32, name: String? = nil) throws {
        let bytes = encoded { MonitorChange(name: nfs.keep(name ?? self.name), state: state).write(into: &$0) }
        _ = try nfs.results(
            nfs.peer.call(nfs.message(StatusMonitor.program, 1, MonitorProcedure.notify.rawValue, bytes)), XDRVoid.self)
    }
}

/// A client host's side: rpcbind, lock manager and monitor on one port, which do what a test says.
final class FakeHost: RPCProgram, @unchecked Sendable {
    /// What the lock manager was called with.
    struct Granted: Equatable {
        var cookie: [UInt8]
        var process: Int32
        var offset: UInt64
        var length: UInt64
        var isMessage = false
    }

    struct State {
        var granted: [Granted] = []
        var results: [LockStatus] = []
        var notices: [(name: String, state: Int32)] = []
        var callbacks: [(name: String, state: Int32)] = []
        /// The answers to the next grants; nil: none. `.granted` after them.
        var answers: [LockStatus?] = []
        var hasPrograms = true
    }

    private final class Other: RPCProgram {
        let number: UInt32
        let versions: ClosedRange<UInt32>
        private let host: @Sendable (borrowing CallContext, inout Reader, inout Results) -> Outcome

        init(
            _ number: UInt32, _ versions: ClosedRange<UInt32>,
            _ host: @escaping @Sendable (borrowing CallContext, inout Reader, inout Results) -> Outcome
        ) {
            self.number = number
            self.versions = versions
            self.host = host
        }

        func serve(_ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results) -> Outcome {
            host(call, &arguments, &results)
        }
    }

    let number: UInt32 = 100_000
    let versions: ClosedRange<UInt32> = 2...2
    private let loop: EventLoop
    private let state = Mutex(State())
    private var listener: Listener?
    private var datagrams: DatagramSocket?
    private(set) var port: UInt16 = 0

    init() async throws {
        loop = try EpollLoop(index: 0)
        let logger = Logger(level: .off, format: .logfmt, wall: { 0 }, monotonic: { 0 })
        let manager = Other(LockManager.program, 1...4) { [unowned self] call, arguments, results in
            lockManager(call, &arguments, &results)
        }
        let monitor = Other(StatusMonitor.program, 1...1) { [unowned self] call, arguments, _ in
            self.monitor(call, &arguments)
        }
        let server = RPCServer(programs: [self, manager, monitor], on: [loop], logger: logger)
        let network = EpollNetwork()
        let listener = try server.listen(on: .loopback(port: 0), network: network)
        self.listener = listener
        port = try #require(listener.address.port)
        let loop = loop
        let address = listener.address
        datagrams = await withUnsafeContinuation { continuation in
            loop.execute {
                continuation.resume(returning: try? server.datagrams(on: address, network: network, loop: loop))
            }
        }
        _ = try #require(datagrams)
    }

    deinit { (loop as? EpollLoop)?.stop() }

    func with<Value>(_ body: (inout sending State) -> Value) -> Value { state.withLock { body(&$0) } }

    func serve(_ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results) -> Outcome {
        guard call.procedure == 3 else { return .refused(.procedureUnavailable) }
        results.writer.u32(state.withLock { $0.hasPrograms } ? UInt32(port) : 0)
        return .done
    }

    private func lockManager(
        _ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results
    ) -> Outcome {
        do throws(BytesError) {
            switch LockProcedure(rawValue: call.procedure) {
            case .granted, .grantedMessage:
                let grant = try LockTestArguments<LockWidth64>(reading: &arguments)
                let seen = Granted(
                    cookie: Array(grant.cookie), process: grant.lock.process, offset: grant.lock.offset,
                    length: grant.lock.length, isMessage: call.procedure == LockProcedure.grantedMessage.rawValue)
                let answer: LockStatus? = state.withLock { state in
                    state.granted.append(seen)
                    return state.answers.isEmpty ? .granted : state.answers.removeFirst()
                }
                guard let answer else { return .dropped }
                LockResult(cookie: grant.cookie, status: answer).write(into: &results.writer)
                return .done
            case .lockResult, .unlockResult, .cancelResult:
                let result = try LockResult(reading: &arguments)
                state.withLock { $0.results.append(result.status) }
                return .done
            case .testResult:
                let result = try LockTestResult<LockWidth64>(reading: &arguments)
                state.withLock { $0.results.append(result.status) }
                return .done
            default: return .done
            }
        } catch { return .refused(.garbageArguments) }
    }

    private func monitor(_ call: borrowing CallContext, _ arguments: inout Reader) -> Outcome {
        do throws(BytesError) {
            guard call.procedure == MonitorProcedure.notify.rawValue else {
                let told = try MonitorCallback(reading: &arguments)
                let name = String(decoding: told.name, as: UTF8.self)
                state.withLock { $0.callbacks.append((name, told.state)) }
                return .done
            }
            let change = try MonitorChange(reading: &arguments)
            let name = String(decoding: change.name, as: UTF8.self)
            state.withLock { $0.notices.append((name, change.state)) }
            return .done
        } catch { return .refused(.garbageArguments) }
    }
}
