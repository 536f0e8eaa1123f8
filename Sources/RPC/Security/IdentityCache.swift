import Bytes

/// The identities of the last few AUTH_SYS credentials of one connection, by their bytes: a client sends the same
/// ones again and again, and reading one takes memory for its groups.
struct IdentityCache {
    static let countMax = 8
    /// In front of a credential stands a stamp, which is the client's clock or a counter and says nothing.
    private static let stampBytes = 4

    private struct Slot {
        var credential: [UInt8]
        var identity: Identity
    }

    private var slots: [Slot] = []
    private var next = 0

    /// The identity of the credential's bytes.
    mutating func identity(of body: UnsafeRawBufferPointer) throws(AuthError) -> Identity {
        guard body.count >= Self.stampBytes else { throw .badCredential }
        let key = UnsafeRawBufferPointer(rebasing: body.dropFirst(Self.stampBytes))
        for index in slots.indices where matches(index, key) { return slots[index].identity }
        return try insert(body, key)
    }

    @inline(__always)
    private func matches(_ index: Int, _ key: UnsafeRawBufferPointer) -> Bool {
        slots[index].credential.withUnsafeBytes { stored in
            stored.count == key.count && RawSpan(_unsafeBytes: stored).equals(RawSpan(_unsafeBytes: key))
        }
    }

    @inline(never)
    private mutating func insert(
        _ body: UnsafeRawBufferPointer, _ key: UnsafeRawBufferPointer
    ) throws(AuthError) -> Identity {
        var reader = Reader(body)
        let credential: SystemCredential
        do throws(BytesError) {
            credential = try SystemCredential(reading: &reader)
        } catch { throw .badCredential }
        guard reader.isAtEnd else { throw .badCredential }
        let slot = Slot(credential: Array(key), identity: Identity(credential))
        if slots.count < Self.countMax {
            slots.append(slot)
        } else {
            slots[next] = slot
            next = (next + 1) % Self.countMax
        }
        return slot.identity
    }
}
