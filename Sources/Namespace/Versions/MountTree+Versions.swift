/// Older versions lie in the volume's own file system: what is mounted there keeps none.
extension MountTree {
    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, uid: UInt32, gid: UInt32, attributes: [ExtendedAttribute], seal: ContentSeal?,
        expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile> {
        guard shelf.directory.subvolume == directory.subvolume else { return .refused(.notSupported) }
        return changed(directory) {
            $0.place(
                request, in: directory, name, content, new, uid: uid, gid: gid, attributes: attributes, seal: seal,
                expected: expected, shelf: shelf)
        }
    }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile> {
        guard file.subvolume == directory.subvolume else { return .refused(.crossDevice) }
        guard shelf.directory.subvolume == directory.subvolume else { return .refused(.notSupported) }
        return changed(directory) {
            $0.place(request, in: directory, name, file, seal: seal, expected: expected, shelf: shelf)
        }
    }

    public func withdraw(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, expected: ExpectedFile,
        to shelf: Shelf?, leaving mark: ShelfMark?
    ) -> Attempt<Removed> {
        guard shelf.map({ $0.directory.subvolume == directory.subvolume }) ?? true,
            mark.map({ $0.place.directory.subvolume == directory.subvolume }) ?? true
        else { return .refused(.notSupported) }
        return changed(directory) {
            $0.withdraw(request, in: directory, name, expected: expected, to: shelf, leaving: mark)
        }
    }

    public func unshelve(
        _ request: Request, _ shelf: Shelf, to directory: FileID, _ name: UnsafeRawBufferPointer,
        expected: ExpectedFile
    ) -> Attempt<Renamed> {
        guard shelf.directory.subvolume == directory.subvolume else { return .refused(.notSupported) }
        return changed(directory) { $0.unshelve(request, shelf, to: directory, name, expected: expected) }
    }

    public func setLock(
        _ request: Request, _ file: FileID, _ value: [UInt8]?, since change: UInt64
    ) -> Attempt<Attributes> { changed(file) { $0.setLock(request, file, value, since: change) } }
}
