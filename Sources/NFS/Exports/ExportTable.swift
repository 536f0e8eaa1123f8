import Runtime

/// The exports that are served now. They change while the server runs: a request sees those of one moment.
public final class ExportTable: Sendable {
    public static let countMax = 4096
    public static let clientsMax = 1024

    private let current = Guarded(Snapshot([]))

    /// Immutable, so that loops share it without a lock held.
    final class Snapshot: Sendable {
        /// By path.
        let exports: [Export]
        private let byID: [UInt32: Int]

        init(_ exports: [Export]) {
            let sorted = exports.sorted { $0.path < $1.path }
            self.exports = sorted
            var byID: [UInt32: Int] = [:]
            for (index, export) in sorted.enumerated() { byID[export.id] = index }
            self.byID = byID
        }

        subscript(id: UInt32) -> Export? { byID[id].map { exports[$0] } }

        /// The export that `path` is in, the innermost one, and what of the path lies below it.
        func containing(_ path: String) -> (export: Export, rest: Substring)? {
            var found: (export: Export, rest: Substring)?
            for export in exports {
                let root = export.path == "/" ? "" : export.path
                guard path.hasPrefix(root) else { continue }
                let rest = path.dropFirst(root.count)
                guard rest.isEmpty || rest.hasPrefix("/") else { continue }
                if found.map({ $0.export.path.count < export.path.count }) ?? true { found = (export, rest) }
            }
            return found
        }
    }

    public init() {}

    var snapshot: Snapshot { current.withLock { $0 } }

    /// The exports from now on. False: too many, or two of one identity or path; nothing has changed then.
    public func replace(_ exports: [Export]) -> Bool {
        guard exports.count <= Self.countMax, exports.allSatisfy({ $0.clients.count <= Self.clientsMax }),
            Set(exports.map(\.id)).count == exports.count, Set(exports.map(\.path)).count == exports.count
        else { return false }
        let snapshot = Snapshot(exports)
        current.withLock { $0 = snapshot }
        return true
    }

    public var all: [Export] { snapshot.exports }
}
