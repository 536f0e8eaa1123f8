/// The quotas of a volume, and what counts towards them.
///
/// Invariants: a charge goes to all its subjects or to none. What is refunded was charged before; if a caller refunds more, the
/// sum stays at 0 and the call says so, so that the volume counts anew instead of stopping.
public struct QuotaTable {
    public static let subjectsMax = 1 << 20
    /// Subjects of one charge: the volume, a user, a group, and trees within trees.
    public static let subjectsPerChargeMax = 4096

    private var quotas: [QuotaSubject: Quota] = [:]
    /// Subjects whose grace began or ended, until it is kept.
    var graceChanges: Set<QuotaSubject> = []
    /// Graces that ran before the change that is being made.
    private var running: [QuotaSubject: QuotaGrace] = [:]

    public init() {}

    public subscript(subject: QuotaSubject) -> Quota? { quotas[subject] }
    public var count: Int { quotas.count }

    public var all: [QuotaSubject: Quota] { quotas }

    /// False: there are too many. Users and groups are counted without a limit, too; other subjects only with one.
    public mutating func setLimit(_ subject: QuotaSubject, _ limit: QuotaLimit, now: UInt64) -> Bool {
        guard quotas[subject] != nil || quotas.count < Self.subjectsMax else { return false }
        quotas[subject, default: Quota()].limit = limit
        running[subject] = nil
        update(subject, now) { _ in true }
        return true
    }

    /// What was counted, when a quota is new or when sums are made anew.
    public mutating func setUsage(_ subject: QuotaSubject, _ usage: QuotaUsage, now: UInt64) -> Bool {
        guard quotas[subject] != nil || quotas.count < Self.subjectsMax else { return false }
        if quotas[subject] == nil { quotas[subject] = Quota() }
        running[subject] = nil
        update(subject, now) { known in
            known = usage
            return true
        }
        return true
    }

    public mutating func remove(_ subject: QuotaSubject) {
        if quotas.removeValue(forKey: subject) != nil { graceChanges.insert(subject) }
        running[subject] = nil
    }

    /// The change is made: what it gave back and took again has passed no limit anew.
    mutating func settle() {
        guard !running.isEmpty else { return }
        for (subject, grace) in running { resume(subject, grace) }
        running.removeAll(keepingCapacity: true)
    }

    /// A grace that began in an earlier life of the server goes on, if the limit still is passed.
    mutating func resume(_ subject: QuotaSubject, _ grace: QuotaGrace?) {
        guard var quota = quotas[subject] else { return }
        quota.softBytesPassed = quota.softBytesPassed.map { min($0, grace?.bytes ?? $0) }
        quota.softFilesPassed = quota.softFilesPassed.map { min($0, grace?.files ?? $0) }
        quotas[subject] = quota
        graceChanges.insert(subject)
    }

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
        _ subjects: [QuotaSubject], bytes: UInt64, files: UInt64 = 0, now: UInt64
    ) -> Bool {
        var isWhole = true
        for subject in subjects {
            if let grace = quotas[subject]?.grace, grace.runs, running[subject] == nil { running[subject] = grace }
            let had = update(subject, now) { usage in
                let isCovered = usage.bytes >= bytes && usage.files >= files
                usage.bytes -= min(usage.bytes, bytes)
                usage.files -= min(usage.files, files)
                return isCovered
            }
            isWhole = isWhole && had
        }
        return isWhole
    }

    /// Subjects that are not counted are covered.
    @discardableResult
    private mutating func update(_ subject: QuotaSubject, _ now: UInt64, _ change: (inout QuotaUsage) -> Bool) -> Bool {
        guard var quota = quotas[subject] else { return true }
        let isCovered = change(&quota.usage)
        let grace = quota.grace
        quota.note(now)
        if quota.grace != grace { graceChanges.insert(subject) }
        quotas[subject] = quota
        return isCovered
    }
}
