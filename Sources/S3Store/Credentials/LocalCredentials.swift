import Logging
import Transfer

/// What the process was started with, as the AWS command line reads it.
public enum LocalCredentials {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, for those that end, `AWS_SESSION_TOKEN`. Nil: they are not set.
    public static func environment(_ value: (String) -> String?) -> S3Credentials? {
        guard let key = value("AWS_ACCESS_KEY_ID"), let secret = value("AWS_SECRET_ACCESS_KEY"), !key.isEmpty,
            !secret.isEmpty
        else { return nil }
        let token = value("AWS_SESSION_TOKEN").flatMap { $0.isEmpty ? nil : Secret($0) }
        return S3Credentials(accessKey: key, secret: Secret(secret), token: token)
    }

    static let linesMax = 10_000

    /// One profile of a shared credentials file. Nil: it is not there, or has no key.
    public static func sharedFile(_ text: String, profile: String) -> S3Credentials? {
        var values: [String: String] = [:]
        var isOurs = false
        for line in text.split(whereSeparator: \.isNewline).prefix(linesMax) {
            let line = trimmed(line)
            if line.hasPrefix("[") {
                isOurs = line.hasSuffix("]") && trimmed(line.dropFirst().dropLast()) == profile
                continue
            }
            guard isOurs, !line.hasPrefix("#"), !line.hasPrefix(";"), let equals = line.firstIndex(of: "=") else {
                continue
            }
            values[trimmed(line[..<equals]).lowercased()] = trimmed(line[line.index(after: equals)...])
        }
        guard let key = values["aws_access_key_id"], let secret = values["aws_secret_access_key"], !key.isEmpty,
            !secret.isEmpty
        else { return nil }
        let token = values["aws_session_token"].flatMap { $0.isEmpty ? nil : Secret($0) }
        return S3Credentials(accessKey: key, secret: Secret(secret), token: token)
    }

    private static func trimmed(_ text: some StringProtocol) -> String {
        var text = Substring(text)
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}
