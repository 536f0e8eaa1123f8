import Bytes
import Namespace
import Runtime

/// READ, WRITE, FLUSH ([MS-SMB2] 3.3.5.12, 3.3.5.13, 3.3.5.11).
extension Exchange {
    /// Before the data of a READ.
    private static let readFrame = 16
    /// The file system takes no more in one step.
    private static let pieceMax = 1 << 20
    static let offsetMax = UInt64(Int64.max)

    func read(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try ReadRequest(reading: element) }
        let open = try open(request.file)
        if open.pipe != nil { return try readPipe(open, Int(request.count), &writer) }
        let volume = try volume(open)
        guard Int(request.count) <= stream?.negotiation.dataMax ?? 0 else { throw .status(.invalidParameter) }
        guard !open.isDirectory else { throw .status(.invalidDeviceRequest) }
        guard !open.granted.isDisjoint(with: [.readData, .execute]) else { throw .status(.accessDenied) }
        let count = Int(request.count)
        guard request.offset <= Self.offsetMax, UInt64(count) <= Self.offsetMax - request.offset else {
            throw .status(.invalidParameter)
        }
        let caller = caller(open)
        if isAlone, count >= Volume.lendBytesMin,
            let parts = try value(volume.lend(caller, at: request.offset, count: count), volume)
        {
            guard let frame = writer.space(Self.readFrame) else { throw .status(.insufficientResources) }
            Self.write(count, frame)
            lend(parts)
            open.position = request.offset + UInt64(count)
            return .success
        }
        guard let frame = writer.space(Self.readFrame), let data = writer.space(count) else {
            throw .status(.insufficientResources)
        }
        let attempt = volume.read(caller, at: request.offset, into: data)
        if case .lacks = attempt {
            _ = try value(volume.mayRead(caller, open.file, at: request.offset, count: count), volume)
            throw readSlowly(request, open, volume)
        }
        let got = try value(attempt, volume)
        writer.rewind(to: Header.bytes + Self.readFrame + got)
        Self.write(got, frame)
        open.position = request.offset + UInt64(got)
        return try Self.status(got, request)
    }

    private static func status(_ got: Int, _ request: ReadRequest) throws(SMBHalt) -> NTStatus {
        if got == 0, request.count > 0 || request.countMin > 0 { throw .status(.endOfFile) }
        if got < Int(request.countMin) { throw .status(.endOfFile) }
        return .success
    }

    private static func write(_ got: Int, _ frame: UnsafeMutableRawBufferPointer) {
        var writer = Writer(frame)
        writer.u16LE(17)
        writer.u8(UInt8(Header.bytes + Self.readFrame))
        writer.u8(0)
        writer.u32LE(UInt32(got))
        writer.u32LE(0)
        writer.u32LE(0)
    }

    /// What is not in memory is read by a task, to where it is sent from.
    private func readSlowly(_ request: ReadRequest, _ open: Open, _ volume: Volume) -> SMBHalt {
        let count = Int(request.count)
        let (file, offset, use, message) = (open.file, request.offset, use, header.messageID)
        return .later { (exchange) async throws(SMBHalt) in
            guard let (block, buffer) = exchange.room(use, message, behind: Self.readFrame, count) else {
                throw .status(.cancelled)
            }
            exchange.charge(count)
            let got: Int
            do throws(FileError) { got = try await volume.readAll(file, at: offset, into: buffer) } catch {
                throw .status(NTStatus(error))
            }
            let status = try Self.status(got, request)
            return SMBAnswer(status) { writer in
                defer { extendLifetime(block) }
                guard let frame = writer.space(Self.readFrame), let data = writer.space(got) else { return }
                // An announcement of an earlier attempt may have left meanwhile: then the answer has another place.
                if data.baseAddress != buffer.bytes.baseAddress {
                    data.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer.bytes[..<got]))
                }
                Self.write(got, frame)
            }
        }
    }

    /// False: others, who do not come by SMB, have appended since the look at the end, and who may do no more than that looks again.
    private func writePieces(
        _ request: WriteRequest, _ open: Open, _ volume: Volume, _ caller: Caller, at offset: UInt64, isAppending: Bool
    ) throws(SMBHalt) -> Bool {
        func isOvertaken() throws(SMBHalt) -> Bool {
            guard isAppending, !open.granted.contains(.writeData) else { return false }
            return try value(volume.attributes(caller, open.file), volume).size > offset + UInt64(progress)
        }
        // Of what is written in pieces, all is allowed before the first.
        if progress == 0, request.data.count > Self.pieceMax {
            let allowed = volume.mayWrite(caller, open.file, at: offset, count: UInt64(request.data.count))
            if case .refused(.accessDenied) = allowed, try isOvertaken() { return false }
            _ = try value(allowed, volume)
        }
        while progress < request.data.count {
            let piece = UnsafeRawBufferPointer(rebasing: request.data[progress...].prefix(Self.pieceMax))
            let written = volume.write(caller, open.file, at: offset + UInt64(progress), piece)
            if case .refused(.accessDenied) = written, try isOvertaken() { return false }
            _ = try value(written, volume)
            progress += piece.count
        }
        return true
    }

    func write(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try WriteRequest(reading: element) }
        let open = try open(request.file)
        if open.pipe != nil { return try writePipe(open, request.data, &writer) }
        let volume = try volume(open)
        guard request.data.count <= stream?.negotiation.dataMax ?? 0 else { throw .status(.invalidParameter) }
        guard !open.isDirectory else { throw .status(.invalidDeviceRequest) }
        guard !open.granted.isDisjoint(with: [.writeData, .appendData]) else { throw .status(.accessDenied) }
        let caller = caller(open)
        var offset = request.offset
        // "At the end", as clients that only append say it, and whatever one says who may do no more than that.
        let isAppending = offset == .max || !open.granted.contains(.writeData)
        var isWritten = false
        while !isWritten {
            if isAppending {
                offset = try beginAppending(to: open.file) { () throws(SMBHalt) in
                    let size = try value(volume.attributes(caller, open.file), volume).size
                    // It has grown by what is written already.
                    return size - min(size, UInt64(progress))
                }
            }
            guard offset <= Self.offsetMax, UInt64(request.data.count) <= Self.offsetMax - offset else {
                throw .status(.invalidParameter)
            }
            isWritten = try writePieces(request, open, volume, caller, at: offset, isAppending: isAppending)
            endAppending()
        }
        if let time = open.writeTime, !request.data.isEmpty {
            var kept = NewAttributes()
            kept.modified = time
            _ = try value(volume.setAttributes(ownerCaller(open), open.subject, kept), volume)
        }
        writer.u16LE(17)
        writer.u16LE(0)
        writer.u32LE(UInt32(request.data.count))
        writer.u32LE(0)
        writer.u32LE(0)
        guard request.isWriteThrough || open.mode & CreateOptions.writeThrough != 0 else { return .success }
        let count = UInt32(request.data.count)
        let (file, word) = (open.file, word(volume))
        throw .later { (exchange) async throws(SMBHalt) in
            do throws(FileError) { try await volume.flush(file, word, on: exchange.loop) } catch {
                throw .status(NTStatus(error))
            }
            return SMBAnswer { writer in
                writer.u16LE(17)
                writer.u16LE(0)
                writer.u32LE(count)
                writer.u32LE(0)
                writer.u32LE(0)
            }
        }
    }

    func flush(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try FlushRequest(reading: element) }
        let open = try open(request.file)
        guard let volume = open.volume else { return empty(&writer) }
        guard !open.granted.isDisjoint(with: [.writeData, .appendData]) else { throw .status(.accessDenied) }
        guard !open.isDirectory else { return empty(&writer) }
        let (file, word) = (open.file, word(volume))
        throw .later { (exchange) async throws(SMBHalt) in
            do throws(FileError) { try await volume.flush(file, word, on: exchange.loop) } catch {
                throw .status(NTStatus(error))
            }
            return SMBAnswer { writer in
                writer.u16LE(4)
                writer.u16LE(0)
            }
        }
    }
}
