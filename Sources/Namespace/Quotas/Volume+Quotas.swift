import Runtime

/// What a quota says, as commands and clients are shown it.
public struct QuotaReport: Equatable, Sendable {
    public var subject: QuotaSubject
    public var limit: QuotaLimit
    public var usage: QuotaUsage
    /// When the time of grace ends, in nanoseconds since 1970; nil: the soft limit is not passed.
    public var bytesGraceEnd: UInt64?
    public var filesGraceEnd: UInt64?
    /// False: what there is has not been counted yet, so the limit does not bind.
    public var isCounted: Bool
}

extension Volume {
    /// Takes these for the volume's quotas. New ones bind as soon as what there is has been counted, on `loop`.
    public func setQuotas(_ quotas: [QuotaRecord], loop: EventLoop) {
        meter.set(quotas, clock: sharing.clock, loop: loop)
    }

    /// Limits and use of a subject; nil: it has no quota.
    public func quota(_ subject: QuotaSubject) -> QuotaReport? {
        guard meter.isOn, let (quota, isCounted) = meter.quota(subject) else { return nil }
        let grace = quota.limit.graceNanoseconds
        func end(_ passed: UInt64?) -> UInt64? {
            passed.map { $0.addingReportingOverflow(grace).overflow ? .max : $0 + grace }
        }
        return QuotaReport(
            subject: subject, limit: quota.limit, usage: quota.usage, bytesGraceEnd: end(quota.softBytesPassed),
            filesGraceEnd: end(quota.softFilesPassed), isCounted: isCounted)
    }

    /// The same for a caller: of users and groups he sees his own; root sees all.
    public func quota(_ caller: Caller, _ subject: QuotaSubject) throws(FileError) -> QuotaReport? {
        let credential = caller.credential
        switch subject {
        case .volume, .tree: break
        case .user(let uid): if credential.uid != 0, credential.uid != uid { throw .notPermitted }
        case .group(let gid): if credential.uid != 0, !credential.isMember(of: gid) { throw .notPermitted }
        }
        return quota(subject)
    }
}
