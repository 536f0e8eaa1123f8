import Bytes
import NFS
import RPC

/// What the fuzzer of fuzz/RPC.swift does with an input, and the tests with its corpus.
public enum WireCheck {
    public enum Found: Sendable {
        case nothing, message, request, header
    }

    public static let types = WireType.all + WireType.ours
    private static let firstRequest: UInt8 = 200
    private static let firstHeader: UInt8 = 224

    /// The first byte chooses a message of RPC's programs, a request or a header, the rest is read as one. What could be read is
    /// written, and read and written again the same; headers are read with all that a server reads of them.
    @discardableResult
    public static func check(_ input: UnsafeRawBufferPointer) -> Found {
        guard let choice = input.first else { return .nothing }
        let message = UnsafeRawBufferPointer(rebasing: input.dropFirst())
        if choice >= firstHeader { return headers(message) ? .header : .nothing }
        if choice >= firstRequest { return request(UInt32(choice - firstRequest), message) ? .request : .nothing }
        guard Int(choice) < types.count else { return .nothing }
        do throws(BytesError) {
            // Not what it was read from: the filling behind texts may have been anything, and is written as zeros.
            let (_, written) = try types[Int(choice)].roundTrip(message)
            let again = written.withUnsafeBytes { bytes in
                Result { () throws(BytesError) in try types[Int(choice)].roundTrip(bytes) }
            }
            guard case .success(let second) = again else { preconditionFailure("what is written can not be read") }
            precondition(second.consumed == written.count && second.written == written, "it changes from time to time")
            return .message
        } catch { return .nothing }
    }

    private static func request(_ number: UInt32, _ message: UnsafeRawBufferPointer) -> Bool {
        guard let procedure = NFS3Procedure(rawValue: number) else { return false }
        var reader = Reader(message)
        do throws(BytesError) {
            let request = try NFS3Request(procedure, reading: &reader)
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: message.count, alignment: 8)
            defer { memory.deallocate() }
            var writer = Writer(memory)
            request.write(into: &writer)
            precondition(!writer.overflowed, "a request is written longer than it was read")
            return true
        } catch { return false }
    }

    private static func headers(_ message: UnsafeRawBufferPointer) -> Bool {
        var isCall = false
        var reader = Reader(message)
        do throws(CallFault) {
            let header = try CallHeader(reading: &reader)
            isCall = true
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
        return isCall
    }
}
