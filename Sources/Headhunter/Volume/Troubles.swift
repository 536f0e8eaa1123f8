import Runtime

/// Somebody who does what the volume can not do without, again and again: when he comes back, and by which number his trouble
/// is known meanwhile.
struct Trying {
    /// A store that refuses for good is not asked all the time.
    static let pauseMax: UInt64 = 5_000_000_000

    fileprivate var number: UInt64?
    private var pause = Headhunter.retryNanoseconds

    mutating func next() -> UInt64 {
        defer { pause = min(pause * 2, Self.pauseMax) }
        return pause
    }
}

/// What keeps a volume from its store or its disk. On the volume's loop, but for `report`.
final class Troubles: Sendable {
    struct Report: Sendable {
        var what: String
        /// On the monotonic clock.
        var since: UInt64
    }

    private struct State {
        var next: UInt64 = 0
        var open: [UInt64: String] = [:]
        var report: Report?
        var changed: (@Sendable (String?) -> Void)?
    }

    private let state = Guarded(State())

    /// Nil: there is none. From any thread.
    var report: Report? { state.withLock { $0.report } }

    /// Called when trouble begins, with what it is, and with nil when all of it is over.
    func whenChanged(_ changed: @escaping @Sendable (String?) -> Void) {
        let begun = state.withLock { state -> String? in
            state.changed = changed
            return state.report?.what
        }
        if let begun { changed(begun) }
    }

    func note(_ what: String, of trying: inout Trying, now: UInt64) {
        trying.number = note(what, of: trying.number, now: now)
    }

    private func note(_ what: String, of known: UInt64?, now: UInt64) -> UInt64 {
        let (number, begun) = state.withLock { state -> (UInt64, (@Sendable (String?) -> Void)?) in
            let number = known ?? state.next
            if known == nil { state.next += 1 }
            state.open[number] = what
            guard state.report == nil else {
                state.report?.what = what
                return (number, nil)
            }
            state.report = Report(what: what, since: now)
            return (number, state.changed)
        }
        begun?(what)
        return number
    }

    /// It went well, or is given up.
    func ease(_ trying: inout Trying) {
        guard let number = trying.number else { return }
        trying.number = nil
        let ended = state.withLock { state -> (@Sendable (String?) -> Void)? in
            state.open[number] = nil
            if let (_, what) = state.open.first {
                state.report?.what = what
                return nil
            }
            state.report = nil
            return state.changed
        }
        ended?(nil)
    }
}

extension Headhunter {
    /// What the store does not have yet.
    public struct StoreLag: Sendable, Equatable {
        /// Of data and of log records.
        public var bytes: UInt64
        /// How old the oldest of it is.
        public var nanoseconds: UInt64
        /// What the volume is kept by, and for how long.
        public var trouble: String?
        public var troubleNanoseconds: UInt64 = 0
    }

    /// From any thread.
    public var storeLag: StoreLag {
        let now = world.clock.monotonic()
        let staged = segments.lag
        gate.enterRead(0)
        let log = (bytes: logUncovered, since: [logSince, frozenSince].filter { $0 != 0 }.min())
        gate.leaveRead(0)
        let since = [staged.since, log.bytes > 0 ? log.since : nil].compactMap { $0 }.min()
        let report = troubles.report
        return StoreLag(
            bytes: UInt64(staged.bytes) + UInt64(clamping: log.bytes),
            // What was there when it was opened is of nobody knows when.
            nanoseconds: since.map { now - min(max($0, opened), now) } ?? 0, trouble: report?.what,
            troubleNanoseconds: report.map { now - min($0.since, now) } ?? 0)
    }

    /// Told once when trouble with the store or the disk begins, with nil when it is over.
    public func whenTroubled(_ changed: @escaping @Sendable (String?) -> Void) { troubles.whenChanged(changed) }

    func note(_ what: String, _ trying: inout Trying) {
        troubles.note(what, of: &trying, now: world.clock.monotonic())
    }

    func ease(_ trying: inout Trying) { troubles.ease(&trying) }
}
