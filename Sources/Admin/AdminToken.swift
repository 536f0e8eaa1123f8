import Logging
import Runtime

/// What a caller of the admin listener shows: 32 random bytes in hexadecimal, in a file that the server's user alone
/// can read. Made at the first start.
public struct AdminToken: Sendable {
    public static let file = "admin.token"
    public static let bytes = 32

    private let secret: Secret

    package init(_ text: String) { secret = Secret(text) }

    /// Blocks: on a thread that may.
    public static func load(_ disk: any Disk, _ random: any RandomSource) throws(SecretFile.Problem) -> AdminToken {
        AdminToken(try SecretFile.load(file, bytes: bytes, disk, random))
    }

    /// Of the value of an `Authorization` field. Takes the same time wherever two tokens differ.
    package func admits(_ authorization: String?) -> Bool {
        guard let authorization, authorization.prefix(7).lowercased() == "bearer " else { return false }
        return Secret(String(authorization.dropFirst(7))) == secret
    }
}
