import Bytes
import Namespace
import RPC

/// READ, WRITE and COMMIT (RFC 1813 3.3.6, 3.3.7, 3.3.21).
extension NFSOperation {
    /// Before the data of a READ: status, attributes, count, end, length.
    private static let readFrame = 4 + 4 + NFS3Attributes.bytes + 4 + 4 + 4
    /// Reads of more travel in a block instead of the connection's output.
    private static let inPlaceReadMax = 32 << 10

    func read(_ arguments: NFS3ReadArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(arguments.file)
        try checkOffset(arguments.offset, 0)
        let count = min(Int(arguments.count), NFS3.dataMax)
        if count <= Self.inPlaceReadMax || !results.takesBlocks {
            let fits = min(count, results.inPlaceMax - Self.readFrame - 4)
            results.provide(Self.readFrame + fits + 4)
            guard let frame = results.writer.space(Self.readFrame), let data = results.writer.space(fits) else {
                throw .status(.serverFault)
            }
            let got = try inMemory(
                place.volume.read(place.caller, place.file, at: arguments.offset, into: data))
            results.writer.rewind(to: Self.readFrame + got.count)
            results.writer.zeros(-got.count & 3)
            put(got.file, got.count, arguments.offset, place, frame)
            return .done
        }
        if count & 3 == 0, count >= Volume.lendBytesMin,
            let lent = try inMemory(place.volume.lend(place.caller, place.file, at: arguments.offset, count: count))
        {
            if let frame = results.writer.space(Self.readFrame) {
                put(lent.file, count, arguments.offset, place, frame)
            }
            results.attach(lent.parts)
            return .done
        }
        let block = results.makeBlock(count + 4)
        let got = try inMemory(
            place.volume.read(
                place.caller, place.file, at: arguments.offset,
                into: UnsafeMutableRawBufferPointer(rebasing: block.free.prefix(count))))
        attach(block, got.count, got.file, arguments.offset, place, &results)
        return .done
    }

    /// What a read that does not wait has found; for one that lacks anything there is `readSlowly`.
    private func inMemory<Value>(_ attempt: Attempt<Value>) throws(NFSHalt) -> Value {
        if case .lacks = attempt { throw .waits }
        return try value(attempt)
    }

    private func attach(
        _ block: Block, _ count: Int, _ file: Attributes, _ offset: UInt64, _ place: Place, _ results: inout Results
    ) {
        let filling = -count & 3
        block.count = count
        for _ in 0..<filling {
            block.base.storeBytes(of: 0, toByteOffset: block.count, as: UInt8.self)
            block.count += 1
        }
        if let frame = results.writer.space(Self.readFrame) { put(file, count, offset, place, frame) }
        results.attach(block, count: block.count)
    }

    private func put(
        _ file: Attributes, _ count: Int, _ offset: UInt64, _ place: Place, _ frame: UnsafeMutableRawBufferPointer
    ) {
        var writer = Writer(frame)
        writer.u32(NFS3Status.ok.rawValue)
        writer.bool(true)
        place.attributes(file).write(into: &writer)
        writer.u32(UInt32(count))
        writer.bool(offset >= file.size || UInt64(count) >= file.size - offset)
        writer.u32(UInt32(count))
    }

    /// Offsets and ends beyond what a file may have.
    private func checkOffset(_ offset: UInt64, _ count: Int) throws(NFSHalt) {
        guard offset <= Self.fileSizeMax, UInt64(count) <= Self.fileSizeMax - offset else {
            throw .status(count > 0 ? .fileTooBig : .invalid)
        }
    }

    /// What is not in memory is read by a task. The rights are checked first.
    func readSlowly(_ arguments: NFS3ReadArguments, _ held: RPCCall) async throws(NFSHalt) {
        let place = try place(arguments.file)
        let limit = held.isDatagram ? Self.inPlaceReadMax : NFS3.dataMax
        let count = min(Int(arguments.count), limit)
        _ = try await supplied {
            place.volume.mayRead(place.caller, place.file, at: arguments.offset, count: count)
        }
        let block = held.makeBlock(count + 4)
        let buffer = SendableBuffer(UnsafeMutableRawBufferPointer(rebasing: block.free.prefix(count)))
        let got: Int
        do throws(FileError) {
            got = try await place.volume.readAll(place.file, at: arguments.offset, into: buffer)
        } catch { throw .status(NFS3Status(error)) }
        let file = try await supplied { place.volume.attributes(place.caller, place.file) }.value
        held.reply { results in
            if results.takesBlocks {
                attach(block, got, file, arguments.offset, place, &results)
            } else {
                results.provide(Self.readFrame + got + 4)
                if let frame = results.writer.space(Self.readFrame) { put(file, got, arguments.offset, place, frame) }
                results.writer.opaque(fixed: UnsafeRawBufferPointer(start: block.base, count: got))
            }
            return .done
        }
    }

    func write(_ arguments: NFS3WriteArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(arguments.file)
        let count = Int(arguments.count)
        guard count <= arguments.data.count else { throw .status(.invalid) }
        try checkOffset(arguments.offset, count)
        // Before the data: when a flush fails between, the client sees another verifier later and sends it again.
        let verifier = place.volume.writeVerifier
        let changed = try value(
            place.volume.write(
                place.caller, place.file, at: arguments.offset,
                UnsafeRawBufferPointer(rebasing: arguments.data.prefix(count))))
        NFS3Results.Write.ok(
            NFS3WriteResults(
                file: place.weak(changed), count: arguments.count,
                stability: arguments.stability == .unstable ? .unstable : .fileSync, verifier: verifier)
        ).write(into: &results.writer)
        return arguments.stability == .unstable ? .done : .flushes(place.file, place.volume, place.durability)
    }

    /// The whole file is flushed, whatever part of it was asked for.
    func commit(_ arguments: NFS3CommitArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(arguments.file)
        let file = try value(place.volume.attributes(place.caller, place.file))
        guard file.type == .file else { throw .status(file.type == .directory ? .isDirectory : .invalid) }
        // From before the flush: data that was written under another verifier has to be sent again.
        NFS3Results.Commit.ok(
            NFS3CommitResults(
                file: place.weak(Changed(before: Fingerprint(file), after: file)), verifier: place.volume.writeVerifier)
        ).write(into: &results.writer)
        return .flushes(place.file, place.volume, place.durability)
    }
}
