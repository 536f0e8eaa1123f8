import Bytes
import Crypto
import HTTP
import Runtime
import XML

/// A request's body on its way to whoever takes it in: taken out of its coding, counted, hashed, and handed on in
/// blocks. Nothing is read while a block waits; nothing is believed before all of it has been checked.
final class RequestBody {
    /// Bytes that the head promises, without the coding; nil: nobody knows.
    private(set) var length: UInt64?
    private let exchange: Exchange
    private var decoder: ChunkDecoder?
    private var form: FormDecoder?
    private var lengthCheck: ((UInt64) throws(S3Error) -> Void)?
    private let sha256: Digest?
    private let expectedSHA256: [UInt8]?
    private let expectedMD5: [UInt8]?
    private(set) var md5: Digest?
    private(set) var checksum: Checksum?
    private var expectedChecksum: [UInt8]?
    private let checksumTrailer: String?
    private(set) var checksumValue: [UInt8]?
    private(set) var md5Value: [UInt8] = []

    private(set) var count: UInt64 = 0
    private let countMax: UInt64
    private var blockBytes = 0
    private var filling: Block?
    private var ready: [Block] = []
    private var failure: S3Error?
    private var isEnded = false
    private var waiter: UnsafeContinuation<Void, Never>?
    private let transfers: TransferShare
    private let documents: TransferShare
    private let documentNanoseconds: UInt64
    /// Of blocks that are filled or handed on, and of a document.
    private var held = (blocks: 0, document: 0)

    init(
        _ request: S3Request, _ payload: Authentication.PayloadProof, _ exchange: Exchange, _ service: S3Service,
        isNobody: Bool
    ) throws(S3Error) {
        self.exchange = exchange
        countMax = service.limits.putBytesMax
        documentNanoseconds = service.limits.documentNanoseconds
        (transfers, documents) = (service.transfers, isNobody ? service.documentsOfNobody : service.documents)
        var isChunked = false
        var hash: [UInt8]?
        switch payload {
        case .none: break
        case .sha256(let value): hash = value
        case .chunks(let signing, let hasTrailer):
            isChunked = true
            decoder = ChunkDecoder(signing, hasTrailer: hasTrailer)
        }
        expectedSHA256 = hash
        sha256 = hash == nil ? nil : Digest(.sha256)
        if isChunked {
            guard let text = request.value("x-amz-decoded-content-length") else {
                throw S3Error(.missingContentLength, "You must provide the X-Amz-Decoded-Content-Length HTTP header.")
            }
            guard let value = UInt64(text) else { throw S3Error(.invalidArgument, "The decoded length is no number.") }
            length = value
        } else if case .length(let value) = request.head.framing {
            length = value
        } else {
            length = request.head.framing == .none ? 0 : nil
        }
        if let text = request.field("content-md5") {
            guard let value = Base64.decode(text), value.count == 16 else {
                throw S3Error(.invalidDigest, details: [("Content-MD5", text)])
            }
            expectedMD5 = value
        } else {
            expectedMD5 = nil
        }
        let (algorithm, value, trailer) = try ChecksumFields.expected(request)
        expectedChecksum = value
        checksumTrailer = trailer
        checksum = algorithm.map { Checksum($0) }
        if expectedMD5 != nil { md5 = Digest(.md5) }
        guard checksumTrailer == nil || isChunked else {
            throw S3Error(.invalidRequest, "A checksum behind the body needs the coding aws-chunked.")
        }
    }

    deinit {
        if held.blocks > 0 { transfers.give(held.blocks) }
        if held.document > 0 { documents.give(held.document) }
    }

    var algorithm: ChecksumAlgorithm? { checksum?.algorithm }

    /// Adds the digest that entity tags are made of.
    func wantMD5() {
        if md5 == nil { md5 = Digest(.md5) }
        // A body without bytes has ended before anybody could ask.
        if isEnded, md5Value.isEmpty {
            precondition(count == 0, "a digest is wanted before there are bytes")
            md5Value = Digest.of(.md5, [])
        }
    }

    /// For those that are not told with a value: computed all the same.
    func want(_ algorithm: ChecksumAlgorithm) {
        if checksum == nil { checksum = Checksum(algorithm) }
        if isEnded, checksumValue == nil { checksumValue = Checksum(algorithm).finish() }
    }

    // MARK: The taker's side

    /// The next bytes, at most `blockBytes` of them, to be released; nil when all have come and are what was promised.
    func next(_ blockBytes: Int) async throws(S3Error) -> Block? {
        self.blockBytes = blockBytes
        while true {
            if !ready.isEmpty { return ready.removeFirst() }
            if let failure { throw failure }
            if isEnded { return nil }
            await withUnsafeContinuation { continuation in
                waiter = continuation
                exchange.resumeBody()
            }
        }
    }

    /// The bytes of a block are where they should be: its memory is there for others.
    func release(_ block: Block) {
        held.blocks -= block.capacity
        transfers.give(block.capacity)
    }

    /// What is made of a document is a few times as large, and an element of four letters is as large as others.
    private static let documentCost = 4
    private static let elementCost = 128

    /// Beginnings of elements.
    private static func elements(_ bytes: UnsafeRawBufferPointer) -> Int {
        var count = 0
        for (index, byte) in bytes.enumerated() where byte == UInt8(ascii: "<") {
            let next = index + 1 < bytes.count ? bytes[index + 1] : 0
            if next != UInt8(ascii: "/"), next != UInt8(ascii: "?"), next != UInt8(ascii: "!") { count += 1 }
        }
        return count
    }

    /// All of a small body, once, in one go. Its memory is held as long as the request is there.
    func whole(max: Int) async throws(S3Error) -> [UInt8] {
        if let length, length > UInt64(max) {
            throw S3Error(.maxMessageLengthExceeded, "Your request was too big.")
        }
        precondition(held.document == 0, "a document is read once")
        let end = exchange.loop.now + documentNanoseconds
        var bytes: [UInt8] = []
        var elements = 0
        while let block = try await next(64 << 10) {
            guard block.count <= max - bytes.count else {
                throw S3Error(.maxMessageLengthExceeded, "Your request was too big.")
            }
            guard exchange.loop.now <= end else { throw S3Error(.incompleteBody) }
            // For what is there: many that announce much and send little take nothing from others.
            let new = Self.elements(block.bytes)
            elements += new
            guard elements <= XMLElement.elementsMax else { throw S3Error(.malformedXML) }
            let cost = Self.documentCost * block.count + Self.elementCost * new
            guard documents.takeWhole(cost) else { throw S3Error(.slowDown) }
            held.document += cost
            bytes.append(contentsOf: block.bytes)
            release(block)
        }
        return bytes
    }

    /// The body is a form: what is counted and handed on are the bytes of its file. Returns when all before them is
    /// there.
    func form(
        _ decoder: FormDecoder, firstBlock: Int
    ) async throws(S3Error) -> (fields: [(name: String, value: String)], fileName: String, fileType: String?) {
        form = decoder
        length = nil
        blockBytes = firstBlock
        while true {
            if let failure { throw failure }
            if let form, form.hasFile { return (form.fields, form.fileName, form.fileType) }
            guard !isEnded else {
                throw S3Error(.invalidArgument, "POST requires exactly one file upload per request.")
            }
            await withUnsafeContinuation { continuation in
                waiter = continuation
                exchange.resumeBody()
            }
        }
    }

    /// Asked when all bytes have come, before they are believed; they may have come already.
    func whenComplete(_ check: @escaping (UInt64) throws(S3Error) -> Void) throws(S3Error) {
        if isEnded { try check(count) } else { lengthCheck = check }
    }

    // MARK: The connection's side

    func received(_ bytes: UnsafeRawBufferPointer) {
        guard failure == nil, !isEnded else { return }
        do throws(S3Error) {
            if decoder != nil {
                try decoder?.take(bytes) { (piece) throws(S3Error) in try self.take(piece) }
            } else if form != nil {
                try form?.take(bytes) { (piece) throws(S3Error) in try self.take(piece) }
                if form?.hasFile == true, ready.isEmpty { wake() }
            } else {
                try take(bytes)
            }
        } catch { return fail(error) }
        guard !ready.isEmpty else { return }
        exchange.pauseBody()
        wake()
    }

    private func take(_ bytes: UnsafeRawBufferPointer) throws(S3Error) {
        count += UInt64(bytes.count)
        guard count <= countMax else { throw Self.tooLarge(countMax) }
        if let length, count > length {
            throw S3Error(.incompleteBody, "The body is longer than its headers announce.")
        }
        sha256?.update(bytes)
        md5?.update(bytes)
        checksum?.update(bytes)
        var rest = bytes[...]
        while !rest.isEmpty {
            let block = filling ?? newBlock()
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(block.capacity - block.count))
            block.append(piece)
            rest = rest.dropFirst(piece.count)
            if block.count == block.capacity {
                ready.append(block)
                filling = nil
            } else {
                filling = block
            }
        }
    }

    private func newBlock() -> Block {
        let block = Block(capacity: transfers.take(Swift.max(blockBytes, 1)))
        held.blocks += block.capacity
        return block
    }

    static func tooLarge(_ max: UInt64) -> S3Error {
        S3Error(.entityTooLarge, details: [("MaxSizeAllowed", "\(max)")])
    }

    func completed() {
        guard failure == nil, !isEnded else { return }
        do throws(S3Error) { try check() } catch { return fail(error) }
        if let block = filling {
            ready.append(block)
            filling = nil
        }
        isEnded = true
        wake()
    }

    private func check() throws(S3Error) {
        if let decoder, !decoder.isComplete, length != 0 || count > 0 {
            throw S3Error(.incompleteBody, "The body ended within a chunk.")
        }
        if let form, !form.isComplete { throw S3Error(.incompleteBody, "The body ended within the form.") }
        if let length, count != length { throw S3Error(.incompleteBody) }
        try lengthCheck?(count)
        if let expectedSHA256, let found = sha256?.finish(), found != expectedSHA256 {
            throw S3Error(
                .xAmzContentSHA256Mismatch,
                details: [
                    ("ClientComputedContentSHA256", Hexadecimal.encode(expectedSHA256)),
                    ("S3ComputedContentSHA256", Hexadecimal.encode(found)),
                ])
        }
        md5Value = md5?.finish() ?? []
        if let expectedMD5, md5Value != expectedMD5 {
            throw S3Error(
                .badDigest,
                details: [
                    ("ExpectedDigest", Base64.encode(expectedMD5)), ("CalculatedDigest", Base64.encode(md5Value)),
                ])
        }
        guard let checksum else { return }
        let value = checksum.finish()
        checksumValue = value
        if let checksumTrailer {
            guard let text = decoder?.trailers.first(where: { $0.name == checksumTrailer })?.value else {
                throw S3Error(.invalidRequest, "The field \(checksumTrailer) is missing behind the body.")
            }
            expectedChecksum = try ChecksumFields.value(text, checksum.algorithm, checksumTrailer)
        }
        if let expectedChecksum, expectedChecksum != value {
            throw S3Error(
                .badDigest, "The \(checksum.algorithm.word) you specified did not match the calculated checksum.")
        }
    }

    func abandoned() { fail(S3Error(.incompleteBody, "The connection ended within the body.")) }

    private func fail(_ error: S3Error) {
        guard failure == nil, !isEnded else { return }
        failure = error
        ready.removeAll()
        filling = nil
        wake()
    }

    private func wake() {
        guard let continuation = waiter else { return }
        waiter = nil
        continuation.resume()
    }
}
