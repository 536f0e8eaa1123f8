import Bytes
import CShim
import Glibc
import Runtime
import Synchronization
import Testing

let second: UInt64 = 1_000_000_000
let millisecond: UInt64 = 1_000_000

/// Waits, in steps, until `condition` holds; false when it does not within `seconds`.
func eventually(within seconds: Double = 10, _ condition: () async -> Bool) async -> Bool {
    let deadline = shim_clock_monotonic() + UInt64(seconds * 1e9)
    while shim_clock_monotonic() < deadline {
        if await condition() { return true }
        try? await Task.sleep(nanoseconds: 2_000_000)
    }
    return await condition()
}

extension EventLoop {
    /// Runs `body` on the loop and answers its result, handed over under a lock: the thread sanitizer does not see that a
    /// continuation hands over anything.
    func perform<Success: Sendable>(_ body: @escaping @Sendable () -> Success) async -> Success {
        let box = Guarded<Success?>(nil)
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            execute {
                let result = body()
                box.withLock { $0 = result }
                continuation.resume()
            }
        }
        guard let result = box.withLock({ $0 }) else { preconditionFailure("resumed without a result") }
        return result
    }
}

/// Loops that end with the test.
final class Rig: Sendable {
    let loops: [EventLoop]
    let network = EpollNetwork()
    var loop: EventLoop { loops[0] }

    init(loops count: Int = 1) throws { loops = try (0..<count).map { try EpollLoop(index: $0) } }

    func stop() { for loop in loops { (loop as? EpollLoop)?.stop() } }

    func listen(
        _ address: SocketAddress = .loopback(port: 0), _ change: (inout ListenerOptions) -> Void = { _ in },
        accept: @escaping @Sendable (Connection) -> (any ConnectionHandler)?
    ) throws -> Listener {
        var options = ListenerOptions()
        change(&options)
        return try network.listen(on: address, options, loops: loops, accept: accept)
    }

    /// Connects and answers the connection, whatever becomes of it.
    func connect(
        _ address: SocketAddress, _ options: ConnectOptions = ConnectOptions(), _ script: Script
    ) async -> Connection {
        await loop.perform { self.network.connect(to: address, options, on: self.loop, handler: script) }
    }
}

/// A handler made of closures, which notes what happened to it.
final class Script: ConnectionHandler, @unchecked Sendable {
    struct Log {
        var opened = 0
        var received: [UInt8] = []
        var calls = 0
        var ended = 0
        var drained = 0
        var draining = 0
        var idle = 0
        var filled = 0
        var closed: [CloseReason] = []
        var identity: PeerIdentity?
    }
    private let state = Guarded(Log())
    var log: Log { state.withLock { $0 } }
    var reason: CloseReason? { log.closed.first }

    var onOpened: (Connection) -> Void = { _ in }
    var onReceived: (UnsafeRawBufferPointer, Connection) -> Int = { bytes, _ in bytes.count }
    var onFilled: (Block, Connection) -> Void = { _, _ in }
    var onEnded: (Connection) -> Void = { $0.close() }
    var onDrained: (Connection) -> Void = { _ in }
    var onDraining: (Connection) -> Void = { $0.close() }
    var onIdle: (Connection) -> Bool = { _ in true }
    var onClosed: (Connection) -> Void = { _ in }

    init(_ change: (Script) -> Void = { _ in }) { change(self) }

    static func echo() -> Script {
        Script {
            $0.onReceived = { bytes, connection in
                connection.write(bytes)
                return bytes.count
            }
        }
    }

    func opened(_ connection: Connection) {
        state.withLock {
            $0.opened += 1
            $0.identity = connection.identity
        }
        onOpened(connection)
    }
    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        let count = onReceived(bytes, connection)
        state.withLock {
            $0.calls += 1
            $0.received.append(contentsOf: bytes.prefix(count))
        }
        return count
    }
    func filled(_ block: Block, on connection: Connection) {
        state.withLock { $0.filled += 1 }
        onFilled(block, connection)
    }
    func ended(_ connection: Connection) {
        state.withLock { $0.ended += 1 }
        onEnded(connection)
    }
    func drained(_ connection: Connection) {
        state.withLock { $0.drained += 1 }
        onDrained(connection)
    }
    func idle(_ connection: Connection) -> Bool {
        state.withLock { $0.idle += 1 }
        return onIdle(connection)
    }
    func draining(_ connection: Connection) {
        state.withLock { $0.draining += 1 }
        onDraining(connection)
    }
    func closed(_ connection: Connection, _ reason: CloseReason) {
        onClosed(connection)
        state.withLock { $0.closed.append(reason) }
    }
}

/// A plain socket that does what it is told, well-behaved or not.
final class Peer: @unchecked Sendable {
    private(set) var fd: Int32

    init(_ address: SocketAddress) throws {
        var raw = shim_address()
        try #require(address.store(into: &raw))
        var inProgress: Int32 = 0
        fd = shim_connect(&raw, 0, &inProgress)
        try #require(fd >= 0)
        if inProgress != 0 { _ = wait(Int16(POLLOUT), 5) }
    }

    /// One that was accepted.
    init(fd: Int32) { self.fd = fd }

    deinit { close() }

    func close() {
        if fd >= 0 { shim_close(fd) }
        fd = -1
    }

    func finish() { _ = shim_shutdown_write(fd) }

    private func wait(_ events: Int16, _ seconds: Double) -> Bool {
        var item = pollfd(fd: fd, events: events, revents: 0)
        return poll(&item, 1, Int32(seconds * 1000)) > 0
    }

    /// Sends all, unless the other side takes nothing for `seconds`; answers how much it took.
    @discardableResult
    func send(_ bytes: [UInt8], within seconds: Double = 10) -> Int {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { shim_send(fd, $0.baseAddress! + sent, bytes.count - sent) }
            if count > 0 {
                sent += count
            } else if count != Int(-EAGAIN) || !wait(Int16(POLLOUT), seconds) {
                break
            }
        }
        return sent
    }

    /// Reads `count` bytes, or less when the other side ends, fails or is silent for `seconds`.
    func receive(_ count: Int, within seconds: Double = 10) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while bytes.count < count {
            let got = buffer.withUnsafeMutableBytes {
                shim_receive(fd, $0.baseAddress!, min(65536, count - bytes.count))
            }
            if got > 0 {
                bytes.append(contentsOf: buffer[..<got])
            } else if got != Int(-EAGAIN) || !wait(Int16(POLLIN), seconds) {
                break
            }
        }
        return bytes
    }

    /// What the next read says, within `seconds`: 0 an end, a negative error.
    func readsEnd(within seconds: Double = 10) -> Int {
        guard wait(Int16(POLLIN), seconds) else { return Int(-ETIMEDOUT) }
        var byte: UInt8 = 0
        return shim_receive(fd, &byte, 1)
    }
}

func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 56)
    }
}
