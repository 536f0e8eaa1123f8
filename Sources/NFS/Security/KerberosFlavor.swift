import Kerberos
import RPC
import Runtime

/// RPCSEC_GSS with Kerberos (RFC 1964, RFC 4121, RFC 2623).
public enum KerberosFlavor {
    /// RFC 2623 2.1: of the services none, integrity and privacy.
    public static let numbers: [UInt32] = [390_003, 390_004, 390_005]

    public static func make(_ credential: KerberosCredential, _ world: World) -> GSSFlavor {
        GSSFlavor(flavors: numbers, pool: world.blocking, clock: world.clock, random: world.random) {
            Handshake(credential)
        }
    }

    private final class Handshake: GSSHandshake {
        private let handshake: KerberosHandshake

        init(_ credential: KerberosCredential) { handshake = KerberosHandshake(accepting: credential) }

        func step(_ token: UnsafeRawBufferPointer) -> GSSStep {
            switch handshake.step(token) {
            case .complete(let context, let principal, let seconds, let token):
                .complete(
                    Context(context), principal: principal, lifetimeNanoseconds: UInt64(seconds) * 1_000_000_000,
                    token: token)
            case .continues(let token): .continues(token: token)
            case .failed(let failure, let token): .failed(major: failure.major, minor: failure.minor, token: token)
            }
        }
    }

    private final class Context: GSSContext {
        private let context: KerberosContext

        init(_ context: KerberosContext) { self.context = context }

        func verifies(_ message: UnsafeRawBufferPointer, _ signature: UnsafeRawBufferPointer) -> Bool {
            context.verifies(message, signature)
        }
        func sign(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int? {
            context.sign(message, into: place)
        }
        func wrap(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int? {
            context.wrap(message, into: place)
        }
        func unwrap(_ wrapped: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool {
            context.unwrap(wrapped, body)
        }
    }
}
