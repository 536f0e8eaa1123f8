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

    /// What is asked for by an element that nobody here knows would not be done.
    func requireOnly(_ names: String...) throws(S3Error) {
        for child in children where !names.contains(child.name) {
            throw S3Error(.notImplemented, details: [("Element", child.name)])
        }
    }
}
