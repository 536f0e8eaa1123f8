import Bytes

/// The connection-oriented protocol of DCE 1.1 RPC ([C706] 12.6), without security of its own: the pipe has that.
struct RPCEndpoint {
    static let fragmentMax = 4280
    /// Of a request's fragments together.
    static let requestMax = 64 << 10
    static let contextsMax = 16

    private enum Kind {
        static let request: UInt8 = 0
        static let response: UInt8 = 2
        static let fault: UInt8 = 3
        static let bind: UInt8 = 11
        static let bindAcknowledged: UInt8 = 12
        static let alterContext: UInt8 = 14
        static let alterContextAnswer: UInt8 = 15
    }

    private static let first: UInt8 = 1
    private static let last: UInt8 = 2
    private static let headerBytes = 16
    /// 8a885d04-1ceb-11c9-9fe8-08002b104860, version 2.
    private static let transferSyntax: [UInt8] = [
        0x04, 0x5D, 0x88, 0x8A, 0xEB, 0x1C, 0xC9, 0x11, 0x9F, 0xE8, 0x08, 0x00, 0x2B, 0x10, 0x48, 0x60, 2, 0, 0, 0,
    ]

    private let service: Srvsvc
    private var context: UInt16?
    private var stub: [UInt8] = []
    private var fragmentMax = Self.fragmentMax

    init(service: Srvsvc) { self.service = service }

    /// Of requests that are not complete.
    var heldBytes: Int { stub.count }

    mutating func forget() { stub = [] }

    /// Takes one or several fragments; answers what is to be read, one element a message. What comes behind `limit` answers, or
    /// behind so many bytes of them, is lost.
    mutating func take(_ bytes: UnsafeRawBufferPointer, limit: Int, bytesMax: Int) -> [[UInt8]] {
        var answers: [[UInt8]] = []
        var size = 0
        var rest = bytes
        while rest.count >= Self.headerBytes, answers.count < limit, size < bytesMax {
            let length = Int(rest[8]) | Int(rest[9]) << 8
            guard rest[0] == 5, rest[4] & 0x10 != 0, length >= Self.headerBytes, length <= rest.count else {
                return answers + [Self.fault(0, 0x1C01_000B)]
            }
            do throws(BytesError) {
                if let answer = try fragment(UnsafeRawBufferPointer(rebasing: rest[..<length])) {
                    answers.append(answer)
                    size += answer.count
                }
            } catch { answers.append(Self.fault(0, 0x1C01_000B)) }
            rest = UnsafeRawBufferPointer(rebasing: rest[length...])
        }
        return answers
    }

    private mutating func fragment(_ bytes: UnsafeRawBufferPointer) throws(BytesError) -> [UInt8]? {
        var reader = Reader(bytes)
        try reader.skip(2)
        let kind = try reader.u8()
        let flags = try reader.u8()
        try reader.skip(8)
        let call = try reader.u32LE()
        switch kind {
        case Kind.bind, Kind.alterContext: return try bind(&reader, kind, call)
        case Kind.request: return try request(&reader, flags, call)
        default: return Self.fault(call, 0x1C01_000B)
        }
    }

    private mutating func bind(
        _ reader: inout Reader, _ kind: UInt8, _ call: UInt32
    ) throws(BytesError) -> [UInt8] {
        try reader.skip(2)
        fragmentMax = max(min(Int(try reader.u16LE()), Self.fragmentMax), 1024)
        try reader.skip(4)
        let count = Int(try reader.u8())
        guard count <= Self.contextsMax else { throw .tooLong }
        try reader.skip(3)
        var results: [UInt8] = []
        for _ in 0..<count {
            let id = try reader.u16LE()
            let syntaxes = Int(try reader.u8())
            try reader.skip(1)
            let interface = try reader.bytes(20).array()
            var isKnown = false
            for _ in 0..<syntaxes where try reader.bytes(20).array() == Self.transferSyntax { isKnown = true }
            let isOurs = interface == Srvsvc.interface
            if isOurs, isKnown {
                context = id
                results.u16(0)
                results.u16(0)
                results += Self.transferSyntax
            } else {
                results.u16(2)
                results.u16(isOurs ? 2 : 1)
                results += [UInt8](repeating: 0, count: 20)
            }
        }
        var body: [UInt8] = []
        body.u16(UInt16(fragmentMax))
        body.u16(UInt16(fragmentMax))
        body.u32(0x53F0)
        let name = Array("\\PIPE\\srvsvc\0".utf8)
        body.u16(UInt16(name.count))
        body += name
        while (body.count + Self.headerBytes) % 4 != 0 { body.append(0) }
        body.append(UInt8(count))
        body += [0, 0, 0]
        body += results
        return Self.message(
            kind == Kind.bind ? Kind.bindAcknowledged : Kind.alterContextAnswer, Self.first | Self.last, call, body)
    }

    private mutating func request(
        _ reader: inout Reader, _ flags: UInt8, _ call: UInt32
    ) throws(BytesError) -> [UInt8]? {
        try reader.skip(4)
        let context = try reader.u16LE()
        let operation = try reader.u16LE()
        if flags & 0x80 != 0 { try reader.skip(16) }
        if flags & Self.first != 0 { stub = [] }
        let part = reader.rest()
        guard stub.count + part.byteCount <= Self.requestMax else { throw .tooLong }
        stub += part.array()
        guard flags & Self.last != 0 else { return nil }
        let whole = stub
        stub = []
        guard context == self.context else { return Self.fault(call, 0x1C01_0003) }
        guard let answer = service.call(operation, whole) else { return Self.fault(call, 0x1C01_0002) }
        return response(answer, call, context)
    }

    /// In as many fragments as it takes, one behind the other: clients read on until the last.
    private func response(_ stub: [UInt8], _ call: UInt32, _ context: UInt16) -> [UInt8] {
        var bytes: [UInt8] = []
        var rest = stub[...]
        var flags = Self.first
        repeat {
            let part = rest.prefix(fragmentMax - Self.headerBytes - 8)
            rest = rest.dropFirst(part.count)
            if rest.isEmpty { flags |= Self.last }
            var body: [UInt8] = []
            body.u32(UInt32(stub.count))
            body.u16(context)
            body.u16(0)
            body += part
            bytes += Self.message(Kind.response, flags, call, body)
            flags = 0
        } while !rest.isEmpty
        return bytes
    }

    private static func fault(_ call: UInt32, _ status: UInt32) -> [UInt8] {
        var body: [UInt8] = []
        body.u32(0)
        body.u32(0)
        body.u32(status)
        body.u32(0)
        return message(Kind.fault, first | last, call, body)
    }

    private static func message(_ kind: UInt8, _ flags: UInt8, _ call: UInt32, _ body: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = [5, 0, kind, flags, 0x10, 0, 0, 0]
        bytes.u16(UInt16(headerBytes + body.count))
        bytes.u16(0)
        bytes.u32(call)
        return bytes + body
    }
}
