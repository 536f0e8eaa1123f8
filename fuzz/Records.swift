// modules: Bytes
// with: Sources/LogFS/RecordValues.swift Sources/LogFS/Inode.swift Sources/LogFS/Seal.swift Sources/LogFS/KeyLayout.swift Sources/LogFS/Limits.swift fuzz/stubs/Halt.swift
// covers: Sources/LogFS/RecordValues.swift
// inputs: 2000000
import Bytes

/// Records of a subvolume. A byte says how long the key is, and what follows is key and value; each reader gets both.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first else { return 0 }
    let rest = input.dropFirst()
    let key = UnsafeRawBufferPointer(rebasing: rest.prefix(Int(first)))
    let value = UnsafeRawBufferPointer(rebasing: rest.dropFirst(key.count))
    if let inode = Inode(7, value) {
        withUnsafeTemporaryAllocation(byteCount: 256, alignment: 8) { memory in
            guard let base = memory.baseAddress else { return }
            precondition(Inode(7, inode.store(base)) == inode, "a record changes when it is stored again")
        }
        precondition(inode.allocated <= Limits.fileBytesMax && inode.entries >= 0)
    }
    _ = Inode.outline(value)
    if let extent = Extent(key, value) {
        precondition(extent.clipped(extent.start, extent.end) == extent)
        precondition(UInt64(extent.offset) + extent.length <= Extent.segmentBytesMax, "an extent leaves its segment")
    }
    _ = Entry(name: value)
    if Entry(cookie: 1, value) != nil { precondition(Entry.name(value).count > 0) }
    _ = LinkKey(key)
    _ = key.subKeyNumber
    _ = value.recordNumber
    if let long = LongValue(value, max: Limits.xattrValueBytesMax) {
        for index in 0..<long.parts { _ = long.part(index, key) }
    }
    _ = TokenResult(value)
    _ = TokenAge(value)
    if let span = TokenSpan(value) { precondition(span.next - span.oldest <= span.next) }
    _ = SubvolumeRecord(value)
    if var sum = SettingsSum(value) {
        sum.remove(1 << 20)
        sum.add(1)
    }
    return 0
}
