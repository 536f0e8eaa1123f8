import XML

/// A page of a listing, as S3 writes it.
struct S3Listing {
    var entries: [(key: String, size: UInt64)] = []
    var isTruncated = false

    /// Nil: that is no listing.
    init?(_ bytes: [UInt8]) {
        guard let root = XMLElement(parsing: bytes), root.name == "ListBucketResult" else { return nil }
        isTruncated = root.text("IsTruncated") == "true"
        for item in root.all("Contents") {
            guard let key = item.text("Key"), let size = item.text("Size").flatMap({ UInt64($0) }) else { return nil }
            entries.append((key, size))
        }
    }
}
