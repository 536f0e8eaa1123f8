import CShim
import Glibc
import Runtime

/// A plain blocking client socket for tests of servers: it sends what it is told, well-behaved or not.
public final class Peer {
    private var fd: Int32

    public struct Unreachable: Error {
        public let address: SocketAddress
        public let code: Int32
    }

    /// `isPrivileged`: from a port below 1024, which needs a privilege.
    public init(_ address: SocketAddress, isPrivileged: Bool = false) throws(Unreachable) {
        var raw = shim_address()
        var inProgress: Int32 = 0
        guard address.store(into: &raw) else { throw Unreachable(address: address, code: EINVAL) }
        fd = shim_connect(&raw, isPrivileged ? 1 : 0, &inProgress)
        guard fd >= 0 else { throw Unreachable(address: address, code: -fd) }
        if inProgress != 0 { _ = wait(Int16(POLLOUT), 5) }
        let error = shim_socket_error(fd)
        guard error == 0 else { throw Unreachable(address: address, code: error) }
    }

    deinit { close() }

    public func close() {
        if fd >= 0 { shim_close(fd) }
        fd = -1
    }

    /// As one that has little room for what comes.
    public func limitInput(_ bytes: Int32) {
        var bytes = bytes
        _ = setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
    }

    public func finish() { _ = shim_shutdown_write(fd) }

    private func wait(_ events: Int16, _ seconds: Double) -> Bool {
        var item = pollfd(fd: fd, events: events, revents: 0)
        return poll(&item, 1, Int32(seconds * 1000)) > 0
    }

    /// Sends all, unless the other side takes nothing for `seconds`; answers how much it took.
    @discardableResult
    public func send(_ bytes: [UInt8], within seconds: Double = 10) -> Int {
        bytes.withUnsafeBytes { memory in
            var sent = 0
            while sent < memory.count, let base = memory.baseAddress {
                let count = shim_send(fd, base + sent, memory.count - sent)
                if count > 0 {
                    sent += count
                } else if count != Int(-EAGAIN) || !wait(Int16(POLLOUT), seconds) {
                    break
                }
            }
            return sent
        }
    }

    @discardableResult
    public func send(_ text: String, within seconds: Double = 10) -> Int { send(Array(text.utf8), within: seconds) }

    /// Reads until `isEnough` says so, or the other side ends, fails or is silent for `seconds`.
    public func receive(within seconds: Double = 10, until isEnough: ([UInt8]) -> Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while !isEnough(bytes) {
            let got = buffer.withUnsafeMutableBytes { shim_receive(fd, $0.baseAddress, $0.count) }
            if got > 0 {
                bytes.append(contentsOf: buffer[..<got])
            } else if got != Int(-EAGAIN) || !wait(Int16(POLLIN), seconds) {
                break
            }
        }
        return bytes
    }

    /// Everything up to the other side's end.
    public func receiveAll(within seconds: Double = 10) -> String {
        String(decoding: receive(within: seconds) { _ in false }, as: UTF8.self)
    }

    /// Until `text` has come.
    public func receive(through text: String, within seconds: Double = 10) -> String {
        let wanted = Array(text.utf8)
        let bytes = receive(within: seconds) { bytes in
            bytes.count >= wanted.count
                && bytes.indices.dropLast(wanted.count - 1).contains { bytes[$0...].starts(with: wanted) }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Waits, in steps, until `condition` holds; false when it does not within `seconds`.
public func eventually(within seconds: Double = 10, _ condition: () async -> Bool) async -> Bool {
    let deadline = shim_clock_monotonic() + UInt64(seconds * 1e9)
    while shim_clock_monotonic() < deadline {
        if await condition() { return true }
        try? await Task.sleep(nanoseconds: 2_000_000)
    }
    return await condition()
}
