/// Who or what has a quota.
public enum QuotaSubject: Hashable, Sendable {
    case volume
    /// All that lies in a directory and below.
    case tree(FileID)
    case user(UInt32)
    case group(UInt32)

    /// Of settings that are kept for it.
    var key: String {
        switch self {
        case .volume: "volume"
        case .tree(let file): "tree/\(file.subvolume)/\(file.inode)/\(file.generation)"
        case .user(let uid): "user/\(uid)"
        case .group(let gid): "group/\(gid)"
        }
    }
}

/// How much there may be. 0 stands for no limit.
public struct QuotaLimit: Equatable, Sendable {
    /// May be passed for the time of grace.
    public var softBytes: UInt64
    /// May never be passed.
    public var hardBytes: UInt64
    public var softFiles: UInt64
    public var hardFiles: UInt64
    public var graceNanoseconds: UInt64

    public static let graceDefault: UInt64 = 7 * 24 * 3600 * 1_000_000_000

    public init(
        softBytes: UInt64 = 0, hardBytes: UInt64 = 0, softFiles: UInt64 = 0, hardFiles: UInt64 = 0,
        graceNanoseconds: UInt64 = Self.graceDefault
    ) {
        self.softBytes = softBytes
        self.hardBytes = hardBytes
        self.softFiles = softFiles
        self.hardFiles = hardFiles
        self.graceNanoseconds = graceNanoseconds
    }
}

/// How much there is. Bytes that were written and are in no safe place yet count from the moment of the write.
public struct QuotaUsage: Equatable, Sendable {
    public var bytes: UInt64 = 0
    public var files: UInt64 = 0

    public init(bytes: UInt64 = 0, files: UInt64 = 0) {
        self.bytes = bytes
        self.files = files
    }
}

/// One subject's limit and use.
public struct Quota: Equatable, Sendable {
    public var limit: QuotaLimit
    public internal(set) var usage: QuotaUsage
    /// Since when, by the volume's clock, a soft limit has been passed; nil: it is not.
    public internal(set) var softBytesPassed: UInt64?
    public internal(set) var softFilesPassed: UInt64?

    public init(limit: QuotaLimit = QuotaLimit(), usage: QuotaUsage = QuotaUsage()) {
        self.limit = limit
        self.usage = usage
    }

    /// Whether so much more is allowed now. What takes nothing is always allowed, also beyond a limit that was lowered.
    func allows(bytes: UInt64, files: UInt64, now: UInt64) -> Bool {
        Self.allows(
            usage.bytes, bytes, limit.softBytes, limit.hardBytes, softBytesPassed, limit.graceNanoseconds, now)
            && Self.allows(
                usage.files, files, limit.softFiles, limit.hardFiles, softFilesPassed, limit.graceNanoseconds, now)
    }

    private static func allows(
        _ used: UInt64, _ more: UInt64, _ soft: UInt64, _ hard: UInt64, _ passed: UInt64?, _ grace: UInt64,
        _ now: UInt64
    ) -> Bool {
        if more == 0 { return true }
        let (sum, isBeyond) = used.addingReportingOverflow(more)
        if isBeyond || hard != 0 && sum > hard { return false }
        guard soft != 0, sum > soft, let passed else { return true }
        // A clock that was set back does not end the grace, one that runs on does.
        return now < passed || now - passed < grace
    }

    var grace: QuotaGrace { QuotaGrace(bytes: softBytesPassed, files: softFilesPassed) }

    /// Notes when a soft limit begins and ceases to be passed.
    mutating func note(_ now: UInt64) {
        let bytes = limit.softBytes != 0 && usage.bytes > limit.softBytes
        softBytesPassed = bytes ? softBytesPassed ?? now : nil
        let files = limit.softFiles != 0 && usage.files > limit.softFiles
        softFilesPassed = files ? softFilesPassed ?? now : nil
    }
}
