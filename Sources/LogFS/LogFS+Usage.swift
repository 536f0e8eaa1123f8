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
                case .done(let bytes, _): sums += Totals(bytes: bytes)
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

    private func unflushed(_ request: Request, _ number: UInt64, below directory: UInt64) -> Attempt<Int64> {
        files.locked(number) { state -> Attempt<Int64> in
            guard let state, !state.pieces.isEmpty else { return .done(0, number: 0) }
            return readWithWriter(request.reader) { (records, writer) throws(Halt) -> Int64 in
                guard let inode = try records.inode(number), inode.parent != 0 else { return 0 }
                let top = try records.slot(directory, writer)
                guard writer.totals.isAncestor(top, of: try records.slot(inode.parent, writer)) else { return 0 }
                var whole = inode
                FileTable.overlay(state.pieces, &whole, floor: changeFloor)
                return Int64(clamping: whole.size) - Int64(clamping: inode.size)
            }
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
            try records.scan(from: records.scratch.key(start, .inode), budget: budget) { (key, value) throws(Halt) in
                seen += 1
                let id = key.keyNumber(at: 0)
                guard id < KeyLayout.forkNumbers, found.count < limit || id == last else {
                    isAtEnd = id >= KeyLayout.forkNumbers
                    return false
                }
                last = id
                guard key.isKey(id, .inode) else { return true }
                guard let inode = Inode(id, value) else { throw .wrong(id, .inode) }
                if inode.links > 0, inode.parent != 0 { found.append(inode.id) }
                return true
            }
            let isAll = isAtEnd || seen < budget && found.count < limit
            return (found, isAll ? nil : last)
        }
    }
}
