import Runtime

/// Numbers for the names of objects. On the volume's loop.
extension Headhunter {
    /// A number that no object's name has ever had.
    func nonce() async throws(VolumeError) -> UInt64 {
        while true {
            if let number = takeNonce() { return number }
            try await reserveNonces()
        }
    }

    private func takeNonce() -> UInt64? {
        gate.enterWrite()
        defer { gate.leaveWrite() }
        guard nonces.next < nonces.reserved else { return nil }
        nonces.next += 1
        return nonces.next - 1
    }

    /// Makes a range ours, durably, before any of it is used.
    private func reserveNonces() async throws(VolumeError) {
        let range = options.nonceRange
        // Urgent: a checkpoint may be waiting for this, so this must not wait for a checkpoint. What is promised is
        // raised with the change, because a header may cut the record from the log before we hear of its sync.
        let (promised, number) = try await patiently { () async throws(VolumeError) in
            try await self.change(isUrgent: true) { (change) throws(Missing) -> UInt64 in
                self.nonces.promised += range
                SystemTree.putNonces(change, self.nonces.promised)
                return self.nonces.promised
            }
        }
        // With the data of earlier records: a recovery cuts the log where data is missing.
        try await patiently { () async throws(VolumeError) in try await self.logged(number) }
        gate.enterWrite()
        nonces.reserved = max(nonces.reserved, promised)
        gate.leaveWrite()
    }
}

/// Tree 0: what belongs to the volume and to no subvolume.
enum SystemTree {
    static let id: UInt32 = 0
    /// The first byte of its keys says what they are.
    static let noncesTag: UInt8 = 1
    private static let noncesKey: [UInt8] = [noncesTag]

    static func putNonces(_ change: Change, _ value: UInt64) {
        noncesKey.withUnsafeBytes { key in
            withUnsafeBytes(of: value.littleEndian) { change.put(id, key, $0) }
        }
    }

    static func nonces(in overlay: Overlay) -> UInt64? {
        noncesKey.withUnsafeBytes { key -> UInt64? in
            guard case .found(let value) = overlay.get(id, key), value.count == 8 else { return nil }
            return UInt64(littleEndian: value.loadUnaligned(as: UInt64.self))
        }
    }
}
