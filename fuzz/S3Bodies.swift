// modules: Bytes Crypto
// with: Sources/S3/Signature/ChunkDecoder.swift Sources/S3/Message/FormDecoder.swift
// inputs: 5000000
// longest: 1024
// lines: 95
// covers: Sources/S3/Signature/ChunkDecoder.swift Sources/S3/Message/FormDecoder.swift

/// What the decoders throw, without the rest of S3.
package struct S3Error: Error {
    package enum Code {
        case incompleteBody, invalidRequest, signatureDoesNotMatch, malformedPOST, maxMessageLengthExceeded
    }
    package init(_ code: Code, _ message: String? = nil) {}
}

/// The first byte says which decoder and in which pieces; whatever they are, the data must be the same.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first else { return 0 }
    let bytes = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    let step = Int(first >> 2) + 1
    precondition(decode(bytes, Int(first & 3), bytes.count + 1) == decode(bytes, Int(first & 3), step), "pieces matter")
    return 0
}

private let plainForm = FormDecoder(contentType: "multipart/form-data; boundary=b")
private let noBoundary = "multipart/form-data; boundary="

private func decode(_ bytes: UnsafeRawBufferPointer, _ kind: Int, _ step: Int) -> [UInt8] {
    var found: [UInt8] = []
    let signing = ChunkSigning(key: [1, 2, 3], date: "20130524T000000Z", scope: "s", seed: "0")
    var chunks = ChunkDecoder(kind == 1 ? signing : nil, hasTrailer: kind != 2)
    // The boundary of the very beginning of a body is as good as that of the head.
    let boundary = bytes.prefix(while: { $0 != 13 }).dropFirst(2).prefix(100)
    let type = kind == 3 ? noBoundary + "\"\(String(decoding: boundary, as: UTF8.self))\"" : ""
    guard var form = kind == 3 ? FormDecoder(contentType: type) : plainForm else {
        precondition(FormDecoder(contentType: "text/plain; boundary=b") == nil)
        return []
    }
    var start = 0
    while start < bytes.count {
        let piece = UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + step, bytes.count)])
        do throws(S3Error) {
            if kind == 3 {
                try form.take(piece) { (data) throws(S3Error) in found.append(contentsOf: data) }
            } else {
                try chunks.take(piece) { (data) throws(S3Error) in found.append(contentsOf: data) }
            }
        } catch { return found + [0] }
        start += step
    }
    if chunks.isComplete || form.isComplete { found.append(1) }
    let names =
        form.fields.map { "\($0.name)=\($0.value)" }.joined()
        + chunks.trailers.map { "\($0.name):\($0.value)" }.joined()
    return found + Array(names.utf8)
}
