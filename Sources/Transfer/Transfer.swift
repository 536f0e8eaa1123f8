import Bytes
import CShim
import Runtime

/// A handle of libcurl with the room for its messages.
struct Handle {
    static let errorBytes = 256
    let pointer: UnsafeMutableRawPointer
    private let error: UnsafeMutablePointer<CChar>

    static func make() -> Handle? {
        let error = UnsafeMutablePointer<CChar>.allocate(capacity: errorBytes)
        error.initialize(repeating: 0, count: errorBytes)
        guard let pointer = shim_curl_transfer_create(error) else {
            error.deallocate()
            return nil
        }
        return Handle(pointer: pointer, error: error)
    }

    func destroy() {
        shim_curl_transfer_destroy(pointer)
        error.deallocate()
    }

    var message: String { String(cString: error) }
}

/// One request under way. Its pool's thread alone touches it after it was handed over.
final class Transfer: @unchecked Sendable {
    let request: TransferRequest
    var handle: Handle?
    /// Set before it is handed over.
    var continuation: UnsafeContinuation<TransferReply, Never>?
    var isCanceled = false
    private var reply = TransferReply()
    private var headerBytes = 0
    private var announced: Int?
    private var isTooLarge = false
    private var index = 0
    private var offset = 0
    private var sent: UInt64 = 0

    /// What the body of an answer begins with when its length was not said.
    private static let bodyBytesFirst = 64 << 10

    init(_ request: TransferRequest) { self.request = request }

    private var bodyBytes: Int64 {
        switch request.body {
        case .none: -1
        case .blocks(let blocks): blocks.reduce(0) { $0 + Int64($1.count) }
        case .queue(_, let size): Int64(clamping: size)
        }
    }

    private static func isClean(_ text: String) -> Bool { !text.utf8.contains { $0 < 0x20 || $0 == 0x7f } }

    /// False: it can not be sent.
    func start(on handle: Handle, _ pool: UnsafeMutableRawPointer, _ options: TransferPool.Options) -> Bool {
        guard Self.isClean(request.url), request.headers.allSatisfy({ Self.isClean($0.name) && Self.isClean($0.value) })
        else { return false }
        // Before the handle is ours: libcurl may call at once.
        self.handle = handle
        // An empty value would be left out otherwise. No waiting for "100 Continue": it costs a round trip.
        let lines = request.headers.map { $0.value.isEmpty ? "\($0.name);" : "\($0.name): \($0.value)" } + ["Expect:"]
        let pointers = lines.map { line in line.withCString { shim_copy($0) } }
        defer { for pointer in pointers { pointer.deallocate() } }
        var constants = pointers.map { UnsafePointer<CChar>?($0) }
        var wanted = shim_curl_request()
        wanted.header_count = constants.count
        wanted.body_bytes = bodyBytes
        wanted.connect_milliseconds = options.connectMilliseconds
        wanted.total_milliseconds = Int(clamping: max(request.limitNanoseconds / 1_000_000, 1))
        wanted.silent_seconds = options.silentSeconds
        wanted.refuses_plain = request.url.hasPrefix("https:") ? 1 : 0
        var calls = Self.calls
        let context = Unmanaged.passUnretained(self).toOpaque()
        let result = withStrings(
            [
                request.method.rawValue, request.url, options.authoritiesFile, options.authoritiesDirectory,
                request.usesProxy ? options.proxy : nil,
            ]
        ) { strings in
            constants.withUnsafeMutableBufferPointer { headers in
                (wanted.method, wanted.url) = (strings[0], strings[1])
                (wanted.authorities_file, wanted.authorities_directory) = (strings[2], strings[3])
                wanted.proxy = strings[4]
                wanted.headers = UnsafePointer(headers.baseAddress)
                return shim_curl_transfer_start(pool, handle.pointer, &wanted, &calls, context)
            }
        }
        if result != 0 { self.handle = nil }
        return result == 0
    }

    // MARK: Endings

    func end(_ failure: shim_curl_failure) {
        guard let handle else { return }
        reply.connections = Int(shim_curl_transfer_connections(handle.pointer))
        guard failure != SHIM_CURL_FINE else {
            reply.status = Int(shim_curl_transfer_status(handle.pointer))
            if let announced, request.method != .head, (reply.body?.count ?? 0) != announced {
                return end(failed: TransferFailure(.broken, "\(reply.body?.count ?? 0) of \(announced) bytes came"))
            }
            return answer()
        }
        let kind: TransferFailure.Kind =
            switch failure {
            case SHIM_CURL_RESOLVE, SHIM_CURL_CONNECT: .unreachable
            case SHIM_CURL_TLS: .tls
            case SHIM_CURL_TIMEOUT: .timeout
            case SHIM_CURL_REQUEST: .refused
            case SHIM_CURL_ABORTED where isTooLarge: .tooLarge
            default: .broken
            }
        let message = handle.message
        end(
            failed: TransferFailure(
                kind, isTooLarge ? "more than was asked for" : message.isEmpty ? "\(kind)" : message))
    }

    func end(failed failure: TransferFailure) {
        reply.status = 0
        reply.body = nil
        reply.failure = failure
        answer()
    }

    private func answer() {
        if case .queue(let queue, _) = request.body { queue.close() }
        continuation?.resume(returning: reply)
        continuation = nil
    }

    // MARK: What libcurl calls

    private static let calls = shim_curl_calls(
        header: { context, bytes, count in
            Transfer.of(context)?.header(UnsafeRawBufferPointer(start: bytes, count: count)) ?? 0
        },
        received: { context, bytes, count in
            Transfer.of(context)?.received(UnsafeRawBufferPointer(start: bytes, count: count)) ?? 0
        },
        wanted: { context, bytes, room in
            Transfer.of(context)?.wanted(UnsafeMutableRawBufferPointer(start: bytes, count: room))
                ?? Int(SHIM_CURL_ABORT)
        })

    private static func of(_ context: UnsafeMutableRawPointer?) -> Transfer? {
        context.map { Unmanaged<Transfer>.fromOpaque($0).takeUnretainedValue() }
    }

    private func header(_ line: UnsafeRawBufferPointer) -> Int {
        headerBytes += line.count
        guard headerBytes <= AnswerFields.bytesMax else { return 0 }
        // An answer may come before the last one: 100 Continue.
        if line.starts(with: "HTTP/".utf8) {
            reply.headers.removeAll()
        } else {
            reply.headers.add(line: line)
        }
        return line.count
    }

    /// What an error says is taken also where a short range was asked for.
    private var bytesMax: Int {
        guard let handle, shim_curl_transfer_status(handle.pointer) / 100 != 2 else { return request.answerBytesMax }
        return max(request.answerBytesMax, Self.bodyBytesFirst)
    }

    private func received(_ bytes: UnsafeRawBufferPointer) -> Int {
        if reply.body == nil {
            let length = reply.headers["Content-Length"].flatMap { Int($0) }
            announced = length
            isTooLarge = (length ?? 0) > bytesMax
            guard !isTooLarge else { return 0 }
            reply.body = Block(capacity: length ?? min(Self.bodyBytesFirst, bytesMax))
        }
        guard var body = reply.body else { return 0 }
        if bytes.count > body.capacity - body.count {
            isTooLarge = bytes.count > bytesMax - body.count
            guard !isTooLarge else { return 0 }
            let larger = Block(capacity: min(max(2 * body.capacity, body.count + bytes.count), bytesMax))
            larger.append(body.bytes)
            body = larger
            reply.body = larger
        }
        body.append(bytes)
        return bytes.count
    }

    private func wanted(_ room: UnsafeMutableRawBufferPointer) -> Int {
        switch request.body {
        case .none: return 0
        case .blocks(let blocks):
            var count = 0
            while index < blocks.count, count < room.count {
                let block = blocks[index]
                let piece = min(room.count - count, block.count - offset)
                UnsafeMutableRawBufferPointer(rebasing: room[count...]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: block.bytes[offset..<(offset + piece)]))
                extendLifetime(block)
                count += piece
                offset += piece
                if offset == block.count { (index, offset) = (index + 1, 0) }
            }
            return count
        case .queue(let queue, let size):
            guard let count = queue.take(into: room) else { return Int(SHIM_CURL_PAUSE) }
            sent += UInt64(count)
            // Fewer bytes than were announced: the server would wait for the rest, or take the half for the whole.
            return count == 0 && sent < size ? Int(SHIM_CURL_ABORT) : count
        }
    }
}

/// A copy that `deallocate` ends.
private func shim_copy(_ text: UnsafePointer<CChar>) -> UnsafeMutablePointer<CChar> {
    let count = strlen(text) + 1
    let copy = UnsafeMutablePointer<CChar>.allocate(capacity: count)
    copy.initialize(from: text, count: count)
    return copy
}

/// Texts as C reads them, for the time of a call.
private func withStrings<Result>(_ texts: [String?], _ body: ([UnsafePointer<CChar>?]) -> Result) -> Result {
    let copies = texts.map { text in text.map { $0.withCString { shim_copy($0) } } }
    defer { for copy in copies { copy?.deallocate() } }
    return body(copies.map { $0.map { UnsafePointer($0) } })
}
