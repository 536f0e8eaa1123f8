import LogFS

/// An independent file system in memory, as plain as can be: what LogFS is compared with.
final class FileModel {
    final class Node {
        let type: FileType
        var id: FileID?
        var children: [[UInt8]: (node: Node, cookie: UInt64)] = [:]
        /// Of a directory: nil for the root and for removed ones.
        var parent: Node?
        var content: [UInt8] = []
        var links = 0
        var opens = 0
        /// The last that was seen.
        var change: UInt64 = 0
        var modified: Int64 = 0
        var mode: UInt16
        /// The directory and cookie that the bytes count at.
        var names: [(directory: Node, cookie: UInt64)] = []
        var xattrs: [[UInt8]: [UInt8]] = [:]
        var home: (directory: Node, cookie: UInt64)?

        init(_ type: FileType, mode: UInt16) {
            self.type = type
            self.mode = mode
        }

        var isDirectory: Bool { type == .directory }
    }

    let root = Node(.directory, mode: 0o1777)

    /// Without the root.
    func all(below directory: Node) -> [Node] {
        var found: [Node] = []
        var stack = [directory]
        while let next = stack.popLast() {
            for (_, child) in next.children {
                found.append(child.node)
                if child.node.isDirectory { stack.append(child.node) }
            }
        }
        return found
    }

    func directories() -> [Node] { [root] + all(below: root).filter(\.isDirectory) }

    func totals(_ directory: Node) -> Totals {
        var totals = Totals()
        var stack = [directory]
        while let next = stack.popLast() {
            for (_, child) in next.children {
                if child.node.isDirectory {
                    totals.directories += 1
                    stack.append(child.node)
                } else {
                    totals.files += 1
                    if let home = child.node.home, home.directory === next, home.cookie == child.cookie {
                        totals.bytes += Int64(child.node.content.count)
                    }
                }
            }
        }
        return totals
    }

    func isAncestor(_ node: Node, of other: Node) -> Bool {
        var place: Node? = other
        while let at = place {
            if at === node { return true }
            place = at.parent
        }
        return false
    }

    static func fold(_ name: [UInt8]) -> [UInt8] {
        guard let text = String(validating: name, as: UTF8.self) else {
            return name.map { $0 >= 0x41 && $0 <= 0x5a ? $0 + 32 : $0 }
        }
        return Array(text.lowercased().utf8)
    }

    // MARK: Operations; each answers what LogFS must answer.

    static func check(_ name: [UInt8]) -> FileError? {
        if name.count > 1000 { return .nameTooLong }
        if name.isEmpty || name == [0x2e] || name == [0x2e, 0x2e] || name.contains(0x2f) || name.contains(0) {
            return .badName
        }
        return nil
    }

    func add(_ node: Node, to directory: Node, _ name: [UInt8], cookie: UInt64) {
        directory.children[name] = (node, cookie)
        if node.isDirectory {
            node.parent = directory
            node.links = 2
        } else {
            node.links += 1
            node.names.append((directory, cookie))
            if node.home == nil { node.home = (directory, cookie) }
        }
    }

    /// Takes a name away; the bytes go to the name that is first by (directory, cookie).
    func take(_ name: [UInt8], from directory: Node) {
        guard let child = directory.children.removeValue(forKey: name) else { return }
        let node = child.node
        if node.isDirectory {
            node.parent = nil
            node.links = 0
            return
        }
        node.links -= 1
        node.names.removeAll { $0.directory === directory && $0.cookie == child.cookie }
        if let home = node.home, home.directory === directory, home.cookie == child.cookie {
            node.home = node.names.min {
                ($0.directory.id?.inode ?? 0, $0.cookie) < ($1.directory.id?.inode ?? 0, $1.cookie)
            }
        }
    }

    /// A name moves to another place and stays what it is.
    func moveName(_ node: Node, from: (directory: Node, cookie: UInt64), to: (directory: Node, cookie: UInt64)) {
        if node.isDirectory {
            node.parent = to.directory
            return
        }
        node.names.removeAll { $0.directory === from.directory && $0.cookie == from.cookie }
        node.names.append(to)
        if let home = node.home, home.directory === from.directory, home.cookie == from.cookie { node.home = to }
    }

    func renameProblem(
        _ source: Node, _ name: [UInt8], _ target: Node, _ newName: [UInt8], _ mode: RenameMode
    ) -> FileError? {
        if let problem = Self.check(name) ?? Self.check(newName) { return problem }
        guard let node = source.children[name]?.node else { return .noEntry }
        let other = target.children[newName]?.node
        if mode == .refuseIfThere, other != nil { return .exists }
        if mode == .exchange, other == nil { return .noEntry }
        if node.isDirectory, source !== target, isAncestor(node, of: target) { return .loop }
        guard let other, other !== node else { return nil }
        if mode == .exchange {
            return other.isDirectory && source !== target && isAncestor(other, of: source) ? .loop : nil
        }
        if other.isDirectory, !node.isDirectory { return .isDirectory }
        if node.isDirectory, !other.isDirectory { return .notDirectory }
        if other.isDirectory, !other.children.isEmpty { return .notEmpty }
        return nil
    }

    /// Whole paths of everything that is no directory, in byte order.
    func paths() -> [[UInt8]] {
        var found: [[UInt8]] = []
        var stack: [(Node, [UInt8])] = [(root, [])]
        while let (node, path) = stack.popLast() {
            for (name, child) in node.children {
                let whole = path + name
                if child.node.isDirectory { stack.append((child.node, whole + [0x2f])) } else { found.append(whole) }
            }
        }
        return found.sorted { $0.lexicographicallyPrecedes($1) }
    }
}
