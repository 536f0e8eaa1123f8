import Headhunter

/// The subvolume's own records: each list's entry has to lead to what it is about.
extension Check {
    func takeOfSubvolume(_ kind: KeyLayout.Kind, _ key: [UInt8], _ value: [UInt8]) async throws(Failure) {
        let number = key.withUnsafeBytes { $0.subKeyNumber }
        switch kind {
        case .subvolume:
            subvolume = value.withUnsafeBytes { SubvolumeRecord($0) }
            if subvolume == nil { wrong(0, kind) }
        case .orphan:
            guard let number else { return wrong(0, kind) }
            if try await inode(number)?.links != 0 { report(.orphanOfNothing(inode: number)) }
        case .reclaim, .unsettled: if number == nil { wrong(0, kind) }
        case .tail: if number == nil || value.withUnsafeBytes({ $0.recordNumber }) == nil { wrong(0, kind) }
        case .token:
            tokens += 1
            if key.count != KeyLayout.doublyNumberedCount || value.withUnsafeBytes({ TokenResult($0) }) == nil {
                wrong(0, kind)
            }
        case .tokenAge:
            tokenAges += 1
            guard key.count == KeyLayout.doublyNumberedCount, let age = value.withUnsafeBytes({ TokenAge($0) }) else {
                return wrong(0, kind)
            }
            let client = key.withUnsafeBytes { $0.keyNumber() }
            if try await !isThere({ $0.key(0, .token, client, age.id) }) { report(.token(client: client)) }
        case .tokenClient: try await takeTokens(of: number, value)
        case .setting: try await takeSetting(key, value)
        case .settingPart: try await takeSettingPart(key)
        case .settings:
            guard let sum = value.withUnsafeBytes({ SettingsSum($0) }) else { return wrong(0, kind) }
            settingsRecorded = sum
        default: break
        }
    }

    private func takeTokens(of client: UInt64?, _ value: [UInt8]) async throws(Failure) {
        guard let client, let span = value.withUnsafeBytes({ TokenSpan($0) }),
            span.next - span.oldest <= RequestToken.perClientMax
        else { return wrong(0, .tokenClient) }
        for serial in span.oldest..<span.next where try await !isThere({ $0.key(0, .tokenAge, client, serial) }) {
            return report(.token(client: client))
        }
    }

    private func takeSetting(_ key: [UInt8], _ value: [UInt8]) async throws(Failure) {
        let name = Array(key[KeyLayout.prefixCount...])
        let sizes = value.withUnsafeBytes { value in
            LongValue(value, max: Limits.settingValueBytesMax).map { (length: $0.length, parts: $0.parts) }
        }
        guard let sizes else { return wrong(0, .setting) }
        settings.add(name.count + sizes.length)
        guard sizes.parts > 0 else { return }
        let isWhole = try await look { (records) throws(Halt) in
            try name.withUnsafeBytes { name in
                Result { () throws(Halt) in
                    try records.longValue(0, .setting, .settingPart, name, sizes.length).count == sizes.length
                }
            }.get()
        }
        if isWhole != true { report(.settingParts(String(decoding: name, as: UTF8.self))) }
    }

    private func takeSettingPart(_ key: [UInt8]) async throws(Failure) {
        guard try await isPart(0, .setting, key, max: Limits.settingValueBytesMax) else {
            return report(.settingParts(String(decoding: key[KeyLayout.prefixCount...].dropLast(2), as: UTF8.self)))
        }
    }

    /// Whether the key is of a part that its long value has.
    func isPart(_ id: UInt64, _ kind: KeyLayout.Kind, _ key: [UInt8], max: Int) async throws(Failure) -> Bool {
        guard key.count > KeyLayout.prefixCount + 2, key.count <= KeyLayout.prefixCount + 2 + Limits.nameBytesMax,
            let index = key.last
        else { return false }
        let name = Array(key[KeyLayout.prefixCount...].dropLast(2))
        let parts = try await look { (records) throws(Halt) -> Int? in
            try name.withUnsafeBytes { name in
                Result { () throws(Halt) -> Int? in
                    try records.get(records.scratch.key(id, kind, name)).flatMap { LongValue($0, max: max)?.parts }
                }
            }.get()
        }
        return Int(index) < (parts ?? nil) ?? 0
    }
}
