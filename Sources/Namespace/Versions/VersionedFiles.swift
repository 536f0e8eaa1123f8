/// A directory of the server's own, and the name there that a file gets when it gives up the one it has.
public struct Shelf: Equatable, Sendable {
    public var directory: FileID
    public var name: [UInt8]

    public init(directory: FileID, name: [UInt8]) { (self.directory, self.name) = (directory, name) }
}

/// An empty file on a shelf that says that from then on there was no file.
public struct ShelfMark: Equatable, Sendable {
    public var place: Shelf
    public var uid: UInt32
    public var gid: UInt32

    public init(_ place: Shelf, uid: UInt32, gid: UInt32) { (self.place, self.uid, self.gid) = (place, uid, gid) }
}

/// The part of a file system that keeps older versions of files: a file gives up its name and gets another one in one
/// change. A file system that has none answers `.notSupported`.
public protocol VersionedFiles {
    /// As `place` without a shelf; the file that has the name goes there.
    func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, uid: UInt32, gid: UInt32, attributes: [ExtendedAttribute], seal: ContentSeal?,
        expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile>
    func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile>
    /// Takes a name from a file, no directory, that is expected there; it goes to the shelf, or nowhere. The mark comes in the same
    /// change, on the same shelf if there is one.
    func withdraw(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, expected: ExpectedFile,
        to shelf: Shelf?, leaving mark: ShelfMark?
    ) -> Attempt<Removed>
    /// Brings a file back from a shelf, in the place of what is expected there, which goes.
    func unshelve(
        _ request: Request, _ shelf: Shelf, to directory: FileID, _ name: UnsafeRawBufferPointer,
        expected: ExpectedFile
    ) -> Attempt<Renamed>
    /// Gives a file a lock (`FileLock`), another one or none, if it has not changed since; else `.stale`. While it has one, no
    /// change of its data is made, and no name of it goes but by `ExpectedFile.judged`.
    func setLock(_ request: Request, _ file: FileID, _ value: [UInt8]?, since change: UInt64) -> Attempt<Attributes>
}

extension FileSystem {
    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer,
        _ new: NewFile, uid: UInt32, gid: UInt32, attributes: [ExtendedAttribute], seal: ContentSeal?,
        expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile> { .refused(.notSupported) }

    public func place(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, _ file: FileID, seal: ContentSeal?,
        expected: ExpectedFile, shelf: Shelf
    ) -> Attempt<PlacedFile> { .refused(.notSupported) }

    public func unshelve(
        _ request: Request, _ shelf: Shelf, to directory: FileID, _ name: UnsafeRawBufferPointer,
        expected: ExpectedFile
    ) -> Attempt<Renamed> { .refused(.notSupported) }

    public func setLock(
        _ request: Request, _ file: FileID, _ value: [UInt8]?, since change: UInt64
    ) -> Attempt<Attributes> { .refused(.notSupported) }

    /// Where others change files beside this server nothing can be compared and taken away in one step.
    public func withdraw(
        _ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer, expected: ExpectedFile,
        to shelf: Shelf?, leaving mark: ShelfMark?
    ) -> Attempt<Removed> {
        guard shelf == nil, mark == nil else { return .refused(.notSupported) }
        if let (file, change) = expected.compared {
            switch lookup(request, in: directory, name) {
            case .done(let found, _):
                guard found.file == file, found.change == change else { return .refused(.stale) }
            case .refused(let error): return .refused(error)
            case .lacks(let lack): return .lacks(lack)
            }
        }
        return remove(request, in: directory, name, isDirectory: false)
    }
}
