import Runtime
import Synchronization

/// Another host of the same directory does something at a certain moment.
final class LateDisk: Disk, @unchecked Sendable {
    enum Moment: Equatable {
        /// Right behind a listing of a folder, the one with this number.
        case list(String, Int)
        /// Right before a file gets this name.
        case name(String)
    }

    private let inner: any Disk
    /// As vfat.
    var hasLinks = true
    private let moment: Moment
    private let act: @Sendable () -> Void
    private let state = Mutex((lists: 0, wasLate: false))

    init(_ inner: any Disk, behind moment: Moment, _ act: @escaping @Sendable () -> Void) {
        (self.inner, self.moment, self.act) = (inner, moment, act)
    }

    var wasLate: Bool { state.withLock { $0.wasLate } }

    /// As the host sees it that has this disk.
    func world(_ world: World) -> World {
        World(
            clock: world.clock, random: world.random, disk: self, network: world.network, blocking: world.blocking,
            loops: world.loops)
    }

    private func meet(_ moment: Moment) {
        guard moment == self.moment else { return }
        let isFirst = state.withLock { state in
            defer { state.wasLate = true }
            return !state.wasLate
        }
        if isFirst { act() }
    }

    func list(_ path: String, _ visit: (_ name: String, _ kind: FileKind) -> Bool) throws(Errno) {
        try inner.list(path, visit)
        guard case .list(path, _) = moment else { return }
        let count = state.withLock { state in
            state.lists += 1
            return state.lists
        }
        meet(.list(path, count))
    }

    func rename(_ from: String, to: String) throws(Errno) {
        meet(.name(to))
        try inner.rename(from, to: to)
    }

    func link(_ from: String, to: String) throws(Errno) {
        meet(.name(to))
        guard hasLinks else { throw .notPermitted }
        try inner.link(from, to: to)
    }

    func open(_ path: String, _ options: OpenOptions) throws(Errno) -> any DiskFile { try inner.open(path, options) }
    func makeDirectory(_ path: String) throws(Errno) { try inner.makeDirectory(path) }
    func removeDirectory(_ path: String) throws(Errno) { try inner.removeDirectory(path) }
    func remove(_ path: String) throws(Errno) { try inner.remove(path) }
    func status(_ path: String) throws(Errno) -> FileStatus { try inner.status(path) }
    func syncDirectory(_ path: String) throws(Errno) { try inner.syncDirectory(path) }
    func space() throws(Errno) -> DiskSpace { try inner.space() }
}
