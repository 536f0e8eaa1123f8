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

    func attributeEntries(_ open: Open, _ volume: Volume) throws(SMBHalt) -> [FullEA.Entry] {
        let attempt = volume.extendedAttributes(caller(open), open.subject, prefixes: [FullEA.prefix])
        if case .refused(.notSupported) = attempt { return [] }
        return try value(attempt, volume).compactMap { FullEA.Entry(attribute: $0.name, $0.value) }
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
            entries = names.map { name in
                entries.first { FullEA.isSame($0.name, name) } ?? FullEA.Entry(name: name, value: [])
            }
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
        for change in Self.changes(entries, of: known) {
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

    /// A name that is there in another case stays as it is.
    private static func changes(
        _ entries: [FullEA.Entry], of known: [FullEA.Entry]
    ) -> [(name: String, value: [UInt8]?)] {
        entries.compactMap { entry in
            let there = known.first { FullEA.isSame($0.name, entry.name) }
            if entry.value.isEmpty { return there.map { ($0.attribute, nil) } }
            return ((there ?? entry).attribute, entry.value)
        }
    }

    /// What a file is to have from its making on. The open is its session's already: whoever ends that ends it, too.
    func give(
        _ entries: [FullEA.Entry], _ open: Open, _ volume: Volume,
        then answer: @escaping (Exchange, inout Writer) -> Void
    ) -> SMBHalt {
        open.tree.session.opens[open.handle.volatile] = open
        let (caller, file) = (ownerCaller(open), open.subject)
        let answer = Answering(write: answer)
        return .later { (exchange) async throws(SMBHalt) in
            for change in Self.changes(entries, of: []) {
                do throws(FileError) {
                    while true {
                        let attempt = volume.setExtendedAttribute(caller, file, change.name, change.value)
                        if case .lacks(let lack) = attempt {
                            try await lack.supplied()
                            continue
                        }
                        if case .refused(let error) = attempt { throw error }
                        if case .done(_, let number) = attempt { exchange.settle(number, volume) }
                        break
                    }
                } catch {
                    if open.tree.session.opens.removeValue(forKey: open.handle.volatile) != nil {
                        open.end(on: exchange.loop)
                    }
                    throw .status(NTStatus(error))
                }
            }
            return SMBAnswer { answer.write(exchange, &$0) }
        }
    }

    /// Made and used on one loop.
    private struct Answering: @unchecked Sendable {
        let write: (Exchange, inout Writer) -> Void
    }
}
