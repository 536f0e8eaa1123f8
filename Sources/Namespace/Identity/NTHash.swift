/// What NTLMv2 needs of a secret ([MS-NLMP] 3.3.2, NTOWFv1): MD4 of its UTF-16. Who has it can log in over SMB, so it is kept as the
/// secret itself is.
public enum NTHash {
    public static let count = 16

    public static func of(_ secret: String) -> [UInt8] {
        var bytes: [UInt8] = []
        for unit in secret.utf16 {
            bytes.append(UInt8(truncatingIfNeeded: unit))
            bytes.append(UInt8(truncatingIfNeeded: unit >> 8))
        }
        return md4(bytes)
    }

    /// RFC 1320.
    package static func md4(_ message: [UInt8]) -> [UInt8] {
        var padded = message + [0x80]
        while padded.count % 64 != 56 { padded.append(0) }
        let bits = UInt64(message.count) &* 8
        for shift in stride(from: 0 as UInt64, through: 56, by: 8) {
            padded.append(UInt8(truncatingIfNeeded: bits >> shift))
        }
        var state: [UInt32] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476]
        for block in stride(from: 0, to: padded.count, by: 64) {
            let words = (0..<16).map { index in
                (0..<4).reduce(0 as UInt32) { $0 | UInt32(padded[block + 4 * index + $1]) << UInt32(8 * $1) }
            }
            compress(&state, words)
        }
        return state.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) } }
    }

    private static let orders: [[Int]] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15],
        [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15],
    ]
    private static let shifts: [[UInt32]] = [[3, 7, 11, 19], [3, 5, 9, 13], [3, 9, 11, 15]]
    private static let constants: [UInt32] = [0, 0x5A82_7999, 0x6ED9_EBA1]

    private static func compress(_ state: inout [UInt32], _ words: [UInt32]) {
        var a = state[0]
        var b = state[1]
        var c = state[2]
        var d = state[3]
        for round in 0..<3 {
            for step in 0..<16 {
                let mixed: UInt32
                switch round {
                case 0: mixed = (b & c) | (~b & d)
                case 1: mixed = (b & c) | (b & d) | (c & d)
                default: mixed = b ^ c ^ d
                }
                let sum = a &+ mixed &+ words[orders[round][step]] &+ constants[round]
                let shift = shifts[round][step % 4]
                (a, b, c, d) = (d, (sum &<< shift) | (sum &>> (32 - shift)), b, c)
            }
        }
        state[0] &+= a
        state[1] &+= b
        state[2] &+= c
        state[3] &+= d
    }
}
