import Crypto
import JSON
import Runtime

/// What a form may send, in the words of who signed it.
package struct PostPolicy {
    private enum Condition {
        case equals(String, String)
        case startsWith(String, String)
        case length(UInt64, UInt64)
    }

    private let expires: Int64
    private var conditions: [Condition] = []

    /// From the field `policy`, in base 64.
    package init(_ text: String) throws(S3Error) {
        guard let bytes = Base64.decode(text.filter { $0 != "\n" && $0 != "\r" }) else {
            throw Self.fault("Invalid Policy: Invalid Base64.")
        }
        let root: JSON
        do throws(JSONFault) { root = try JSON(bytes) } catch { throw Self.fault("Invalid Policy: Invalid JSON.") }
        guard let time = root["expiration"]?.text, let expires = Timestamp.extended(time) else {
            throw Self.fault("Invalid Policy: Policy missing expiration.")
        }
        self.expires = expires
        guard let items = root["conditions"]?.array else {
            throw Self.fault("Invalid Policy: Policy missing conditions.")
        }
        for item in items {
            if let members = item.members {
                for member in members {
                    guard let value = member.value.text else {
                        throw Self.fault("Invalid Policy: Invalid Simple-Condition.")
                    }
                    conditions.append(.equals(member.name.lowercased(), value))
                }
                continue
            }
            guard let parts = item.array, parts.count == 3, let word = parts[0].text?.lowercased() else {
                throw Self.fault("Invalid Policy: Invalid condition.")
            }
            if word == "content-length-range" {
                guard let low = Self.number(parts[1]), let high = Self.number(parts[2]) else {
                    throw Self.fault("Invalid Policy: Invalid content-length-range.")
                }
                conditions.append(.length(low, high))
                continue
            }
            guard let name = parts[1].text, name.hasPrefix("$"), let value = parts[2].text,
                word == "eq" || word == "starts-with"
            else { throw Self.fault("Invalid Policy: Invalid condition.") }
            let field = name.dropFirst().lowercased()
            conditions.append(word == "eq" ? .equals(field, value) : .startsWith(field, value))
        }
    }

    private static func fault(_ what: String) -> S3Error { S3Error(.invalidPolicyDocument, what) }

    private static func number(_ value: JSON) -> UInt64? { value.unsigned ?? value.text.flatMap { UInt64($0) } }

    private static let exempt: Set<String> = [
        "policy", "signature", "x-amz-signature", "awsaccesskeyid", "file", "x-amz-security-token",
    ]

    /// The form has what the policy asks for, and nothing that it does not name. `now` in seconds.
    package func check(_ form: [String: String], now: Int64) throws(S3Error) {
        guard now <= expires else { throw S3Error(.accessDenied, "Invalid according to Policy: Policy expired.") }
        var named: Set<String> = []
        for condition in conditions {
            switch condition {
            case .equals(let name, let value):
                named.insert(name)
                guard form[name] == value else { throw Self.broken("[\"eq\", \"$\(name)\", \"\(value)\"]") }
            case .startsWith(let name, let value):
                named.insert(name)
                guard let found = form[name], found.hasPrefix(value) else {
                    throw Self.broken("[\"starts-with\", \"$\(name)\", \"\(value)\"]")
                }
            case .length: break
            }
        }
        for name in form.keys.sorted() where !Self.exempt.contains(name) && !name.hasPrefix("x-ignore-") {
            guard named.contains(name) else {
                throw S3Error(.accessDenied, "Invalid according to Policy: Extra input fields: \(name)")
            }
        }
    }

    private static func broken(_ condition: String) -> S3Error {
        S3Error(.accessDenied, "Invalid according to Policy: Policy Condition failed: \(condition)")
    }

    package func check(length: UInt64) throws(S3Error) {
        for case .length(let low, let high) in conditions {
            if length < low {
                throw S3Error(.entityTooSmall, details: [("ProposedSize", "\(length)"), ("MinSizeAllowed", "\(low)")])
            }
            if length > high { throw RequestBody.tooLarge(high) }
        }
    }
}
