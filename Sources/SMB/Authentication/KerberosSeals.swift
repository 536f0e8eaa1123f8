import Kerberos

struct KerberosSeals: MechanismSeals {
    private static let signatureMax = 256
    let context: KerberosContext

    func sign(_ list: [UInt8]) -> [UInt8]? {
        var signature = [UInt8](repeating: 0, count: Self.signatureMax)
        let count = list.withUnsafeBytes { list in
            signature.withUnsafeMutableBytes { context.sign(list, into: $0) }
        }
        return count.map { Array(signature.prefix($0)) }
    }

    func isSignedByClient(_ list: [UInt8], _ proof: [UInt8]) -> Bool {
        list.withUnsafeBytes { list in proof.withUnsafeBytes { context.verifies(list, $0) } }
    }
}
