import Runtime

/// Since when, by the volume's clock, soft limits of a subject have been passed: kept with the volume, so that the time of
/// grace goes on over a restart.
struct QuotaGrace: Equatable, Sendable {
    static let version: UInt8 = 1

    var bytes: UInt64?
    var files: UInt64?

    init(bytes: UInt64? = nil, files: UInt64? = nil) {
        self.bytes = bytes
        self.files = files
    }

    var runs: Bool { bytes != nil || files != nil }

    static func name(_ subject: QuotaSubject) -> [UInt8] { Array("grace/\(subject.key)".utf8) }

    func record() -> [UInt8] {
        var writer = RecordWriter(version: Self.version)
        for time in [bytes, files] {
            writer.flag(time != nil)
            writer.number(time ?? 0)
        }
        return writer.bytes
    }

    init(record: [UInt8]) throws(RecordFault) {
        var reader = try RecordReader(record, version: Self.version)
        func time() throws(RecordFault) -> UInt64? {
            let isThere = try reader.flag()
            let time: UInt64 = try reader.number()
            return isThere ? time : nil
        }
        bytes = try time()
        files = try time()
        try reader.finish()
    }
}

extension QuotaMeter.State {
    /// What there is has been counted: the limit binds, and a grace that began before goes on.
    mutating func bind(_ subject: QuotaSubject) {
        uncounted.remove(subject)
        table.resume(subject, kept[subject])
    }

    /// What the volume is to keep next; nil: it keeps all.
    mutating func nextGrace() -> (subject: QuotaSubject, grace: QuotaGrace?)? {
        while let subject = table.graceChanges.popFirst() {
            // While one is counted its grace means nothing: what is kept stands until then.
            guard !uncounted.contains(subject) else { continue }
            let grace = table[subject].map(\.grace).flatMap { $0.runs ? $0 : nil }
            guard grace != kept[subject] else { continue }
            kept[subject] = grace
            return (subject, grace)
        }
        isKeeping = false
        return nil
    }
}

extension QuotaMeter {
    /// What the volume kept of a subject, before it is counted.
    func recall(_ subject: QuotaSubject, _ clock: any WorldClock, _ loop: EventLoop) async {
        let name = QuotaGrace.name(subject)
        let files = state.withLock { $0.fileSystem }
        while true {
            let request = Request(reader: loop.index, now: clock.wall())
            switch name.withUnsafeBytes({ files.setting(request, $0) }) {
            case .done(let record, _):
                let grace = record.flatMap { try? QuotaGrace(record: $0) }
                return state.withLock { $0.kept[subject] = grace }
            // A file system that keeps no settings has nothing to go on with.
            case .refused: return
            case .lacks(let lack): await supply(lack, loop)
            }
        }
    }

    /// Brings what has begun and ended since into the volume; in the order of changes, and nobody waits for it.
    func keepGraces(_ clock: any WorldClock, _ loop: EventLoop) async {
        let files = state.withLock { $0.fileSystem }
        while let next = state.withLock({ $0.nextGrace() }) {
            let name = QuotaGrace.name(next.subject)
            var isDone = false
            while !isDone {
                let request = Request(reader: loop.index, now: clock.wall())
                let attempt = name.withUnsafeBytes { name in
                    guard let record = next.grace?.record() else { return files.setSetting(request, name, nil) }
                    return record.withUnsafeBytes { files.setSetting(request, name, $0) }
                }
                switch attempt {
                case .done, .refused: isDone = true
                case .lacks(let lack): await supply(lack, loop)
                }
            }
        }
    }
}
