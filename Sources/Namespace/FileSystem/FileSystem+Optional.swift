import Bytes

/// What a file system need not have.
extension FileSystem {
    public func space(_ request: Request, at file: FileID) -> Attempt<Space> { space(request) }

    public func isForeign(_ file: FileID) -> Bool { false }
    public func whenChanged(_ tell: @escaping @Sendable (ForeignChange) -> Void) {}
    public func observe(_ directory: FileID, isRecursive: Bool, isOn: Bool) {}

    public func guest(of file: FileID, orFormer: Bool) -> GuestVolume? { nil }
    public var guests: [Volume] { [] }

    public func lend(
        _ request: Request, _ file: FileID, at offset: UInt64, count: Int
    ) -> Attempt<[BlockPart]?> { .done(nil, number: 0) }

    /// Where nothing else is known, what offsets with a sign reach.
    public func fileBytesMax(at file: FileID) -> UInt64 { UInt64(Int64.max) }

    public func isRepeated(_ request: Request) -> Attempt<Bool> { .done(false, number: 0) }

    public func usage(_ request: Request, below directory: FileID) -> Attempt<DirectoryTotals> {
        totals(request, below: directory)
    }

    public func files(
        _ request: Request, after inode: UInt64, limit: Int, _ visit: (Attributes) -> Void
    ) -> Attempt<UInt64?> { .refused(.notSupported) }

    public func makeLink(_ request: Request, _ file: FileID, to target: [UInt8]) -> Attempt<Changed> {
        .refused(.notSupported)
    }

    public func stream(_ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes> {
        .refused(.noEntry)
    }

    public func createStream(
        _ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer
    ) -> Attempt<Attributes> { .refused(.notSupported) }

    public func removeStream(_ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Void> {
        .refused(.noEntry)
    }

    public func renameStream(
        _ request: Request, of file: FileID, _ name: UnsafeRawBufferPointer, to newName: UnsafeRawBufferPointer,
        replaces: Bool
    ) -> Attempt<Void> { .refused(.noEntry) }

    public func streams(
        _ request: Request, of file: FileID, after name: UnsafeRawBufferPointer
    ) -> Attempt<[(name: [UInt8], stream: Attributes)]> { .done([], number: 0) }

    public func owner(_ request: Request, ofStream file: FileID) -> Attempt<Attributes?> { .done(nil, number: 0) }

    public func streamBytes(_ request: Request, of file: FileID) -> Attempt<UInt64> { .done(0, number: 0) }

    public func punch(
        _ request: Request, _ file: FileID, at offset: UInt64, length: UInt64
    ) async throws(FileError) -> UInt64 { throw .notSupported }

    public func clone(
        _ request: Request, _ source: FileID, at offset: UInt64, length: UInt64, to target: FileID, at place: UInt64
    ) async throws(FileError) -> UInt64 { throw .notSupported }

    /// All of a file is data.
    public func seek(_ request: Request, _ file: FileID, from offset: UInt64, data: Bool) -> Attempt<UInt64> {
        switch attributes(request, file) {
        case .done(let found, _):
            offset < found.size ? .done(data ? offset : found.size, number: 0) : .refused(.noEntry)
        case .refused(let error): .refused(error)
        case .lacks(let lack): .lacks(lack)
        }
    }
}
