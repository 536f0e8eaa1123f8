import Metrics
import Runtime

extension MetricsRegistry {
    /// What the event loops count.
    public func add(loops: [EventLoop]) {
        func counter(
            _ name: StaticString, _ help: StaticString, _ read: @escaping @Sendable (LoopCounters) -> LoopCounter
        ) {
            add(name, .counter, help) {
                loops.map { Sample(read($0.counters).value, [("loop", String($0.index))]) }
            }
        }
        counter("proxyfs_connections_opened_total", "Connections that began.") { $0.opened }
        counter("proxyfs_connections_closed_total", "Connections that ended.") { $0.closed }
        counter("proxyfs_received_bytes_total", "Bytes that connections received.") { $0.bytesIn }
        counter("proxyfs_sent_bytes_total", "Bytes that connections sent.") { $0.bytesOut }
        counter("proxyfs_loop_rounds_total", "Rounds of the event loop.") { $0.rounds }
        counter("proxyfs_loop_jobs_total", "Jobs handed over to the event loop.") { $0.jobs }
        counter("proxyfs_datagrams_received_total", "Datagrams that were received.") { $0.datagramsIn }
        counter("proxyfs_datagrams_sent_total", "Datagrams that were sent.") { $0.datagramsOut }
        counter("proxyfs_datagrams_dropped_total", "Datagrams that were dropped.") { $0.datagramsDropped }
    }

    /// What one listener counts; `name` is its front end.
    public func addListeners(_ listeners: [(name: String, listener: Listener)]) {
        add("proxyfs_listener_connections", .gauge, "Connections that are open.") {
            listeners.map { Sample($0.listener.active, [("listener", $0.name)]) }
        }
        add("proxyfs_listener_accepted_total", .counter, "Connections that were accepted.") {
            listeners.map { Sample($0.listener.accepted, [("listener", $0.name)]) }
        }
        add("proxyfs_listener_refused_total", .counter, "Connections refused because there were too many.") {
            listeners.map { Sample($0.listener.refused, [("listener", $0.name)]) }
        }
    }
}
