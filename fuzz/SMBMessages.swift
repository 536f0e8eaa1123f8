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
    headers(bytes)
    guard bytes.count >= Header.bytes else { return 0 }
    let read = try? SMBRequest(command, reading: Element(bytes))
    precondition(SMBRequest.isReadable(command, Element(bytes)) == (read != nil), "it can be read by one way only")
    guard let request = read else { return 0 }
    switch request {
    case .negotiate(let negotiate): negotiate.contexts.forEach(context)
    case .close(let close): written(16) { $0.handle(close.file) }
    case .create(let create):
        check(create.name, in: bytes)
        check(create.contexts, in: bytes)
        if let contexts = try? CreateContexts(reading: create.contexts) {
            if let security = contexts.security { check(security, in: bytes) }
            if let attributes = contexts.attributes { check(attributes, in: bytes) }
            var answer = CreateAnswer()
            if contexts.wishes.maximalAccess { answer.add("MxAc", [UInt8](repeating: 1, count: 8)) }
            if contexts.durable != nil { answer.add("DHnQ", []) }
            if contexts.lease != nil { answer.add("RqLs", [UInt8](repeating: 2, count: 51)) }
            // Behind the eight bytes that say where.
            precondition(answer.isEmpty == (answered(answer) == 8), "an answer without contexts, or none with some")
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

/// What is read of a header is written the same.
private func headers(_ bytes: UnsafeRawBufferPointer) {
    var reader = Reader(bytes)
    if let header = try? Header(reading: &reader) {
        withUnsafeTemporaryAllocation(byteCount: Header.bytes, alignment: 8) { memory in
            var writer = Writer(UnsafeMutableRawBufferPointer(memory))
            header.write(into: &writer)
            var again = Reader(UnsafeRawBufferPointer(memory))
            precondition(!writer.overflowed && (try? Header(reading: &again)) == header, "another header")
        }
    }
    var second = Reader(bytes)
    if let header = try? TransformHeader(reading: &second) {
        withUnsafeTemporaryAllocation(byteCount: TransformHeader.bytes, alignment: 8) { memory in
            let same = TransformHeader(messageBytes: header.messageBytes, sessionID: header.sessionID)
            var writer = Writer(UnsafeMutableRawBufferPointer(memory))
            same.write(into: &writer)
            var again = Reader(UnsafeRawBufferPointer(memory))
            precondition(!writer.overflowed && (try? TransformHeader(reading: &again)) == header, "another header")
        }
    }
    var plain = Header()
    plain.command = 1
    precondition(plain.messageID == 0)
}

private func context(_ context: NegotiateContext) {
    withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 8) { memory in
        var writer = Writer(UnsafeMutableRawBufferPointer(memory))
        context.writeUnaligned(into: &writer)
        guard !writer.overflowed else { preconditionFailure("a context longer than it was") }
        var again = Reader(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory)[..<writer.position]))
        precondition((try? NegotiateContext(reading: &again)) == context, "another context")
    }
}

private func written(_ bytes: Int, _ write: (inout Writer) -> Void) {
    withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { memory in
        var writer = Writer(UnsafeMutableRawBufferPointer(memory))
        write(&writer)
        precondition(writer.position == bytes)
    }
}

/// How long it is.
private func answered(_ answer: CreateAnswer) -> Int {
    withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 8) { memory in
        var writer = Writer(UnsafeMutableRawBufferPointer(memory))
        writer.zeros(8)
        answer.write(into: &writer, at: 0)
        precondition(!writer.overflowed)
        return writer.position
    }
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
