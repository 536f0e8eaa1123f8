/// What a `Disk` takes for a path, in the real form as in the simulated one.
package enum DiskPath {
    /// Parts that are names; empty means the root. Nothing leads out of the root: no `..`, no leading `/`.
    package static func check(_ path: String) throws(Errno) {
        var start = 0
        var index = 0
        var isDots = true
        for byte in path.utf8 {
            switch byte {
            case 0: throw .invalid
            case UInt8(ascii: "/"):
                guard isName(index - start, isDots) else { throw .invalid }
                start = index + 1
                isDots = true
            case UInt8(ascii: "."): break
            default: isDots = false
            }
            index += 1
        }
        guard index == 0 || isName(index - start, isDots) else { throw .invalid }
    }

    /// The same for a path that must name something below the root.
    package static func checkBelow(_ path: String) throws(Errno) {
        guard !path.isEmpty else { throw .invalid }
        try check(path)
    }

    private static func isName(_ length: Int, _ isDots: Bool) -> Bool { length > (isDots ? 2 : 0) }

    /// The directory that holds what `path` names.
    package static func parent(of path: String) -> String {
        path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) } ?? ""
    }
}
