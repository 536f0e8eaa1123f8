extension Connection {
    /// When the connection will be too late, unless something happens before, and what it is then.
    private var deadline: (at: UInt64, CloseReason)? {
        if flags.contains(.closed) { return nil }
        if flags.contains(.opening) {
            let limit = flags.contains(.outgoing) ? limits.connectTimeout : limits.handshakeTimeout
            return (activeAt &+ limit, .openTimeout)
        }
        if flags.contains(.closing), flags.contains(.finished) {
            let last = concludedAt == .max ? UInt64.max : concludedAt &+ limits.lingerMax
            return (min(progressAt &+ limits.lingerTimeout, last), reason)
        }
        if flags.contains(.stalled) {
            return (progressAt &+ limits.writeTimeout, .writeTimeout)
        }
        var first: (at: UInt64, CloseReason)?
        if flags.contains(.partial), flags.isDisjoint(with: [.paused, .throttled]) {
            first = (partialSince &+ limits.messageTimeout, .messageTimeout)
        }
        if limits.idleTimeout > 0 {
            let idle = activeAt &+ limits.idleTimeout
            if first.map({ idle < $0.at }) ?? true { first = (idle, .idleTimeout) }
        }
        return first
    }

    /// Sees to it that the timer fires no later than the deadline. Deadlines move away with every byte, so the
    /// timer is not moved with them: it looks again when it fires.
    func armTimer() {
        guard let (at, _) = deadline, at < timerAt else { return }
        if let timer { loop.cancel(timer) }
        timerAt = at
        let now = loop.now
        timer = loop.schedule(after: at > now ? at - now : 0) { [weak self] in self?.timerFired() }
    }

    /// Since the output stalled, or since this was last asked.
    private func hasPeerRead() -> Bool {
        let unread = outputUnread
        guard unread < unreadThen else { return false }
        (unreadThen, progressAt) = (unread, loop.now)
        return true
    }

    private func timerFired() {
        timer = nil
        timerAt = .max
        guard let (at, why) = deadline else { return }
        guard at <= loop.now else { return armTimer() }
        if why == .writeTimeout, flags.contains(.stalled), hasPeerRead() { return armTimer() }
        // One that lingers behind its close has the close's reason, which may be the same.
        guard why == .idleTimeout, !flags.contains(.closing), let handler else { return abort(because: why) }
        activeAt = loop.now
        if handler.idle(self) { close(because: why) }
        armTimer()
    }
}
