import Runtime

/// Something that ends (a token, credentials), and is fetched anew before it does. On its loop only.
public final class Renewal<Value: Sendable>: @unchecked Sendable {
    /// So long before its end it is fetched, while the old one still serves; what lives less than twice as long, at half
    /// of its life.
    public static var leadSeconds: Int64 { 300 }
    /// A source that failed is not asked again at once.
    static var pauseNanoseconds: UInt64 { 1_000_000_000 }

    private struct Known {
        var value: Value
        var expires: Int64?
        var renews: Int64
    }

    private let fetch: @Sendable () async -> Result<(value: Value, expires: Int64?), StoreProblem>
    private let clock: any WorldClock
    private let loop: EventLoop
    private var known: Known?
    private var running: Task<Result<Value, StoreProblem>, Never>?
    private var failure: (problem: StoreProblem, time: UInt64)?

    /// `fetch` answers when the value ends, in seconds since 1970; nil: it does not.
    public init(
        clock: any WorldClock, loop: EventLoop,
        _ fetch: @escaping @Sendable () async -> Result<(value: Value, expires: Int64?), StoreProblem>
    ) {
        (self.clock, self.loop, self.fetch) = (clock, loop, fetch)
    }

    private var now: Int64 { clock.wall() / 1_000_000_000 }

    /// One that serves now.
    public func current() async throws(StoreProblem) -> Value {
        if let known {
            if now < known.renews { return known.value }
            let isGood = known.expires.map { now < $0 } ?? true
            let task = renew()
            if isGood { return known.value }
            return try await result(task)
        }
        return try await result(renew())
    }

    private func result(_ task: Task<Result<Value, StoreProblem>, Never>?) async throws(StoreProblem) -> Value {
        if let task { return try await task.value.get() }
        if let failure { throw failure.problem }
        throw StoreProblem(tried: "renewing", answer: "nothing", advice: "try again")
    }

    /// Nobody takes this one any more. Another one may have come meanwhile: that stays.
    public func refuse(_ isIt: (Value) -> Bool) {
        if let known, isIt(known.value) { self.known = nil }
    }

    /// One at a time, whoever asks.
    private func renew() -> Task<Result<Value, StoreProblem>, Never>? {
        if let running { return running }
        if let failure, loop.now - failure.time < Self.pauseNanoseconds { return nil }
        let fetch = fetch
        let task = loop.task { () async -> Result<Value, StoreProblem> in
            let result = await fetch()
            self.running = nil
            switch result {
            case .success(let fresh):
                self.known = Known(value: fresh.value, expires: fresh.expires, renews: self.renewal(fresh.expires))
                self.failure = nil
                return .success(fresh.value)
            case .failure(let problem):
                self.failure = (problem, self.loop.now)
                return .failure(problem)
            }
        }
        running = task
        return task
    }

    private func renewal(_ expires: Int64?) -> Int64 {
        guard let expires else { return .max }
        let (left, isLarge) = expires.subtractingReportingOverflow(now)
        guard !isLarge else { return .max }
        return left > 2 * Self.leadSeconds ? expires - Self.leadSeconds : now + max(left, 0) / 2
    }
}
