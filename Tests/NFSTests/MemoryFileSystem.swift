import Bytes
import Namespace
import Runtime

/// Files in memory behind one lock, for the tests of front ends. It can be made to lack things, to refuse to flush, and
/// to keep its promises open.
final class MemoryFileSystem: FileSystem, @unchecked Sendable {
    fileprivate final class Node {
        var attributes: Attributes
        var data: [UInt8] = []
        var target: [UInt8] = []
        /// Sorted by cookie.
        var entries: [(name: [UInt8], file: UInt64, cookie: UInt64)] = []
        var nextCookie: UInt64 = 1
        var parent: UInt64
        var verifier: UInt64?
        init(_ attributes: Attributes, parent: UInt64) {
            self.attributes = attributes
            self.parent = parent
        }
    }

    struct State {
        fileprivate var nodes: [UInt64: Node] = [:]
        var nextInode: UInt64 = 2
        var number: UInt64 = 0
        var settled: UInt64 = .max
        /// How safe changes had to be.
        var words: [Durability] = []
        var waiting: [(number: UInt64, loop: EventLoop, done: @Sendable (FileError?) -> Void)] = []
        /// What was asked for is in memory once it was supplied, and until `chill`.
        var isCold = false
        var supplied = Set<String>()
        var lacks = 0
        var flushes = 0
        var flushError: FileError?
        var verifier: UInt64 = 77
        var tokens: [RequestToken?] = []
        var clock: Int64 = 1_000_000_000_000
        var settings: [[UInt8]: [UInt8]] = [:]
        /// Changes of settings wait; those that were made, in their order.
        var isSettingHeld = false
        var settingsWaiting = 0
        var settingsMade: [String] = []
        var lists: [UInt64: ACL] = [:]
        /// Opened and not closed.
        var openFiles = 0
        /// A cut is made, and then refused.
        var resizeFailure: FileError?
        /// Happens once, when something has been opened and before anybody is told.
        var meanwhile: (@Sendable () -> Void)?
    }

    private let state: Guarded<State>
    let root: FileID

    init(mode: UInt16 = 0o1777, subvolume: UInt32 = 1) {
        root = FileID(subvolume: subvolume, inode: 1, generation: 1)
        var first = State()
        var attributes = Attributes(file: root, type: .directory)
        attributes.mode = mode
        attributes.links = 2
        first.nodes[1] = Node(attributes, parent: 1)
        state = Guarded(first)
    }

    func with<Result>(_ body: (inout State) -> Result) -> Result { state.withLock { body(&$0) } }

    func chill() { with { $0.supplied = [] } }

    /// Lets all changes so far be safe, or says why they are not.
    func settle(_ failure: FileError? = nil) {
        let ready = with { state in
            state.settled = .max
            defer { state.waiting = [] }
            return state.waiting
        }
        for item in ready { item.loop.execute { item.done(failure) } }
    }

    // MARK: Inside

    private func run<Value>(
        isChange: Bool = false, _ request: Request, _ function: String = #function,
        _ body: (inout State) throws(FileError) -> Value
    ) -> Attempt<Value> {
        state.withLock { state in
            if state.isCold, !state.supplied.contains(function) {
                state.lacks += 1
                return .lacks(Lack { [self] () async throws(FileError) in with { _ = $0.supplied.insert(function) } })
            }
            do throws(FileError) {
                let value = try body(&state)
                guard isChange else { return .done(value, number: 0) }
                state.number += 1
                state.tokens.append(request.token)
                return .done(value, number: state.number)
            } catch { return .refused(error) }
        }
    }

    private func node(_ state: State, _ file: FileID) throws(FileError) -> Node {
        guard file.subvolume == root.subvolume, let node = state.nodes[file.inode],
            node.attributes.file.generation == file.generation
        else { throw .stale }
        return node
    }

    private func directory(_ state: State, _ file: FileID) throws(FileError) -> Node {
        let node = try node(state, file)
        guard node.attributes.type == .directory else { throw .notDirectory }
        return node
    }

    private func check(_ name: UnsafeRawBufferPointer) throws(FileError) -> [UInt8] {
        guard name.count <= 1000 else { throw .nameTooLong }
        let name = Array(name)
        guard !name.isEmpty, name != [46], name != [46, 46], !name.contains(0), !name.contains(47) else {
            throw .badName
        }
        return name
    }

    private func changed(_ node: Node, _ state: inout State, _ body: (Node) -> Void) -> Changed {
        let before = Fingerprint(node.attributes)
        body(node)
        state.clock += 1000
        node.attributes.changed = state.clock
        node.attributes.change += 1
        return Changed(before: before, after: node.attributes)
    }

    private func touched(_ directory: Node, _ state: inout State, _ body: (Node) -> Void) -> Changed {
        let time = state.clock
        return changed(directory, &state) { node in
            body(node)
            node.attributes.modified = time + 1000
        }
    }

    func setGroup(_ name: String, _ gid: UInt32) {
        with { state in
            let entry = state.nodes[1]?.entries.first { $0.name == Array(name.utf8) }
            if let entry { state.nodes[entry.file]?.attributes.gid = gid }
        }
    }

    // MARK: Settings and lists

    func setting(_ request: Request, _ name: UnsafeRawBufferPointer) -> Attempt<[UInt8]?> {
        run(request) { state throws(FileError) in state.settings[Array(name)] }
    }

    func setSetting(
        _ request: Request, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
    ) -> Attempt<Void> {
        let isHeld = with { state in
            if state.isSettingHeld { state.settingsWaiting += 1 }
            return state.isSettingHeld
        }
        if isHeld {
            return .lacks(
                Lack { [self] () async throws(FileError) in
                    while with({ $0.isSettingHeld }) { try? await Task.sleep(nanoseconds: 1_000_000) }
                })
        }
        return run(isChange: true, request) { state throws(FileError) in
            state.settings[Array(name)] = value.map { Array($0) }
            state.settingsMade.append((value == nil ? "removed " : "set ") + String(decoding: name, as: UTF8.self))
        }
    }

    func listSettings(
        _ request: Request, prefix: UnsafeRawBufferPointer, after name: UnsafeRawBufferPointer,
        _ visit: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Bool> {
        run(request) { state throws(FileError) in
            let after = Array(name)
            let names = state.settings.keys.filter { $0.starts(with: prefix) && after.lexicographicallyPrecedes($0) }
            for name in names.sorted(by: { $0.lexicographicallyPrecedes($1) }) { name.withUnsafeBytes { visit($0) } }
            return false
        }
    }

    func acl(_ request: Request, _ file: FileID) -> Attempt<ACL?> {
        run(request) { state throws(FileError) in state.lists[try node(state, file).attributes.file.inode] }
    }

    func setACL(_ request: Request, _ file: FileID, _ acl: ACL?, mode: UInt16) -> Attempt<Changed> {
        run(isChange: true, request) { state throws(FileError) in
            let node = try node(state, file)
            state.lists[file.inode] = acl
            return changed(node, &state) { node in
                node.attributes.mode = mode
                node.attributes.hasACL = acl != nil
            }
        }
    }

    // MARK: Looking

    func attributes(_ request: Request, _ file: FileID) -> Attempt<Attributes> {
        run(request) { state throws(FileError) in try node(state, file).attributes }
    }

    func lookup(_ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes> {
        run(request) { state throws(FileError) in
            let home = try self.directory(state, directory)
            let name = Array(name)
            if name == [46] { return home.attributes }
            if name == [46, 46], let parent = state.nodes[home.parent] { return parent.attributes }
            guard name.count <= 1000 else { throw .nameTooLong }
            guard let entry = home.entries.first(where: { $0.name == name }), let file = state.nodes[entry.file] else {
                throw .noEntry
            }
            return file.attributes
        }
    }

    func lookupFolded(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer,
        found: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Attributes> { .refused(.notSupported) }

    func target(_ request: Request, of link: FileID) -> Attempt<[UInt8]> {
        run(request) { state throws(FileError) in try node(state, link).target }
    }

    func list(
        _ request: Request, _ directory: FileID, after cookie: UInt64, limit: Int, attributes: Bool,
        _ visit: (Entry, UnsafeRawBufferPointer) -> Bool
    ) -> Attempt<Bool> {
        run(request) { state throws(FileError) in
            let home = try self.directory(state, directory)
            var shown = 0
            for entry in home.entries where entry.cookie > cookie {
                guard shown < limit, let node = state.nodes[entry.file] else { return false }
                shown += 1
                let shows = Entry(
                    file: node.attributes.file, type: node.attributes.type, cookie: entry.cookie,
                    attributes: attributes ? node.attributes : nil)
                if !entry.name.withUnsafeBytes({ visit(shows, $0) }) { return false }
            }
            return true
        }
    }

    func space(_ request: Request) -> Attempt<Space> {
        run(request) { _ in Space(bytes: 1 << 40, bytesFree: 1 << 39, files: 1 << 20, filesFree: 1 << 19) }
    }

    // MARK: Changing

    private func others() {
        with { state in
            defer { state.meanwhile = nil }
            return state.meanwhile
        }?()
    }

    func createNameless(
        _ request: Request, near directory: FileID, _ new: NewFile, uid: UInt32, gid: UInt32
    ) -> Attempt<Attributes> {
        defer { others() }
        return run(isChange: true, request) { state throws(FileError) in
            _ = try self.directory(state, directory)
            let inode = state.nextInode
            state.nextInode += 1
            let attributes = Attributes(
                file: FileID(subvolume: root.subvolume, inode: inode, generation: inode * 7), type: new.type)
            state.nodes[inode] = Node(attributes, parent: directory.inode)
            state.openFiles += 1
            return attributes
        }
    }

    func create(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ new: NewFile, uid: UInt32,
        gid: UInt32, _ disposition: Disposition
    ) -> Attempt<Created> {
        run(isChange: true, request) { state throws(FileError) in
            let home = try self.directory(state, directory)
            let name = try check(name)
            if let entry = home.entries.first(where: { $0.name == name }), let old = state.nodes[entry.file] {
                let same = Changed(before: Fingerprint(home.attributes), after: home.attributes)
                switch disposition {
                case .openOrCreate where old.attributes.type == .file:
                    return Created(file: old.attributes, directory: same, isNew: false)
                case .verified(let verifier) where old.verifier == verifier:
                    return Created(file: old.attributes, directory: same, isNew: false)
                default: throw .exists
                }
            }
            let inode = state.nextInode
            state.nextInode += 1
            var attributes = Attributes(
                file: FileID(subvolume: root.subvolume, inode: inode, generation: inode * 7), type: new.type)
            attributes.mode = new.mode
            attributes.uid = uid
            attributes.gid = gid
            attributes.links = new.type == .directory ? 2 : 1
            attributes.size = UInt64(new.target.count) + new.size
            attributes.major = new.major
            attributes.minor = new.minor
            attributes.modified = new.modified ?? state.clock
            attributes.accessed = new.accessed ?? state.clock
            attributes.changed = state.clock
            let node = Node(attributes, parent: directory.inode)
            node.target = new.target
            node.data = [UInt8](repeating: 0, count: Int(new.size))
            if case .verified(let verifier) = disposition { node.verifier = verifier }
            state.nodes[inode] = node
            let changed = touched(home, &state) { home in
                home.entries.append((name, inode, home.nextCookie))
                home.nextCookie += 1
                if new.type == .directory { home.attributes.links += 1 }
            }
            return Created(file: attributes, directory: changed, isNew: true)
        }
    }

    func remove(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, isDirectory: Bool
    ) -> Attempt<Removed> {
        run(isChange: true, request) { state throws(FileError) in
            let home = try self.directory(state, directory)
            let name = try check(name)
            guard let index = home.entries.firstIndex(where: { $0.name == name }),
                let node = state.nodes[home.entries[index].file]
            else { throw .noEntry }
            let found = node.attributes.type == .directory
            if isDirectory, !found { throw .notDirectory }
            if !isDirectory, found { throw .isDirectory }
            guard node.entries.isEmpty else { throw .notEmpty }
            node.attributes.links -= 1
            if node.attributes.links == 0 || found { state.nodes[node.attributes.file.inode] = nil }
            let changed = touched(home, &state) { $0.entries.remove(at: index) }
            return Removed(file: node.attributes, directory: changed)
        }
    }

    func rename(
        _ request: Request, from source: FileID, _ name: UnsafeRawBufferPointer, to target: FileID,
        _ newName: UnsafeRawBufferPointer, _ mode: RenameMode
    ) -> Attempt<Renamed> {
        run(isChange: true, request) { state throws(FileError) in
            let from = try self.directory(state, source)
            let to = try self.directory(state, target)
            let name = try check(name), newName = try check(newName)
            guard let entry = from.entries.first(where: { $0.name == name }), let node = state.nodes[entry.file] else {
                throw .noEntry
            }
            if let old = to.entries.first(where: { $0.name == newName }), let other = state.nodes[old.file] {
                guard other.entries.isEmpty else { throw .notEmpty }
                to.entries.removeAll { $0.name == newName }
                state.nodes[old.file] = nil
            }
            let left = touched(from, &state) { $0.entries.removeAll { $0.name == name } }
            let came = touched(to, &state) { to in
                to.entries.append((newName, entry.file, to.nextCookie))
                to.nextCookie += 1
            }
            node.parent = target.inode
            return Renamed(file: node.attributes, other: nil, source: left, target: came)
        }
    }

    func link(
        _ request: Request, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Created> {
        run(isChange: true, request) { state throws(FileError) in
            let node = try node(state, file)
            let home = try self.directory(state, directory)
            let name = try check(name)
            guard node.attributes.type != .directory else { throw .isDirectory }
            guard !home.entries.contains(where: { $0.name == name }) else { throw .exists }
            node.attributes.links += 1
            let changed = touched(home, &state) { home in
                home.entries.append((name, file.inode, home.nextCookie))
                home.nextCookie += 1
            }
            return Created(file: node.attributes, directory: changed, isNew: true)
        }
    }

    func setAttributes(_ request: Request, _ file: FileID, _ new: NewAttributes) -> Attempt<Changed> {
        run(isChange: true, request) { state throws(FileError) in
            let node = try node(state, file)
            if let time = new.ifChanged, time != node.attributes.changed { throw .notSynchronized }
            if let acl = new.acl { state.lists[file.inode] = acl }
            return changed(node, &state) { node in
                node.attributes.set(new)
                if new.acl != nil { node.attributes.hasACL = true }
            }
        }
    }

    // MARK: Data

    func open(_ request: Request, _ file: FileID) -> Attempt<Attributes> {
        defer { others() }
        return run(request) { state throws(FileError) in
            let attributes = try node(state, file).attributes
            state.openFiles += 1
            return attributes
        }
    }

    func close(_ request: Request, _ file: FileID) -> Attempt<Void> { run(request) { $0.openFiles -= 1 } }

    func read(
        _ request: Request, _ file: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<Int> {
        run(request) { state throws(FileError) in
            let data = try node(state, file).data
            guard offset < data.count else { return 0 }
            let count = min(buffer.count, data.count - Int(offset))
            data.withUnsafeBytes { source in
                buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[Int(offset)...].prefix(count)))
            }
            return count
        }
    }

    func readAll(
        _ file: FileID, at offset: UInt64, into buffer: SendableBuffer
    ) async throws(FileError) -> Int {
        with { _ = $0.supplied.insert("read(_:_:at:into:)") }
        switch read(Request(reader: 0, now: 0), file, at: offset, into: buffer.bytes) {
        case .done(let count, _): return count
        case .refused(let error): throw error
        case .lacks: throw .delay
        }
    }

    func write(
        _ request: Request, _ file: FileID, at offset: UInt64, _ bytes: UnsafeRawBufferPointer
    ) -> Attempt<Changed> {
        run(request) { state throws(FileError) in
            let node = try node(state, file)
            guard offset <= 1 << 24 else { throw .fileTooBig }
            let start = Int(offset)
            return touched(node, &state) { node in
                if node.data.count < start + bytes.count {
                    node.data += [UInt8](repeating: 0, count: start + bytes.count - node.data.count)
                }
                node.data.replaceSubrange(start..<(start + bytes.count), with: bytes)
                node.attributes.size = UInt64(node.data.count)
                node.attributes.allocated = UInt64(node.data.count)
            }
        }
    }

    func flush(_ file: FileID) async throws(FileError) -> UInt64 {
        let error = with { state in
            state.flushes += 1
            if state.flushError != nil { state.verifier += 1 }
            return state.flushError
        }
        if let error { throw error }
        return with { state in
            state.number += 1
            return state.number
        }
    }

    func resize(
        _ request: Request, _ file: FileID, to size: UInt64, _ others: NewAttributes
    ) async throws(FileError) -> (changed: Changed, number: UInt64) {
        with { _ = $0.supplied.insert("resize(_:_:to:_:)") }
        let attempt = run(isChange: true, request) { state throws(FileError) in
            let node = try node(state, file)
            return touched(node, &state) { node in
                node.data = Array(node.data.prefix(Int(size)))
                node.data += [UInt8](repeating: 0, count: Int(size) - node.data.count)
                node.attributes.set(others)
                node.attributes.size = size
            }
        }
        if let error = with({ $0.resizeFailure }) { throw error }
        switch attempt {
        case .done(let changed, let number): return (changed, number)
        case .refused(let error): throw error
        case .lacks: throw .delay
        }
    }

    func whenSettled(
        _ number: UInt64, _ durability: Durability, on loop: EventLoop, _ done: @escaping @Sendable (FileError?) -> Void
    ) {
        let isSettled = with { state in
            state.words.append(durability)
            if number <= state.settled { return true }
            state.waiting.append((number, loop, done))
            return false
        }
        if isSettled { done(nil) }
    }

    var writeVerifier: UInt64 { with { $0.verifier } }
}

extension Attributes {
    fileprivate mutating func set(_ new: NewAttributes) {
        if let value = new.mode { mode = value }
        if let value = new.uid { uid = value }
        if let value = new.gid { gid = value }
        if let value = new.accessed { accessed = value }
        if let value = new.modified { modified = value }
    }
}
