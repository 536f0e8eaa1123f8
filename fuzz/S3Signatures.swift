// modules: Bytes Logging Crypto
// part: Runtime Sources/Runtime/Time/Timestamp.swift Sources/Runtime/Time/CivilTime.swift
// part: HTTP Sources/HTTP/Message/RequestParser.swift Sources/HTTP/Message/HeadParser.swift Sources/HTTP/Message/RequestHead.swift Sources/HTTP/Message/RequestFault.swift Sources/HTTP/Message/HTTPLimits.swift Sources/HTTP/Message/Status.swift
// part: Namespace Sources/Namespace/Identity/Credential.swift Sources/Namespace/Identity/SID.swift Sources/Namespace/FileSystem/FileError.swift
// with: Sources/S3/Signature/SignatureV4.swift Sources/S3/Signature/SignatureV2.swift Sources/S3/Signature/Authentication.swift Sources/S3/Signature/CredentialSource.swift Sources/S3/Signature/SessionKey.swift Sources/S3/Signature/ChunkDecoder.swift Sources/S3/Message/S3Request.swift Sources/S3/Message/S3Query.swift Sources/S3/Message/PercentCoding.swift Sources/S3/Message/ChecksumFields.swift Sources/S3/Message/S3Error.swift
// inputs: 5000000
// longest: 1024
// lines: 95
// covers: Sources/S3/Signature/SignatureV4.swift Sources/S3/Signature/SignatureV2.swift Sources/S3/Signature/Authentication.swift Sources/S3/Signature/SessionKey.swift Sources/S3/Message/S3Request.swift Sources/S3/Message/S3Query.swift Sources/S3/Message/PercentCoding.swift
import Crypto
import HTTP
import Logging
import Namespace

private let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
/// 2013-05-24, the day of the published examples.
private let day: Int64 = 1_369_353_600

private final class Keys: CredentialSource {
    func grant(accessKey: String) -> AccessGrant? {
        guard accessKey.hasPrefix("A") else { return nil }
        return AccessGrant(
            user: "example", credential: Credential(uid: 1, gid: 1), volume: "default", secret: Secret(secret))
    }
    func userName(uid: UInt32) -> String? { nil }
    func uid(userName: String) -> UInt32? { nil }
}

private let keys = SigningKeys()

/// A head; the first byte says when it comes. What its signature should have been is told: with that one it is let in.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first else { return 0 }
    let text = Array(input.dropFirst())
    let now = day + Int64(first) * 600
    guard let error = refusal(text, now), error.code == .signatureDoesNotMatch else { return 0 }
    func detail(_ name: String) -> String? { error.details.first { $0.name == name }?.value }
    // Keys for a while have secrets of their own.
    guard detail("AWSAccessKeyId")?.hasPrefix("PXS") == false else { return 0 }
    guard let toSign = detail("StringToSign"), let given = detail("SignatureProvided"), given.utf8.count >= 8 else {
        return 0
    }
    let wanted: String
    if toSign.hasPrefix("AWS4-HMAC-SHA256\n") {
        let scope = toSign.split(separator: "\n", omittingEmptySubsequences: false).dropFirst(2).first ?? ""
        let parts = scope.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return 0 }
        let key = keys.key("A", secret, day: String(parts[0]), region: String(parts[1]))
        wanted = Hexadecimal.encode(HMAC.of(.sha256, key: key, toSign))
    } else {
        wanted = Base64.encode(HMAC.of(.sha1, key: Array(secret.utf8), toSign))
    }
    // In a query it is escaped, and what can not be told from other text is left alone.
    let old = Array(given.utf8)
    guard let place = find(old, in: text), find(old, in: Array(text[(place + 1)...])) == nil else { return 0 }
    let isQuery = find(Array("Signature=\(given)".utf8), in: text).map { $0 < find([13, 10], in: text) ?? 0 } ?? false
    let new = isQuery ? PercentCoding.encode(Array(wanted.utf8), keepsSlash: false) : Array(wanted.utf8)
    let signed = Array(text[..<place]) + new + text[(place + old.count)...]
    // Text that is no UTF-8 is told with signs in its place.
    guard String(validating: text, as: UTF8.self) != nil else { return 0 }
    if let again = refusal(signed, now), again.code == .signatureDoesNotMatch {
        precondition(
            again.details.first { $0.name == "StringToSign" }?.value != toSign, "the signature that was told is refused"
        )
    }
    return 0
}

private func find(_ part: [UInt8], in text: [UInt8]) -> Int? {
    guard !part.isEmpty, text.count >= part.count else { return nil }
    return (0...(text.count - part.count)).first { text[$0..<($0 + part.count)].elementsEqual(part) }
}

private func refusal(_ text: [UInt8], _ now: Int64) -> S3Error? {
    var parser = RequestParser()
    let head: RequestHead? = text.withUnsafeBytes { bytes in
        guard case .head(let head, _)? = try? parser.next(bytes) else { return nil }
        return head
    }
    guard let head else { return nil }
    let authenticator = Authenticator(source: Keys(), region: "us-east-1", keys: keys, now: now)
    do throws(S3Error) {
        _ = S3Request.isSigned(head)
        let request = try S3Request(head, domains: ["s3.amazonaws.com"])
        _ = (request.value("host"), request.query.has("uploads"), try request.query.number("partNumber"))
        if request.isPresigned { _ = try? request.withFieldsOfAddress() }
        _ = try authenticator.authenticate(request)
        return nil
    } catch { return error }
}
