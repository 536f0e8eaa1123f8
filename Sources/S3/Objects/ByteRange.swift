/// A part of an object.
package struct ByteRange: Equatable {
    package var offset: UInt64
    package var length: UInt64

    /// `bytes=0-4`, `bytes=5-`, `bytes=-6` of `size` bytes; nil where the field says nothing that we take, which
    /// means the whole. Several ranges at once are the whole, too, as S3 has it.
    package init?(_ text: String, size: UInt64) throws(S3Error) {
        guard text.hasPrefix("bytes="), !text.contains(",") else { return nil }
        let parts = text.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } }) else {
            return nil
        }
        // Digits beyond 64 bits are far behind every end.
        let first = parts[0].isEmpty ? nil : UInt64(parts[0]) ?? .max
        let last = parts[1].isEmpty ? nil : UInt64(parts[1]) ?? .max
        switch (first, last) {
        case (nil, nil): return nil
        case (nil, let count?):
            guard count > 0, size > 0 else { throw Self.fault(text, size) }
            offset = size - min(count, size)
            length = size - offset
        case (let first?, let last):
            if let last, last < first { return nil }
            guard first < size else { throw Self.fault(text, size) }
            offset = first
            length = min(last ?? .max, size - 1) - first + 1
        }
    }

    package init(offset: UInt64, length: UInt64) {
        self.offset = offset
        self.length = length
    }

    package static func fault(_ text: String, _ size: UInt64) -> S3Error {
        S3Error(.invalidRange, details: [("RangeRequested", text), ("ActualObjectSize", "\(size)")])
    }
}
