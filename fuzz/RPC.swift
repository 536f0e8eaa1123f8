// modules: Bytes
// part: RPC Sources/RPC/Message/CallHeader.swift Sources/RPC/Message/RecordMark.swift Sources/RPC/Message/Reply.swift Sources/RPC/XDR/XDRMessage.swift Sources/RPC/Security/SystemCredential.swift Sources/RPC/GSS/GSSMessages.swift
// part: NFS Sources/NFS/V3/NFS3.swift Sources/NFS/V3/NFS3+Types.swift Sources/NFS/V3/NFS3+Arguments.swift Sources/NFS/V3/NFS3+Results.swift Sources/NFS/V3/NFS3Request.swift Sources/NFS/Mount/MountMessages.swift Sources/NFS/Lock/LockMessages.swift Sources/NFS/Monitor/MonitorMessages.swift Sources/NFS/ACL/ACLMessages.swift Sources/NFS/Quota/QuotaMessages.swift
// with: Tests/WireSamples/WireType.swift
// inputs: 5000000
// lines: 95
// decodes: 7reading
// covers: Sources/RPC/Message Sources/RPC/XDR Sources/RPC/GSS/GSSMessages.swift Sources/RPC/Security/SystemCredential.swift Sources/NFS/V3 Sources/NFS/Mount/MountMessages.swift Sources/NFS/Lock/LockMessages.swift Sources/NFS/Monitor/MonitorMessages.swift Sources/NFS/ACL/ACLMessages.swift Sources/NFS/Quota/QuotaMessages.swift
import Bytes
import NFS
import RPC

/// The first byte chooses a message of RPC's programs, a request or a header, the rest is read as one. What could be read is written,
/// and read and written again the same; headers are read with all that a server reads of them.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let choice = input.first else { return 0 }
    let message = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    if choice >= firstHeader {
        readHeaders(message)
        return 0
    }
    if choice >= firstRequest {
        readRequest(UInt32(choice - firstRequest), message)
        return 0
    }
    guard Int(choice) < types.count else { return 0 }
    do throws(BytesError) {
        // Not what it was read from: the filling behind texts may have been anything, and is written as zeros.
        let (_, written) = try types[Int(choice)].roundTrip(message)
        let again = written.withUnsafeBytes { bytes in
            Result { () throws(BytesError) in try types[Int(choice)].roundTrip(bytes) }
        }
        guard case .success(let second) = again else { preconditionFailure("what is written can not be read") }
        precondition(second.consumed == written.count && second.written == written, "it changes from time to time")
    } catch { return 0 }
    return 0
}

private let types = WireType.all + WireType.ours
private let firstRequest: UInt8 = 200
private let firstHeader: UInt8 = 224

private func readRequest(_ number: UInt32, _ message: UnsafeRawBufferPointer) {
    guard let procedure = NFS3Procedure(rawValue: number) else { return }
    var reader = Reader(message)
    do throws(BytesError) {
        let request = try NFS3Request(procedure, reading: &reader)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: message.count, alignment: 8)
        defer { memory.deallocate() }
        var writer = Writer(memory)
        request.write(into: &writer)
        precondition(!writer.overflowed, "a request is written longer than it was read")
    } catch { return }
}

private func readHeaders(_ message: UnsafeRawBufferPointer) {
    var reader = Reader(message)
    do throws(CallFault) {
        let header = try CallHeader(reading: &reader)
        var body = Reader(header.credential.body)
        do throws(BytesError) { _ = try SystemCredential(reading: &body) } catch {}
        var credential = Reader(header.credential.body)
        do throws(BytesError) { _ = try GSSCredential(reading: &credential) } catch {}
    } catch {}
    var reply = Reader(message)
    do throws(BytesError) { _ = try ReplyHeader(reading: &reply) } catch {}
    var result = Reader(message)
    do throws(BytesError) { _ = try GSSInitResult(reading: &result) } catch {}
    if message.count >= RecordMark.bytes {
        let word = message.loadUnaligned(as: UInt32.self)
        precondition(RecordMark(word).word == word, "a record mark is all of its word")
    }
}
