import Headhunter

extension LogFS {
    /// Gives a file another name.
    public func link(
        _ request: Request, _ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Created> {
        let glance = glance
        let attempt = change(request.reader) { (edit) throws(Halt) -> Created in
            if try edit.answer(request) != nil {
                return Created(
                    inode: try edit.inode(file), directory: try edit.directory(directory), isNew: true)
            }
            var inode = try edit.inode(file)
            var home = try edit.directory(directory)
            try LogFS.check(name)
            guard !inode.isDirectory else { throw .refused(.isDirectory) }
            guard home.links > 0, inode.links > 0 else { throw .refused(.stale) }
            guard try edit.entry(home.number, name) == nil else { throw .refused(.exists) }
            try needSpace()
            guard inode.links < Limits.linksMax else { throw .refused(.tooManyLinks) }
            let slot = try edit.slot(home.number)
            if !inode.has(Inode.hasLinkRecords) {
                inode.flags |= Inode.hasLinkRecords
                edit.mark(edit.scratch.key(inode.number, .link, inode.parent, inode.cookie))
            }
            let cookie = edit.cookie(&home)
            edit.mark(edit.scratch.key(inode.number, .link, home.number, cookie))
            edit.putEntry(home.number, name, Entry(inode: inode.number, cookie: cookie, type: inode.type))
            inode.links += 1
            edit.touch(&inode, request.now)
            edit.store(inode)
            home.modified = request.now
            edit.touch(&home, request.now)
            edit.count(&home, slot, Totals(files: 1))
            edit.store(home)
            try edit.remember(request, inode.number)
            return Created(inode: inode, directory: home, isNew: true)
        }
        return created(attempt, since: glance, request.reader)
    }
}
