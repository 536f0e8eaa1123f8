import Headhunter

extension Check {
    /// Where the file is, from the subvolume's root on; a part that has no name is shown as its number. For people:
    /// bytes that are not UTF-8 are replaced.
    public func path(of number: UInt64) async -> String {
        var parts: [String] = []
        var next = number
        var isRooted = false
        for _ in 0...Limits.depthMax {
            if next == LogFS.root {
                isRooted = true
                break
            }
            if let stream = inodes[next], stream.isStream {
                parts.append("stream \(next) of")
                next = stream.cookie
                continue
            }
            guard let inode = inodes[next], let name = await name(of: inode) else {
                parts.append("inode \(next)")
                break
            }
            parts.append(name)
            next = inode.parent
        }
        return (isRooted ? "/" : "") + parts.reversed().joined(separator: "/")
    }

    private func name(of inode: Inode) async -> String? {
        let id = inode.parent | KeyLayout.directorySpace
        do throws(Failure) {
            return try await files.run { reader in
                self.files.read(reader) { (records) throws(Halt) -> String? in
                    guard let value = try records.get(records.scratch.key(id, .cookie, inode.cookie)),
                        value.count > 10, value.u64(1) == inode.number
                    else { return nil }
                    return String(decoding: value.from(10), as: UTF8.self)
                }
            }.value
        } catch { return nil }
    }
}
