// modules: JSON Bytes Logging Crypto
// part: Runtime Sources/Runtime/Time/Timestamp.swift Sources/Runtime/Time/CivilTime.swift Sources/Runtime/Network/SocketAddress.swift
// part: HTTP Sources/HTTP/Message/Status.swift
// part: Namespace Sources/Namespace/FileSystem/FileError.swift
// with: Sources/S3/Buckets/BucketPolicy.swift Sources/S3/Buckets/S3Action.swift Sources/S3/Signature/PostPolicy.swift Sources/S3/Message/S3Error.swift
// inputs: 5000000
// longest: 1024
// lines: 95
// covers: Sources/JSON/JSONParser.swift Sources/S3/Buckets/BucketPolicy.swift Sources/S3/Signature/PostPolicy.swift
import Crypto
import Runtime

/// As much of a request's body as the policy of a form speaks of.
enum RequestBody {
    static func tooLarge(_ max: UInt64) -> S3Error { S3Error(.entityTooLarge) }
}

private let addresses = ["192.0.2.7", "2001:db8::1"].compactMap { SocketAddress(numeric: $0, port: 1) }

/// The first byte says which kind of policy, and who asks.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first else { return 0 }
    let text = Array(input.dropFirst())
    if first & 1 == 0 { bucket(text, first) } else { form(text, first) }
    return 0
}

private func bucket(_ text: [UInt8], _ who: UInt8) {
    guard let policy = try? BucketPolicy(text, bucket: "bkt") else { return }
    _ = policy.isPublic
    for action in ["s3:GetObject", "s3:PutBucketPolicy"] {
        let context = BucketPolicy.Context(
            user: who & 2 == 0 ? nil : "example", uid: who & 2 == 0 ? nil : 7, action: action,
            actionOfVersion: who & 4 == 0 ? nil : "s3:GetObjectVersion", resource: "arn:aws:s3:::bkt/a/b",
            address: addresses[Int(who >> 3 & 1)], isSecure: who & 16 != 0,
            values: who & 32 == 0 ? [:] : ["s3:prefix": "a/", "aws:referer": "https://example.com/x"])
        // The same policy decides the same.
        precondition(policy.decide(context) == policy.decide(context), "a policy decides in two ways")
    }
}

private func form(_ text: [UInt8], _ who: UInt8) {
    let whole = who & 2 == 0 ? Base64.encode(text) : String(decoding: text, as: UTF8.self)
    guard let policy = try? PostPolicy(whole) else { return }
    let form = ["key": "user/eric/x", "bucket": "bkt", "acl": "public-read", "x-ignore-a": "1"]
    try? policy.check(form, now: who & 4 == 0 ? 0 : .max)
    try? policy.check(length: UInt64(who) << 4)
}
