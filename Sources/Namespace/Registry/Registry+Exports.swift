import Logging
import Runtime

/// An export of the configuration.
public struct DeclaredExport: Sendable {
    var volume = ""
    var export: ExportRecord
    let place: String

    public init(_ export: ExportRecord, place: String) {
        self.export = export
        self.place = place
    }
}

/// A share of the configuration.
public struct DeclaredShare: Sendable {
    let volume: String
    let share: ShareRecord
    let place: String

    public init(_ share: ShareRecord, volume: String, place: String) {
        self.share = share
        self.volume = volume
        self.place = place
    }
}

/// Exports, shares and quotas: each is kept in its volume.
extension Registry {
    /// What the configuration says of exports and shares, all of it.
    public func declare(_ exports: [DeclaredExport], _ shares: [DeclaredShare]) async throws(RegistryError) {
        var clean: [DeclaredExport] = []
        for var declared in exports {
            (declared.volume, declared.export.path) = try Self.parts(declared.export.path)
            declared.export.id = Self.identity(declared.export.path, besides: Set(clean.map(\.export.id)))
            clean.append(declared)
        }
        let all = clean
        try await change { (state) async throws(RegistryError) in
            state.declaredExports = all
            state.declaredShares = shares
        }
    }

    /// The same at every start, for it is in clients' handles (FNV-1a).
    private static func identity(_ path: String, besides taken: Set<UInt32>) -> UInt32 {
        var id = path.utf8.reduce(0x811c_9dc5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
        while id == 0 || taken.contains(id) { id &+= 1 }
        return id
    }

    private static func refuseDeclared(export path: String, _ state: State) throws(RegistryError) {
        if let declared = state.declaredExports.first(where: { $0.export.path == path }) {
            throw .declared("export \(path)", place: declared.place)
        }
    }

    private static func refuseDeclared(share folded: String, _ state: State) throws(RegistryError) {
        if let declared = state.declaredShares.first(where: { $0.share.name.lowercased() == folded }) {
            throw .declared("share \(declared.share.name)", place: declared.place)
        }
    }

    /// The volume that a path `/VOLUME/...` is in, and the path without what means nothing.
    public static func parts(_ path: String) throws(RegistryError) -> (volume: String, path: String) {
        let parts = path.split(separator: "/")
        guard path.hasPrefix("/"), let volume = parts.first, path.utf8.count <= ExportRecord.pathBytesMax,
            !parts.contains(where: { $0 == "." || $0 == ".." }), !path.utf8.contains(0)
        else { throw .invalid("\"\(path)\" is no path of an export: /VOLUME or /VOLUME/DIRECTORY") }
        return (String(volume), "/" + parts.joined(separator: "/"))
    }

    /// A directory below the root of a volume, without what means nothing: what a record takes.
    public static func directory(_ path: String) throws(RegistryError) -> String {
        let parts = path.split(separator: "/")
        let clean = parts.joined(separator: "/")
        guard clean.utf8.count <= ExportRecord.pathBytesMax, !parts.contains(where: { $0 == "." || $0 == ".." }),
            !clean.utf8.contains(0)
        else {
            throw .invalid("no directory: its path may have \(ExportRecord.pathBytesMax) bytes and no . or .. in it")
        }
        return clean
    }

    /// Makes an export, or puts it in the place of the one of its path.
    public func setExport(_ export: ExportRecord, mustBeNew: Bool) async throws(RegistryError) -> ExportRecord {
        let (volume, path) = try Self.parts(export.path)
        guard export.clients.count <= ExportRecord.clientsMax else {
            throw .tooMany("\(ExportRecord.clientsMax) clients of an export")
        }
        for client in export.clients where client.hosts.utf8.count > ExportRecord.hostBytesMax {
            throw .invalid(
                "the name of a client has \(client.hosts.utf8.count) bytes: it may have \(ExportRecord.hostBytesMax)")
        }
        return try await change { (state) async throws(RegistryError) -> ExportRecord in
            try Self.refuseDeclared(export: path, state)
            guard let records = state.volumes[volume]?.records else { throw .unknown("volume \(volume)") }
            let place = records.exports.firstIndex { $0.path == path }
            if place != nil, mustBeNew { throw .exists("an export \(path)") }
            if place == nil, !mustBeNew { throw .unknown("export \(path)") }
            guard place != nil || records.exports.count < Self.exportsPerVolumeMax else {
                throw .tooMany("\(Self.exportsPerVolumeMax) exports of a volume")
            }
            var new = export
            new.path = path
            let taken = Set(
                state.volumes.values.flatMap { $0.records.exports.map(\.id) } + state.declaredExports.map(\.export.id))
            if let place { new.id = records.exports[place].id }
            while new.id == 0 || (place == nil && taken.contains(new.id)) {
                new.id = UInt32(truncatingIfNeeded: random.next())
            }
            try await set("export/\(new.id)", new.record(), in: volume, state)
            if let place {
                state.volumes[volume]?.records.exports[place] = new
            } else {
                state.volumes[volume]?.records.exports.append(new)
            }
            return new
        }
    }

    public func removeExport(_ path: String) async throws(RegistryError) {
        let (volume, path) = try Self.parts(path)
        try await change { (state) async throws(RegistryError) in
            try Self.refuseDeclared(export: path, state)
            guard let records = state.volumes[volume]?.records,
                let place = records.exports.firstIndex(where: { $0.path == path })
            else { throw .unknown("export \(path)") }
            try await set("export/\(records.exports[place].id)", nil, in: volume, state)
            state.volumes[volume]?.records.exports.remove(at: place)
        }
    }

    // MARK: Shares

    public func setShare(
        _ share: ShareRecord, in volume: String, mustBeNew: Bool
    ) async throws(RegistryError) -> ShareRecord {
        guard (1...ShareRecord.nameBytesMax).contains(share.name.utf8.count),
            !share.name.unicodeScalars.contains(where: {
                "\\/[]:|<>+=;,*?\"".unicodeScalars.contains($0) || $0.value < 32
            }),
            share.comment.utf8.count <= ShareRecord.commentBytesMax
        else {
            throw .invalid(
                "\"\(share.name)\" is no name for a share: 1 to \(ShareRecord.nameBytesMax) bytes without any of "
                    + "\\ / [ ] : | < > + = ; , * ? \"")
        }
        let folded = share.name.lowercased()
        var share = share
        share.directory = try Self.directory(share.directory)
        let new = share
        return try await change { (state) async throws(RegistryError) -> ShareRecord in
            try Self.refuseDeclared(share: folded, state)
            guard let records = state.volumes[volume]?.records else { throw .unknown("volume \(volume)") }
            for (name, other) in state.volumes {
                let isTaken = other.records.shares.contains { $0.name.lowercased() == folded }
                if isTaken, mustBeNew || name != volume { throw .exists("a share \(new.name), in volume \(name)") }
                if name != volume, name.lowercased() == folded {
                    throw .exists("a share \(name): each volume is one of its own name")
                }
            }
            let place = records.shares.firstIndex { $0.name.lowercased() == folded }
            guard place != nil || records.shares.count < Self.sharesPerVolumeMax else {
                throw .tooMany("\(Self.sharesPerVolumeMax) shares of a volume")
            }
            try await set("share/" + folded, new.record(), in: volume, state)
            if let place {
                state.volumes[volume]?.records.shares[place] = new
            } else {
                state.volumes[volume]?.records.shares.append(new)
            }
            return new
        }
    }

    public func removeShare(_ name: String) async throws(RegistryError) {
        let folded = name.lowercased()
        try await change { (state) async throws(RegistryError) in
            try Self.refuseDeclared(share: folded, state)
            for (volume, attached) in state.volumes {
                guard let place = attached.records.shares.firstIndex(where: { $0.name.lowercased() == folded }) else {
                    continue
                }
                try await set("share/" + folded, nil, in: volume, state)
                state.volumes[volume]?.records.shares.remove(at: place)
                return
            }
            throw .unknown("share \(name) that was made by command")
        }
    }

    // MARK: Quotas

    public func setQuota(_ quota: QuotaRecord, in volume: String) async throws(RegistryError) {
        let limit = quota.limit
        for (soft, hard, what) in [
            (limit.softBytes, limit.hardBytes, "bytes"), (limit.softFiles, limit.hardFiles, "files"),
        ] where hard != 0 && soft > hard {
            throw .invalid("the soft limit of \(what), \(soft), is above the hard one, \(hard)")
        }
        guard limit.softBytes | limit.hardBytes | limit.softFiles | limit.hardFiles != 0 else {
            throw .invalid("a quota needs a limit: of bytes or of files, soft or hard")
        }
        var quota = quota
        quota.path = try Self.directory(quota.path)
        let new = quota
        try await change { (state) async throws(RegistryError) in
            guard let records = state.volumes[volume]?.records else { throw .unknown("volume \(volume)") }
            let place = records.quotas.firstIndex { $0.subject == new.subject }
            guard place != nil || records.quotas.count < Self.quotasPerVolumeMax else {
                throw .tooMany("\(Self.quotasPerVolumeMax) quotas of a volume")
            }
            try await set("quota/" + new.key, new.record(), in: volume, state)
            if let place {
                state.volumes[volume]?.records.quotas[place] = new
            } else {
                state.volumes[volume]?.records.quotas.append(new)
            }
        }
    }

    public func removeQuota(_ subject: QuotaSubject, in volume: String) async throws(RegistryError) {
        try await change { (state) async throws(RegistryError) in
            guard let records = state.volumes[volume]?.records else { throw .unknown("volume \(volume)") }
            guard let place = records.quotas.firstIndex(where: { $0.subject == subject }) else {
                throw .unknown("quota of that subject in volume \(volume)")
            }
            try await set("quota/" + records.quotas[place].key, nil, in: volume, state)
            state.volumes[volume]?.records.quotas.remove(at: place)
        }
    }
}
