import Runtime
import Transfer
import XML

/// What S3 says beside the status.
struct S3Answer {
    var code = ""
    var message = ""
    var region: String?

    /// Of an error's body, or of a 200 that turned into an error while it was sent.
    init(_ reply: TransferReply) {
        region = reply.headers["x-amz-bucket-region"]
        guard let root = XMLElement(parsing: reply.bodyBytes), root.name == "Error" else { return }
        code = root.text("Code") ?? ""
        message = root.text("Message") ?? ""
        region = root.text("Region") ?? region
    }

    /// One line, of bounded length: servers write what they want.
    func text(_ status: Int) -> String {
        let words = [code, message].filter { !$0.isEmpty }.joined(separator: ": ")
        let clean = words.unicodeScalars.prefix(300).map { $0.value < 0x20 || $0.value == 0x7f ? " " : String($0) }
            .joined()
        return clean.isEmpty ? "status \(status)" : clean
    }
}
