import Bytes
import Logging
import Runtime

/// What a caller of the admin listener shows: 32 random bytes in hexadecimal, in a file that the server's user alone
/// can read. Made at the first start.
public struct AdminToken: Sendable {
    public static let file = "admin.token"
    public static let bytes = 32

    public enum Problem: Error, Equatable {
        case failed(Errno)
        /// The file is there, but what is in it is no token.
        case damaged
    }

    private let secret: Secret

    package init(_ text: String) { secret = Secret(text) }

    /// Blocks: on a thread that may.
    public static func load(_ disk: any Disk, _ random: any RandomSource) throws(Problem) -> AdminToken {
        let token: AdminToken?
        do throws(Errno) {
            let found = try disk.open(file, [])
            defer { found.close() }
            token = try read(found)
        } catch {
            guard error == .noEntry else { throw .failed(error) }
            return try make(disk, random)
        }
        guard let token else { throw .damaged }
        return token
    }

    private static func read(_ file: any DiskFile) throws(Errno) -> AdminToken? {
        // One more for the line's end, one to see that there is no more.
        let block = Block(capacity: 2 * Self.bytes + 2)
        block.count = try file.read(into: block.free, at: 0)
        let bytes = Array(block.bytes)
        let text = bytes.last == UInt8(ascii: "\n") ? bytes.dropLast() : bytes[...]
        guard text.count == 2 * Self.bytes, text.allSatisfy({ Self.digits.contains($0) }) else { return nil }
        return AdminToken(String(decoding: text, as: UTF8.self))
    }

    private static let digits = Array("0123456789abcdef".utf8)

    /// Under another name first: a crash leaves a whole token or none.
    private static func make(_ disk: any Disk, _ random: any RandomSource) throws(Problem) -> AdminToken {
        var bytes = [UInt8](repeating: 0, count: Self.bytes)
        bytes.withUnsafeMutableBytes { random.fill($0) }
        let text = bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        let temporary = file + ".new"
        do throws(Errno) {
            let fresh = try disk.open(temporary, [.write, .create, .truncate])
            defer { fresh.close() }
            let block = (text + [UInt8(ascii: "\n")]).withUnsafeBytes { Block(copying: $0) }
            try fresh.write(block.bytes, at: 0)
            try fresh.sync()
            try disk.rename(temporary, to: file)
            try disk.syncDirectory("")
        } catch { throw .failed(error) }
        return AdminToken(String(decoding: text, as: UTF8.self))
    }

    /// Of the value of an `Authorization` field. Takes the same time wherever two tokens differ.
    package func admits(_ authorization: String?) -> Bool {
        guard let authorization, authorization.prefix(7).lowercased() == "bearer " else { return false }
        return Secret(String(authorization.dropFirst(7))) == secret
    }
}
