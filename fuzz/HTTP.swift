// modules:
// with: Sources/HTTP/Message/RequestParser.swift Sources/HTTP/Message/HeadParser.swift Sources/HTTP/Message/RequestHead.swift Sources/HTTP/Message/RequestFault.swift Sources/HTTP/Message/HTTPLimits.swift Sources/HTTP/Message/Status.swift
// inputs: 5000000
// lines: 95
// covers: Sources/HTTP/Message/RequestParser.swift Sources/HTTP/Message/HeadParser.swift

/// The first byte says in which pieces the rest comes; whatever they are, the requests must be the same.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first else { return 0 }
    let bytes = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    let whole = requests(bytes, step: bytes.count + 1)
    let pieces = requests(bytes, step: Int(first) + 1)
    precondition(whole == pieces, "the pieces of a stream change what it says")
    return 0
}

/// Small, so that an input can go beyond each of them.
private let limits = {
    var limits = HTTPLimits()
    limits.targetBytesMax = 64
    limits.headBytesMax = 512
    limits.fieldsMax = 8
    limits.chunkLineBytesMax = 16
    limits.trailerBytesMax = 64
    return limits
}()

/// Heads, body bytes and ends, as text.
private func requests(_ bytes: UnsafeRawBufferPointer, step: Int) -> [String] {
    var told: [String] = []
    var parser = RequestParser(limits)
    var start = 0
    var end = 0
    var body = 0
    while true {
        end = min(bytes.count, end + step)
        let view = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
        var place = 0
        do throws(RequestFault) {
            loop: while true {
                switch try parser.next(UnsafeRawBufferPointer(rebasing: view[place...])) {
                case .more(let consumed):
                    place += consumed
                    break loop
                case .head(let head, let consumed):
                    told.append("\(head.method) \(head.target) \(head.fields.count) \(head.framing)")
                    body = 0
                    place += consumed
                case .body(let range):
                    body += range.count
                    place += range.upperBound
                    // As a connection does that has paused behind the last piece.
                    guard step <= bytes.count, parser.isRequestComplete else { continue }
                    parser.takeEnd()
                    precondition(parser.isBetweenRequests && parser.bodyRemaining == 0)
                    told.append("\(body)")
                case .end(let consumed):
                    told.append("\(body)")
                    place += consumed
                }
            }
        } catch {
            // Which of two faults of a line is met first depends on how much of it has come.
            return told + ["refused"]
        }
        start += place
        if end == bytes.count { return told }
    }
}
