import Bytes

/// The body of an element, read where it lies. Offsets in it count from the element's header.
package struct Element {
    /// Header included.
    package let bytes: UnsafeRawBufferPointer

    package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// A part that the message names by offset and length; nothing lies before the fixed part's end.
    func part(_ offset: Int, _ count: Int, limit: Int) throws(BytesError) -> UnsafeRawBufferPointer {
        if count == 0 { return UnsafeRawBufferPointer(rebasing: bytes.suffix(0)) }
        guard count <= limit else { throw .tooLong }
        guard offset >= Header.bytes, offset <= bytes.count, count <= bytes.count - offset else { throw .truncated }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + count)])
    }
}

extension Reader {
    /// Begins the fixed part of a request: its size as the specification states it, an odd one counting a byte of the
    /// part that varies.
    @_lifetime(self: copy self)
    fileprivate mutating func begin(_ size: UInt16) throws(BytesError) {
        try skip(Header.bytes)
        guard try u16LE() == size, count >= Header.bytes + Int(size & ~1) else { throw .malformed }
    }

    @_lifetime(self: copy self)
    fileprivate mutating func handle() throws(BytesError) -> FileHandle {
        FileHandle(persistent: try u64LE(), volatile: try u64LE())
    }
}

extension Writer {
    mutating func handle(_ handle: FileHandle) {
        u64LE(handle.persistent)
        u64LE(handle.volatile)
    }
}

/// [MS-SMB2] 2.2.3.
package struct NegotiateRequest {
    package var securityMode: SecurityMode
    package var capabilities: Capabilities
    package var clientGUID: UInt128
    package var dialects: [UInt16]
    package var contexts: [NegotiateContext]

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(36)
        let count = Int(try reader.u16LE())
        securityMode = SecurityMode(rawValue: try reader.u16LE())
        try reader.skip(2)
        capabilities = Capabilities(rawValue: try reader.u32LE())
        clientGUID = UInt128(try reader.u64LE()) | UInt128(try reader.u64LE()) << 64
        let contextOffset = Int(try reader.u32LE())
        let contextCount = Int(try reader.u16LE())
        try reader.skip(2)
        guard count <= SMB2.dialectsMax else { throw .tooLong }
        dialects = []
        for _ in 0..<count { dialects.append(try reader.u16LE()) }
        contexts = []
        guard dialects.contains(Dialect.v311.rawValue) else { return }
        guard contextCount <= SMB2.contextsMax else { throw .tooLong }
        try reader.seek(to: contextOffset)
        for index in 0..<contextCount {
            if index > 0 { try reader.align(to: 8) }
            contexts.append(try NegotiateContext(reading: &reader))
        }
    }
}

/// [MS-SMB2] 2.2.3.1.
package enum NegotiateContext: Equatable, Sendable {
    case preauthIntegrity(algorithms: [UInt16], salt: [UInt8])
    case encryption([UInt16])
    case signing([UInt16])
    case other(UInt16)
    /// One that is known and does not hold together.
    case invalid(UInt16)

    private static let dataMax = 4096

    package init(reading reader: inout Reader) throws(BytesError) {
        let type = try reader.u16LE()
        let count = Int(try reader.u16LE())
        try reader.skip(4)
        guard count <= Self.dataMax else { throw .tooLong }
        var data = try reader.sub(count)
        do throws(BytesError) {
            switch type {
            case 1:
                let algorithms = Int(try data.u16LE())
                let salt = Int(try data.u16LE())
                guard algorithms > 0 else { throw .malformed }
                var list: [UInt16] = []
                for _ in 0..<algorithms { list.append(try data.u16LE()) }
                self = .preauthIntegrity(algorithms: list, salt: try data.bytes(salt).array())
            case 2, 8:
                let algorithms = Int(try data.u16LE())
                guard algorithms > 0 else { throw .malformed }
                var list: [UInt16] = []
                for _ in 0..<algorithms { list.append(try data.u16LE()) }
                self = type == 2 ? .encryption(list) : .signing(list)
            default: self = .other(type)
            }
        } catch { self = .invalid(type) }
    }

    package func writeUnaligned(into writer: inout Writer) {
        switch self {
        case .preauthIntegrity(let algorithms, let salt):
            writer.u16LE(1)
            writer.u16LE(UInt16(4 + 2 * algorithms.count + salt.count))
            writer.u32LE(0)
            writer.u16LE(UInt16(algorithms.count))
            writer.u16LE(UInt16(salt.count))
            for algorithm in algorithms { writer.u16LE(algorithm) }
            salt.withUnsafeBytes { writer.bytes($0) }
        case .encryption(let list), .signing(let list):
            if case .encryption = self { writer.u16LE(2) } else { writer.u16LE(8) }
            writer.u16LE(UInt16(2 + 2 * list.count))
            writer.u32LE(0)
            writer.u16LE(UInt16(list.count))
            for algorithm in list { writer.u16LE(algorithm) }
        case .other(let type), .invalid(let type):
            writer.u16LE(type)
            writer.u16LE(0)
            writer.u32LE(0)
        }
    }
}

/// [MS-SMB2] 2.2.5.
package struct SessionSetupRequest {
    package var isBinding: Bool
    package var securityMode: SecurityMode
    package var capabilities: Capabilities
    package var previousSessionID: UInt64
    package var token: UnsafeRawBufferPointer

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(25)
        isBinding = try reader.u8() & 1 != 0
        securityMode = SecurityMode(rawValue: UInt16(try reader.u8()))
        capabilities = Capabilities(rawValue: try reader.u32LE())
        try reader.skip(4)
        let offset = Int(try reader.u16LE())
        let count = Int(try reader.u16LE())
        previousSessionID = try reader.u64LE()
        token = try element.part(offset, count, limit: SMB2.tokenMax)
    }
}

/// LOGOFF, TREE_DISCONNECT, ECHO, CANCEL: nothing but their size ([MS-SMB2] 2.2.7 and others).
package struct EmptyRequest {
    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(4)
    }
}

/// [MS-SMB2] 2.2.9.
package struct TreeConnectRequest {
    package var path: UnsafeRawBufferPointer

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(9)
        try reader.skip(2)
        let offset = Int(try reader.u16LE())
        path = try element.part(offset, Int(try reader.u16LE()), limit: SMB2.pathBytesMax)
    }
}

/// [MS-SMB2] 2.2.13.
package struct CreateRequest {
    package var oplock: UInt8
    package var impersonation: UInt32
    package var access: UInt32
    package var attributes: UInt32
    package var share: UInt32
    package var disposition: UInt32
    package var options: UInt32
    package var name: UnsafeRawBufferPointer
    package var contexts: UnsafeRawBufferPointer

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(57)
        try reader.skip(1)
        oplock = try reader.u8()
        impersonation = try reader.u32LE()
        try reader.skip(16)
        access = try reader.u32LE()
        attributes = try reader.u32LE()
        share = try reader.u32LE()
        disposition = try reader.u32LE()
        options = try reader.u32LE()
        let nameOffset = Int(try reader.u16LE())
        let nameBytes = Int(try reader.u16LE())
        let contextOffset = Int(try reader.u32LE())
        let contextBytes = Int(try reader.u32LE())
        name = try element.part(nameOffset, nameBytes, limit: SMB2.pathBytesMax)
        contexts = try element.part(contextOffset, contextBytes, limit: SMB2.messageMax)
    }
}

/// [MS-SMB2] 2.2.15.
package struct CloseRequest {
    package var wantsAttributes: Bool
    package var file: FileHandle

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(24)
        wantsAttributes = try reader.u16LE() & 1 != 0
        try reader.skip(4)
        file = try reader.handle()
    }
}

/// [MS-SMB2] 2.2.17.
package struct FlushRequest {
    package var file: FileHandle

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(24)
        try reader.skip(6)
        file = try reader.handle()
    }
}

/// [MS-SMB2] 2.2.19.
package struct ReadRequest {
    package var count: UInt32
    package var offset: UInt64
    package var file: FileHandle
    package var countMin: UInt32
    package var channel: UInt32

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(49)
        try reader.skip(2)
        count = try reader.u32LE()
        offset = try reader.u64LE()
        file = try reader.handle()
        countMin = try reader.u32LE()
        channel = try reader.u32LE()
    }
}

/// [MS-SMB2] 2.2.21.
package struct WriteRequest {
    package var offset: UInt64
    package var file: FileHandle
    package var channel: UInt32
    package var isWriteThrough: Bool
    package var data: UnsafeRawBufferPointer

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(49)
        let dataOffset = Int(try reader.u16LE())
        let count = Int(try reader.u32LE())
        offset = try reader.u64LE()
        file = try reader.handle()
        channel = try reader.u32LE()
        try reader.skip(8)
        isWriteThrough = try reader.u32LE() & 1 != 0
        data = try element.part(dataOffset, count, limit: SMB2.messageMax)
    }
}

/// [MS-SMB2] 2.2.26.
package struct LockRequest {
    package struct Range: Equatable, Sendable {
        package var offset: UInt64
        package var count: UInt64
        package var flags: UInt32
    }

    package static let shared: UInt32 = 1
    package static let exclusive: UInt32 = 2
    package static let unlock: UInt32 = 4
    package static let failImmediately: UInt32 = 16

    package var sequence: UInt32
    package var file: FileHandle
    package var ranges: [Range]

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(48)
        let count = Int(try reader.u16LE())
        sequence = try reader.u32LE()
        file = try reader.handle()
        guard count <= SMB2.locksMax else { throw .tooLong }
        ranges = []
        for _ in 0..<count {
            ranges.append(Range(offset: try reader.u64LE(), count: try reader.u64LE(), flags: try reader.u32LE()))
            try reader.skip(4)
        }
    }
}

/// [MS-SMB2] 2.2.31.
package struct IoctlRequest {
    package var code: UInt32
    package var file: FileHandle
    package var input: UnsafeRawBufferPointer
    package var outputMax: UInt32
    package var isFileSystemControl: Bool

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(57)
        try reader.skip(2)
        code = try reader.u32LE()
        file = try reader.handle()
        let offset = Int(try reader.u32LE())
        let count = Int(try reader.u32LE())
        try reader.skip(12)
        outputMax = try reader.u32LE()
        isFileSystemControl = try reader.u32LE() == 1
        input = try element.part(offset, count, limit: SMB2.messageMax)
    }
}

/// [MS-SMB2] 2.2.33.
package struct QueryDirectoryRequest {
    package static let restart: UInt8 = 1
    package static let single: UInt8 = 2
    package static let index: UInt8 = 4
    package static let reopen: UInt8 = 16

    package var level: UInt8
    package var flags: UInt8
    package var index: UInt32
    package var file: FileHandle
    package var pattern: UnsafeRawBufferPointer
    package var outputMax: UInt32

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(33)
        level = try reader.u8()
        flags = try reader.u8()
        index = try reader.u32LE()
        file = try reader.handle()
        let offset = Int(try reader.u16LE())
        let count = Int(try reader.u16LE())
        outputMax = try reader.u32LE()
        pattern = try element.part(offset, count, limit: SMB2.pathBytesMax)
    }
}

/// [MS-SMB2] 2.2.35.
package struct ChangeNotifyRequest {
    package var watchesTree: Bool
    package var outputMax: UInt32
    package var file: FileHandle
    package var filter: UInt32

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(32)
        watchesTree = try reader.u16LE() & 1 != 0
        outputMax = try reader.u32LE()
        file = try reader.handle()
        filter = try reader.u32LE()
    }
}

/// [MS-SMB2] 2.2.37.
package struct QueryInfoRequest {
    package var type: UInt8
    package var level: UInt8
    package var outputMax: UInt32
    package var input: UnsafeRawBufferPointer
    package var additional: UInt32
    package var flags: UInt32
    package var file: FileHandle

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(41)
        type = try reader.u8()
        level = try reader.u8()
        outputMax = try reader.u32LE()
        let offset = Int(try reader.u16LE())
        try reader.skip(2)
        let count = Int(try reader.u32LE())
        additional = try reader.u32LE()
        flags = try reader.u32LE()
        file = try reader.handle()
        input = try element.part(offset, count, limit: SMB2.messageMax)
    }
}

/// [MS-SMB2] 2.2.39.
package struct SetInfoRequest {
    package var type: UInt8
    package var level: UInt8
    package var data: UnsafeRawBufferPointer
    package var additional: UInt32
    package var file: FileHandle

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.begin(33)
        type = try reader.u8()
        level = try reader.u8()
        let count = Int(try reader.u32LE())
        let offset = Int(try reader.u16LE())
        try reader.skip(2)
        additional = try reader.u32LE()
        file = try reader.handle()
        data = try element.part(offset, count, limit: SMB2.messageMax)
    }
}

/// [MS-SMB2] 2.2.24: an oplock's acknowledgement, or a lease's, told apart by their size.
package enum BreakAcknowledgement: Equatable, Sendable {
    case oplock(level: UInt8, file: FileHandle)
    case lease(key: UInt128, state: UInt32)

    package init(reading element: Element) throws(BytesError) {
        var reader = Reader(element.bytes)
        try reader.skip(Header.bytes)
        switch try reader.u16LE() {
        case 24:
            let level = try reader.u8()
            try reader.skip(5)
            self = .oplock(level: level, file: try reader.handle())
        case 36:
            try reader.skip(6)
            let key = UInt128(try reader.u64LE()) | UInt128(try reader.u64LE()) << 64
            self = .lease(key: key, state: try reader.u32LE())
            try reader.skip(8)
        default: throw .malformed
        }
    }
}
