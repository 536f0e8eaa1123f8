import CShim

/// The making of a context: tokens go to and fro until both sides agree. One thread at a time; blocks.
public final class KerberosHandshake: @unchecked Sendable {
    public enum Step: Sendable {
        /// The client is who it says. The token, if there is one, is for it.
        case complete(KerberosContext, principal: String, lifetimeSeconds: UInt32, token: [UInt8])
        case continues(token: [UInt8])
        case failed(KerberosFailure, token: [UInt8])
    }

    private enum Side {
        case acceptor(KerberosCredential)
        case initiator(service: String)
    }

    private let side: Side
    private var context: UnsafeMutableRawPointer?

    public init(accepting credential: KerberosCredential) { side = .acceptor(credential) }

    /// A client's side, with the credentials of this process's environment: `service` is as `nfs@host`.
    public init(initiating service: String) { side = .initiator(service: service) }

    deinit { if let context { shim_gss_delete(context) } }

    public func step(_ token: UnsafeRawBufferPointer) -> Step {
        var accepted = shim_gss_accepted()
        switch side {
        case .acceptor(let credential):
            shim_gss_accept(credential.raw, &context, token.baseAddress, token.count, &accepted)
        case .initiator(let service):
            shim_gss_initiate(&context, service, token.baseAddress, token.count, &accepted)
        }
        defer { shim_gss_accepted_free(&accepted) }
        let answer = Array(UnsafeRawBufferPointer(start: accepted.token, count: accepted.token_length))
        guard KerberosFailure.isGood(accepted.status) else {
            return .failed(KerberosFailure(accepted.status), token: answer)
        }
        guard accepted.complete != 0 else { return .continues(token: answer) }
        let made = KerberosContext(context)
        context = nil
        let principal = accepted.principal.map { String(cString: $0) } ?? ""
        return .complete(made, principal: principal, lifetimeSeconds: accepted.lifetime, token: answer)
    }
}
