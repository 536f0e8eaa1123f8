/// The stream cipher that NTLM exchanges its session key with. OpenSSL keeps it in a module that many hosts do not have.
public struct RC4 {
    private var state: [UInt8]
    private var i: UInt8 = 0
    private var j: UInt8 = 0

    public init(key: [UInt8]) {
        precondition(!key.isEmpty, "RC4 needs a key")
        state = (0...255).map { UInt8($0) }
        var j: UInt8 = 0
        for i in 0..<256 {
            j = j &+ state[i] &+ key[i % key.count]
            state.swapAt(i, Int(j))
        }
    }

    public mutating func apply(_ bytes: [UInt8]) -> [UInt8] {
        bytes.map { byte in
            i = i &+ 1
            j = j &+ state[Int(i)]
            state.swapAt(Int(i), Int(j))
            return byte ^ state[Int(state[Int(i)] &+ state[Int(j)])]
        }
    }
}
