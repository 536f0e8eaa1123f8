import Kerberos

/// What Kerberos said of a token.
package enum TicketOutcome: Sendable {
    /// `key`: what both sides share by it, the subkey if they agreed on one ([MS-SMB2] 3.3.5.5.3). `seconds`: as long as the ticket is
    /// good.
    case accepted(token: [UInt8], principal: String, key: [UInt8], seconds: UInt32, seals: any MechanismSeals)
    case goesOn(token: [UInt8])
    case refused(why: String)

    /// Blocks.
    init(_ handshake: KerberosHandshake, _ token: [UInt8]) {
        switch token.withUnsafeBytes({ handshake.step($0) }) {
        case .complete(let context, let principal, let seconds, let answer):
            guard let key = context.sessionKey, !key.isEmpty else {
                self = .refused(why: "a ticket without a key")
                return
            }
            self = .accepted(
                token: answer, principal: principal, key: key, seconds: seconds, seals: KerberosSeals(context: context))
        case .continues(let answer): self = .goesOn(token: answer)
        case .failed(let failure, _): self = .refused(why: failure.description)
        }
    }
}
