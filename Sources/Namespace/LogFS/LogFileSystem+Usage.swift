import LogFS

extension LogFileSystem {
    public func fileBytesMax(at file: FileID) -> UInt64 { Limits.fileBytesMax }

    public func isRepeated(_ request: Request) -> Attempt<Bool> {
        outer(files.isRepeated(inner(request)), request.reader) { $0 }
    }

    public func usage(_ request: Request, below directory: FileID) -> Attempt<DirectoryTotals> {
        guard let id = inner(directory) else { return .refused(.stale) }
        return outer(files.usage(inner(request), id), request.reader) {
            DirectoryTotals(
                files: UInt64(clamping: $0.files), directories: UInt64(clamping: $0.directories),
                bytes: UInt64(clamping: $0.bytes &+ $0.streams))
        }
    }

    public func files(
        _ request: Request, after inode: UInt64, limit: Int, _ visit: (Attributes) -> Void
    ) -> Attempt<UInt64?> {
        let attempt = outer(files.named(inner(request), after: inode, limit: limit), request.reader) { $0 }
        guard case .done(let batch, _) = attempt else { return attempt.with(nil) }
        // All, before any is shown: the call may have to be made again.
        var shown: [Attributes] = []
        for id in batch.found {
            switch outer(files.attributes(inner(request), id), request.reader, id, { (found: Inode) in outer(found) }) {
            case .done(let file, _): shown.append(file)
            case .refused: continue
            case .lacks(let lack): return .lacks(lack)
            }
        }
        for file in shown { visit(file) }
        return .done(batch.next, number: 0)
    }
}

extension Attempt {
    fileprivate func with<Other>(_ value: Other) -> Attempt<Other> {
        switch self {
        case .done(_, let number): .done(value, number: number)
        case .refused(let error): .refused(error)
        case .lacks(let lack): .lacks(lack)
        }
    }
}
