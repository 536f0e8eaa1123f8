import CShim

/// A value behind a lock of the C library. The thread sanitizer knows that one; Swift's own `Mutex` it does not, and
/// reports a race in everything that one guards.
package final class Guarded<Value>: @unchecked Sendable {
    private let monitor: OpaquePointer
    @exclusivity(unchecked) private var value: Value

    package init(_ value: sending Value) {
        guard let monitor = shim_monitor_create() else { preconditionFailure("no memory for a lock") }
        self.monitor = monitor
        self.value = value
    }

    deinit { shim_monitor_destroy(monitor) }

    @inline(__always)
    package func withLock<Result, Failure: Error>(_ body: (inout Value) throws(Failure) -> Result) throws(Failure)
        -> Result
    {
        shim_monitor_enter(monitor)
        defer { shim_monitor_exit(monitor) }
        return try body(&value)
    }
}
