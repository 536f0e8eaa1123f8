/// What new files get from the directory where they are made ([MS-DTYP] 2.5.3.4, RFC 8881 6.4.3).
extension ACL {
    /// Nil: nothing is passed on, and the new file goes by its mode. Only a list that is kept in step with those above marks
    /// what it passes on as inherited.
    public func passedOn(toDirectory isDirectory: Bool) -> ACL? {
        let isKeptInStep = flags.contains(.autoInherited)
        let entries = passedOnEntries(toDirectory: isDirectory, isMarked: isKeptInStep)
        return entries.isEmpty ? nil : ACL(checked: entries, isKeptInStep ? .autoInherited : [])
    }

    private func passedOnEntries(toDirectory isDirectory: Bool, isMarked: Bool) -> [Entry] {
        var passed: [Entry] = []
        for entry in entries where entry.isInheritable {
            var child = entry
            child.flags.subtract(.inheritance)
            if isMarked { child.flags.insert(.inherited) } else { child.flags.remove(.inherited) }
            if !isDirectory {
                guard entry.flags.contains(.fileInherit) else { continue }
            } else {
                let goesOn = !entry.flags.contains(.noPropagate)
                if goesOn { child.flags.formUnion(entry.flags.intersection([.fileInherit, .directoryInherit])) }
                if !entry.flags.contains(.directoryInherit) {
                    // It is for files, which may be made further down.
                    guard goesOn else { continue }
                    child.flags.insert(.inheritOnly)
                }
            }
            passed.append(child)
        }
        return passed
    }

    /// The list after that of the directory above has changed: its own entries stay, inherited ones are made anew. Nil: it would have
    /// too many entries.
    public func inheriting(from parent: ACL, isDirectory: Bool) -> ACL? {
        if flags.contains(.protected) { return self }
        let own = entries.filter { !$0.flags.contains(.inherited) }
        return ACL(own + parent.passedOnEntries(toDirectory: isDirectory, isMarked: true), flags.union(.autoInherited))
    }

    /// In the order that Windows' editors keep: own denials, own grants, inherited ones as they came.
    public var canonical: ACL {
        let entries = entries
        func rank(_ entry: Entry) -> Int {
            if entry.flags.contains(.inherited) { return 2 }
            return entry.kind == .allow ? 1 : 0
        }
        let sorted = (0...2).flatMap { wanted in entries.filter { rank($0) == wanted } }
        return ACL(checked: sorted, flags)
    }

    public var isCanonical: Bool { canonical == self }
}
