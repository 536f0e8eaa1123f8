import Bytes
import Namespace
import Runtime

/// CHANGE_NOTIFY ([MS-SMB2] 3.3.5.19).
extension Exchange {
    static let watchingMax = 512

    func notify(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try ChangeNotifyRequest(reading: element) }
        let open = try open(request.file)
        guard let volume = open.volume, let stream else { throw .status(.invalidParameter) }
        guard Int(request.outputMax) <= stream.negotiation.dataMax else { throw .status(.invalidParameter) }
        guard open.isDirectory else { throw .status(.invalidParameter) }
        guard open.granted.contains(.readData) else { throw .status(.accessDenied) }
        guard open.watching.count < Self.watchingMax else { throw .status(.insufficientResources) }
        let watch: WatchID
        if let known = open.watch {
            watch = known
        } else {
            let attempt = volume.watch(
                caller(open), open.file, WatchFilter(rawValue: request.filter), isRecursive: request.watchesTree,
                on: loop
            ) { [weak open, weak stream] in
                if let open { stream?.deliver(open) }
            }
            watch = try value(attempt, volume)
            open.watch = watch
            open.watchedBytes = Int(request.outputMax)
        }
        if let news = volume.takeEvents(watch) {
            if news.isEnded { throw .status(.deletePending) }
            let answer = Self.answer(news, min(Int(request.outputMax), open.watchedBytes))
            answer.write?(&writer)
            return answer.status
        }
        open.watching.append(Open.Watching(exchange: self, use: use, outputMax: Int(request.outputMax)))
        announce()
        onCancel = { [self, weak open] who in
            open?.watching.removeAll { $0.exchange === self }
            finish(SMBAnswer(who == .client ? .cancelled : .notifyCleanup) { Self.write([], &$0) })
        }
        throw .pending
    }

    /// [MS-SMB2] 2.2.36.
    fileprivate static func write(_ events: [WatchEvent], _ writer: inout Writer) {
        writer.u16LE(9)
        writer.u16LE(UInt16(Header.bytes + 8))
        let place = writer.reserve(4)
        let start = writer.position
        var last: Int?
        for event in events {
            if let last {
                writer.zeros(-(writer.position - start) & 3)
                writer.patch(u32LE: UInt32(writer.position - last), at: last)
            }
            last = writer.position
            writer.u32LE(0)
            writer.u32LE(event.action.rawValue)
            let length = writer.reserve(4)
            let name = writer.position
            for (index, component) in event.path.enumerated() {
                if index > 0 { writer.u16LE(UInt16(UInt8(ascii: "\\"))) }
                component.withUnsafeBytes { _ = UTF16Name.write($0, into: &writer) }
            }
            writer.patch(u32LE: UInt32(writer.position - name), at: length)
        }
        writer.patch(u32LE: UInt32(writer.position - start), at: place)
    }

    /// What the events take; the last one is not filled up.
    private static func bytes(_ events: [WatchEvent]) -> Int {
        events.reduce(0) { sum, event in
            (sum + 3) & ~3 + 12
                + event.path.reduce(-2) { length, component in
                    var units = 0
                    component.withUnsafeBytes { UTF16Name.units(of: $0) { _ in units += 1 } }
                    return length + 2 + 2 * units
                }
        }
    }

    fileprivate static func answer(_ news: WatchEvents, _ outputMax: Int) -> SMBAnswer {
        guard !news.isOverrun, bytes(news.events) <= outputMax else {
            return SMBAnswer(.notifyEnumDir) { write([], &$0) }
        }
        return SMBAnswer { write(news.events, &$0) }
    }
}

extension SMBStream {
    /// Something has come for a handle's watch.
    fileprivate func deliver(_ open: Open) {
        guard let volume = open.volume, let watch = open.watch else { return }
        while let waiting = open.watching.first {
            guard waiting.exchange.use == waiting.use else {
                open.watching.removeFirst()
                continue
            }
            guard let news = volume.takeEvents(watch) else { return }
            if news.isEnded { return finishWatching(open, .deletePending) }
            open.watching.removeFirst()
            waiting.exchange.finish(Exchange.answer(news, waiting.outputMax))
        }
    }

    /// The handle goes: those who wait are told so.
    func finishWatching(_ open: Open, _ status: NTStatus) {
        let waiting = open.watching
        open.watching = []
        for each in waiting where each.exchange.use == each.use {
            each.exchange.finish(
                status.isError ? SMBAnswer(status) : SMBAnswer(status) { Exchange.write([], &$0) })
        }
    }
}
