import Bytes
import Crypto
import HTTP
import Namespace
import Runtime
import XML

/// One request of S3, from its head to the end of its answer. Confined to its loop.
final class S3Call: ExchangeHandler, FileWork, @unchecked Sendable {
    let service: S3Service
    let exchange: Exchange
    let loop: EventLoop
    /// Tells this request apart, in answers and logs.
    let id: String
    private(set) var isAbandoned = false
    private var parsed: S3Request?
    private var authentication = Authentication()
    private(set) var body: RequestBody?
    private var outputWaiter: UnsafeContinuation<Void, Never>?
    private var servedVolume: Volume?
    /// Memory of `service.transfers`, until this request is gone.
    private var heldForAnswer = 0
    var word: Durability?
    /// The fields of a form, by their names in lower case.
    var form: [String: String]?
    /// For a browser, when the bucket lets its page at the answer.
    var crossOrigin: (rule: CORSRules.Rule, origin: String)?

    init(_ service: S3Service, _ exchange: Exchange) {
        self.service = service
        self.exchange = exchange
        loop = exchange.loop
        var number = service.random.next()
        id = withUnsafeBytes(of: &number) { Hexadecimal.encode($0) }.uppercased()
    }

    deinit { if heldForAnswer > 0 { service.transfers.give(heldForAnswer) } }

    var request: S3Request {
        guard let parsed else { preconditionFailure("a request is served after it was parsed") }
        return parsed
    }
    var query: S3Query { request.query }
    var grant: AccessGrant? { authentication.grant }

    var volume: Volume {
        guard let servedVolume else { preconditionFailure("a request is served after its volume was found") }
        return servedVolume
    }

    // MARK: The way through

    func start() {
        // Nobody sends `100 Continue` before the request is accepted.
        if exchange.head.framing != .none, exchange.head.framing != .length(0) { exchange.pauseBody() }
        do throws(S3Error) {
            var request = try S3Request(exchange.head, domains: service.domains)
            parsed = request
            authentication = try service.authenticator(on: loop, now: now).authenticate(request)
            if request.isPresigned {
                request = try request.withFieldsOfAddress()
                parsed = request
            }
            let name = authentication.grant?.volume ?? S3Service.anonymousVolume
            guard let volume = service.volumes[name] else {
                throw S3Error(.serviceUnavailable, "The volume of this access key is not served.")
            }
            servedVolume = volume
            body = try RequestBody(
                request, authentication.payload, exchange, service, isNobody: authentication.grant == nil)
        } catch {
            return answer(error)
        }
        loop.task { await self.run() }
    }

    /// From now on the request is this user's, who has signed what it carries.
    func act(as grant: AccessGrant) throws(S3Error) {
        guard let volume = service.volumes[grant.volume] else {
            throw S3Error(.serviceUnavailable, "The volume of this access key is not served.")
        }
        authentication.grant = grant
        servedVolume = volume
    }

    private func run() async {
        do throws(S3Error) { try await dispatch() } catch {
            // A page of another site is told what is wrong, too.
            if crossOrigin == nil, request.value("origin") != nil, !request.bucket.isEmpty,
                let bucket = try? await findBucket(request.bucket)
            {
                try? admitOrigin(bucket)
            }
            answer(error)
        }
    }

    /// The answer to what was refused; once the answer has begun, its end is all that can be told.
    func answer(_ error: S3Error) {
        guard !exchange.hasBegun else { return exchange.fail() }
        var fields = ResponseFields()
        addIdentity(&fields)
        for field in error.fields { fields.add(name: field.name, field.value) }
        if error.code == .notModified {
            for detail in error.details { fields.add(name: detail.name, detail.value) }
            return exchange.respond(.notModified, fields)
        }
        fields.add("content-type", "application/xml")
        if error.code == .methodNotAllowed { fields.add("allow", "GET, HEAD, PUT, POST, DELETE") }
        if error.code == .invalidRange, let size = error.details.first(where: { $0.name == "ActualObjectSize" })?.value
        {
            fields.add("content-range", "bytes */\(size)")
        }
        if let region = error.details.first(where: { $0.name == "Region" })?.value {
            fields.add("x-amz-bucket-region", region)
        }
        var xml = XMLWriter()
        xml.raw("<Error>")
        xml.element("Code", error.code.rawValue)
        xml.element("Message", error.message)
        if let parsed {
            if !parsed.bucket.isEmpty { xml.element("BucketName", parsed.bucket) }
            if !parsed.key.isEmpty { xml.element("Key", bytes: parsed.key) }
        }
        for detail in error.details {
            xml.raw("<\(detail.name)>")
            xml.append(detail.value.utf8)
            xml.raw("</\(detail.name)>")
        }
        xml.element("Resource", bytes: parsed?.path ?? Array(exchange.head.path.utf8))
        xml.element("RequestId", id)
        xml.element("HostId", id)
        xml.raw("</Error>")
        exchange.respond(error.code.status, fields, xml.bytes)
    }

    func addIdentity(_ fields: inout ResponseFields) {
        fields.add("x-amz-request-id", id)
        fields.add("x-amz-id-2", id)
        fields.add("server", "ProxyFS")
        if let crossOrigin { CORSRules.add(crossOrigin.rule, crossOrigin.origin, to: &fields) }
    }

    func respond(_ status: Status = .ok, _ more: ResponseFields? = nil) {
        var fields = more ?? ResponseFields()
        addIdentity(&fields)
        exchange.respond(status, fields)
    }

    func respond(_ status: Status = .ok, _ more: ResponseFields? = nil, xml: XMLWriter) async throws(S3Error) {
        var fields = more ?? ResponseFields()
        fields.add("content-type", "application/xml")
        try await respond(status, fields, text: xml.bytes)
    }

    /// Copied into the output piece by piece, so that there is not twice of it.
    private static let textPiece = 64 << 10

    /// A text that is all there. It is counted while somebody takes it, and one that there is no memory for is refused; not so the
    /// answer of a change, which has been made: what its document holds is enough for it, too.
    func respond(_ status: Status, _ more: ResponseFields, text: [UInt8]) async throws(S3Error) {
        var fields = more
        if text.count <= TransferShare.pieceBytesMin {
            addIdentity(&fields)
            return exchange.respond(status, fields, text)
        }
        let missing = text.count + min(text.count, Self.textPiece) - heldForAnswer
        if missing < 0 {
            service.transfers.give(-missing)
            heldForAnswer += missing
        } else if service.transfers.takeWhole(missing) {
            heldForAnswer += missing
        } else if request.method == .get {
            throw S3Error(.slowDown)
        }
        addIdentity(&fields)
        exchange.begin(status, fields, length: .bytes(UInt64(text.count)))
        exchange.limitOutput(1)
        var rest = text[...]
        while !rest.isEmpty, !isAbandoned {
            let piece = rest.prefix(Self.textPiece)
            piece.withUnsafeBytes { exchange.write($0) }
            rest = rest.dropFirst(piece.count)
            await outputRoom()
        }
        exchange.end()
    }

    /// How many entries a page may have, of `wanted`, that take so many bytes each: fewer when memory is short.
    func holdPage(_ wanted: Int, each bytes: Int) -> Int {
        let held = service.transfers.take(max(wanted, 1) * bytes)
        heldForAnswer += held
        return min(wanted, max(1, held / bytes))
    }

    /// Where the client has found the server.
    var address: String { "\(exchange.isSecure ? "https" : "http")://\(request.head.host)" }

    // MARK: Files

    /// In whose name the request acts where nothing else was decided.
    var caller: Caller { caller(grant?.credential ?? .nobody) }
    var isReadOnly: Bool { grant?.isReadOnly ?? false }

    // MARK: Events

    func received(_ bytes: UnsafeRawBufferPointer, of exchange: Exchange) { body?.received(bytes) }

    func completed(_ exchange: Exchange) { body?.completed() }

    func drained(_ exchange: Exchange) { resumeOutput() }

    func abandoned(_ exchange: Exchange) {
        isAbandoned = true
        body?.abandoned()
        resumeOutput()
    }

    private func resumeOutput() {
        guard let waiter = outputWaiter else { return }
        outputWaiter = nil
        waiter.resume()
    }

    /// Returns when the peer has taken most of what was written.
    func outputRoom() async {
        while exchange.isOutputFull, !isAbandoned {
            await withUnsafeContinuation { outputWaiter = $0 }
        }
    }
}
