import Logging
import Runtime

extension SealingKey: SecretSeal {
    public func seal(_ secret: Secret) -> [UInt8] { seal(Array(secret.revealed.utf8)) }

    public func open(_ sealed: [UInt8]) -> Secret? {
        let plain: [UInt8]? = open(sealed)
        return plain.flatMap { String(validating: $0, as: UTF8.self) }.map { Secret($0) }
    }
}
