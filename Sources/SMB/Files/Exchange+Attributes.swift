import Bytes
import Namespace
import Runtime

/// Extended attributes of files ([MS-FSA] 2.1.5.11.13, 2.1.5.14.6).
extension Exchange {
    /// Of a query's flags ([MS-SMB2] 2.2.37).
    private enum ScanFlags {
        static let restart: UInt32 = 1
        static let single: UInt32 = 2
        static let index: UInt32 = 4
    }

    /// Others may have given the file more than can be looked at in one turn: those are not seen here.
    func attributeEntries(_ open: Open, _ volume: Volume) throws(SMBHalt) -> [FullEA.Entry] {
        let attempt = volume.extendedAttributes(caller(open), open.subject, prefixes: [FullEA.prefix])
        if case .refused(.notSupported) = attempt { return [] }
        return Self.entries(try value(attempt, volume))
    }

    private static func entries(_ attributes: [ExtendedAttribute]) -> [FullEA.Entry] {
        attributes.prefix(FullEA.countMax).compactMap { FullEA.Entry(attribute: $0.name, $0.value) }
    }

    func queryAttributes(
        _ request: QueryInfoRequest, _ open: Open, _ volume: Volume, _ writer: inout Writer
    ) throws(SMBHalt) -> NTStatus {
        guard open.granted.contains(.readNamedAttributes) else { throw .status(.accessDenied) }
        var entries = try attributeEntries(open, volume)
        if !request.input.isEmpty {
            let names: [[UInt8]]
            do throws(FullEA.Fault) { names = try FullEA.names(request.input) } catch {
                throw .status(Self.status(error))
            }
            // What is not there has no value.
            let known = Dictionary(entries.map { (FullEA.key($0.name), $0) }) { first, _ in first }
            entries = names.map { known[FullEA.key($0)] ?? FullEA.Entry(name: $0, value: []) }
        } else {
            guard !entries.isEmpty else { throw .status(.noEAsOnFile) }
            if request.flags & ScanFlags.restart != 0 { open.attributesShown = 0 }
            if request.flags & ScanFlags.index != 0 {
                guard request.additional > 0, request.additional <= entries.count else {
                    throw .status(.nonexistentEAEntry)
                }
                open.attributesShown = Int(request.additional) - 1
            }
            if request.flags & ScanFlags.single != 0 {
                guard open.attributesShown < entries.count else { throw .status(.noMoreEAs) }
                entries = [entries[open.attributesShown]]
            }
        }
        let shown = FullEA.write(entries, limit: Int(request.outputMax), into: &writer)
        guard shown > 0 || entries.isEmpty else { throw .status(.bufferTooSmall) }
        if request.flags & ScanFlags.single != 0 { open.attributesShown += 1 }
        return shown == entries.count ? .success : .bufferOverflow
    }

    func setAttributes(_ request: SetInfoRequest, _ open: Open, _ volume: Volume) throws(SMBHalt) {
        guard open.granted.contains(.writeNamedAttributes) else { throw .status(.accessDenied) }
        let entries = try attributeList(request.data)
        let known = try attributeEntries(open, volume)
        guard let changes = Self.changes(entries, of: known) else { throw .status(.eaTooLarge) }
        for change in changes {
            _ = try self.value(
                volume.setExtendedAttribute(ownerCaller(open), open.subject, change.name, change.value), volume)
        }
    }

    func attributeList(_ bytes: UnsafeRawBufferPointer) throws(SMBHalt) -> [FullEA.Entry] {
        do throws(FullEA.Fault) { return try FullEA.list(bytes) } catch { throw .status(Self.status(error)) }
    }

    private static func status(_ fault: FullEA.Fault) -> NTStatus {
        switch fault {
        case .malformed: .eaListInconsistent
        case .badName: .invalidEAName
        }
    }

    /// All of them are made, or none. A name that is there in another case stays as it is. Nil: the file would have more than it may, or
    /// more than are looked at.
    private static func changes(
        _ entries: [FullEA.Entry], of known: [FullEA.Entry]
    ) -> [(name: String, value: [UInt8]?)]? {
        var all = Dictionary(known.map { (FullEA.key($0.name), $0) }) { first, _ in first }
        var changes: [(name: String, value: [UInt8]?)] = []
        for entry in entries {
            let key = FullEA.key(entry.name)
            let there = all[key]
            if entry.value.isEmpty {
                guard let there else { continue }
                all[key] = nil
                changes.append((there.attribute, nil))
            } else {
                all[key] = FullEA.Entry(name: there?.name ?? entry.name, value: entry.value)
                changes.append(((there ?? entry).attribute, entry.value))
            }
        }
        let sum = all.values.reduce(0) { $0 + $1.bytes }
        guard all.count <= max(known.count, FullEA.countMax), sum <= max(FullEA.bytes(known), FullEA.bytesMax) else {
            return nil
        }
        return changes
    }

    /// What a file is to have from its making on. The open is its session's already: whoever ends that ends it, too.
    func give(
        _ entries: [FullEA.Entry], _ open: Open, _ volume: Volume, isNew: Bool,
        then answer: @escaping (Exchange, inout Writer) -> Void
    ) -> SMBHalt {
        let (session, number) = (open.tree.session, open.handle.volatile)
        session.opens[number] = open
        // Until then the request is at work: one that comes again is known by it.
        if let creating { stream?.creating[creating] = header.messageID }
        let (caller, file) = (ownerCaller(open), open.subject)
        let answer = Answering(write: answer)
        return .later { (exchange) async throws(SMBHalt) in
            do throws(FileError) {
                let known = Self.entries(
                    try await Self.done { volume.extendedAttributes(caller, file, prefixes: [FullEA.prefix]) }.value)
                guard let changes = Self.changes(entries, of: known) else { throw .tooManyAttributes }
                for change in changes {
                    let made = try await Self.done {
                        volume.setExtendedAttribute(caller, file, change.name, change.value)
                    }
                    if made.number > 0 { exchange.settle(made.number, volume) }
                }
            } catch {
                // A file that is not what it was to be is not left.
                if isNew, let held = open.held, let place = volume.name(of: held) {
                    _ = try? await Self.done { () -> Attempt<Removed> in
                        // Unless somebody has written to it already.
                        switch volume.attributes(caller, file) {
                        case .done(let now, _):
                            guard open.isDirectory || now.size == 0 else { return .refused(.sharingViolation) }
                        case .refused(let error): return .refused(error)
                        case .lacks(let lack): return .lacks(lack)
                        }
                        return place.name.withUnsafeBytes {
                            volume.remove(caller, in: place.directory, $0, isDirectory: open.isDirectory)
                        }
                    }
                }
                if session.opens.removeValue(forKey: number) != nil { open.end(on: exchange.loop) }
                throw .status(NTStatus(error))
            }
            // Whoever ended the session, the tree or the open meanwhile has ended all of it.
            guard session.opens[number] === open, exchange.stream?.sessions[session.id] === session else {
                throw .status(.fileClosed)
            }
            return SMBAnswer { answer.write(exchange, &$0) }
        }
    }

    /// Makes the call as often as it takes.
    static func done<Value>(
        _ call: () -> Attempt<Value>
    ) async throws(FileError) -> (value: Value, number: UInt64) {
        while true {
            switch call() {
            case .done(let value, let number): return (value, number)
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
    }

    /// Made and used on one loop.
    private struct Answering: @unchecked Sendable {
        let write: (Exchange, inout Writer) -> Void
    }
}
