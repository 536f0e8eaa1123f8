import Bytes
import Logging
import RPC
import Runtime

/// The network status monitor: hears of other hosts' restarts, and answers what ours is (X/Open XNFS 11).
///
/// A host's own rpc.statd comes first where there is one: then this program is served, but not registered with rpcbind.
public final class MonitorService: RPCProgram {
    public let number = StatusMonitor.program
    public let versions = StatusMonitor.version...StatusMonitor.version
    private let monitor: HostMonitor
    private let logger: Logger

    public init(_ monitor: HostMonitor, logger: Logger) {
        self.monitor = monitor
        self.logger = logger
    }

    public func serve(
        _ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results
    ) -> Outcome {
        guard let procedure = MonitorProcedure(rawValue: call.procedure) else {
            return .refused(.procedureUnavailable)
        }
        // What is monitored for whom is this machine's own business.
        let isOurs = call.remoteAddress.isLoopback
        do throws(BytesError) {
            switch procedure {
            case .null: break
            case .status:
                _ = try MonitorName(reading: &arguments)
                MonitorStatusResult(answer: .success, state: monitor.number).write(into: &results.writer)
            case .monitor:
                let wanted = try MonitorArguments(reading: &arguments)
                let entry = MonitorTable.Entry(wanted.id, Array(wanted.privateData))
                let isAdded = isOurs && monitor.withMonitored { $0.add(entry) }
                MonitorStatusResult(answer: isAdded ? .success : .failure, state: monitor.number)
                    .write(into: &results.writer)
            case .unmonitor:
                let entry = MonitorTable.Entry(try MonitorID(reading: &arguments), [])
                if isOurs { _ = monitor.withMonitored { $0.remove(entry) } }
                MonitorState(state: monitor.number).write(into: &results.writer)
            case .unmonitorAll:
                let caller = try MonitorCaller(reading: &arguments)
                if isOurs {
                    monitor.withMonitored {
                        $0.removeAll(
                            caller: Array(caller.name), program: UInt32(bitPattern: caller.program),
                            version: UInt32(bitPattern: caller.version),
                            procedure: UInt32(bitPattern: caller.procedure))
                    }
                }
                MonitorState(state: monitor.number).write(into: &results.writer)
            case .simulateCrash: if isOurs { monitor.simulateCrash() }
            case .notify:
                let change = try MonitorChange(reading: &arguments)
                heard(Array(change.name), change.state, from: call.remoteAddress)
            }
            return .done
        } catch { return .refused(.garbageArguments) }
    }

    private func heard(_ name: [UInt8], _ state: Int32, from address: SocketAddress) {
        monitor.restarted(name, state, from: address)
        let told = monitor.withMonitored { $0.restarted(name, state) }
        for entry in told {
            let block = Block(capacity: StatusMonitor.nameMax + 64)
            var writer = Writer(block.free)
            entry.host.withUnsafeBytes { host in
                entry.privateData.withUnsafeBytes { data in
                    MonitorCallback(name: host, state: state, privateData: data).write(into: &writer)
                }
            }
            let arguments = Array(writer.written)
            let (monitor, logger) = (monitor, logger)
            let target = RPCTarget(.loopback(port: 0), program: entry.program, version: entry.version)
            monitor.client.loop.task {
                do throws(RPCClientError) {
                    _ = try await monitor.call(target, entry.procedure, arguments)
                } catch {
                    logger.info("restart of a host not told here", [.init("why", "\(error)")])
                }
            }
        }
    }
}

extension MonitorTable.Entry {
    fileprivate init(_ id: MonitorID, _ privateData: [UInt8]) {
        self.init(
            host: Array(id.name), caller: Array(id.caller.name), program: UInt32(bitPattern: id.caller.program),
            version: UInt32(bitPattern: id.caller.version), procedure: UInt32(bitPattern: id.caller.procedure),
            privateData: privateData)
    }
}
