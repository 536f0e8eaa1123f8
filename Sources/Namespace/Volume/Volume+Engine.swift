/// What is asked most. As long as nothing is mounted the engine is asked directly: a way through two protocols costs as much as a look-up.
extension Volume {
    /// Nil: something is mounted, or somebody else keeps the files.
    @inline(__always)
    private var engine: LogFileSystem? {
        guard let tree, !tree.hasMounts else { return nil }
        return tree.engine
    }

    @inline(__always) var newestChangeHere: UInt64 { engine?.newestChange ?? fileSystem.newestChange }

    @inline(__always)
    func look(_ request: Request, at file: FileID) -> Attempt<Attributes> {
        if let engine { return engine.attributes(request, file) }
        return fileSystem.attributes(request, file)
    }

    @inline(__always)
    func find(_ request: Request, in directory: FileID, _ name: UnsafeRawBufferPointer) -> Attempt<Attributes> {
        if let engine { return engine.lookup(request, in: directory, name) }
        return fileSystem.lookup(request, in: directory, name)
    }

    @inline(__always)
    func enter(_ request: Request, _ file: FileID) -> Attempt<Attributes> {
        if let engine { return engine.open(request, file) }
        return fileSystem.open(request, file)
    }

    /// The same of a file that a look has found, if it is still so: nothing has changed since `newest` was the newest change. False:
    /// something has, or nobody can say.
    @inline(__always)
    func enter(_ file: FileID, unchangedSince newest: UInt64) -> Bool {
        newest > 0 && engine?.open(file, unchangedSince: newest) == true
    }

    @inline(__always)
    func leave(_ request: Request, _ file: FileID) -> Attempt<Void> {
        if let engine { return engine.close(request, file) }
        return fileSystem.close(request, file)
    }

    @inline(__always)
    func read(
        _ request: Request, _ file: FileID, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) -> Attempt<Int> {
        if let engine { return engine.read(request, file, at: offset, into: buffer) }
        return fileSystem.read(request, file, at: offset, into: buffer)
    }
}
