// modules:
// with: Sources/S3/XML/XMLElement.swift
// covers: Sources/S3/XML/XMLElement.swift

/// What the parser throws, without the rest of S3.
package struct S3Error: Error {
    package enum Code { case malformedXML, maxMessageLengthExceeded }
    package init(_ code: Code, _ message: String? = nil) {}
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeRawBufferPointer(start: data, count: count))
    guard let root = try? XMLElement(bytes) else { return 0 }
    precondition(!root.name.isEmpty && !root.name.contains(":"), "an element without a name")
    _ = root.text("Key")
    return 0
}
