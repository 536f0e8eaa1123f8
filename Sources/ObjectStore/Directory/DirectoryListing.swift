import Runtime

/// Finds the next names of a `DirectoryStore` in byte order. On a thread of the pool.
///
/// It descends with a stack of folders. In memory are the names of one group, at most a page of other names, and the
/// groups' names of each folder on the stack.
struct DirectoryListing {
    static let limitMax = 10_000
    private let disk: any Disk
    private let table: DirectoryTable
    private let layout: DirectoryLayout
    private let prefix: String
    private let marker: String
    private let limit: Int
    private(set) var entries: [ListEntry] = []
    private(set) var isTruncated = false

    init(
        disk: any Disk, table: DirectoryTable, layout: DirectoryLayout, prefix: String, marker: String?, limit: Int
    ) {
        self.disk = disk
        self.table = table
        self.layout = layout
        self.prefix = prefix
        self.marker = marker ?? ""
        self.limit = min(limit, Self.limitMax)
    }

    /// One folder of objects on the way. An item is a name, or a folder's name with a `/` behind it: so that its place
    /// in the order is that of the names in it (`a-b` comes before `a/x`).
    private struct Folder {
        let path: String
        /// What all names in it begin with.
        let start: String
        /// Groups of numbers not yet read, the last one first.
        var groups: [String] = []
        var numbers: [String] = []
        var others: [String] = []
        /// There were more of the others than we kept; they come after this one.
        var othersAfter: String?
    }

    mutating func run() throws(Errno) {
        // The deepest folder that all wanted names share. What is no name finds nothing, and must not lead out of the
        // objects.
        let slash = prefix.utf8.lastIndex(of: UInt8(ascii: "/"))
        let parents = slash.map { String(prefix[..<$0]) } ?? ""
        guard parents.isEmpty || ObjectName(parents) != nil else { return }
        var stack: [Folder] = []
        stack.append(try open(parents.isEmpty ? "" : parents + "/"))
        while var folder = stack.popLast() {
            guard let item = try next(&folder) else { continue }
            stack.append(folder)
            if item.hasSuffix("/") {
                stack.append(try open(folder.start + item))
            } else if entries.count == limit {
                isTruncated = true
                return
            } else {
                try show(item, in: folder)
            }
        }
    }

    private func open(_ start: String) throws(Errno) -> Folder {
        let path = start.isEmpty ? layout.objects : layout.objects + "/" + start.dropLast()
        var folder = Folder(path: path, start: start)
        try read(&folder, after: nil)
        return folder
    }

    /// What was deleted while we looked is not there.
    private func list(_ path: String, _ visit: (String, FileKind) -> Void) throws(Errno) {
        do throws(Errno) {
            try disk.list(path) { name, kind in
                visit(name, kind)
                return true
            }
        } catch {
            guard error == .noEntry else { throw error }
        }
    }

    /// Reads what is in the folder: its groups, and the first of the other items after `item`.
    private func read(_ folder: inout Folder, after item: String?) throws(Errno) {
        var hashed: [String] = []
        var groups: [String] = []
        var page = SmallestNames(count: limit + 1)
        let start = folder.start
        func offer(_ found: String) {
            if let item, found <= item { return }
            if isWanted(start + found) { page.offer(found) }
        }
        try list(folder.path) { name, kind in
            guard kind == .directory else { return }
            if !name.hasPrefix("+") {
                offer(name + "/")
            } else if !DirectoryLayout.isOfNumbers(name) {
                hashed.append(name)
            } else if isGroupWanted(start + name.dropFirst()) {
                groups.append(name)
            }
        }
        for group in hashed {
            try list(folder.path + "/" + group) { name, kind in if kind == .file { offer(name) } }
        }
        if item == nil { folder.groups = groups.sorted(by: >) }
        folder.othersAfter = page.isCut ? page.largest : nil
        folder.others = page.takeDescending()
    }

    /// The folder's next item in byte order.
    private func next(_ folder: inout Folder) throws(Errno) -> String? {
        if folder.others.isEmpty, let after = folder.othersAfter { try read(&folder, after: after) }
        while folder.numbers.isEmpty, let group = folder.groups.popLast() {
            var numbers: [String] = []
            try list(folder.path + "/" + group) { name, kind in
                if kind == .file, isWanted(folder.start + name) { numbers.append(name) }
            }
            folder.numbers = numbers.sorted(by: >)
        }
        guard let number = folder.numbers.last else { return folder.others.popLast() }
        guard let other = folder.others.last, other < number else { return folder.numbers.popLast() }
        return folder.others.popLast()
    }

    private func isWanted(_ text: String) -> Bool {
        if text.hasSuffix("/") {
            // Some name in the folder may begin with the prefix and come after the marker.
            return (text.hasPrefix(prefix) || prefix.hasPrefix(text)) && (marker < text || marker.hasPrefix(text))
        }
        return text.hasPrefix(prefix) && marker < text
    }

    /// Whether names that begin with `start` can be among what is wanted.
    private func isGroupWanted(_ start: String) -> Bool {
        (start.hasPrefix(prefix) || prefix.hasPrefix(start)) && (marker < start || marker.hasPrefix(start))
    }

    private mutating func show(_ last: String, in folder: Folder) throws(Errno) {
        guard let name = ObjectName(folder.start + last) else { return }
        do throws(Errno) {
            let place = layout.place(name)
            let size = try disk.status(place.path).size
            try table.confirm(place.directory)
            entries.append(ListEntry(name: name, size: size))
        } catch {
            // Deleted while we looked.
            guard error == .noEntry else { throw error }
        }
    }
}

/// The smallest of all names that are offered: a heap with the largest of them on top.
struct SmallestNames {
    private let count: Int
    private var heap: [String] = []
    private(set) var isCut = false

    init(count: Int) { self.count = count }

    var largest: String? { heap.first }

    mutating func offer(_ name: String) {
        if heap.count < count {
            heap.append(name)
            var index = heap.count - 1
            while index > 0, heap[(index - 1) / 2] < heap[index] {
                heap.swapAt(index, (index - 1) / 2)
                index = (index - 1) / 2
            }
            return
        }
        isCut = true
        guard let top = heap.first, name < top else { return }
        heap[0] = name
        var index = 0
        while true {
            var child = 2 * index + 1
            guard child < heap.count else { return }
            if child + 1 < heap.count, heap[child] < heap[child + 1] { child += 1 }
            guard heap[index] < heap[child] else { return }
            heap.swapAt(index, child)
            index = child
        }
    }

    /// So that the smallest is the last.
    mutating func takeDescending() -> [String] {
        defer { heap = [] }
        return heap.sorted(by: >)
    }
}
