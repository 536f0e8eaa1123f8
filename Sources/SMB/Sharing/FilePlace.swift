import Namespace
import Runtime

/// Where a name leads: all opens that came by the name share it, and a rename moves it for all of them.
final class FilePlace: Sendable {
    struct Path: Equatable, Sendable {
        /// As stored, below the share's root.
        var components: [[UInt8]]
        /// Of each directory on the way, the root first; the last one has the name.
        var ancestors: [FileID]

        var parent: FileID? { ancestors.last }
        var name: [UInt8]? { components.last }
    }

    private let state: Guarded<Path>
    let isDirectory: Bool

    init(_ path: Path, isDirectory: Bool) {
        state = Guarded(path)
        self.isDirectory = isDirectory
    }

    var path: Path {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }
}
