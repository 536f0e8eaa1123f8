// modules:
// with: Sources/XML/XMLElement.swift
// inputs: 5000000
// lines: 95
// covers: Sources/XML/XMLElement.swift

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeRawBufferPointer(start: data, count: count))
    guard let root = XMLElement(parsing: bytes) else { return 0 }
    precondition(!root.name.isEmpty && !root.name.contains(":"), "an element without a name")
    _ = root.text("Key")
    return 0
}
