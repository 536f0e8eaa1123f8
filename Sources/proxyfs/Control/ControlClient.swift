import CShim
import Glibc
import JSON
import Logging
import Runtime

/// Sends a command to a running server and waits for what it says. Blocks: a command has nothing else to do.
struct ControlClient {
    /// A server that says nothing for so long has gone, or its disk has; large checkpoints take minutes.
    private static let patienceMilliseconds: Int32 = 3_600_000
    private static let connectMilliseconds: Int32 = 10_000
    static let answerBytesMax = 256 << 20

    let address: SocketAddress
    let token: Secret?
    /// For messages.
    let name: String

    enum Failure: Error {
        /// Nobody listens there.
        case nobody
        case failed(String)
    }

    func send(
        _ request: ControlRequest, _ show: (Meter.Step) -> Void = { _ in }
    ) throws(Failure) -> Result<JSON, CommandFailure> {
        let connection = try Connection(address, Self.connectMilliseconds)
        let body = request.json.description
        // The end of the connection is the end of the answer, however many lines come before it.
        var head = "POST \(ControlService.path) HTTP/1.0\r\nhost: proxyfs\r\nconnection: close\r\n"
        head += "content-type: application/json\r\ncontent-length: \(body.utf8.count)\r\n"
        if let token { head += "authorization: Bearer \(token.revealed)\r\n" }
        try connection.send(Array((head + "\r\n" + body).utf8), Self.patienceMilliseconds)
        var start: Int?
        let answer = try connection.receiveAll(Self.patienceMilliseconds, max: Self.answerBytesMax) { bytes in
            start = start ?? Self.endOfHead(bytes)
            while let from = start, let end = bytes[from...].firstIndex(of: UInt8(ascii: "\n")),
                bytes[from...].starts(with: Self.progressPrefix), let json = try? JSON(Array(bytes[from..<end])),
                let step = Meter.Step(json)
            {
                show(step)
                start = end + 1
            }
        }
        guard let start else {
            throw .failed("the server ended the connection without an answer; its log says why")
        }
        let line = String(decoding: answer.prefix { $0 != UInt8(ascii: "\r") }, as: UTF8.self)
        let content = Array(answer[start...])
        if let result = ControlResponse.result(content) { return result }
        let text = String(decoding: content.prefix(500), as: UTF8.self)
        throw .failed("\(line): \(text.split(separator: "\n").first ?? "no text")")
    }

    private static let progressPrefix = Array("{\"progress\"".utf8)

    private static func endOfHead(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        for index in 0...(bytes.count - 4)
        where bytes[index] == 13 && bytes[index..<index + 4].elementsEqual([13, 10, 13, 10]) {
            return index + 4
        }
        return nil
    }

    private final class Connection {
        private let descriptor: Int32

        init(_ address: SocketAddress, _ patience: Int32) throws(Failure) {
            var raw = shim_address()
            var inProgress: Int32 = 0
            guard address.store(into: &raw) else { throw .failed("no address to connect to") }
            descriptor = shim_connect(&raw, 0, &inProgress)
            guard descriptor >= 0 else { throw Self.failure(-descriptor) }
            if inProgress != 0 { try wait(Int16(POLLOUT), patience) }
            let error = shim_socket_error(descriptor)
            guard error == 0 else { throw Self.failure(error) }
        }

        deinit { if descriptor >= 0 { shim_close(descriptor) } }

        private static func failure(_ code: Int32) -> Failure {
            code == ENOENT || code == ECONNREFUSED ? .nobody : .failed("\(Errno(code))")
        }

        private func wait(_ events: Int16, _ patience: Int32) throws(Failure) {
            var item = pollfd(fd: descriptor, events: events, revents: 0)
            while true {
                let count = poll(&item, 1, patience)
                if count > 0 { return }
                if count == 0 { throw .failed("no answer in \(patience / 1000) seconds") }
                guard errno == EINTR else { throw .failed("\(Errno(errno))") }
            }
        }

        func send(_ bytes: [UInt8], _ patience: Int32) throws(Failure) {
            var sent = 0
            while sent < bytes.count {
                let count = bytes.withUnsafeBytes { memory in
                    memory.baseAddress.map { shim_send(descriptor, $0 + sent, memory.count - sent) } ?? 0
                }
                if count > 0 {
                    sent += count
                } else if count == Int(-EAGAIN) {
                    try wait(Int16(POLLOUT), patience)
                } else {
                    throw .failed("\(Errno(Int32(truncatingIfNeeded: -count)))")
                }
            }
        }

        func receiveAll(
            _ patience: Int32, max: Int, _ look: ([UInt8]) -> Void
        ) throws(Failure) -> [UInt8] {
            var bytes: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = buffer.withUnsafeMutableBytes { shim_receive(descriptor, $0.baseAddress, $0.count) }
                if count == 0 { return bytes }
                if count > 0 {
                    bytes += buffer[..<count]
                    guard bytes.count <= max else { throw .failed("the answer is too long") }
                    look(bytes)
                } else if count == Int(-EAGAIN) {
                    try wait(Int16(POLLIN), patience)
                } else {
                    throw .failed("\(Errno(Int32(truncatingIfNeeded: -count)))")
                }
            }
        }
    }
}
