import Headhunter

/// What quotas count.
extension LogFS {
    /// The totals below a directory, and what its files have grown by since they were flushed. While nobody writes, a flush
    /// may move bytes from here to there, so both are looked at until none came between.
    public func usage(_ request: Request, _ id: FileID) -> Attempt<Totals> {
        while true {
            let flushes = files.flushCount
            let attempt = totals(request, id)
            guard case .done(var sums, _) = attempt else { return attempt }
            for inode in files.dirty() {
                switch unflushed(request, inode, below: id.inode) {
                case .done(let grown, _): sums += grown
                // It is gone, and its bytes with it.
                case .refused: continue
                case .missing: return .missing
                case .full: return .full
                case .busy: return .busy
                case .failed(let error): return .failed(error)
                }
            }
            if files.flushCount == flushes { return .done(sums, number: 0) }
        }
    }

    private func unflushed(_ request: Request, _ number: UInt64, below directory: UInt64) -> Attempt<Totals> {
        files.locked(number) { state -> Attempt<Totals> in
            guard let state, !state.pieces.isEmpty else { return .done(Totals(), number: 0) }
            return readWithWriter(request.reader) { (records, writer) throws(Halt) -> Totals in
                guard let inode = try records.inode(number) else { return Totals() }
                let home = try records.home(inode)
                guard home != 0 else { return Totals() }
                let top = try records.slot(directory, writer)
                guard writer.totals.isAncestor(top, of: try records.slot(home, writer)) else { return Totals() }
                var whole = inode
                FileTable.overlay(state.pieces, &whole, floor: changeFloor)
                let grown = Int64(clamping: whole.size) - Int64(clamping: inode.size)
                return inode.isStream ? Totals(streams: grown) : Totals(bytes: grown)
            }
        }
    }

    /// The file that a stream goes with; nil: it is none.
    public func owner(_ request: Request, ofStream id: FileID) -> Attempt<Inode?> {
        read(request.reader) { (records) throws(Halt) -> Inode? in
            let inode = try records.inode(id)
            return inode.isStream ? try records.inode(inode.cookie) : nil
        }
    }

    /// Bytes of all streams of a file, with what was written and not flushed.
    public func streamBytes(_ request: Request, of id: FileID) -> Attempt<UInt64> {
        let isDirty = files.hasDirty
        let attempt = read(request.reader) { (records) throws(Halt) in try records.inode(id) }
        guard case .done(let file, _) = attempt else { return attempt.with(0) }
        guard isDirty, file.hasStreams else { return .done(file.streamBytes, number: 0) }
        var sum: UInt64 = 0
        var last: [UInt8] = []
        while true {
            let attempt = last.withUnsafeBytes { streams(request, of: id, after: $0) }
            guard case .done(let some, _) = attempt, let name = some.last?.name else { return attempt.with(sum) }
            for stream in some { sum &+= stream.inode.size }
            last = name
        }
    }

    /// Files with names, in the order of their numbers, behind `number`; `next` is the number up to which these are all, nil
    /// when there are no more.
    public func named(_ request: Request, after number: UInt64, limit: Int) -> Attempt<(found: [FileID], next: UInt64?)>
    {
        read(request.reader) { (records) throws(Halt) in
            var found: [FileID] = []
            var last = number
            // The subvolume's own records come before the first inode, and what belongs to directories behind the last.
            let start = max(number, LogFS.root) + 1
            let budget = limit * 2
            var seen = 0
            var isAtEnd = false
            try records.scan(from: records.scratch.key(start, .inode), budget: budget) { key, value in
                seen += 1
                let id = key.keyNumber(at: 0)
                guard id < KeyLayout.forkNumbers, found.count < limit || id == last else {
                    isAtEnd = id >= KeyLayout.forkNumbers
                    return false
                }
                last = id
                guard key.isKey(id, .inode) else { return true }
                let inode = Inode(id, value)
                if inode.links > 0, inode.parent != 0 { found.append(inode.id) }
                return true
            }
            let isAll = isAtEnd || seen < budget && found.count < limit
            return (found, isAll ? nil : last)
        }
    }
}

extension Records {
    /// The directory where the file's bytes count; 0: none, as it has no name.
    fileprivate func home(_ inode: Inode) throws(Halt) -> UInt64 {
        guard inode.isStream else { return inode.parent }
        guard let owner = try self.inode(inode.cookie) else { return 0 }
        return owner.isDirectory && owner.links > 0 ? owner.number : owner.parent
    }
}
