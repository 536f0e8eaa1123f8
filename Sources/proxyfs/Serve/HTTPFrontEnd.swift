import Configuration
import HTTP
import Logging
import Namespace
import Runtime
import S3

/// What answers on the ports for HTTP: S3, and by their paths the other object protocols once they are there.
///
/// A request that is signed for S3 is S3's before any path is looked at; then come the paths of the others; what is left
/// is S3 without a signature.
final class HTTPFrontEnd: RequestHandler {
    private let s3: S3Service

    init(
        _ volumes: Volumes, registry: Registry, _ configuration: Configuration, world: World, logger: Logger
    ) {
        s3 = S3Service(
            volumes, credentials: RegistryCredentials(registry), region: configuration.http.region,
            domains: configuration.http.domains, world: world, logger: logger)
        s3.startSweeping(on: world.loops[0])
    }

    private static let otherPrefixes = ["/v1/", "/auth/", "/proxyfs/v1/", "/api/v1/"]
    private static let otherPaths = ["/info", "/healthcheck", "/v1", "/auth"]

    func begin(_ exchange: Exchange) -> (any ExchangeHandler)? {
        let path = exchange.head.path
        let isOther = Self.otherPaths.contains(path) || Self.otherPrefixes.contains { path.hasPrefix($0) }
        guard isOther, !S3Service.isMeant(exchange.head) else { return s3.begin(exchange) }
        exchange.respond(
            .notImplemented, ResponseFields(contentType: "text/plain"),
            text: "This version serves S3 on this port; what is at \(path) is not served yet.\n")
        return nil
    }

    func listen(
        on address: SocketAddress, _ world: World, connectionsMax: Int, tls: TLSServer? = nil
    ) throws(Errno) -> Listener {
        var limits = HTTPLimits()
        limits.connectionsMax = connectionsMax
        return try HTTPServer(self, limits: limits, clock: world.clock).listen(
            on: address, network: world.network, loops: world.loops, tls: tls)
    }

    /// `made`: a certificate of our own making, which stays as long as the server runs.
    private static func options(
        _ configuration: Configuration, _ made: inout TLSCertificate?
    ) throws(CommandFailure) -> TLSServerOptions {
        var options = try certificate(configuration, &made)
        for more in configuration.certificates { options.certificates.append(try read(more.certificate, more.key)) }
        if let authorities = configuration.tlsClients.authorities {
            options.clientAuthorities = String(
                decoding: try Settings.read(authorities, "the authorities of clients"), as: UTF8.self)
            options.clientCertificateRequired = configuration.tlsClients.isRequired
        }
        return options
    }

    /// The certificate that the configuration names, or one of our own making.
    private static func certificate(
        _ configuration: Configuration, _ made: inout TLSCertificate?
    ) throws(CommandFailure) -> TLSServerOptions {
        switch configuration.tls {
        case .off: throw .failure("there is no certificate for https")
        case .selfSigned:
            if let made { return TLSServerOptions(certificates: [made]) }
            // A bucket's name may stand before the domain's.
            let domains = ["localhost"] + configuration.http.domains
            let names = domains + domains.map { "*." + $0 } + [configuration.address]
            do throws(TLSFailure) {
                let certificate = try TLSCertificate.selfSigned(names: names)
                made = certificate
                return TLSServerOptions(certificates: [certificate])
            } catch { throw unusable(error) }
        case .files(let chain, let key):
            return TLSServerOptions(certificates: [try read(chain, key)])
        }
    }

    private static func read(_ chain: String, _ key: String) throws(CommandFailure) -> TLSCertificate {
        TLSCertificate(
            chain: String(decoding: try Settings.read(chain, "the certificate"), as: UTF8.self),
            key: String(decoding: try Settings.read(key, "the certificate's key"), as: UTF8.self))
    }

    static func tls(
        _ configuration: Configuration, _ made: inout TLSCertificate?
    ) throws(CommandFailure) -> TLSServer {
        let options = try options(configuration, &made)
        do throws(TLSFailure) { return try TLSServer(options) } catch { throw unusable(error) }
    }

    static func reload(
        _ server: TLSServer, _ configuration: Configuration, _ made: inout TLSCertificate?
    ) throws(CommandFailure) {
        let options = try options(configuration, &made)
        do throws(TLSFailure) { try server.reload(options) } catch { throw unusable(error) }
    }

    private static func unusable(_ failure: TLSFailure) -> CommandFailure {
        .failure("can not serve https: \(failure); look at tls.certificate, tls.key and tls.client_authorities")
    }
}

/// Users and their keys, as the registry knows them at the moment.
final class RegistryCredentials: CredentialSource {
    private let registry: Registry

    init(_ registry: Registry) { self.registry = registry }

    func grant(accessKey: String) -> AccessGrant? {
        let snapshot = registry.snapshot
        guard let holder = snapshot.holder(accessKey: accessKey) else { return nil }
        let rights = snapshot.rights(of: holder.user, on: holder.volume)
        guard rights.contains(.read) else { return nil }
        return AccessGrant(
            user: holder.user.name, credential: holder.user.credential, volume: holder.volume, secret: holder.secret,
            isReadOnly: !rights.contains(.write))
    }

    func userName(uid: UInt32) -> String? { registry.snapshot.users.user(uid: uid)?.name }

    func uid(userName: String) -> UInt32? { registry.snapshot.users.user(userName)?.uid }
}
