import Bytes
import Runtime

/// What a client and this server agreed on: it signs and encrypts. A mechanism makes it; safe to use from several threads.
public protocol GSSContext: AnyObject, Sendable {
    func verifies(_ message: UnsafeRawBufferPointer, _ signature: UnsafeRawBufferPointer) -> Bool
    /// The bytes written; nil: it failed.
    func sign(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int?
    func wrap(_ message: UnsafeRawBufferPointer, into place: UnsafeMutableRawBufferPointer) -> Int?
    /// False: it is not what the client wrapped.
    func unwrap(_ wrapped: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) -> Bool
}

/// The making of one context. Blocks, and is called by one thread at a time.
public protocol GSSHandshake: AnyObject, Sendable {
    func step(_ token: UnsafeRawBufferPointer) -> GSSStep
}

public enum GSSStep: Sendable {
    case complete(any GSSContext, principal: String, lifetimeNanoseconds: UInt64, token: [UInt8])
    case continues(token: [UInt8])
    case failed(major: UInt32, minor: UInt32, token: [UInt8])
}

/// A context as it is kept: who it belongs to, until when, and which numbers were seen.
package final class GSSSession: Sendable {
    let id: UInt64
    let context: any GSSContext
    /// One for each service: exports tell them apart.
    private let identities: [Identity]
    private let end: UInt64
    private let window = Guarded(SequenceWindow())

    package init(_ id: UInt64, _ context: any GSSContext, principal: String, end: UInt64, flavors: [UInt32]) {
        self.id = id
        self.context = context
        self.end = end
        identities = flavors.map { Identity(kind: .principal(principal), flavor: $0) }
    }

    func identity(_ service: GSS.Service) -> Identity { identities[Int(service.rawValue) - 1] }
    func isOver(_ now: UInt64) -> Bool { now >= end }
    func admits(_ sequence: UInt32) -> Bool { window.withLock { $0.admit(sequence) } }
}

/// The contexts of a server, and those that are being made. No I/O, no clock.
package struct GSSTable {
    package static let sessionsMax = 16_384
    package static let handshakesMax = 256

    private struct Entry {
        var session: GSSSession
        /// Counts uses, so that the one that was not used for longest goes when there are too many.
        var used: UInt64
    }

    private var sessions: [UInt64: Entry] = [:]
    private var handshakes: [UInt64: (any GSSHandshake, begun: UInt64)] = [:]
    private var uses: UInt64 = 0

    package init() {}

    package var count: Int { sessions.count }
    package var handshakeCount: Int { handshakes.count }

    package mutating func session(_ id: UInt64) -> GSSSession? {
        guard let session = sessions[id]?.session else { return nil }
        uses &+= 1
        sessions[id]?.used = uses
        return session
    }

    package mutating func insert(_ session: GSSSession, now: UInt64) {
        if sessions.count >= Self.sessionsMax {
            sessions = sessions.filter { !$0.value.session.isOver(now) }
            // A quarter at once: looking for the oldest takes time. Whose context is gone makes a new one.
            if sessions.count >= Self.sessionsMax {
                let oldest = sessions.sorted { $0.value.used < $1.value.used }.prefix(Self.sessionsMax / 4)
                for (id, _) in oldest { sessions[id] = nil }
            }
        }
        uses &+= 1
        sessions[session.id] = Entry(session: session, used: uses)
    }

    mutating func remove(_ id: UInt64) { sessions[id] = nil }

    /// Takes a handshake out; whoever goes on with it puts it back.
    package mutating func takeHandshake(_ id: UInt64) -> (any GSSHandshake)? { handshakes.removeValue(forKey: id)?.0 }

    package mutating func put(_ handshake: any GSSHandshake, _ id: UInt64) {
        if handshakes.count >= Self.handshakesMax, let oldest = handshakes.min(by: { $0.value.begun < $1.value.begun })
        {
            handshakes[oldest.key] = nil
        }
        uses &+= 1
        handshakes[id] = (handshake, uses)
    }
}
