import XML

extension XMLElement {
    /// Of what a client sent.
    package init(_ bytes: [UInt8]) throws(S3Error) {
        guard bytes.count <= Self.bytesMax else {
            throw S3Error(.maxMessageLengthExceeded, "Your request was too big.")
        }
        guard let root = XMLElement(parsing: bytes) else { throw S3Error(.malformedXML) }
        self = root
    }
}
