import Namespace
import Runtime

/// Who uses SMB, as commands show it.
public struct SMBReport: Sendable {
    /// Of each kind, that are shown at most.
    public static let rowsMax = 10_000

    public enum Part: CaseIterable, Sendable {
        case sessions
        case opens
        case locks
    }

    public struct Session: Sendable {
        public var id: UInt64
        /// Nil: a guest, or nobody in particular.
        public var user: String?
        public var isGuest: Bool
        public var byTicket: Bool
        public var address: String
        public var dialect: String
        public var isSigned: Bool
        public var isEncrypted: Bool
        public var shares: [String]
        public var opens: Int
    }

    public struct OpenFile: Sendable {
        /// Nil: its client is away.
        public var session: UInt64?
        public var user: String?
        public var share: String
        /// From the share's root on, as far as it is known.
        public var path: String
        public var inode: UInt64
        public var access: UInt32
        /// What it keeps for its client: an oplock or a lease.
        public var keeps: String
        public var isDurable: Bool
    }

    public struct Lock: Sendable {
        public var file: OpenFile
        public var isExclusive: Bool
        public var first: UInt64
        /// The last byte; `.max`: to the end.
        public var last: UInt64
    }

    public var sessions: [Session] = []
    public var opens: [OpenFile] = []
    public var locks: [Lock] = []

    mutating func add(_ other: SMBReport) {
        sessions += other.sessions.prefix(Self.rowsMax - sessions.count)
        opens += other.opens.prefix(Self.rowsMax - opens.count)
        locks += other.locks.prefix(Self.rowsMax - locks.count)
    }
}

extension SMBServer {
    /// So many opens are looked at in one turn of a loop: then others have theirs.
    private static let opensPerTurn = 64

    private struct Shown: Sendable {
        let open: OpenSummary
        let user: String?
        /// Nil: its client is away.
        let session: UInt64?
    }

    /// What there is at the moment of the question, loop by loop.
    public func report(_ parts: Set<SMBReport.Part> = Set(SMBReport.Part.allCases)) async -> SMBReport {
        var report = SMBReport()
        for loop in world.loops {
            let here = sessions.all(on: loop)
            report.add(
                await loop.task { [self] () async -> SMBReport in
                    var report = SMBReport()
                    var shown: [Shown] = []
                    for box in here { if let session = box.session { add(session, parts, to: &report, &shown) } }
                    await add(shown, parts, on: loop, to: &report)
                    return report
                }.value)
        }
        if !parts.isDisjoint(with: [.opens, .locks]) {
            let room = SMBReport.rowsMax - report.opens.count
            let away = durables.all.prefix(room).map { Shown(open: $0.shown, user: $0.user, session: nil) }
            let loop = world.loops[0]
            report.add(
                await loop.task { [self] () async -> SMBReport in
                    var report = SMBReport()
                    await add(away, parts, on: loop, to: &report)
                    return report
                }.value)
        }
        report.sessions.sort { ($0.user ?? "", $0.id) < ($1.user ?? "", $1.id) }
        return report
    }

    /// On the session's loop. Of its opens only what does not change: they may go while others have their turns.
    private func add(
        _ session: Session, _ parts: Set<SMBReport.Part>, to report: inout SMBReport, _ shown: inout [Shown]
    ) {
        guard let stream = session.stream, session.state != .inProgress else { return }
        if parts.contains(.sessions) {
            let dialect = stream.negotiation.dialect?.rawValue ?? 0
            report.sessions.append(
                SMBReport.Session(
                    id: session.id, user: session.user?.name, isGuest: session.isGuest, byTicket: session.end != nil,
                    address: "\(stream.connection.remoteAddress)",
                    dialect: "\(dialect >> 8).\(dialect >> 4 & 0xF)" + (dialect & 0xF == 0 ? "" : ".\(dialect & 0xF)"),
                    isSigned: session.requiresSigning, isEncrypted: session.isToldEncrypted,
                    shares: session.trees.values.map(\.share.name).sorted(), opens: session.opens.count))
        }
        guard !parts.isDisjoint(with: [.opens, .locks]) else { return }
        for open in session.opens.values.prefix(SMBReport.rowsMax - shown.count) {
            shown.append(Shown(open: OpenSummary(open), user: session.user?.name, session: session.id))
        }
    }

    private func add(
        _ shown: [Shown], _ parts: Set<SMBReport.Part>, on loop: EventLoop, to report: inout SMBReport
    ) async {
        for (index, one) in shown.enumerated() {
            if index > 0, index % Self.opensPerTurn == 0 { await loop.task { () async in }.value }
            add(one.open, one.user, session: one.session, parts, on: loop, to: &report)
        }
    }

    private func add(
        _ open: OpenSummary, _ user: String?, session: UInt64?, _ parts: Set<SMBReport.Part>, on loop: EventLoop,
        to report: inout SMBReport
    ) {
        let caller = Caller(.root, Request(reader: loop.index, now: world.clock.wall()))
        let file = SMBReport.OpenFile(
            session: session, user: user, share: open.share, path: path(of: open, caller),
            inode: open.file.inode, access: (open.held?.granted ?? .all).rawValue, keeps: keeps(open),
            isDurable: open.isDurable)
        if parts.contains(.opens) { report.opens.append(file) }
        guard parts.contains(.locks), let volume = open.volume, let held = open.held else { return }
        for lock in volume.heldLocks(of: held.lockOwner) where report.locks.count < SMBReport.rowsMax {
            report.locks.append(
                SMBReport.Lock(
                    file: file, isExclusive: lock.mode == .exclusive, first: lock.range.first, last: lock.range.last))
        }
    }

    private func path(of open: OpenSummary, _ caller: Caller) -> String {
        if let pipe = open.pipe { return pipe }
        guard let volume = open.volume, let held = open.held else { return "" }
        let root = open.root ?? volume.root
        var names: [[UInt8]] = []
        if let base = open.stream?.base {
            if case .done(let path, _) = volume.path(caller, of: base, below: root) { names = path }
        } else if let place = volume.name(of: held), held.file != root {
            // What would have to be fetched is not: the name says enough.
            if case .done(let path, _) = volume.path(caller, of: place.directory, below: root) { names = path }
            names.append(place.name)
        }
        let stream = open.stream.map { ":" + String(decoding: $0.name, as: UTF8.self) } ?? ""
        return "/" + names.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/") + stream
    }

    private func keeps(_ open: OpenSummary) -> String {
        switch open.oplock {
        case Oplock.second: return "level 2"
        case Oplock.exclusive: return "exclusive"
        case Oplock.batch: return "batch"
        case Oplock.lease:
            guard let key = open.held?.lease, let state = open.volume?.lease(key) else { return "" }
            let letters: [(LeaseState, String)] = [(.read, "R"), (.write, "W"), (.handle, "H")]
            return letters.filter { state.contains($0.0) }.map(\.1).joined()
        default: return ""
        }
    }
}
