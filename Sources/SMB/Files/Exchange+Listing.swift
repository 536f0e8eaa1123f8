import Bytes
import Namespace

/// How far a listing has come.
struct DirectoryScan {
    var pattern: NamePattern
    var cookie: UInt64 = 0
    /// `.` and `..` come first.
    var dots = 0
    var hasShown = false
    var isAtEnd = false
}

/// [MS-FSCC] 2.4: what a listing says of each file.
enum DirectoryLevel: UInt8 {
    case directory = 1
    case full = 2
    case both = 3
    case names = 12
    case idBoth = 37
    case idFull = 38
    case idExtended = 60
    case idExtendedBoth = 63
}

/// QUERY_DIRECTORY ([MS-SMB2] 3.3.5.18).
extension Exchange {
    /// An entry takes no less of an answer.
    private static let entryBytesMin = 16

    func queryDirectory(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try QueryDirectoryRequest(reading: element) }
        let open = try open(request.file)
        let volume = try volume(open)
        guard open.isDirectory else { throw .status(.invalidParameter) }
        guard open.granted.contains(.readData) else { throw .status(.accessDenied) }
        guard Int(request.outputMax) <= stream?.negotiation.dataMax ?? 0 else { throw .status(.invalidParameter) }
        guard let level = DirectoryLevel(rawValue: request.level) else { throw .status(.invalidInfoClass) }
        guard let pattern = NamePattern(request.pattern), !request.pattern.isEmpty || open.scan != nil else {
            throw .status(.objectNameInvalid)
        }
        // What was looked through when something was missing is not looked through again.
        let isNew = progress == 0 && request.flags & (QueryDirectoryRequest.restart | QueryDirectoryRequest.reopen) != 0
        var scan = open.scan ?? DirectoryScan(pattern: pattern)
        if isNew {
            scan = DirectoryScan(pattern: request.pattern.isEmpty ? scan.pattern : pattern)
        }
        if scan.isAtEnd {
            open.scan = scan
            throw .status(.noMoreFiles)
        }
        writer.u16LE(9)
        writer.u16LE(UInt16(Header.bytes + 8))
        let countPlace = writer.reserve(4)
        let start = writer.position
        var page = Page(
            level: level, start: start, limit: start + Int(request.outputMax),
            isSingle: request.flags & QueryDirectoryRequest.single != 0)
        do throws(SMBHalt) { try fill(&page, &scan, open, volume, &writer) } catch {
            open.scan = scan
            progress = 1
            throw error
        }
        let isFirst = !scan.hasShown
        scan.hasShown = true
        open.scan = scan
        guard page.last > 0 else {
            if page.isTooSmall { throw .status(.infoLengthMismatch) }
            throw .status(isFirst ? .noSuchFile : .noMoreFiles)
        }
        writer.patch(u32LE: UInt32(writer.position - start), at: countPlace)
        return .success
    }

    private struct Page {
        let level: DirectoryLevel
        let start: Int
        let limit: Int
        let isSingle: Bool
        /// Where the last entry begins; 0: there is none.
        var last = 0
        var isFull = false
        var isTooSmall = false
    }

    private func fill(
        _ page: inout Page, _ scan: inout DirectoryScan, _ open: Open, _ volume: Volume, _ writer: inout Writer
    ) throws(SMBHalt) {
        let caller = caller(open)
        if scan.pattern.isName {
            try showNamed(scan.pattern, &page, open, volume, caller, &writer)
            scan.isAtEnd = true
            return
        }
        while scan.dots < 2, !page.isFull {
            let isSelf = scan.dots == 0
            let name: [UInt8] = isSelf ? [UInt8(ascii: ".")] : [UInt8(ascii: "."), UInt8(ascii: ".")]
            let matches = name.withUnsafeBytes { scan.pattern.matches($0) }
            if matches {
                let id = isSelf ? open.file : open.held.flatMap { volume.name(of: $0)?.directory } ?? open.file
                let file = try value(volume.attributes(caller, id), volume)
                name.withUnsafeBytes { _ = Self.show(file, $0, &page, &writer) }
                if page.isFull, page.last == 0 || page.isTooSmall { return }
                if page.isFull, !page.isSingle { return }
            }
            scan.dots += 1
        }
        guard !page.isFull else { return }
        var progress = scan
        // A listing may show fewer than there are, and a pattern fewer still.
        let pattern = progress.pattern
        var looks = pattern.namesPerTurn
        while !page.isFull, !progress.isAtEnd {
            guard looks > 0 else {
                scan = progress
                if page.last > 0 { return }
                throw .pause
            }
            let before = progress.cookie
            var cookie = before
            // No more than can be shown: what is fetched beyond that is fetched again for the next answer.
            let room = page.isSingle ? 1 : (page.limit - writer.position) / Self.entryBytesMin + 1
            let limit = pattern.isAll ? min(looks, room) : looks
            if open.tree.share.hidesUnreadable {
                let isOver = try fillVisible(&page, &progress, &looks, limit, open, volume, &writer) { scan = $0 }
                guard let isOver else { return }
                progress.isAtEnd = isOver && !page.isFull
                if !isOver, progress.cookie == before, !page.isFull { break }
                continue
            }
            let attempt = withUnsafeMutablePointer(to: &page) { page in
                withUnsafeMutablePointer(to: &writer) { writer in
                    volume.list(
                        caller, open.file, after: before, limit: limit, attributes: true
                    ) { entry, name in
                        looks -= 1
                        if pattern.matches(name), let attributes = entry.attributes {
                            let wasFull = Self.show(attributes, name, &page.pointee, &writer.pointee)
                            if !wasFull { return false }
                        }
                        cookie = entry.cookie
                        return !page.pointee.isFull
                    }
                }
            }
            if case .lacks(let lack) = attempt {
                progress.cookie = cookie
                scan = progress
                // What is there is an answer; the rest comes with the next call.
                if page.last > 0 { return }
                throw .lacks(lack)
            }
            let isOver = try value(attempt, volume)
            progress.cookie = cookie
            progress.isAtEnd = isOver && !page.isFull
            if !isOver, cookie == before, !page.isFull { break }
        }
        scan = progress
    }

    /// Rights may have to be fetched.
    private static let visibleMax = 256
    /// Who has less can not read it.
    private static let visible: AccessMask = [.readData, .readAttributes, .readNamedAttributes, .readACL]

    /// The same for a share whose listings leave out what the user may not read: whose list it is asked, entry by entry. Nil: what there is is
    /// an answer.
    private func fillVisible(
        _ page: inout Page, _ progress: inout DirectoryScan, _ looks: inout Int, _ limit: Int, _ open: Open,
        _ volume: Volume, _ writer: inout Writer, keep: (DirectoryScan) -> Void
    ) throws(SMBHalt) -> Bool? {
        let caller = caller(open)
        let pattern = progress.pattern
        var found: [(file: Attributes?, name: [UInt8], cookie: UInt64)] = []
        let attempt = volume.list(
            caller, open.file, after: progress.cookie, limit: min(limit, Self.visibleMax), attributes: true
        ) { entry, name in
            found.append((pattern.matches(name) ? entry.attributes : nil, Array(name), entry.cookie))
            return true
        }
        looks -= found.count
        for entry in found {
            if let file = entry.file {
                let isListed = volume.isListed(caller, file, in: open.file, to: Self.visible)
                if case .lacks(let lack) = isListed {
                    keep(progress)
                    if page.last > 0 { return nil }
                    throw .lacks(lack)
                }
                // One that is gone meanwhile is not to be seen.
                if case .done(true, _) = isListed {
                    guard entry.name.withUnsafeBytes({ Self.show(file, $0, &page, &writer) }) else { return false }
                }
            }
            progress.cookie = entry.cookie
            if page.isFull { return false }
        }
        if case .lacks(let lack) = attempt {
            keep(progress)
            if page.last > 0 { return nil }
            throw .lacks(lack)
        }
        return try value(attempt, volume)
    }

    private func showNamed(
        _ pattern: NamePattern, _ page: inout Page, _ open: Open, _ volume: Volume, _ caller: Caller,
        _ writer: inout Writer
    ) throws(SMBHalt) {
        var name: [UInt8] = []
        let isGood = pattern.text.withUnsafeBufferPointer { UTF16Name.append(component: $0, to: &name) }
        guard isGood else { throw .status(.objectNameInvalid) }
        var stored = name
        var attempt = name.withUnsafeBytes { bytes in
            volume.lookupFolded(caller, in: open.file, bytes) { stored = Array($0) }
        }
        for form in NameForms.others(name) {
            guard case .refused(.noEntry) = attempt else { break }
            let other = form.withUnsafeBytes { bytes in
                volume.lookupFolded(caller, in: open.file, bytes) { stored = Array($0) }
            }
            // A form that is too long for a name is nobody's.
            if case .refused(.nameTooLong) = other { continue }
            attempt = other
        }
        if case .refused(.noEntry) = attempt { return }
        let file = try value(attempt, volume)
        if open.tree.share.hidesUnreadable,
            try !value(volume.isListed(caller, file, in: open.file, to: Self.visible), volume)
        {
            return
        }
        stored.withUnsafeBytes { _ = Self.show(file, $0, &page, &writer) }
    }

    /// Writes an entry; false when there is no room for it.
    @discardableResult
    private static func show(
        _ file: Attributes, _ name: UnsafeRawBufferPointer, _ page: inout Page, _ writer: inout Writer
    ) -> Bool {
        let position = writer.position
        let begin = page.last == 0 ? position : (position - page.start + 7) & ~7 + page.start
        writer.zeros(begin - position)
        write(FileFacts(file), name, page.level, &writer)
        guard !writer.overflowed, writer.position <= page.limit else {
            writer.rewind(to: position)
            page.isFull = true
            page.isTooSmall = page.last == 0
            return false
        }
        if page.last > 0 { writer.patch(u32LE: UInt32(begin - page.last), at: page.last) }
        page.last = begin
        page.isFull = page.isSingle
        return true
    }

    private static func write(
        _ facts: FileFacts, _ name: UnsafeRawBufferPointer, _ level: DirectoryLevel, _ writer: inout Writer
    ) {
        writer.u32LE(0)
        writer.u32LE(0)
        if level != .names {
            facts.writeTimes(into: &writer)
            writer.u64LE(facts.size)
            writer.u64LE(facts.allocated)
            writer.u32LE(facts.attributes.rawValue)
        }
        let lengthPlace = writer.reserve(4)
        switch level {
        case .directory, .names: break
        case .full: writer.u32LE(facts.reparseTag)
        case .both:
            writer.u32LE(facts.reparseTag)
            writer.zeros(2 + 24)
        case .idBoth:
            writer.u32LE(facts.reparseTag)
            writer.zeros(2 + 24 + 2)
            writer.u64LE(facts.index)
        case .idFull:
            writer.u32LE(facts.reparseTag)
            writer.u32LE(0)
            writer.u64LE(facts.index)
        case .idExtended, .idExtendedBoth:
            writer.u32LE(0)
            writer.u32LE(facts.reparseTag)
            writer.u64LE(facts.index)
            writer.u64LE(0)
            if level == .idExtendedBoth { writer.zeros(2 + 24) }
        }
        let bytes = UTF16Name.write(name, into: &writer)
        writer.patch(u32LE: UInt32(bytes), at: lengthPlace)
    }
}
