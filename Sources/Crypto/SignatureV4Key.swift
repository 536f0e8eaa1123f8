/// The key that AWS Signature Version 4 signs one day's requests with.
public enum SignatureV4Key {
    public static func derive(_ secret: String, day: String, region: String, service: String = "s3") -> [UInt8] {
        let date = HMAC.of(.sha256, key: Array("AWS4\(secret)".utf8), day)
        let place = HMAC.of(.sha256, key: date, region)
        let name = HMAC.of(.sha256, key: place, service)
        return HMAC.of(.sha256, key: name, "aws4_request")
    }
}
