import Bytes

/// Random bytes in hexadecimal, in a file that the server's user alone can read; made when there is none.
public enum SecretFile {
    public enum Problem: Error, Equatable {
        case failed(Errno)
        /// The file is there, but what is in it is no such secret.
        case damaged
    }

    public static let bytesMax = 1024
    private static let digits = Array("0123456789abcdef".utf8)

    /// The text of a secret of `bytes` bytes. Blocks: on a thread that may.
    public static func load(
        _ name: String, bytes: Int, _ disk: any Disk, _ random: any RandomSource
    ) throws(Problem) -> String {
        precondition(bytes > 0 && bytes <= bytesMax)
        let text: String?
        do throws(Errno) {
            let found = try disk.open(name, [])
            defer { found.close() }
            text = try read(found, bytes)
        } catch {
            guard error == .noEntry else { throw .failed(error) }
            return try make(name, bytes, disk, random)
        }
        guard let text else { throw .damaged }
        return text
    }

    private static func read(_ file: any DiskFile, _ count: Int) throws(Errno) -> String? {
        // One more for the line's end, one to see that there is no more.
        let block = Block(capacity: 2 * count + 2)
        block.count = try file.read(into: block.free, at: 0)
        let bytes = Array(block.bytes)
        let text = bytes.last == UInt8(ascii: "\n") ? bytes.dropLast() : bytes[...]
        guard text.count == 2 * count, text.allSatisfy({ digits.contains($0) }) else { return nil }
        return String(decoding: text, as: UTF8.self)
    }

    /// Under another name first: a crash leaves a whole secret or none.
    private static func make(
        _ name: String, _ count: Int, _ disk: any Disk, _ random: any RandomSource
    ) throws(Problem) -> String {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { random.fill($0) }
        let text = bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        let temporary = name + ".new"
        do throws(Errno) {
            let fresh = try disk.open(temporary, [.write, .create, .truncate])
            defer { fresh.close() }
            let block = (text + [UInt8(ascii: "\n")]).withUnsafeBytes { Block(copying: $0) }
            try fresh.write(block.bytes, at: 0)
            try fresh.sync()
            try disk.rename(temporary, to: name)
            try disk.syncDirectory("")
        } catch { throw .failed(error) }
        return String(decoding: text, as: UTF8.self)
    }
}
