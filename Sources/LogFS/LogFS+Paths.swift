import Glibc
import Headhunter

/// Listing everything below a directory by whole path, in the byte order of the paths: `a-b` comes before `a/x`.
extension LogFS {
    /// Names and directories that one call looks at, at most; it may show fewer entries than it was asked for.
    private static let stepsMax = 1024

    /// Shows what lies below `directory` and has a path that begins with `prefix` and is not before `start`, until
    /// `limit` were shown or `visit` answers false. Answers the path to go on from; nil: that was all.
    ///
    /// Directories are shown with a slash at the end if `directories` is set. The path behind P itself is P with a 0;
    /// the one behind all that lies in the directory P is P with `0`, the byte after the slash.
    public func listPaths(
        _ request: Request, below directory: FileID, from start: [UInt8], prefix: [UInt8] = [],
        directories: Bool = false, limit: Int = Limits.listingMax,
        _ visit: (Listed, UnsafeRawBufferPointer) -> Bool
    ) -> Attempt<[UInt8]?> {
        let batch = Batch()
        let glance = glance
        let first = prefix.lexicographicallyPrecedes(start) ? start : prefix
        let limit = min(limit, Limits.listingMax)
        let attempt = read(request.reader) { (records) throws(Halt) -> [UInt8]? in
            batch.reset()
            let home = try records.directory(directory)
            var walk = try PathWalk(records, home.number, first)
            if walk.isAtDirectory, directories, let entry = walk.enteredAt, first.starts(with: prefix) {
                first.withUnsafeBytes { batch.append(entry, $0) }
            }
            var steps = 0
            while let step = try walk.next(records) {
                // None of them is before the prefix.
                guard step.path.starts(with: prefix) else {
                    walk.end()
                    break
                }
                steps += 1
                if !step.isDirectory || directories { step.path.withUnsafeBytes { batch.append(step.entry, $0) } }
                if batch.entries.count >= limit || steps >= Self.stepsMax { break }
            }
            try records.fill(batch)
            return try walk.position(records)
        }
        guard case .done(let next, _) = attempt else { return attempt }
        for index in batch.entries.indices {
            var inode = batch.inodes[index]
            if let record = inode, glance.isDirty { inode = completed(record, since: glance, request.reader) }
            let goOn = batch.withName(index) { path -> [UInt8]? in
                if visit(Listed(entry: batch.entries[index], inode: inode), path) { return nil }
                // A directory's own path is followed by what lies in it.
                return Array(path) + [0]
            }
            if let goOn { return .done(goOn, number: 0) }
        }
        return .done(next, number: 0)
    }
}

/// A place in the byte order of all paths below a directory.
///
/// In a directory's names `a` comes before `a-b`, but what lies in `a` comes behind it: a directory waits until the
/// next name is not before its own with a slash. Those that wait are in each other's names, so they form a stack.
private struct PathWalk {
    struct Level {
        let directory: UInt64
        /// Length of the path of the directory, with its slash.
        let pathCount: Int
        var names: [(name: [UInt8], entry: Entry)] = []
        var index = 0
        /// Where the names go on that were not fetched; nil: there are none.
        var rest: [UInt8]?
        var waiting: [(name: [UInt8], entry: Entry)] = []
    }

    struct Step {
        let path: [UInt8]
        let entry: Entry
        let isDirectory: Bool
    }

    private static let namesPerFetch = 64
    private var levels: [Level] = []
    private var path: [UInt8] = []
    /// The path that the walk began at is that of a directory, with its slash.
    private(set) var isAtDirectory = false
    private(set) var enteredAt: Entry?

    /// Begins with the first path that is not before `start`.
    init(_ records: Reading, _ directory: UInt64, _ start: [UInt8]) throws(Halt) {
        var level = Level(directory: directory, pathCount: 0)
        var rest = start[...]
        while let slash = rest.firstIndex(of: 0x2f) {
            let name = Array(rest[..<slash])
            // What comes before the directory's own names has been passed, so has all that sorts before its slash.
            level.rest = name + [0x2f]
            try wait(records, &level, name + [0x2f])
            levels.append(level)
            guard let entry = try Self.directory(records, level.directory, name) else { return }
            // It is being walked, it does not wait.
            levels[levels.count - 1].waiting.removeAll { $0.name == name }
            path += name + [0x2f]
            enteredAt = entry
            level = Level(directory: entry.inode, pathCount: path.count)
            rest = rest[(slash + 1)...]
            isAtDirectory = rest.isEmpty
        }
        level.rest = Array(rest)
        try wait(records, &level, Array(rest))
        levels.append(level)
    }

    /// Directories whose names are before `start` and whose content is not.
    private func wait(_ records: Reading, _ level: inout Level, _ start: [UInt8]) throws(Halt) {
        for count in 1..<max(1, min(start.count, Limits.nameBytesMax + 1)) where start[count] <= 0x2f {
            let name = Array(start[..<count])
            if let entry = try Self.directory(records, level.directory, name) { level.waiting.append((name, entry)) }
        }
    }

    private static func directory(_ records: Reading, _ home: UInt64, _ name: [UInt8]) throws(Halt) -> Entry? {
        guard !name.isEmpty, name.count <= Limits.nameBytesMax else { return nil }
        let found = name.withUnsafeBytes { name in
            Result { () throws(Halt) -> Entry? in try records.entry(home, name) }
        }
        guard let entry = try found.get(), entry.type == .directory else { return nil }
        return entry
    }

    /// The next path; a directory is entered with the step that shows it.
    mutating func next(_ records: Reading) throws(Halt) -> Step? {
        while !levels.isEmpty {
            guard let item = try peek(records) else {
                leave()
                continue
            }
            let top = levels.count - 1
            if item.isWaiting {
                levels[top].waiting.removeLast()
                // A directory is in one other: what leads to it from anywhere else may lead round in a circle.
                guard try records.inode(item.entry.inode)?.parent == levels[top].directory else {
                    throw .wrong(levels[top].directory | KeyLayout.directorySpace, .name)
                }
                path += item.name + [0x2f]
                levels.append(Level(directory: item.entry.inode, pathCount: path.count, rest: []))
                return Step(path: path, entry: item.entry, isDirectory: true)
            }
            levels[top].index += 1
            if item.entry.type == .directory {
                levels[top].waiting.append((item.name, item.entry))
                continue
            }
            return Step(path: path + item.name, entry: item.entry, isDirectory: false)
        }
        return nil
    }

    /// Leaves the directory that was entered last.
    mutating func leave() {
        levels.removeLast()
        guard let level = levels.last else { return }
        path.removeLast(path.count - level.pathCount)
    }

    mutating func end() { levels.removeAll() }

    /// What comes next in the innermost directory.
    private mutating func peek(_ records: Reading) throws(Halt) -> (name: [UInt8], entry: Entry, isWaiting: Bool)? {
        let top = levels.count - 1
        if levels[top].index == levels[top].names.count, let rest = levels[top].rest {
            try fetch(records, top, rest)
        }
        let next = levels[top].index < levels[top].names.count ? levels[top].names[levels[top].index] : nil
        if let waiting = levels[top].waiting.last {
            guard let next, next.name.lexicographicallyPrecedes(waiting.name + [0x2f]) else {
                return (waiting.name, waiting.entry, true)
            }
        }
        return next.map { ($0.name, $0.entry, false) }
    }

    private mutating func fetch(_ records: Reading, _ top: Int, _ start: [UInt8]) throws(Halt) {
        let id = levels[top].directory | KeyLayout.directorySpace
        var names: [(name: [UInt8], entry: Entry)] = []
        let start = Array(start.prefix(Limits.nameBytesMax + 2))
        let more = try start.withUnsafeBytes { start in
            Result { () throws(Halt) -> Bool in
                try records.scan(from: records.scratch.key(id, .name, start), budget: Self.namesPerFetch) {
                    (key, value) throws(Halt) in
                    guard key.isKey(id, .name) else { return false }
                    guard let entry = Entry(name: value) else { throw .wrong(id, .name) }
                    names.append((Array(key.from(KeyLayout.prefixCount)), entry))
                    return true
                }
            }
        }.get()
        levels[top].rest = more ? names.last.map { $0.name + [0] } : nil
        levels[top].names = names
        levels[top].index = 0
    }

    /// The path of what comes next; nil when nothing does.
    mutating func position(_ records: Reading) throws(Halt) -> [UInt8]? {
        while !levels.isEmpty {
            if let item = try peek(records) { return path + item.name + (item.isWaiting ? [0x2f] : []) }
            leave()
        }
        return nil
    }
}
