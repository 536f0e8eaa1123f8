import Crypto

/// What the chunks of an `aws-chunked` body are signed with.
package struct ChunkSigning: Sendable {
    package let key: [UInt8]
    package let date: String
    package let scope: String
    /// The signature of the headers, which the first chunk's is made with.
    package let seed: String

    package init(key: [UInt8], date: String, scope: String, seed: String) {
        (self.key, self.date, self.scope, self.seed) = (key, date, scope, seed)
    }

    private static let emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    package func chunk(after previous: String, _ hash: [UInt8]) -> String {
        let toSign =
            "AWS4-HMAC-SHA256-PAYLOAD\n\(date)\n\(scope)\n\(previous)\n\(Self.emptyHash)\n\(Hexadecimal.encode(hash))"
        return Hexadecimal.encode(HMAC.of(.sha256, key: key, toSign))
    }

    package func trailer(after previous: String, _ hash: [UInt8]) -> String {
        let toSign =
            "AWS4-HMAC-SHA256-TRAILER\n\(date)\n\(scope)\n\(previous)\n\(Hexadecimal.encode(hash))"
        return Hexadecimal.encode(HMAC.of(.sha256, key: key, toSign))
    }
}

/// Takes the chunks of the API's own coding (`aws-chunked`) apart, inside of whatever HTTP does with the body, and
/// checks their signatures. A plain state machine: it is shown bytes and tells the data among them.
package struct ChunkDecoder {
    package static let lineBytesMax = 512
    package static let trailerBytesMax = 8 << 10
    package static let trailersMax = 32

    private enum State { case size, data(UInt64), dataEnd, trailer, complete }

    private let signing: ChunkSigning?
    private let hasTrailer: Bool
    private var state = State.size
    private var line: [UInt8] = []
    private var trailerBytes = 0
    private var previous: String
    /// Of the chunk under way.
    private var signature = ""
    private let hash: Digest?
    private(set) var trailers: [(name: String, value: String)] = []

    package init(_ signing: ChunkSigning?, hasTrailer: Bool) {
        self.signing = signing
        self.hasTrailer = hasTrailer
        previous = signing?.seed ?? ""
        hash = signing == nil ? nil : Digest(.sha256)
    }

    package var isComplete: Bool { if case .complete = state { true } else { false } }

    package mutating func take(
        _ bytes: UnsafeRawBufferPointer, _ data: (UnsafeRawBufferPointer) throws(S3Error) -> Void
    ) throws(S3Error) {
        var place = 0
        while place < bytes.count {
            switch state {
            case .data(let rest):
                let count = Int(min(UInt64(bytes.count - place), rest))
                let piece = UnsafeRawBufferPointer(rebasing: bytes[place..<(place + count)])
                hash?.update(piece)
                try data(piece)
                place += count
                state = UInt64(count) == rest ? .dataEnd : .data(rest - UInt64(count))
            case .complete:
                throw S3Error(.incompleteBody, "There are bytes behind the last chunk.")
            case .size, .dataEnd, .trailer:
                let byte = bytes[place]
                place += 1
                guard byte == 10 else {
                    line.append(byte)
                    guard line.count <= (isInTrailer ? Self.trailerBytesMax : Self.lineBytesMax) else {
                        throw Self.fault("A chunk's line is too long.")
                    }
                    continue
                }
                if line.last == 13 { line.removeLast() }
                let full = line
                line.removeAll(keepingCapacity: true)
                try endLine(full)
            }
        }
    }

    private var isInTrailer: Bool { if case .trailer = state { true } else { false } }

    private static func fault(_ what: String) -> S3Error { S3Error(.invalidRequest, what) }

    private mutating func endLine(_ line: [UInt8]) throws(S3Error) {
        switch state {
        case .size: try beginChunk(line)
        case .dataEnd:
            guard line.isEmpty else { throw Self.fault("A chunk is longer than it says.") }
            try checkChunk()
            state = .size
        case .trailer: try trailer(line)
        case .data, .complete: preconditionFailure("no line is being read")
        }
    }

    private mutating func beginChunk(_ line: [UInt8]) throws(S3Error) {
        let parts = line.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
        guard let digits = parts.first, !digits.isEmpty, digits.count <= 15 else {
            throw Self.fault("A chunk has no size.")
        }
        var size: UInt64 = 0
        for digit in digits {
            guard let value = Hexadecimal.value(digit) else { throw Self.fault("A chunk's size is no number.") }
            size = size << 4 | UInt64(value)
        }
        if signing != nil {
            let prefix = Array("chunk-signature=".utf8)
            guard let found = parts.dropFirst().first(where: { $0.starts(with: prefix) }) else {
                throw S3Error(.signatureDoesNotMatch, "A chunk has no signature.")
            }
            signature = String(decoding: found.dropFirst(prefix.count), as: UTF8.self)
            hash?.reset()
        }
        guard size == 0 else {
            state = .data(size)
            return
        }
        try checkChunk()
        state = .trailer
    }

    private mutating func checkChunk() throws(S3Error) {
        guard let signing, let hash else { return }
        let wanted = signing.chunk(after: previous, hash.finish())
        guard isEqualInConstantTime(Array(wanted.utf8), Array(signature.utf8)) else {
            throw S3Error(.signatureDoesNotMatch, "The signature of a chunk does not match.")
        }
        previous = wanted
    }

    private mutating func trailer(_ line: [UInt8]) throws(S3Error) {
        guard !line.isEmpty else { return try complete() }
        trailerBytes += line.count
        guard hasTrailer, trailers.count < Self.trailersMax, trailerBytes <= Self.trailerBytesMax else {
            throw S3Error(.invalidRequest, "There are unexpected fields behind the last chunk.")
        }
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0 else {
            throw Self.fault("A field behind the last chunk is malformed.")
        }
        func text(_ bytes: ArraySlice<UInt8>) -> String {
            var bytes = bytes
            while let last = bytes.last, last == 0x20 || last == 9 { bytes.removeLast() }
            return String(decoding: bytes.drop { $0 == 0x20 || $0 == 9 }, as: UTF8.self)
        }
        trailers.append((text(line[..<colon]).lowercased(), text(line[(colon + 1)...])))
    }

    private mutating func complete() throws(S3Error) {
        state = .complete
        guard let signing, hasTrailer else { return }
        guard let signature = trailers.first(where: { $0.name == "x-amz-trailer-signature" })?.value else {
            throw S3Error(.signatureDoesNotMatch, "The fields behind the last chunk have no signature.")
        }
        var canonical = ""
        for field in trailers where field.name != "x-amz-trailer-signature" {
            canonical += "\(field.name):\(field.value)\n"
        }
        let wanted = signing.trailer(after: previous, Digest.of(.sha256, Array(canonical.utf8)))
        guard isEqualInConstantTime(Array(wanted.utf8), Array(signature.utf8)) else {
            throw S3Error(.signatureDoesNotMatch, "The signature of the fields behind the last chunk does not match.")
        }
    }
}
