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

// MARK: - Room

extension Volume {
    /// Room as the caller has it: what quotas leave to him, else what the file system has. `file`: where he asks, for quotas of
    /// trees.
    public func space(_ caller: Caller, at file: FileID? = nil) -> Attempt<Space> {
        if let file, let passed = passed(caller, file, { $0.space($1, at: file) }) { return passed }
        if let file, fileSystem.isForeign(file) { return fileSystem.space(caller.request, at: file) }
        let attempt = fileSystem.space(caller.request)
        guard meter.isOn, case .done(let space, _) = attempt else { return attempt }
        return self.attempt { () throws(Halt) in
            var directory: FileID?
            if let file {
                let found = try attributes(caller, of: file)
                directory = file
                if found.type != .directory {
                    directory = try fileSystem.whereabouts(caller.request, of: file).get()?.directory
                }
            }
            let place = directory
            let shown = try meter.change { (state) throws(Halt) -> Space in
                let credential = caller.credential
                let owners: [QuotaSubject] = [.volume, .user(credential.uid), .group(credential.gid)]
                let places = try place.map { (place) throws(Halt) in try state.places(caller.request, place) }
                return state.space(space, owners + (places??.subjects ?? []))
            }
            return .done(shown, number: 0)
        }
    }
}

extension QuotaMeter.State {
    func space(_ whole: Space, _ subjects: [QuotaSubject]) -> Space {
        var space = whole
        for subject in subjects where !uncounted.contains(subject) {
            guard let quota = table[subject] else { continue }
            let bytes = quota.limit.hardBytes != 0 ? quota.limit.hardBytes : quota.limit.softBytes
            if bytes != 0 {
                space.bytes = min(space.bytes, bytes)
                space.bytesFree = min(space.bytesFree, bytes - min(bytes, quota.usage.bytes))
            }
            let files = quota.limit.hardFiles != 0 ? quota.limit.hardFiles : quota.limit.softFiles
            if files != 0 {
                space.files = min(space.files, files)
                space.filesFree = min(space.filesFree, files - min(files, quota.usage.files))
            }
        }
        // What lies outside a limit that is narrower than the use of the whole.
        space.bytesFree = min(space.bytesFree, space.bytes)
        space.filesFree = min(space.filesFree, space.files)
        return space
    }
}
