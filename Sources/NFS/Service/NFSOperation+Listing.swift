import Bytes
import Namespace
import RPC

/// READDIR and READDIRPLUS (RFC 1813 3.3.16, 3.3.17).
///
/// A cookie of the protocol is one of the file system's and 2: 1 stands behind `.`, 2 behind `..`. They stay valid
/// while entries come and go, so the verifier only tells one directory from another.
extension NFSOperation {
    private static let cookieShift: UInt64 = 2
    /// Bytes of a listing's entry beside its name: what says that it follows, file number, length, cookie.
    private static let entryBytes = 4 + 8 + 4 + 8
    private static let plusBytes = 4 + NFS3Attributes.bytes + 4 + 4 + FileHandle.bytes
    /// Status, attributes, verifier; the end of the list and of the directory.
    private static let frameBytes = 4 + 4 + NFS3Attributes.bytes + 8 + 4 + 4
    /// Entries asked of the file system at once.
    private static let entriesPerCall = 256

    func readDirectory(_ arguments: NFS3ReadDirectoryArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        try list(
            arguments.directory, arguments.cookie, arguments.verifier, bytesMax: arguments.count, namesMax: .max,
            isPlus: false, &results)
    }

    func readDirectoryPlus(
        _ arguments: NFS3ReadDirectoryPlusArguments, _ results: inout Results
    ) throws(NFSHalt) -> NFSStep {
        try list(
            arguments.directory, arguments.cookie, arguments.verifier, bytesMax: arguments.countMax,
            namesMax: Int(arguments.directoryCount), isPlus: true, &results)
    }

    private func list(
        _ handle: NFS3Handle, _ cookie: UInt64, _ verifier: UInt64, bytesMax: UInt32, namesMax: Int, isPlus: Bool,
        _ results: inout Results
    ) throws(NFSHalt) -> NFSStep {
        let place = try place(handle)
        let directory = try value(place.volume.attributes(place.caller, place.file))
        guard directory.type == .directory else { throw .status(.notDirectory) }
        let ownVerifier = place.key.of(place.file)
        guard cookie == 0 || verifier == ownVerifier else { throw .status(.badCookie) }
        // The protocol counts from the attributes on; the status before them is not in it.
        let limit = min(Int(bytesMax) + 4, results.inPlaceMax)
        guard limit >= Self.frameBytes else { throw .status(.tooSmall) }
        results.provide(limit)
        results.writer.u32(NFS3Status.ok.rawValue)
        results.writer.bool(true)
        place.attributes(directory).write(into: &results.writer)
        results.writer.u64(ownVerifier)

        var page = Page(limit: limit - 8, namesMax: namesMax, cookie: cookie, isPlus: isPlus)
        if page.cookie < 1 { add(directory, ".", cookie: 1, place, &page, &results) }
        if page.cookie < 2, !page.isFull {
            let isRoot = place.file == place.root
            // Who may list a directory is shown its parent's number, whether he may look names up in it or not.
            let parent =
                isRoot
                ? directory
                : try value(
                    place.volume.lookup(Caller(.root, place.caller.request), in: place.file, Self.bytes("..")))
            add(parent, "..", cookie: 2, place, &page, &results)
        }
        var isEnd = false
        while !page.isFull, !isEnd {
            let before = page.cookie
            let listed = place.volume.list(
                place.caller, place.file, after: page.cookie - Self.cookieShift, limit: Self.entriesPerCall,
                attributes: isPlus
            ) { entry, name in
                page.seen = entry.cookie &+ Self.cookieShift
                add(entry, name, place, &page, &results)
                return !page.isFull
            }
            switch listed {
            case .done(let ended, _): isEnd = ended && !page.isFull
            // Entries that are there already are worth sending; `.` and `..` are none.
            case .refused(let error):
                if page.listed == 0 { throw .status(NFS3Status(error)) }
                page.isFull = true
            case .lacks(let lack):
                if page.listed == 0 { throw .lacks(lack) }
                page.isFull = true
            }
            if !page.isFull {
                page.cookie = page.seen
                // A file system that shows nothing and says that there is more has the word again, not for ever.
                guard page.cookie > before || isEnd else { break }
            }
        }
        guard page.count > 0 || isEnd else { throw .status(.tooSmall) }
        results.writer.bool(false)
        results.writer.bool(isEnd)
        return .done
    }

    private static func bytes(_ name: StaticString) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
    }

    private struct Page {
        let limit: Int
        var namesMax: Int
        var cookie: UInt64
        let isPlus: Bool
        var seen: UInt64
        var isFull = false
        /// Entries written; of them, those that the file system showed.
        var count = 0
        var listed = 0

        init(limit: Int, namesMax: Int, cookie: UInt64, isPlus: Bool) {
            self.limit = limit
            self.namesMax = namesMax
            self.cookie = cookie
            self.isPlus = isPlus
            seen = cookie
        }

        /// Accounts for an entry; false when it does not fit.
        mutating func takes(_ nameBytes: Int, at position: Int) -> Bool {
            let padded = (nameBytes + 3) & ~3
            let names = NFSOperation.entryBytes + padded
            let all = isPlus ? names + NFSOperation.plusBytes : names
            guard all <= limit - position, names <= namesMax else {
                isFull = true
                return false
            }
            namesMax -= names
            count += 1
            return true
        }
    }

    private func add(
        _ file: Attributes, _ name: StaticString, cookie: UInt64, _ place: Place, _ page: inout Page,
        _ results: inout Results
    ) {
        let name = Self.bytes(name)
        guard page.takes(name.count, at: results.writer.position) else { return }
        page.cookie = cookie
        page.seen = cookie
        put(file.file, name, cookie, file, place, page.isPlus, &results)
    }

    private func add(
        _ entry: Entry, _ name: UnsafeRawBufferPointer, _ place: Place, _ page: inout Page,
        _ results: inout Results
    ) {
        // Such a name can not be expressed here; other protocols show it.
        guard name.count <= Self.nameMax else { return }
        guard page.takes(name.count, at: results.writer.position) else { return }
        page.listed += 1
        put(entry.file, name, page.seen, entry.attributes, place, page.isPlus, &results)
    }

    @inline(__always)
    private func put(
        _ file: FileID, _ name: UnsafeRawBufferPointer, _ cookie: UInt64, _ attributes: Attributes?, _ place: Place,
        _ isPlus: Bool, _ results: inout Results
    ) {
        results.writer.bool(true)
        results.writer.u64(file.inode)
        results.writer.opaque(name)
        results.writer.u64(cookie)
        guard isPlus else { return }
        results.writer.bool(attributes != nil)
        if let attributes { place.attributes(attributes).write(into: &results.writer) }
        results.writer.bool(true)
        place.handle(file).write(into: &results.writer, place.key)
    }
}

extension KeyedHash {
    /// Of a file's identity.
    func of(_ file: FileID) -> UInt64 {
        withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { memory in
            var writer = Writer(memory)
            writer.u32(file.subvolume)
            writer.u64(file.inode)
            writer.u64(file.generation)
            return self(writer.written)
        }
    }
}
