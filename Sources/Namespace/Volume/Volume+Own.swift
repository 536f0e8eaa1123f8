/// What the server keeps in a volume beside its files, such as uploads that are under way: a directory of the root that no
/// client sees or can make.
extension Volume {
    public static let ownName = ".proxyfs"
    private static let ownBytes = Array(ownName.utf8)
    private static var dot: UInt8 { UInt8(ascii: ".") }

    /// Of names that begin with a dot only the rest is compared.
    @inline(__always)
    static func isOwn(_ name: UnsafeRawBufferPointer) -> Bool {
        name.first == dot && name.elementsEqual(ownBytes)
    }

    /// The same of a path's first name.
    static func isOwn(path: UnsafeRawBufferPointer) -> Bool {
        path.first == dot && path.prefix { $0 != UInt8(ascii: "/") }.elementsEqual(ownBytes)
    }

    @inline(__always)
    func isHidden(_ caller: Caller, _ directory: FileID, _ name: UnsafeRawBufferPointer) -> Bool {
        Self.isOwn(name) && directory == root && !caller.isServer
    }

    @inline(__always)
    func requireVisible(_ caller: Caller, _ directory: FileID, _ name: UnsafeRawBufferPointer) throws(Halt) {
        if isHidden(caller, directory, name) { throw .refused(.accessDenied) }
    }
}

extension FileSystem {
    /// What lies in the server's own directory, itself included.
    func ownTotals(_ request: Request) throws(Halt) -> DirectoryTotals {
        let found = Array(Volume.ownName.utf8).withUnsafeBytes { lookup(request, in: root, $0) }
        switch found {
        case .refused: return DirectoryTotals(files: 0, directories: 0, bytes: 0)
        case .lacks(let lack): throw .lacks(lack)
        case .done(let own, _):
            guard own.type == .directory else { return DirectoryTotals(files: 1, directories: 0, bytes: own.size) }
            var totals = try usage(request, below: own.file).get()
            totals.directories += 1
            return totals
        }
    }
}
