import COpenSSL

/// Digests of what is in memory, for protocols that name them.
public enum ChainedDigest {
    /// SHA-512 over what came before and what comes now.
    public static func sha512(_ before: [UInt8], _ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        guard let context = EVP_MD_CTX_new() else { preconditionFailure("no memory for a digest") }
        defer { EVP_MD_CTX_free(context) }
        var digest = [UInt8](repeating: 0, count: 64)
        precondition(
            EVP_DigestInit_ex(context, EVP_sha512(), nil) == 1
                && EVP_DigestUpdate(context, before, before.count) == 1
                && EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1
                && EVP_DigestFinal_ex(context, &digest, nil) == 1,
            "OpenSSL has SHA-512")
        return digest
    }

    /// MD5 of a few bytes: NTLM makes keys by it.
    public static func md5(_ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 16)
        precondition(EVP_Digest(bytes, bytes.count, &digest, nil, EVP_md5(), nil) == 1, "OpenSSL has MD5")
        return digest
    }
}
