import LogFS

extension LogFileSystem {
    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, uid: UInt32, gid: UInt32, attributes: [ExtendedAttribute], seal: ContentSeal?,
        expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile> {
        guard let home = inner(directory), let wanted = inner(expected), let keeper = inner(shelf.directory) else {
            return .refused(.stale)
        }
        let attempt = shelf.name.withUnsafeBytes { shelved in
            files.place(
                inner(request), in: home, name, content, inner(new, uid, gid),
                attributes: attributes.map { LogFS::Attribute(name: $0.name, value: $0.value) }, seal: inner(seal),
                expected: wanted, shelf: LogFS::Shelf(directory: keeper, name: shelved))
        }
        return flushed(outer(attempt, request.reader) { outer($0) }, request, expected)
    }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile> {
        guard let home = inner(directory), let id = inner(file), let wanted = inner(expected),
            let keeper = inner(shelf.directory)
        else { return .refused(.stale) }
        let attempt = shelf.name.withUnsafeBytes { shelved in
            files.place(
                inner(request), in: home, name, id, seal: inner(seal), expected: wanted,
                shelf: LogFS::Shelf(directory: keeper, name: shelved))
        }
        // What is in the way is what the change has noted: the file that has the name, most times.
        return flushed(outer(attempt, request.reader) { outer($0) }, request, expected)
    }

    public func withdraw(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, expected: ExpectedFile,
        to shelf: Shelf?, leaving mark: ShelfMark?
    ) -> Attempt<Removed> {
        guard let home = inner(directory), let wanted = inner(expected) else { return .refused(.stale) }
        var keepers: (shelf: LogFS::FileID?, mark: LogFS::FileID?)
        if let shelf {
            keepers.shelf = inner(shelf.directory)
            guard keepers.shelf != nil else { return .refused(.stale) }
        }
        if let mark {
            keepers.mark = inner(mark.place.directory)
            guard keepers.mark != nil else { return .refused(.stale) }
        }
        let attempt = (shelf?.name ?? []).withUnsafeBytes { shelved in
            (mark?.place.name ?? []).withUnsafeBytes { marked in
                files.withdraw(
                    inner(request), in: home, name, expected: wanted,
                    to: keepers.shelf.map { LogFS::Shelf(directory: $0, name: shelved) },
                    leaving: keepers.mark.map {
                        let empty = LogFS::NewFile(type: .file, mode: 0, uid: mark?.uid ?? 0, gid: mark?.gid ?? 0)
                        return ShelfMarker(directory: $0, name: marked, file: empty)
                    })
            }
        }
        let removed = outer(attempt, request.reader) {
            Removed(file: outer($0.inode), directory: Changed(before: nil, after: outer($0.directory)))
        }
        return flushed(removed, request, expected)
    }

    public func unshelve(
        _ request: Request, _ shelf: Shelf, to directory: FileID, _ name: UnsafeRawBufferPointer,
        expected: ExpectedFile
    ) -> Attempt<Renamed> {
        guard let from = inner(shelf.directory), let to = inner(directory), let wanted = inner(expected) else {
            return .refused(.stale)
        }
        let attempt = shelf.name.withUnsafeBytes {
            files.rename(
                inner(request), from: from, $0, to: to, name, .replace, expected: wanted, movesLocked: true)
        }
        return flushed(outer(attempt, request.reader) { outer($0) }, request, expected)
    }

    public func setLock(
        _ request: Request, _ file: FileID, _ value: [UInt8]?, since change: UInt64
    ) -> Attempt<Attributes> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.setLock(inner(request), id, value, since: change), request.reader, id) { outer($0) }
    }
}
