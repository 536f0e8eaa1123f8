// An echo server for frames with four bytes of length in front: the benchmark's subject, and the shortest example of
// a server on Runtime. It prints `listening PORT` and runs until it is killed.
//
//     bench-echo [--address HOST] [--port N] [--loops N] [--tls]
import CShim
import Runtime

/// One per connection. Takes all complete frames of what has arrived and answers each; the replies leave in one
/// flush when `received` has returned.
final class EchoHandler: ConnectionHandler {
    static let frameMax = 32 << 10

    func received(_ bytes: UnsafeRawBufferPointer, on connection: Connection) -> Int {
        var consumed = 0
        while bytes.count - consumed >= 4 {
            let length = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: consumed, as: UInt32.self)))
            guard length <= Self.frameMax else {
                connection.abort()
                return consumed
            }
            guard bytes.count - consumed >= 4 + length else {
                // Not called again before the whole frame is there.
                connection.require(4 + length)
                break
            }
            // A peer that sends and does not read: the rest is shown again when it has taken what is due.
            guard !connection.isOutputFull else { break }
            let frame = UnsafeRawBufferPointer(rebasing: bytes[consumed..<consumed + 4 + length])
            connection.reserve(frame.count).copyMemory(from: frame)
            connection.commit(frame.count)
            consumed += frame.count
        }
        return consumed
    }
}

@main
enum EchoServer {
    static func main() throws {
        var host = "127.0.0.1"
        var port: UInt16 = 0
        var loopCount = 1
        var options = ListenerOptions()
        var arguments = CommandLine.arguments.dropFirst()
        while let name = arguments.popFirst() {
            switch name {
            case "--address": host = arguments.popFirst() ?? host
            case "--port": port = arguments.popFirst().flatMap { UInt16($0) } ?? port
            case "--loops": loopCount = arguments.popFirst().flatMap { Int($0) } ?? loopCount
            case "--tls":
                let certificate = try TLSCertificate.selfSigned(names: ["localhost", "127.0.0.1"])
                options.tls = try TLSServer(TLSServerOptions(certificates: [certificate]))
            default: fatalError("unknown option \(name)")
            }
        }
        guard let address = SocketAddress(numeric: host, port: port) else { fatalError("not an address: \(host)") }
        _ = shim_open_files(20_000)

        var loops: [EventLoop] = []
        for index in 0..<loopCount { loops.append(try EpollLoop(index: index)) }
        let listener = try EpollNetwork().listen(on: address, options, loops: loops) { _ in EchoHandler() }
        print("listening \(listener.address.port ?? 0)")
        shim_flush_standard_output()
        shim_pause()
    }
}
