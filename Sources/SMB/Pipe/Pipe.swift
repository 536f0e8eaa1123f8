import Bytes
import Namespace
import Runtime

/// What the pipes of one server keep for those who do not read it.
final class PipeRoom: Sendable {
    private let bytes = Guarded((all: 0, ofNobody: 0))

    /// False: there is no room for so much more.
    func take(_ count: Int, isNobodys: Bool) -> Bool {
        bytes.withLock { bytes in
            guard count <= 0 || bytes.all + count <= SMBLimits.pipesBytesMax,
                count <= 0 || !isNobodys || bytes.ofNobody + count <= SMBLimits.pipesBytesOfNobodyMax
            else { return false }
            bytes.all += count
            if isNobodys { bytes.ofNobody += count }
            return true
        }
    }
}

/// A pipe that speaks DCE/RPC: requests go in, responses wait to be read.
final class Pipe {
    let name: String
    private var rpc: RPCEndpoint
    private let room: PipeRoom
    private let isNobodys: Bool
    /// What was answered and not read.
    private var answers: [[UInt8]] = []
    /// How much of the oldest answer was read.
    private var position = 0
    private var unread = 0
    /// What the room has noted of it.
    private var noted = 0
    static let answersMax = 64

    init(name: String, service: Srvsvc, room: PipeRoom, isNobodys: Bool) {
        self.name = name
        self.room = room
        self.isNobodys = isNobodys
        rpc = RPCEndpoint(service: service)
    }

    deinit { _ = room.take(-noted, isNobodys: isNobodys) }

    /// Nil: it was taken.
    func write(_ bytes: UnsafeRawBufferPointer) -> NTStatus? {
        // Nobody reads the answers.
        guard answers.count < Self.answersMax, unread < SMBLimits.pipeBytesMax else { return .pipeNotAvailable }
        let more = rpc.take(bytes, limit: Self.answersMax - answers.count, bytesMax: SMBLimits.pipeBytesMax)
        let size = more.reduce(0) { $0 + $1.count }
        guard note(unread + size + rpc.heldBytes) else {
            // Nothing of it is kept that was not noted.
            rpc.forget()
            _ = note(unread)
            return .insufficientResources
        }
        unread += size
        answers += more
        return nil
    }

    /// At most `count` bytes of the oldest answer, and whether there is no more of it.
    func read(_ count: Int) -> (bytes: ArraySlice<UInt8>, isWhole: Bool)? {
        guard let first = answers.first else { return nil }
        let part = first[position...].prefix(count)
        position += part.count
        unread -= part.count
        let isWhole = position == first.count
        if isWhole {
            answers.removeFirst()
            position = 0
        }
        _ = note(unread + rpc.heldBytes)
        return (part, isWhole)
    }

    private func note(_ bytes: Int) -> Bool {
        guard room.take(bytes - noted, isNobodys: isNobodys) else { return false }
        noted = bytes
        return true
    }
}

extension Exchange {
    private static let pipes = ["srvsvc"]

    func openPipe(_ request: CreateRequest, _ tree: Tree, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard let text = UTF16Name.string(request.name) else { throw .status(.objectNameInvalid) }
        let name = text.split(separator: "\\").last.map { $0.lowercased() } ?? ""
        let pipes = tree.session.opens.values.count { $0.pipe != nil }
        let limit = tree.session.user == nil ? SMBLimits.pipesOfNobody : SMBLimits.pipesPerSession
        guard pipes < limit else { throw .status(.insufficientResources) }
        let all = stream?.sessions.values.reduce(0) { $0 + $1.opens.values.count { $0.pipe != nil } } ?? 0
        guard all < SMBLimits.pipesPerConnection else { throw .status(.insufficientResources) }
        guard Self.pipes.contains(name) else { throw .status(.objectNameNotFound) }
        let pipe = Pipe(
            name: name, service: Srvsvc(server.catalog, serverName: server.options.serverName), room: server.pipeRoom,
            isNobodys: tree.session.user == nil)
        let open = Open(server.newHandle(), tree, pipe)
        tree.session.opens[open.handle.volatile] = open
        file = open.handle
        writer.u16LE(89)
        writer.u8(0)
        writer.u8(0)
        writer.u32LE(CreateAction.opened.rawValue)
        writer.zeros(32)
        writer.u64LE(4096)
        writer.u64LE(0)
        writer.u32LE(FileAttributes.normal.rawValue)
        writer.u32LE(0)
        writer.handle(open.handle)
        writer.u64LE(0)
        return .success
    }

    func readPipe(_ open: Open, _ count: Int, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard let answer = open.pipe?.read(count) else { throw .status(.pipeDisconnected) }
        writer.u16LE(17)
        writer.u8(UInt8(Header.bytes + 16))
        writer.u8(0)
        writer.u32LE(UInt32(answer.bytes.count))
        writer.u64LE(0)
        answer.bytes.withUnsafeBytes { writer.bytes($0) }
        return answer.isWhole ? .success : .bufferOverflow
    }

    func writePipe(_ open: Open, _ data: UnsafeRawBufferPointer, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard let pipe = open.pipe else { throw .status(.pipeDisconnected) }
        if let refusal = pipe.write(data) { throw .status(refusal) }
        writer.u16LE(17)
        writer.u16LE(0)
        writer.u32LE(UInt32(data.count))
        writer.u64LE(0)
        return .success
    }

    func transceive(_ request: IoctlRequest, _ open: Open, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard let pipe = open.pipe else { throw .status(.pipeDisconnected) }
        if let refusal = pipe.write(request.input) { throw .status(refusal) }
        guard let answer = pipe.read(Int(request.outputMax)) else { throw .status(.pipeDisconnected) }
        _ = self.answer(request, &writer) { writer in answer.bytes.withUnsafeBytes { writer.bytes($0) } }
        return answer.isWhole ? .success : .bufferOverflow
    }

    func queryPipe(_ request: QueryInfoRequest, _ open: Open, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        switch request.level {
        case FileLevel.standard:
            writer.u64LE(4096)
            writer.u64LE(0)
            writer.u32LE(1)
            writer.u8(1)
            writer.u8(0)
            writer.u16LE(0)
        case FileLevel.pipe:
            writer.u32LE(1)
            writer.u32LE(0)
        default: throw .status(.notSupported)
        }
        return .success
    }
}
