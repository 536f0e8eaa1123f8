// modules: JSON XML
// with: Sources/S3Store/S3Listing.swift Sources/SwiftStore/SwiftListing.swift
// covers: Sources/S3Store/S3Listing.swift Sources/SwiftStore/SwiftListing.swift

/// What stores answer to a listing: whatever it is, it is read or refused.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeRawBufferPointer(start: data, count: count))
    guard let kind = bytes.first else { return 0 }
    let text = Array(bytes.dropFirst())
    switch kind % 3 {
    case 0: if let page = S3Listing(text) { precondition(page.entries.count <= text.count, "names from nowhere") }
    case 1: if let names = SwiftListing.names(text) { precondition(names.count <= text.count, "names from nowhere") }
    default:
        if let objects = SwiftListing.objects(text) { precondition(objects.count <= text.count, "names from nowhere") }
    }
    return 0
}
