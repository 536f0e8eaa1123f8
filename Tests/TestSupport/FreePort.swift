import Glibc

/// A port of loopback that nobody has, by TCP and UDP, and that no other test of this machine is given for a long while. None of those
/// that the system gives to outgoing connections: such a one can be taken before its server begins.
package func freePort() throws(NoPort) -> UInt16 {
    let counter = open("/tmp/proxyfs-test-ports-\(getuid())", O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
    guard counter >= 0 else { throw NoPort() }
    defer { close(counter) }
    guard flock(counter, LOCK_EX) == 0 else { throw NoPort() }
    var last: UInt32 = 0
    _ = pread(counter, &last, 4, 0)
    for _ in testPorts {
        last = (last &+ 1) % UInt32(testPorts.count)
        let port = testPorts.lowerBound + UInt16(last)
        guard isFree(port, SOCK_STREAM), isFree(port, SOCK_DGRAM) else { continue }
        guard pwrite(counter, &last, 4, 0) == 4 else { throw NoPort() }
        return port
    }
    throw NoPort()
}

package struct NoPort: Error {}

/// Also in conformance/ports.py, which counts in the same file.
private let testPorts: Range<UInt16> = 12_000..<32_000

private func isFree(_ port: UInt16, _ type: __socket_type) -> Bool {
    let fd = socket(AF_INET, Int32(type.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard fd >= 0 else { return false }
    defer { close(fd) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    let size = socklen_t(MemoryLayout<sockaddr_in>.size)
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(fd, $0, size) == 0 }
    }
}
