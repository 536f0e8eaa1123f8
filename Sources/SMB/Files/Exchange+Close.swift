import Bytes
import Namespace

/// Opens in use, and CLOSE ([MS-SMB2] 3.3.5.10).
extension Exchange {
    /// The open that an element names: of its session, and of its tree.
    func open(_ handle: FileHandle) throws(SMBHalt) -> Open {
        var handle = handle
        if isRelated, handle == .previous {
            guard let file else { throw .status(previousFailure) }
            handle = file
        }
        guard let session, let open = session.opens[handle.volatile], open.handle == handle, open.tree === tree else {
            throw .status(.fileClosed)
        }
        file = handle
        open.isUntouched = false
        try checkSequence(open)
        return open
    }

    /// A change that was sent before a failure of the connection comes too late: it was sent again since.
    private func checkSequence(_ open: Open) throws(SMBHalt) {
        guard stream?.negotiation.dialect?.isThree == true else { return }
        let sequence = UInt16(truncatingIfNeeded: header.status)
        guard sequence != open.channelSequence else { return }
        if sequence &- open.channelSequence <= 0x7FFF {
            open.channelSequence = sequence
        } else if [.write, .setInfo, .ioctl].contains(Command(rawValue: header.command)) {
            throw .status(.fileNotAvailable)
        }
    }

    /// A stream has its file's attributes, but for its size.
    func attributes(_ open: Open, _ caller: Caller, _ volume: Volume) throws(SMBHalt) -> Attributes {
        Self.allocated(open, try attributes(open.file, of: open.stream?.base, caller, volume))
    }

    private static let allocationUnit: UInt64 = 4096

    static func allocated(_ open: Open, _ file: Attributes) -> Attributes {
        guard open.allocation > 0 else { return file }
        var file = file
        let bytes = min(max(open.allocation, file.size), offsetMax - allocationUnit)
        file.allocated = max(file.allocated, (bytes + allocationUnit - 1) & ~(allocationUnit - 1))
        return file
    }

    /// `base`: of a stream.
    func attributes(
        _ file: FileID, of base: FileID?, _ caller: Caller, _ volume: Volume
    ) throws(SMBHalt) -> Attributes {
        let own = try value(volume.attributes(caller, file), volume)
        guard let base else { return own }
        return Self.shown(try value(volume.attributes(caller, base), volume), own)
    }

    func volume(_ open: Open) throws(SMBHalt) -> Volume {
        guard let volume = open.volume else { throw .status(.invalidDeviceRequest) }
        return volume
    }

    // MARK: Closing

    func close(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try CloseRequest(reading: element) }
        let open = try open(request.file)
        guard let volume = open.volume else {
            forget(open)
            Self.writeClosed(nil, &writer)
            return .success
        }
        guard let held = open.held else { throw .status(.fileClosed) }
        let caller = caller(open)
        let last: Attributes? = request.wantsAttributes ? try? attributes(open, caller, volume) : nil
        stream?.finishWatching(open, .notifyCleanup)
        if let watch = open.watch { volume.endWatch(watch) }
        open.watch = nil
        for (exchange, use) in open.locking where exchange.use == use { exchange.cancel(by: .session) }
        let closed = volume.close(caller, held)
        // Of a volume that was taken away nothing is left to close.
        if case .refused(.stale) = closed { forget(open) }
        _ = try value(closed, volume)
        forget(open)
        Self.writeClosed(last.map { FileFacts($0) }, &writer)
        return .success
    }

    private func forget(_ open: Open) {
        stream?.forgetCreation(open)
        session?.opens[open.handle.volatile] = nil
    }

    private static func writeClosed(_ facts: FileFacts?, _ writer: inout Writer) {
        writer.u16LE(60)
        writer.u16LE(facts == nil ? 0 : 1)
        writer.u32LE(0)
        guard let facts else { return writer.zeros(52) }
        facts.writeTimes(into: &writer)
        writer.u64LE(facts.allocated)
        writer.u64LE(facts.size)
        writer.u32LE(facts.attributes.rawValue)
    }
}
