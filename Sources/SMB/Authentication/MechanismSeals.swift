/// What a mechanism that is done signs with, for the proof that nobody changed the list of mechanisms (RFC 4178 5).
package protocol MechanismSeals: Sendable {
    /// By the server. Nil: it can not.
    func sign(_ list: [UInt8]) -> [UInt8]?
    func isSignedByClient(_ list: [UInt8], _ proof: [UInt8]) -> Bool
}

extension NTLMSeals {
    package func sign(_ list: [UInt8]) -> [UInt8]? { sign(list, isServer: true) }
    package func isSignedByClient(_ list: [UInt8], _ proof: [UInt8]) -> Bool { proof == sign(list, isServer: false) }
}
