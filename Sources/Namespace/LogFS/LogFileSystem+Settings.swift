import LogFS

extension LogFileSystem {
    public func setting(_ request: Request, _ name: UnsafeRawBufferPointer) -> Attempt<[UInt8]?> {
        outer(files.setting(inner(request), name), request.reader) { $0 }
    }

    public func setSetting(
        _ request: Request, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
    ) -> Attempt<Void> {
        outer(files.setSetting(inner(request), name, value), request.reader) { $0 }
    }

    public func listSettings(
        _ request: Request, prefix: UnsafeRawBufferPointer, after name: UnsafeRawBufferPointer,
        _ visit: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Bool> {
        outer(files.listSettings(inner(request), prefix: prefix, after: name, visit), request.reader) { $0 }
    }
}
