// modules: Bytes
// with: Sources/SMB/Message/Header.swift Sources/SMB/Message/Requests.swift Sources/SMB/Message/SMB2.swift Sources/SMB/Message/SMBRequest.swift Sources/SMB/Message/UTF16Name.swift Sources/SMB/Message/NTStatus.swift Sources/SMB/Files/CreateContexts.swift
// inputs: 5000000
// lines: 95
// covers: Sources/SMB/Message/Header.swift Sources/SMB/Message/Requests.swift Sources/SMB/Message/SMBRequest.swift Sources/SMB/Files/CreateContexts.swift
import Bytes

/// The first byte is the command of the element that follows; what is read of it lies within it.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first, let command = Command(rawValue: UInt16(first) % 19) else { return 0 }
    let bytes = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    var reader = Reader(bytes)
    _ = try? Header(reading: &reader)
    var second = Reader(bytes)
    _ = try? TransformHeader(reading: &second)
    guard bytes.count >= Header.bytes else { return 0 }
    guard let request = try? SMBRequest(command, reading: Element(bytes)) else { return 0 }
    switch request {
    case .create(let create):
        check(create.name, in: bytes)
        check(create.contexts, in: bytes)
        if let contexts = try? CreateContexts(reading: create.contexts) {
            if let security = contexts.security { check(security, in: bytes) }
            if let attributes = contexts.attributes { check(attributes, in: bytes) }
        }
        name(create.name)
    case .write(let write): check(write.data, in: bytes)
    case .control(let control): check(control.input, in: bytes)
    case .setInfo(let set): check(set.data, in: bytes)
    case .lock(let lock): precondition(lock.ranges.count <= SMB2.locksMax)
    default: break
    }
    return 0
}

private func check(_ part: UnsafeRawBufferPointer, in whole: UnsafeRawBufferPointer) {
    guard !part.isEmpty, let start = part.baseAddress, let first = whole.baseAddress else { return }
    precondition(start >= first && start + part.count <= first + whole.count, "a part that lies outside")
}

/// What is shown of a name leads back to it.
private func name(_ bytes: UnsafeRawBufferPointer) {
    var units: [UInt16] = []
    for index in stride(from: 0, to: bytes.count - 1, by: 2) {
        units.append(UInt16(bytes[index]) | UInt16(bytes[index + 1]) << 8)
    }
    var stored: [UInt8] = []
    guard units.withUnsafeBufferPointer({ UTF16Name.append(component: $0, to: &stored) }), !stored.isEmpty else {
        return
    }
    var shown: [UInt16] = []
    stored.withUnsafeBytes { UTF16Name.units(of: $0) { shown.append($0) } }
    var again: [UInt8] = []
    let isShown = shown.withUnsafeBufferPointer { UTF16Name.append(component: $0, to: &again) }
    precondition(isShown && again == stored, "a name that is another one")
}
