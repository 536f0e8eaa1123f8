import Glibc

/// Requests out of a stream of bytes, one after the other. A plain state machine: it is shown bytes, says what they
/// are and how many of them it is done with; what it did not take is shown again, with more behind it.
///
/// A head is taken whole, so that a client that sends it slowly is seen as one that is late with one message. Bodies
/// are told in pieces as they come and never kept.
public struct RequestParser {
    public enum Step {
        /// Done with `consumed` bytes; more must come before anything else can be told.
        case more(consumed: Int)
        case head(RequestHead, consumed: Int)
        /// Bytes of the body; all up to the range's end is done with.
        case body(Range<Int>)
        /// The request is complete.
        case end(consumed: Int)
    }

    private enum State {
        case head
        case fixed(UInt64)
        case chunkSize
        case chunkData(UInt64)
        case chunkEnd
        case trailer
        case complete
    }

    private let limits: HTTPLimits
    private var state = State.head
    /// Of an incomplete head: what has been looked at, where the line begins, where the request line does.
    private var scanned = 0
    private var lineStart = 0
    private var requestStart = 0
    private var trailerBytes = 0

    public init(_ limits: HTTPLimits = HTTPLimits()) { self.limits = limits }

    /// Whether the last byte taken was the last of a request: an end here cuts nothing.
    public var isBetweenRequests: Bool {
        if case .head = state { true } else { false }
    }

    /// Bytes of the body that are still to come; nil when nobody knows.
    public var bodyRemaining: UInt64? {
        switch state {
        case .fixed(let rest): rest
        case .head, .complete: 0
        default: nil
        }
    }

    /// All bytes of a request have been told, and its end has not.
    public var isRequestComplete: Bool {
        if case .complete = state { true } else { false }
    }

    /// Takes the end that was not told yet, of which `isRequestComplete` speaks.
    public mutating func takeEnd() {
        precondition(isRequestComplete, "the request has not ended")
        state = .head
    }

    public mutating func next(_ bytes: UnsafeRawBufferPointer) throws(RequestFault) -> Step {
        switch state {
        case .head: return try head(bytes)
        case .complete:
            takeEnd()
            return .end(consumed: 0)
        case .fixed(let rest):
            guard !bytes.isEmpty else { return .more(consumed: 0) }
            let count = Int(min(UInt64(bytes.count), rest))
            state = UInt64(count) == rest ? .complete : .fixed(rest - UInt64(count))
            return .body(0..<count)
        default: return try chunked(bytes)
        }
    }

    // MARK: The head

    private mutating func head(_ bytes: UnsafeRawBufferPointer) throws(RequestFault) -> Step {
        let end = min(bytes.count, limits.headBytesMax)
        while let feed = Self.lineFeed(in: bytes, from: scanned, to: end) {
            guard feed > lineStart, bytes[feed - 1] == ASCII.carriageReturn else { throw .bareLineFeed }
            let length = feed - 1 - lineStart
            if length > 0 {
                if lineStart == requestStart, length > lineMax { throw .targetTooLong }
                scanned = feed + 1
                lineStart = scanned
                continue
            }
            if lineStart == requestStart {
                // One empty line before a request is forgiven: old clients send it after a body.
                guard requestStart == 0 else { throw .requestLine }
                requestStart = feed + 1
                scanned = requestStart
                lineStart = requestStart
                continue
            }
            let consumed = feed + 1
            let head = try HeadParser(limits: limits).parse(
                UnsafeRawBufferPointer(rebasing: bytes[requestStart..<lineStart]))
            (scanned, lineStart, requestStart, trailerBytes) = (0, 0, 0, 0)
            switch head.framing {
            case .none, .length(0): state = .complete
            case .length(let length): state = .fixed(length)
            case .chunked: state = .chunkSize
            }
            return .head(head, consumed: consumed)
        }
        scanned = end
        // A carriage return may be the last byte so far.
        if lineStart == requestStart, end - lineStart > lineMax + 1 { throw .targetTooLong }
        if bytes.count >= limits.headBytesMax { throw .headTooLarge }
        return .more(consumed: 0)
    }

    /// The request line: method, target, version and two spaces.
    private var lineMax: Int { limits.targetBytesMax + HTTPLimits.methodBytesMax + 10 }

    private static func lineFeed(in bytes: UnsafeRawBufferPointer, from start: Int, to end: Int) -> Int? {
        guard start < end, let base = bytes.baseAddress,
            let found = memchr(base + start, Int32(ASCII.lineFeed), end - start)
        else { return nil }
        return UnsafeRawPointer(found) - base
    }

    // MARK: Chunks

    private mutating func chunked(_ bytes: UnsafeRawBufferPointer) throws(RequestFault) -> Step {
        var offset = 0
        while true {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
            switch state {
            case .chunkSize:
                guard let line = try line(rest, max: limits.chunkLineBytesMax, .chunkSize) else {
                    return .more(consumed: offset)
                }
                let size = try Self.chunkSize(UnsafeRawBufferPointer(rebasing: rest[..<line]))
                state = size == 0 ? .trailer : .chunkData(size)
                offset += line + 2
            case .chunkData(let size):
                guard !rest.isEmpty else { return .more(consumed: offset) }
                let count = Int(min(UInt64(rest.count), size))
                state = UInt64(count) == size ? .chunkEnd : .chunkData(size - UInt64(count))
                return .body(offset..<offset + count)
            case .chunkEnd:
                if let first = rest.first, first != ASCII.carriageReturn { throw .chunkEnd }
                guard rest.count >= 2 else { return .more(consumed: offset) }
                guard rest[1] == ASCII.lineFeed else { throw .chunkEnd }
                state = .chunkSize
                offset += 2
            case .trailer:
                guard let line = try line(rest, max: limits.trailerBytesMax - trailerBytes, .trailer) else {
                    return .more(consumed: offset)
                }
                offset += line + 2
                if line == 0 {
                    state = .head
                    return .end(consumed: offset)
                }
                trailerBytes += line + 2
                guard trailerBytes <= limits.trailerBytesMax else { throw .trailer }
                _ = try HeadParser.field(UnsafeRawBufferPointer(rebasing: rest[..<line]))
            case .head, .fixed, .complete: preconditionFailure("not a chunked body")
            }
        }
    }

    /// How long the line is that `bytes` begins with, without its end; nil when its end has not come.
    private func line(
        _ bytes: UnsafeRawBufferPointer, max: Int, _ fault: RequestFault
    ) throws(RequestFault) -> Int? {
        guard let feed = Self.lineFeed(in: bytes, from: 0, to: min(bytes.count, max + 2)) else {
            if bytes.count >= max + 2 { throw fault }
            return nil
        }
        guard feed > 0, bytes[feed - 1] == ASCII.carriageReturn else { throw .bareLineFeed }
        return feed - 1
    }

    private static func chunkSize(_ line: UnsafeRawBufferPointer) throws(RequestFault) -> UInt64 {
        var size: UInt64 = 0
        var digits = 0
        while digits < line.count, let digit = ASCII.hex(line[digits]) {
            digits += 1
            // Fifteen digits are an exabyte: more is an attempt to overflow somebody.
            guard digits <= 15 else { throw .chunkSize }
            size = size << 4 | digit
        }
        guard digits > 0 else { throw .chunkSize }
        let rest = line[digits...]
        guard rest.isEmpty || rest[digits] == UInt8(ascii: ";") else { throw .chunkSize }
        guard rest.allSatisfy(ASCII.isFieldContent) else { throw .chunkSize }
        return size
    }
}
