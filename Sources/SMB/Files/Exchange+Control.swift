import Bytes
import Namespace
import Runtime

/// [MS-FSCC] 2.3 and [MS-SMB2] 2.2.31, CtlCode.
enum ControlCode {
    static let dfsReferrals: UInt32 = 0x0006_0194
    static let dfsReferralsEx: UInt32 = 0x0006_01B0
    static let pipePeek: UInt32 = 0x0011_400C
    static let pipeWait: UInt32 = 0x0011_0018
    static let pipeTransceive: UInt32 = 0x0011_C017
    static let networkInterfaces: UInt32 = 0x0014_01FC
    static let validateNegotiate: UInt32 = 0x0014_0204
    static let resumeKey: UInt32 = 0x0014_0078
    static let copyChunk: UInt32 = 0x0014_40F2
    static let copyChunkWrite: UInt32 = 0x0014_80F2
    static let setSparse: UInt32 = 0x0009_00C4
    static let duplicateExtents: UInt32 = 0x0009_8344
    static let setZeroData: UInt32 = 0x0009_80C8
    static let allocatedRanges: UInt32 = 0x0009_40CF
    static let setReparsePoint: UInt32 = 0x0009_00A4
    static let getReparsePoint: UInt32 = 0x0009_00A8
    static let deleteReparsePoint: UInt32 = 0x0009_00AC
    static let trim: UInt32 = 0x0009_8208
    static let getCompression: UInt32 = 0x0009_003C
    static let setCompression: UInt32 = 0x0009_C040
    static let createObjectID: UInt32 = 0x0009_00C0
    static let enumerateSnapshots: UInt32 = 0x0014_4064
}

/// IOCTL ([MS-SMB2] 3.3.5.15).
extension Exchange {
    func control(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try IoctlRequest(reading: element) }
        let limit = stream?.negotiation.dataMax ?? 0
        guard request.input.count <= limit, Int(request.outputMax) <= limit else { throw .status(.invalidParameter) }
        guard request.isFileSystemControl else { throw .status(.notSupported) }
        switch request.code {
        case ControlCode.dfsReferrals, ControlCode.dfsReferralsEx:
            // No share is in a tree of names of a domain.
            throw .status(.notFound)
        case ControlCode.validateNegotiate: return try validateNegotiate(request, &writer)
        case ControlCode.networkInterfaces: return try networkInterfaces(request, &writer)
        case ControlCode.pipeWait: throw .status(.notSupported)
        default: break
        }
        let open = try open(request.file)
        if open.volume == nil {
            guard request.code == ControlCode.pipeTransceive else { throw .status(.notSupported) }
            return try transceive(request, open, &writer)
        }
        let volume = try volume(open)
        switch request.code {
        case ControlCode.resumeKey:
            guard request.outputMax >= 32 else { throw .status(.invalidParameter) }
            return answer(request, &writer) { writer in
                writer.handle(open.handle)
                writer.u64LE(0)
                writer.u32LE(0)
                writer.u32LE(0)
            }
        case ControlCode.copyChunk, ControlCode.copyChunkWrite: return try copyChunks(request, open, volume)
        case ControlCode.duplicateExtents: return try duplicateExtents(request, open, volume)
        case ControlCode.setSparse: return try setSparse(request, open, volume, &writer)
        case ControlCode.enumerateSnapshots:
            guard request.outputMax >= 16 else { throw .status(.invalidParameter) }
            return answer(request, &writer) { writer in
                writer.u32LE(0)
                writer.u32LE(0)
                writer.u32LE(2)
                writer.u16LE(0)
                writer.u16LE(0)
            }
        case ControlCode.createObjectID:
            guard request.outputMax >= 64 else { throw .status(.bufferTooSmall) }
            return answer(request, &writer) { writer in
                writer.u64LE(open.file.inode)
                writer.u64LE(open.file.generation)
                writer.u64LE(volume.identity)
                writer.u64LE(0)
                writer.u64LE(open.file.inode)
                writer.u64LE(open.file.generation)
                writer.zeros(16)
            }
        case ControlCode.setZeroData: return try setZero(request, open, volume)
        case ControlCode.allocatedRanges: return try allocatedRanges(request, open, volume, &writer)
        case ControlCode.setCompression:
            // "None" is what there is.
            guard request.input.count >= 2 else { throw .status(.invalidParameter) }
            guard request.input[0] == 0, request.input[1] == 0 else { throw .status(.notSupported) }
            return answer(request, &writer) { _ in }
        case ControlCode.getReparsePoint: return try getReparsePoint(request, open, volume, &writer)
        case ControlCode.setReparsePoint: return try setReparsePoint(request, open, volume, &writer)
        case ControlCode.deleteReparsePoint:
            // A link without its target would be nothing at all: clients remove it.
            let tag = FileFacts(try attributes(open, caller(open), volume)).reparseTag
            throw .status(tag == 0 ? .notAReparsePoint : .notSupported)
        case ControlCode.trim: return try trim(request, open, volume)
        case ControlCode.getCompression:
            guard request.outputMax >= 2 else { throw .status(.bufferTooSmall) }
            return answer(request, &writer) { $0.u16LE(0) }
        default: throw .status(.invalidDeviceRequest)
        }
    }

    /// [MS-SMB2] 2.2.32.
    func answer(_ request: IoctlRequest, _ writer: inout Writer, _ write: (inout Writer) -> Void) -> NTStatus {
        Self.write(request.code, request.file, &writer, write)
        return .success
    }

    static func write(
        _ code: UInt32, _ file: FileHandle, _ writer: inout Writer, _ write: (inout Writer) -> Void
    ) {
        writer.u16LE(49)
        writer.u16LE(0)
        writer.u32LE(code)
        writer.handle(file)
        writer.u32LE(UInt32(Header.bytes + 48))
        writer.u32LE(0)
        writer.u32LE(UInt32(Header.bytes + 48))
        let place = writer.reserve(4)
        writer.u32LE(0)
        writer.u32LE(0)
        let start = writer.position
        write(&writer)
        writer.patch(u32LE: UInt32(writer.position - start), at: place)
    }

    /// [MS-SMB2] 3.3.5.15.12: the client tells again, signed, what it had said; a difference means that somebody is between.
    private func validateNegotiate(_ request: IoctlRequest, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard let stream else { throw .status(.invalidParameter) }
        let negotiation = stream.negotiation
        do throws(BytesError) {
            var reader = Reader(request.input)
            let capabilities = try reader.u32LE()
            let guid = UInt128(try reader.u64LE()) | UInt128(try reader.u64LE()) << 64
            let mode = try reader.u16LE()
            let count = Int(try reader.u16LE())
            guard count <= SMB2.dialectsMax else { throw .tooLong }
            var dialects: [UInt16] = []
            for _ in 0..<count { dialects.append(try reader.u16LE()) }
            let best = dialects.compactMap { Dialect(rawValue: $0) }.max()
            guard negotiation.dialect != .v311, best == negotiation.dialect, guid == negotiation.clientGUID,
                mode == negotiation.clientMode.rawValue, capabilities == negotiation.clientCapabilities.rawValue
            else { throw .malformed }
        } catch {
            stream.end(because: "negotiation was tampered with")
            throw .status(.accessDenied)
        }
        guard request.outputMax >= 24 else { throw .status(.invalidParameter) }
        let guid = server.options.guid
        return answer(request, &writer) { writer in
            writer.u32LE(negotiation.capabilities.rawValue)
            writer.u64LE(UInt64(truncatingIfNeeded: guid))
            writer.u64LE(UInt64(truncatingIfNeeded: guid >> 64))
            writer.u16LE(negotiation.serverMode.rawValue)
            writer.u16LE(negotiation.dialect?.rawValue ?? 0)
        }
    }

    private func setSparse(
        _ request: IoctlRequest, _ open: Open, _ volume: Volume, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        guard !open.isDirectory else { throw .status(.invalidParameter) }
        guard !open.granted.isDisjoint(with: [.writeData, .appendData, .writeAttributes]) else {
            throw .status(.accessDenied)
        }
        let isSparse = request.input.first.map { $0 != 0 } ?? true
        let file = try value(volume.attributes(caller(open), open.subject), volume)
        var bits = FileAttributes(rawValue: file.dos)
        if isSparse { bits.insert(.sparse) } else { bits.remove(.sparse) }
        if bits.rawValue != file.dos {
            var new = NewAttributes()
            new.dos = bits.rawValue
            _ = try value(volume.setAttributes(ownerCaller(open), open.subject, new), volume)
        }
        return answer(request, &writer) { _ in }
    }

    // MARK: Holes

    private func setZero(_ request: IoctlRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) -> NTStatus {
        guard !open.isDirectory else { throw .status(.invalidParameter) }
        guard open.granted.contains(.writeData) else { throw .status(.accessDenied) }
        var reader = Reader(request.input)
        let (from, to): (UInt64, UInt64)
        do throws(BytesError) { (from, to) = (try reader.u64LE(), try reader.u64LE()) } catch {
            throw .status(.invalidParameter)
        }
        guard from <= to, to <= Self.offsetMax else { throw .status(.invalidParameter) }
        let caller = caller(open)
        _ = try value(volume.mayWrite(caller, open.file, at: from, count: to - from), volume)
        let (file, code, handle) = (open.file, request.code, request.file)
        throw .later { (exchange) async throws(SMBHalt) in
            do throws(FileError) {
                let number = try await volume.punch(caller, file, at: from, length: to - from)
                exchange.settle(number, volume)
            } catch { throw .status(NTStatus(error)) }
            return SMBAnswer { Self.write(code, handle, &$0) { _ in } }
        }
    }

    /// The client needs those bytes no more ([MS-FSCC] 2.3.13). What is left of them then is the server's choice: they are a hole.
    private func trim(_ request: IoctlRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) -> NTStatus {
        guard !open.isDirectory, stream?.negotiation.dialect?.isThree == true else {
            throw .status(.invalidDeviceRequest)
        }
        guard open.granted.contains(.writeData) else { throw .status(.accessDenied) }
        guard request.outputMax >= 4 else { throw .status(.invalidParameter) }
        var ranges: [(offset: UInt64, count: UInt64)] = []
        do throws(BytesError) {
            var reader = Reader(request.input)
            guard try reader.u32LE() == 0 else { throw .malformed }
            let count = Int(try reader.u32LE())
            guard (1...Self.trimsMax).contains(count) else { throw .tooLong }
            for _ in 0..<count { ranges.append((try reader.u64LE(), try reader.u64LE())) }
        } catch { throw .status(.invalidParameter) }
        let caller = caller(open)
        for range in ranges {
            guard !range.offset.addingReportingOverflow(range.count).overflow else { throw .status(.integerOverflow) }
            guard range.offset <= Self.offsetMax, range.count <= Self.offsetMax - range.offset else {
                throw .status(.invalidParameter)
            }
            _ = try value(volume.mayWrite(caller, open.file, at: range.offset, count: range.count), volume)
        }
        let (file, code, handle, all) = (open.file, request.code, request.file, ranges)
        throw .later { (exchange) async throws(SMBHalt) in
            var done: UInt32 = 0
            do throws(FileError) {
                for range in all {
                    let number = try await volume.punch(caller, file, at: range.offset, length: range.count)
                    exchange.settle(number, volume)
                    done += 1
                }
            } catch { if done == 0 { throw .status(NTStatus(error)) } }
            let count = done
            return SMBAnswer { Self.write(code, handle, &$0) { $0.u32LE(count) } }
        }
    }

    private static let trimsMax = 1024

    /// Where else this server can be reached ([MS-SMB2] 2.2.32.5): by the address that the client has come to, and no other. It is what
    /// a client looks at that would make further connections; this server's sessions have one.
    private func networkInterfaces(_ request: IoctlRequest, _ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard let stream, stream.negotiation.dialect?.isThree == true else { throw .status(.invalidDeviceRequest) }
        guard request.outputMax >= 152 else { throw .status(.bufferTooSmall) }
        let address = stream.connection.localAddress
        return answer(request, &writer) { writer in
            writer.u32LE(0)
            writer.u32LE(1)
            writer.u32LE(0)
            writer.u32LE(0)
            writer.u64LE(Self.linkBitsPerSecond)
            let start = writer.position
            switch address {
            case .ipv4(let host, _):
                writer.u16LE(2)
                writer.u16LE(0)
                withUnsafeBytes(of: host.bigEndian) { writer.bytes($0) }
            case .ipv6(let high, let low, _, _):
                writer.u16LE(23)
                writer.zeros(6)
                withUnsafeBytes(of: (high.bigEndian, low.bigEndian)) { writer.bytes($0) }
            case .unix: break
            }
            writer.zeros(128 - (writer.position - start))
        }
    }

    /// What is said of it is a guess: nothing depends on it.
    private static let linkBitsPerSecond: UInt64 = 10_000_000_000

    /// A file that is not sparse shows no holes, whatever it has.
    private func allocatedRanges(
        _ request: IoctlRequest, _ open: Open, _ volume: Volume, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        guard !open.isDirectory else { throw .status(.invalidParameter) }
        guard open.granted.contains(.readData) else { throw .status(.accessDenied) }
        var reader = Reader(request.input)
        let (offset, count): (UInt64, UInt64)
        do throws(BytesError) { (offset, count) = (try reader.u64LE(), try reader.u64LE()) } catch {
            throw .status(.invalidParameter)
        }
        guard offset <= Self.offsetMax, count <= Self.offsetMax - offset else { throw .status(.invalidParameter) }
        let caller = caller(open)
        let file = try attributes(open, caller, volume)
        let end = min(offset + count, file.size)
        var ranges: [(UInt64, UInt64)] = []
        var isCut = false
        var place = offset
        let isSparse = FileFacts(file).attributes.contains(.sparse)
        while place < end {
            var start = place
            var stop = end
            if isSparse {
                let data = volume.seek(caller, open.file, from: place, data: true)
                if case .refused(.noEntry) = data { break }
                start = try value(data, volume)
                guard start < end else { break }
                stop = min(try value(volume.seek(caller, open.file, from: start, data: false), volume), end)
            }
            guard (ranges.count + 1) * 16 <= Int(request.outputMax) else {
                guard !ranges.isEmpty else { throw .status(.bufferTooSmall) }
                isCut = true
                break
            }
            ranges.append((start, stop - start))
            place = stop
        }
        _ = answer(request, &writer) { writer in
            for (start, length) in ranges {
                writer.u64LE(start)
                writer.u64LE(length)
            }
        }
        return isCut ? .bufferOverflow : .success
    }
}
