import Namespace

/// What was changed and is not known to be safe, in the order of changes. No I/O.
///
/// Invariant: a change counts as settled only after everything that was changed up to it has been synced.
struct PromiseTable {
    /// Files that are synced one by one; of more, the whole file system is.
    static let filesMax = 64

    struct Waiter {
        var number: UInt64
        var done: @Sendable (FileError?) -> Void
    }

    /// What one round of syncing has to do.
    struct Round {
        var number: UInt64
        /// Nil: everything.
        var files: [FileID]?
        var waiters: [Waiter]
    }

    private(set) var newest: UInt64 = 0
    private var settled: UInt64 = 0
    private var dirty: Set<FileID>? = []
    private var waiters: [Waiter] = []
    private var isSyncing = false

    mutating func changed(_ files: [FileID]) -> UInt64 {
        newest += 1
        guard var all = dirty else { return newest }
        dirty = []
        for file in files { all.insert(file) }
        dirty = all.count > Self.filesMax ? nil : all
        return newest
    }

    /// True: it is safe already, and nobody is told.
    mutating func isSettled(_ number: UInt64, else done: @escaping @Sendable (FileError?) -> Void) -> Bool {
        if number <= settled { return true }
        waiters.append(Waiter(number: number, done: done))
        return false
    }

    /// The next round, if there is something to do and none is under way.
    mutating func begin() -> Round? {
        guard !isSyncing, !waiters.isEmpty else { return nil }
        isSyncing = true
        defer {
            dirty = []
            waiters = []
        }
        return Round(number: newest, files: dirty.map { Array($0) }, waiters: waiters)
    }

    /// What was to be synced and was not is to be synced by the next round: all of it.
    mutating func end(_ round: Round, isGood: Bool) {
        isSyncing = false
        if isGood { settled = round.number } else { dirty = nil }
    }
}
