/// The negotiation of mechanisms around a mechanism's own tokens (RFC 4178).
package enum SPNEGO {
    /// 1.3.6.1.5.5.2
    static let identifier: [UInt8] = [0x2B, 6, 1, 5, 5, 2]
    /// 1.3.6.1.4.1.311.2.2.10
    package static let ntlm: [UInt8] = [0x2B, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 0x0A]
    /// 1.2.840.48018.1.2.2, which early Windows made of the other one by mistake and Windows still says first; 1.2.840.113554.1.2.2.
    package static let kerberos: [[UInt8]] = [
        [0x2A, 0x86, 0x48, 0x82, 0xF7, 0x12, 1, 2, 2], [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 1, 2, 2],
    ]
    static let mechanismsMax = 16

    /// What a client begins with.
    package struct Initiation: Equatable {
        package var mechanisms: [[UInt8]]
        /// The list as it was encoded: the proof that nobody changed it is over these bytes.
        package var encodedMechanisms: [UInt8]
        package var token: [UInt8]
        package var proof: [UInt8]?
    }

    package struct Continuation: Equatable {
        package var token: [UInt8]
        package var proof: [UInt8]?
    }

    package enum State: UInt8, Sendable {
        case completed = 0
        case incomplete = 1
        case rejected = 2
    }

    package enum Token: Equatable {
        case initiation(Initiation)
        case continuation(Continuation)

        package init?(reading bytes: UnsafeRawBufferPointer) {
            var reader = DERReader(bytes)
            switch reader.tag {
            case DERReader.application0:
                guard let content = reader.content(DERReader.application0) else { return nil }
                var inner = DERReader(content)
                guard let identifier = inner.content(DERReader.objectIdentifier),
                    identifier.elementsEqual(SPNEGO.identifier),
                    let choice = inner.content(DERReader.context(0)), let initiation = Initiation(reading: choice)
                else { return nil }
                self = .initiation(initiation)
            case DERReader.context(1):
                guard let content = reader.content(DERReader.context(1)),
                    let continuation = Continuation(reading: content)
                else { return nil }
                self = .continuation(continuation)
            default: return nil
            }
        }
    }

    /// What a server says before a client has begun: its mechanisms, the best one first.
    package static func hint(takesTickets: Bool) -> [UInt8] {
        let mechanisms = (takesTickets ? kerberos : []) + [ntlm]
        let list = DERWriter.element(
            DERReader.sequence, mechanisms.flatMap { DERWriter.element(DERReader.objectIdentifier, $0) })
        let sequence = DERWriter.element(DERReader.sequence, DERWriter.element(DERReader.context(0), list))
        return DERWriter.element(
            DERReader.application0,
            DERWriter.element(DERReader.objectIdentifier, identifier)
                + DERWriter.element(DERReader.context(0), sequence))
    }

    package static func response(
        _ state: State, mechanism: [UInt8]? = nil, token: [UInt8] = [], proof: [UInt8]? = nil
    ) -> [UInt8] {
        var fields = DERWriter.element(
            DERReader.context(0), DERWriter.element(DERReader.enumerated, [state.rawValue]))
        if let mechanism {
            fields += DERWriter.element(
                DERReader.context(1), DERWriter.element(DERReader.objectIdentifier, mechanism))
        }
        if !token.isEmpty {
            fields += DERWriter.element(DERReader.context(2), DERWriter.element(DERReader.octetString, token))
        }
        if let proof {
            fields += DERWriter.element(DERReader.context(3), DERWriter.element(DERReader.octetString, proof))
        }
        return DERWriter.element(DERReader.context(1), DERWriter.element(DERReader.sequence, fields))
    }
}

extension SPNEGO.Initiation {
    init?(reading bytes: UnsafeRawBufferPointer) {
        var outer = DERReader(bytes)
        guard let content = outer.content(DERReader.sequence) else { return nil }
        var fields = DERReader(content)
        guard let list = fields.content(DERReader.context(0)) else { return nil }
        encodedMechanisms = Array(list)
        mechanisms = []
        token = []
        var sequence = DERReader(list)
        guard let identifiers = sequence.content(DERReader.sequence) else { return nil }
        var each = DERReader(identifiers)
        while !each.isAtEnd {
            guard let identifier = each.content(DERReader.objectIdentifier),
                mechanisms.count < SPNEGO.mechanismsMax
            else { return nil }
            mechanisms.append(Array(identifier))
        }
        while let field = fields.next() {
            guard field.tag == DERReader.context(2) || field.tag == DERReader.context(3) else { continue }
            var value = DERReader(field.content)
            guard let bytes = value.content(DERReader.octetString) else { return nil }
            if field.tag == DERReader.context(2) { token = Array(bytes) } else { proof = Array(bytes) }
        }
    }
}

extension SPNEGO.Continuation {
    init?(reading bytes: UnsafeRawBufferPointer) {
        var outer = DERReader(bytes)
        guard let content = outer.content(DERReader.sequence) else { return nil }
        var fields = DERReader(content)
        token = []
        while let field = fields.next() {
            var value = DERReader(field.content)
            switch field.tag {
            case DERReader.context(2):
                guard let bytes = value.content(DERReader.octetString) else { return nil }
                token = Array(bytes)
            case DERReader.context(3):
                guard let bytes = value.content(DERReader.octetString) else { return nil }
                proof = Array(bytes)
            default: break
            }
        }
    }
}
