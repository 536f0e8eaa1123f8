import HTTP
import Namespace
import Runtime
import XML

/// What a bucket with object lock gives to new versions that bring no lock of their own.
struct BucketLock: Equatable, Sendable {
    struct Standard: Equatable, Sendable {
        var mode: FileLock.Mode
        var count: Int
        var isYears: Bool
    }

    static let daysMax = 36_500
    static let yearsMax = 100

    var standard: Standard?

    init() {}

    /// `<ObjectLockConfiguration><ObjectLockEnabled/><Rule><DefaultRetention><Mode/><Days/>`
    init(_ root: XMLElement) throws(S3Error) {
        guard root.name == "ObjectLockConfiguration", root.text("ObjectLockEnabled") == "Enabled" else {
            throw S3Error(.malformedXML)
        }
        try root.requireOnly("ObjectLockEnabled", "Rule")
        guard let rule = root["Rule"] else { return }
        try rule.requireOnly("DefaultRetention")
        try rule["DefaultRetention"]?.requireOnly("Mode", "Days", "Years")
        guard let retention = rule["DefaultRetention"], let word = retention.text("Mode"),
            let mode = FileLock.Mode(word: word)
        else { throw S3Error(.malformedXML) }
        let (days, years) = (retention.text("Days"), retention.text("Years"))
        guard (days == nil) != (years == nil), let count = Int(days ?? years ?? "") else {
            throw S3Error(.malformedXML)
        }
        guard count > 0 else {
            throw S3Error(.invalidRetentionPeriod, "Default retention period must be a positive integer value.")
        }
        guard count <= (days == nil ? Self.yearsMax : Self.daysMax) else {
            throw S3Error(.invalidRetentionPeriod, "Default retention period is too large.")
        }
        standard = Standard(mode: mode, count: count, isYears: days == nil)
    }

    /// As the bucket keeps it: a version, the mode or 0, whether years are meant, how many.
    var encoded: [UInt8] {
        guard let standard else { return [1, 0, 0, 0, 0] }
        return [
            1, standard.mode.rawValue, standard.isYears ? 1 : 0, UInt8(truncatingIfNeeded: standard.count),
            UInt8(truncatingIfNeeded: standard.count >> 8),
        ]
    }

    /// Nil: there is none.
    init?(_ bytes: [UInt8]) {
        guard bytes.count == 5 else { return nil }
        let (count, isYears) = (Int(bytes[3]) | Int(bytes[4]) << 8, bytes[2] == 1)
        guard let mode = FileLock.Mode(rawValue: bytes[1]), count <= (isYears ? Self.yearsMax : Self.daysMax) else {
            return
        }
        standard = Standard(mode: mode, count: count, isYears: isYears)
    }

    func write(into xml: inout XMLWriter) {
        xml.root("ObjectLockConfiguration") { xml in
            xml.element("ObjectLockEnabled", "Enabled")
            guard let standard else { return }
            xml.element("Rule") { xml in
                xml.element("DefaultRetention") { xml in
                    xml.element("Mode", standard.mode.word)
                    xml.element(standard.isYears ? "Years" : "Days", standard.count)
                }
            }
        }
    }

    /// For a version that is made at this time.
    func retention(_ now: Int64) -> FileLock.Retention? {
        guard let standard else { return nil }
        let days = Int64(standard.count) * (standard.isYears ? 365 : 1)
        let (until, isBeyond) = now.addingReportingOverflow(days * 86_400 * 1_000_000_000)
        return FileLock.Retention(mode: standard.mode, until: isBeyond ? .max : until)
    }
}

extension FileLock.Mode {
    init?(word: String) {
        switch word {
        case "GOVERNANCE": self = .governance
        case "COMPLIANCE": self = .compliance
        default: return nil
        }
    }

    var word: String {
        switch self {
        case .governance: "GOVERNANCE"
        case .compliance: "COMPLIANCE"
        }
    }
}

extension FileLock {
    private static let modeField = "x-amz-object-lock-mode"
    private static let untilField = "x-amz-object-lock-retain-until-date"
    private static let holdField = "x-amz-object-lock-legal-hold"

    /// From the fields of a request or a form.
    init(_ value: (String) -> String?) throws(S3Error) {
        self.init()
        let (mode, until) = (value(Self.modeField), value(Self.untilField))
        guard (mode == nil) == (until == nil) else {
            throw S3Error(
                .invalidArgument,
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied")
        }
        if let mode, let until { retention = try Retention(mode: mode, until: until) }
        switch value(Self.holdField) {
        case nil, "OFF": break
        case "ON": isHeld = true
        case let other?:
            throw S3Error(
                .invalidArgument, "Legal Hold must be either of 'ON' or 'OFF'",
                details: [("ArgumentName", Self.holdField), ("ArgumentValue", other)])
        }
    }

    func add(to fields: inout ResponseFields) {
        if let retention {
            fields.add(name: Self.modeField, retention.mode.word)
            fields.add(name: Self.untilField, Timestamp.extended(nanoseconds: retention.until))
        }
        if isHeld { fields.add(name: Self.holdField, "ON") }
    }
}

extension Bucket {
    /// What a version that is made now is locked with: what the request says, else what the bucket does.
    func lock(_ asked: FileLock, _ now: Int64) throws(S3Error) -> FileLock {
        guard let standing = settings.lock else {
            guard asked.isEmpty else { throw S3Error(.invalidRequest, "Bucket is missing Object Lock Configuration") }
            return asked
        }
        var lock = asked
        if let retention = asked.retention {
            guard retention.until > now else {
                throw S3Error(.invalidArgument, "The retain until date must be in the future!")
            }
        } else {
            lock.retention = standing.retention(now)
        }
        return lock
    }
}

extension FileLock.Retention {
    init(mode word: String, until text: String) throws(S3Error) {
        guard let mode = FileLock.Mode(word: word) else {
            throw S3Error(.invalidArgument, "Unknown wormMode directive.")
        }
        guard let seconds = Timestamp.extended(text),
            let (until, isBeyond) = Optional(
                seconds.multipliedReportingOverflow(by: 1_000_000_000)), !isBeyond
        else { throw S3Error(.invalidArgument, "The retain until date must be provided in ISO 8601 format") }
        self.init(mode: mode, until: until)
    }
}

/// Object lock: which versions may not go, until when.
extension S3Call {
    func getBucketLock() async throws(S3Error) {
        let bucket = try await open(.getBucketObjectLockConfiguration).bucket
        guard let lock = bucket.settings.lock else {
            throw S3Error(.noSuchObjectLock, "Object Lock configuration does not exist for this bucket")
        }
        var xml = XMLWriter()
        lock.write(into: &xml)
        try await respond(xml: xml)
    }

    func putBucketLock() async throws(S3Error) {
        let (bucket, actor) = try await open(.putBucketObjectLockConfiguration)
        let lock = try BucketLock(try await document())
        try await set(BucketSettings.lock, lock.encoded, bucket, actor) { (settings) throws(S3Error) in
            guard settings.versioning == .enabled else {
                throw S3Error(
                    .invalidBucketState,
                    "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
            }
        }
        respond()
    }

    /// Refuses a lock that who asks may not give to what he makes: as `actor`, who may make it, he will own it.
    func checkLock(_ lock: FileLock, _ bucket: Bucket, _ key: [UInt8], _ actor: Credential) throws(S3Error) {
        _ = try bucket.lock(lock, now)
        var actions: [S3Action] = []
        if lock.retention != nil { actions.append(.putObjectRetention) }
        if lock.isHeld { actions.append(.putObjectLegalHold) }
        for action in actions {
            let locker = try self.actor(action, bucket, key)
            guard [actor.uid, bucket.directory.uid, 0].contains(locker.uid) else { throw S3Error(.accessDenied) }
        }
    }

    /// Whether who asks wants to end locks of the mode GOVERNANCE, and may.
    func bypasses(_ bucket: Bucket, _ key: [UInt8]) throws(S3Error) -> Bool {
        guard request.value("x-amz-bypass-governance-retention")?.lowercased() == "true", let grant else {
            return false
        }
        switch try decide(.bypassGovernanceRetention, bucket, key) {
        case .deny: return false
        case .allow: return true
        case .none: return grant.credential.uid == bucket.directory.uid || grant.credential.uid == 0
        }
    }

    private func locked(
        _ action: S3Action
    ) async throws(S3Error) -> (bucket: Bucket, found: FoundVersion, lock: FileLock, actor: Credential) {
        let (bucket, actor) = try await open(action)
        guard bucket.settings.lock != nil else {
            throw S3Error(.invalidRequest, "Bucket is missing Object Lock Configuration")
        }
        let found = try await version(bucket, try ObjectKey.ifPath(request.key), actor)
        guard found.file.type == .file else { throw S3Error(.invalidRequest, "Directories have no locks.") }
        return (bucket, found, try await lock(found.file), actor)
    }

    /// Changes a version's lock as it is found, and looks again when it is another one by then.
    private func relock(
        _ action: S3Action, _ change: (inout FileLock, Bucket) throws(S3Error) -> Void
    ) async throws(S3Error) {
        for _ in 0..<Self.triesMax {
            var (bucket, found, lock, actor) = try await locked(action)
            let file = found.file
            try requireWriter(file, actor, bucket)
            let known = lock
            try change(&lock, bucket)
            if lock == known {
                // What it says may be somebody else's word, and not safe yet.
                try await settleAll(bucket)
                return respond()
            }
            let key = try ObjectKey.ifPath(request.key)
            var number: UInt64 = 0
            if !lock.isEmpty {
                number = try await keepWay(bucket, key)
                // A directory on the way may have got another name before it was told to keep it.
                if found.isNewest, try await locate(bucket.file, key.names, ownCaller)?.file != file.file { continue }
            }
            guard let set = try await setLock(lock, file) else { continue }
            number = max(number, set)
            try await settle(number)
            return respond()
        }
        throw S3Error(.operationAborted)
    }

    func getRetention() async throws(S3Error) {
        guard let retention = try await locked(.getObjectRetention).lock.retention else {
            throw S3Error(
                .noSuchObjectLockRetention, "The specified object does not have a ObjectLock configuration")
        }
        var xml = XMLWriter()
        xml.root("Retention") { xml in
            xml.element("Mode", retention.mode.word)
            xml.element("RetainUntilDate", Timestamp.extended(nanoseconds: retention.until))
        }
        try await respond(xml: xml)
    }

    func putRetention() async throws(S3Error) {
        // The body first: the lock is looked at when nothing that the client does can keep the answer waiting any more.
        let root = try await document()
        guard root.name == "Retention" else { throw S3Error(.malformedXML) }
        try root.requireOnly("Mode", "RetainUntilDate")
        var wanted: FileLock.Retention?
        if let mode = root.text("Mode"), let until = root.text("RetainUntilDate") {
            wanted = try FileLock.Retention(mode: mode, until: until)
            guard wanted.map({ $0.until > now }) == true else {
                throw S3Error(.invalidArgument, "The retain until date must be in the future!")
            }
        } else if !root.children.isEmpty {
            throw S3Error(.malformedXML)
        }
        try await relock(.putObjectRetention) { (lock, bucket) throws(S3Error) in
            if let old = lock.retention, old.until > now {
                // More is always allowed; less only of GOVERNANCE, to who may.
                let isMore = wanted.map { $0.until >= old.until && $0.mode.rawValue >= old.mode.rawValue } ?? false
                if !isMore {
                    guard old.mode == .governance, try bypasses(bucket, request.key) else {
                        throw S3Error(.accessDenied, "Access Denied because object protected by object lock.")
                    }
                }
            }
            lock.retention = wanted
        }
    }

    func getLegalHold() async throws(S3Error) {
        let lock = try await locked(.getObjectLegalHold).lock
        var xml = XMLWriter()
        xml.root("LegalHold") { $0.element("Status", lock.isHeld ? "ON" : "OFF") }
        try await respond(xml: xml)
    }

    func putLegalHold() async throws(S3Error) {
        let root = try await document()
        guard root.name == "LegalHold", let word = root.text("Status"), ["ON", "OFF"].contains(word) else {
            throw S3Error(.malformedXML)
        }
        try root.requireOnly("Status")
        try await relock(.putObjectLegalHold) { (lock, _) in lock.isHeld = word == "ON" }
    }

    /// The one who wrote it, or the bucket's owner.
    private func requireWriter(_ file: Attributes, _ actor: Credential, _ bucket: Bucket) throws(S3Error) {
        guard [file.uid, bucket.directory.uid, 0].contains(actor.uid) else { throw S3Error(.accessDenied) }
    }
}
