import Bytes
import Namespace

/// A pipe that speaks DCE/RPC: requests go in, responses wait to be read.
final class Pipe {
    let name: String
    private var rpc: RPCEndpoint
    /// What was answered and not read.
    private var answers: [[UInt8]] = []
    static let answersMax = 64

    init(name: String, service: Srvsvc) {
        self.name = name
        rpc = RPCEndpoint(service: service)
    }

    /// False: nobody reads the answers.
    func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard answers.count < Self.answersMax else { return false }
        let more = rpc.take(bytes, limit: Self.answersMax - answers.count)
        answers += more
        return true
    }

    /// At most `count` bytes of the oldest answer, and whether there is more of it.
    func read(_ count: Int) -> (bytes: [UInt8], isWhole: Bool)? {
        guard let first = answers.first else { return nil }
        if first.count <= count {
            answers.removeFirst()
            return (first, true)
        }
        answers[0] = Array(first.dropFirst(count))
        return (Array(first.prefix(count)), false)
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
        let pipe = Pipe(name: name, service: Srvsvc(server.catalog, serverName: server.options.serverName))
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
        guard open.pipe?.write(data) == true else { throw .status(.pipeNotAvailable) }
        writer.u16LE(17)
        writer.u16LE(0)
        writer.u32LE(UInt32(data.count))
        writer.u64LE(0)
        return .success
    }

    func transceive(_ request: IoctlRequest, _ open: Open, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard open.pipe?.write(request.input) == true, let answer = open.pipe?.read(Int(request.outputMax)) else {
            throw .status(.pipeDisconnected)
        }
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
