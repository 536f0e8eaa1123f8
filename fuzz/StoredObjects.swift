// modules: Bytes
// with: Sources/Headhunter/Tree/Page.swift Sources/Headhunter/Tree/NodeAddress.swift Sources/Headhunter/Tree/NodeCodec.swift Sources/Headhunter/Tree/Tree.swift Sources/Headhunter/Tree/NodeCache.swift Sources/Headhunter/Tree/KeyHints.swift Sources/Headhunter/Tree/Fingers.swift Sources/Headhunter/Tree/Expanse.swift Sources/Headhunter/Tree/WriteSet.swift Sources/Headhunter/Log/LogRecord.swift Sources/Headhunter/Log/LogFormat.swift Sources/Headhunter/Log/Slot.swift Sources/Headhunter/Checkpoint/CheckpointHeader.swift Sources/Headhunter/Segments/SegmentFormat.swift
// covers: Sources/Headhunter/Tree/NodeCodec.swift Sources/Headhunter/Log/LogRecord.swift Sources/Headhunter/Log/Slot.swift Sources/Headhunter/Checkpoint/CheckpointHeader.swift
// inputs: 1000000
import Bytes

nonisolated(unsafe) private let page = Page(.allocate(byteCount: Page.size, alignment: 4096))

/// Nodes, log records, slots and headers as a store gives them. A checksum in an input would keep the fuzzer out, so those
/// that end with one get the right one.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first else { return 0 }
    let bytes = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    switch first % 4 {
    case 0: readNode(bytes)
    case 1:
        _ = LogRecord.forEach(bytes, note: { $0.length <= UInt32(SegmentFormat.sizeMax) }) { tree, key, value in
            precondition(tree < CheckpointHeader.treesMax && key.count + (value?.count ?? 0) <= WriteSet.entryBytesMax)
            return true
        }
    case 2:
        signed(bytes) { bytes in
            guard let slot = try? Slot(reading: bytes) else { return }
            _ = slot.forEach(bytes) { number, _ in number >= slot.first && number < slot.end }
        }
    default:
        signed(bytes) { bytes in
            guard let header = try? CheckpointHeader(reading: bytes) else { return }
            let again = header.encoded()
            precondition(
                (try? CheckpointHeader(reading: again.bytes)) == header, "a header changes when it is stored again")
            extendLifetime(again)
        }
    }
    return 0
}

private func signed(_ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    var copy = Array(bytes)
    withUnsafeBytes(of: CRC32C.of(bytes).littleEndian) { copy += $0 }
    copy.withUnsafeBytes(body)
}

private func readNode(_ bytes: UnsafeRawBufferPointer) {
    _ = NodeCodec.outline(bytes)
    guard (try? NodeCodec.decode(bytes, into: page)) != nil else { return }
    // Whoever is led to it looks for any key in it.
    for length in [0, 1, 9, 40] {
        let key = [UInt8](repeating: 0x41, count: length)
        key.withUnsafeBytes { key in
            let (index, _) = page.find(key)
            precondition(index <= page.count)
            _ = page.contains(key)
        }
    }
    _ = page.fits(in: page, at: 0)
}
