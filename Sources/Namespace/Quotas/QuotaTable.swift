/// The quotas of a volume, and what counts towards them.
///
/// Invariants: a charge goes to all its subjects or to none. What is refunded was charged before; if a caller refunds more, the
/// sum stays at 0 and the call says so, so that the volume counts anew instead of stopping.
public struct QuotaTable {
    public static let subjectsMax = 1 << 20
    /// Subjects of one charge: the volume, a user, a group, and trees within trees.
    public static let subjectsPerChargeMax = 4096

    private var quotas: [QuotaSubject: Quota] = [:]

    public init() {}

    public subscript(subject: QuotaSubject) -> Quota? { quotas[subject] }
    public var count: Int { quotas.count }

    public var all: [QuotaSubject: Quota] { quotas }

    /// False: there are too many. Users and groups are counted without a limit, too; other subjects only with one.
    public mutating func setLimit(_ subject: QuotaSubject, _ limit: QuotaLimit, now: UInt64) -> Bool {
        guard quotas[subject] != nil || quotas.count < Self.subjectsMax else { return false }
        quotas[subject, default: Quota()].limit = limit
        quotas[subject]?.note(now)
        return true
    }

    /// What was counted, when a quota is new or when sums are made anew.
    public mutating func setUsage(_ subject: QuotaSubject, _ usage: QuotaUsage, now: UInt64) -> Bool {
        guard quotas[subject] != nil || quotas.count < Self.subjectsMax else { return false }
        quotas[subject, default: Quota()].usage = usage
        quotas[subject]?.note(now)
        return true
    }

    public mutating func remove(_ subject: QuotaSubject) { quotas[subject] = nil }

    // MARK: Charging

    /// The first of the subjects, each named once, that does not allow so much more; nil: all do. Subjects without an entry
    /// allow everything.
    public func refusal(
        _ subjects: [QuotaSubject], bytes: UInt64, files: UInt64 = 0, now: UInt64
    ) -> QuotaSubject? {
        precondition(subjects.count <= Self.subjectsPerChargeMax, "a charge has few subjects")
        for subject in subjects {
            guard let quota = quotas[subject] else { continue }
            if !quota.allows(bytes: bytes, files: files, now: now) { return subject }
            // Without a limit, too, the sum is one that 64 bits hold.
            if quota.usage.files.addingReportingOverflow(files).overflow { return subject }
        }
        return nil
    }

    /// The same, and charges all of them when none refuses. Subjects without an entry are not counted.
    /// `isUnstable`: the bytes were written and not flushed.
    public mutating func charge(
        _ subjects: [QuotaSubject], bytes: UInt64, files: UInt64 = 0, isUnstable: Bool = false, now: UInt64
    ) -> QuotaSubject? {
        if let refusal = refusal(subjects, bytes: bytes, files: files, now: now) { return refusal }
        for subject in subjects {
            update(subject, now) { usage in
                usage.bytes += bytes
                usage.files += files
                if isUnstable { usage.unstable += bytes }
                return true
            }
        }
        return nil
    }

    /// Adds what has come, whatever the limits say. A sum that 64 bits do not hold stays at the greatest.
    public mutating func add(_ subjects: [QuotaSubject], bytes: UInt64, files: UInt64 = 0, now: UInt64) {
        for subject in subjects {
            update(subject, now) { usage in
                let (bytes, tooMany) = usage.bytes.addingReportingOverflow(bytes)
                usage.bytes = tooMany ? .max : bytes
                let (files, tooManyFiles) = usage.files.addingReportingOverflow(files)
                usage.files = tooManyFiles ? .max : files
                return true
            }
        }
    }

    /// Gives back. False: there was less than that.
    public mutating func refund(
        _ subjects: [QuotaSubject], bytes: UInt64, files: UInt64 = 0, isUnstable: Bool = false, now: UInt64
    ) -> Bool {
        var isWhole = true
        for subject in subjects {
            let had = update(subject, now) { usage in
                let isCovered = usage.bytes >= bytes && usage.files >= files && (!isUnstable || usage.unstable >= bytes)
                usage.bytes -= min(usage.bytes, bytes)
                usage.files -= min(usage.files, files)
                if isUnstable { usage.unstable -= min(usage.unstable, bytes) }
                usage.unstable = min(usage.unstable, usage.bytes)
                return isCovered
            }
            isWhole = isWhole && had
        }
        return isWhole
    }

    /// Unstable bytes are in a safe place now. False: there were fewer.
    public mutating func settle(_ subjects: [QuotaSubject], bytes: UInt64, now: UInt64) -> Bool {
        var isWhole = true
        for subject in subjects {
            let had = update(subject, now) { usage in
                let isCovered = usage.unstable >= bytes
                usage.unstable -= min(usage.unstable, bytes)
                return isCovered
            }
            isWhole = isWhole && had
        }
        return isWhole
    }

    /// A file goes from one owner, group or tree to another: `to` is asked, `from` never says no. Subjects that are in both stay as
    /// they are.
    public mutating func move(
        from: [QuotaSubject], to: [QuotaSubject], bytes: UInt64, files: UInt64, now: UInt64
    ) -> QuotaSubject? {
        let leaving = from.filter { !to.contains($0) }
        let coming = to.filter { !from.contains($0) }
        if let refusal = charge(coming, bytes: bytes, files: files, now: now) { return refusal }
        _ = refund(leaving, bytes: bytes, files: files, now: now)
        return nil
    }

    /// Subjects that are not counted are covered.
    @discardableResult
    private mutating func update(_ subject: QuotaSubject, _ now: UInt64, _ change: (inout QuotaUsage) -> Bool) -> Bool {
        guard var quota = quotas[subject] else { return true }
        let isCovered = change(&quota.usage)
        quota.note(now)
        quotas[subject] = quota
        return isCovered
    }

    // MARK: Showing

    /// What is free for a caller of `room` bytes: the least that any of the subjects leaves.
    public func bytesFree(_ subjects: [QuotaSubject], of room: UInt64) -> UInt64 {
        subjects.reduce(room) { free, subject in quotas[subject].map { $0.bytesFree(of: free) } ?? free }
    }
}
