import Headhunter

extension Check {
    /// Where the file is, from the subvolume's root on; a part that has no name is shown as its number. For people:
    /// bytes that are not UTF-8 are replaced.
    public func path(of number: UInt64) async -> String {
        var parts: [String] = []
        var next = number
        var isRooted = false
        do throws(Failure) {
            for _ in 0...Limits.depthMax {
                if next == LogFS.root {
                    isRooted = true
                    break
                }
                if let owner = streamOwners[next] {
                    parts.append("stream \(next) of")
                    next = owner
                    continue
                }
                guard let inode = try await inode(next), let name = try await name(of: inode) else {
                    parts.append("inode \(next)")
                    break
                }
                parts.append(name)
                next = inode.parent
            }
        } catch { parts.append("inode \(next)") }
        return (isRooted ? "/" : "") + parts.reversed().joined(separator: "/")
    }

    private func name(of inode: Inode) async throws(Failure) -> String? {
        let id = inode.parent | KeyLayout.directorySpace
        let name = try await look { (records) throws(Halt) -> String? in
            guard let value = try records.get(records.scratch.key(id, .cookie, inode.cookie)),
                let entry = Entry(cookie: inode.cookie, value), entry.inode == inode.number
            else { return nil }
            return String(decoding: Entry.name(value), as: UTF8.self)
        }
        return name ?? nil
    }
}
