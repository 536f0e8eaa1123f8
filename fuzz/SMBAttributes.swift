// modules: Bytes
// with: Sources/SMB/Files/FullEA.swift Sources/SMB/Files/Reparse.swift Sources/SMB/Message/UTF16Name.swift Sources/SMB/Message/SMB2.swift
// inputs: 5000000
// lines: 95
// covers: Sources/SMB/Files/FullEA.swift Sources/SMB/Files/Reparse.swift
import Bytes

enum FileFacts {
    static let symlinkTag: UInt32 = 0xA000_000C
}

/// The first byte says what the rest is: a list of extended attributes, one of names, or a symbolic link. What is taken is written as it
/// was said.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first else { return 0 }
    let rest = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    switch first % 3 {
    case 0: attributes(rest)
    case 1: names(rest)
    default: link(rest)
    }
    return 0
}

private func check(_ name: [UInt8]) {
    precondition((1...FullEA.nameBytesMax).contains(name.count) && !name.contains(0), "a name that is none")
    precondition(FullEA.key(FullEA.key(name)) == FullEA.key(name))
}

private func attributes(_ bytes: UnsafeRawBufferPointer) {
    guard let entries = try? FullEA.list(bytes) else { return }
    precondition(entries.count <= FullEA.countMax)
    for entry in entries {
        check(entry.name)
        let kept = FullEA.Entry(attribute: Array(entry.attribute.utf8), entry.value)
        precondition(kept == entry, "another attribute than the one that was said")
    }
    precondition(FullEA.Entry(attribute: Array("other".utf8), []) == nil)
    let size = FullEA.bytes(entries)
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size + 1, alignment: 8)
    defer { memory.deallocate() }
    var writer = Writer(memory)
    precondition(FullEA.write(entries, limit: size, into: &writer) == entries.count && writer.position == size)
    precondition((try? FullEA.list(writer.written)) == entries, "it is not read as it was written")
    guard size > 0 else { return }
    var less = Writer(memory)
    let shown = FullEA.write(entries, limit: size - 1, into: &less)
    precondition(shown < entries.count && less.position < size)
    precondition((try? FullEA.list(less.written)) == Array(entries.prefix(shown)))
}

private func names(_ bytes: UnsafeRawBufferPointer) {
    guard let names = try? FullEA.names(bytes) else { return }
    precondition(names.count <= FullEA.countMax)
    for name in names { check(name) }
}

private func link(_ bytes: UnsafeRawBufferPointer) {
    guard let link = Reparse(reading: bytes) else { return }
    precondition(!link.target.isEmpty && link.target.count <= Reparse.targetBytesMax && !link.target.contains(0))
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
    defer { memory.deallocate() }
    var writer = Writer(memory)
    link.write(into: &writer)
    precondition(!writer.overflowed && Reparse(reading: writer.written) == link, "it leads elsewhere")
    let told = link.error(unparsed: 2)
    precondition(told.count == writer.position + 8, "what a CREATE is told is another link")
}
