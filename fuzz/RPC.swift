// modules: Bytes
// part: RPC Sources/RPC/Message/CallHeader.swift Sources/RPC/Message/RecordMark.swift Sources/RPC/Message/Reply.swift Sources/RPC/XDR/XDRMessage.swift Sources/RPC/Security/SystemCredential.swift Sources/RPC/GSS/GSSMessages.swift
// part: NFS Sources/NFS/V3/NFS3.swift Sources/NFS/V3/NFS3+Types.swift Sources/NFS/V3/NFS3+Arguments.swift Sources/NFS/V3/NFS3+Results.swift Sources/NFS/V3/NFS3Request.swift Sources/NFS/Mount/MountMessages.swift Sources/NFS/Lock/LockMessages.swift Sources/NFS/Monitor/MonitorMessages.swift Sources/NFS/ACL/ACLMessages.swift Sources/NFS/Quota/QuotaMessages.swift
// with: Tests/WireSamples/WireType.swift
// covers: Sources/RPC/Message Sources/RPC/XDR Sources/RPC/GSS/GSSMessages.swift Sources/RPC/Security/SystemCredential.swift Sources/NFS/V3 Sources/NFS/Mount/MountMessages.swift Sources/NFS/Lock/LockMessages.swift Sources/NFS/Monitor/MonitorMessages.swift Sources/NFS/ACL/ACLMessages.swift Sources/NFS/Quota/QuotaMessages.swift
import Bytes
import NFS
import RPC

/// The first byte chooses a message of RPC or of one of its programs, the rest is read as one. What could be read is written
/// as it was read; headers are read with all that a server reads of them.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let choice = input.first else { return 0 }
    let message = UnsafeRawBufferPointer(rebasing: input.dropFirst())
    guard Int(choice) < WireType.all.count else {
        readHeaders(message)
        return 0
    }
    do throws(BytesError) {
        let (consumed, written) = try WireType.all[Int(choice)].roundTrip(message)
        precondition(written.elementsEqual(message.prefix(consumed)), "what was read is not what is written")
    } catch { return 0 }
    return 0
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
