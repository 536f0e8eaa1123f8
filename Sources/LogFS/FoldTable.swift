import Bytes

/// Names without case: Unicode's simple case folding, character by character. Bytes that are not UTF-8 stay what
/// they are, so every name has a folded form.
package enum FoldTable {
    /// The folded form of a character.
    @inline(__always)
    static func fold(_ character: UInt32) -> UInt32 {
        if character < 0x80 { return character &- 0x41 < 26 ? character + 32 : character }
        return foldAboveASCII(character)
    }

    private static func foldAboveASCII(_ character: UInt32) -> UInt32 {
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].last < character { low = middle + 1 } else { high = middle }
        }
        guard low < runs.count else { return character }
        let run = runs[low]
        guard character >= run.first, (character - run.first) % run.step == 0 else { return character }
        return UInt32(truncatingIfNeeded: Int64(character) + Int64(run.distance))
    }

    /// The next character of a name, and how many bytes it takes. What is not UTF-8 comes byte by byte, above all
    /// characters.
    @inline(__always)
    static func next(_ name: UnsafeRawBufferPointer, at index: Int) -> (character: UInt32, count: Int) {
        let first = UInt32(name[index])
        if first < 0x80 { return (first, 1) }
        let count = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2
        guard first >= 0xC2, first < 0xF5, index + count <= name.count else { return (0x8000_0000 | first, 1) }
        var character = first & (0x7F >> UInt32(count))
        for place in 1..<count {
            let byte = UInt32(name[index + place])
            guard byte & 0xC0 == 0x80 else { return (0x8000_0000 | first, 1) }
            character = character << 6 | byte & 0x3F
        }
        let least: UInt32 = count == 2 ? 0x80 : count == 3 ? 0x800 : 0x1_0000
        guard character >= least, character <= 0x10_FFFF, character & 0xFFFF_F800 != 0xD800 else {
            return (0x8000_0000 | first, 1)
        }
        return (character, count)
    }

    /// Whether a name is its own folded form.
    static func isFolded(_ name: UnsafeRawBufferPointer) -> Bool {
        var index = 0
        while index < name.count {
            let byte = name[index]
            if byte < 0x80 {
                if byte &- 0x41 < 26 { return false }
                index += 1
                continue
            }
            let (character, count) = next(name, at: index)
            if fold(character) != character { return false }
            index += count
        }
        return true
    }

    /// Calls `body` with the folded form of a name.
    static func withFolded<Value, Problem: Error>(
        _ name: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) throws(Problem) -> Value
    ) throws(Problem) -> Value {
        try withUnsafeTemporaryAllocation(byteCount: 4 * Limits.nameBytesMax, alignment: 8) {
            (memory) -> Result<Value, Problem> in
            // Folded and in UTF-8 again: some characters fold into ASCII.
            var index = 0
            var count = 0
            while index < name.count {
                let byte = name[index]
                if byte < 0x80 {
                    memory[count] = byte &- 0x41 < 26 ? byte + 32 : byte
                    index += 1
                    count += 1
                    continue
                }
                let (character, length) = next(name, at: index)
                count += encode(fold(character), memory, count)
                index += length
            }
            let folded = UnsafeRawBufferPointer(rebasing: memory[..<count])
            do throws(Problem) { return .success(try body(folded)) } catch { return .failure(error) }
        }.get()
    }

    package static func areEqual(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Bool {
        var i = 0
        var j = 0
        while i < a.count, j < b.count {
            let x = next(a, at: i)
            let y = next(b, at: j)
            if x.character != y.character, fold(x.character) != fold(y.character) { return false }
            i += x.count
            j += y.count
        }
        return i == a.count && j == b.count
    }

    private static func encode(
        _ character: UInt32, _ memory: UnsafeMutableRawBufferPointer, _ at: Int
    ) -> Int {
        func part(_ shift: UInt32) -> UInt8 { UInt8(truncatingIfNeeded: character >> shift) & 0x3F | 0x80 }
        switch character {
        case ..<0x80:
            memory[at] = UInt8(truncatingIfNeeded: character)
            return 1
        case ..<0x800:
            memory[at] = UInt8(truncatingIfNeeded: character >> 6) | 0xC0
            memory[at + 1] = part(0)
            return 2
        case ..<0x1_0000:
            memory[at] = UInt8(truncatingIfNeeded: character >> 12) | 0xE0
            memory[at + 1] = part(6)
            memory[at + 2] = part(0)
            return 3
        case ..<0x8000_0000:
            memory[at] = UInt8(truncatingIfNeeded: character >> 18) | 0xF0
            memory[at + 1] = part(12)
            memory[at + 2] = part(6)
            memory[at + 3] = part(0)
            return 4
        default:
            memory[at] = UInt8(truncatingIfNeeded: character)
            return 1
        }
    }
}

/// A keyed hash of folded names: clients choose the names, and can not make them collide.
struct FoldedHash: Sendable {
    let hash: KeyedHash

    init(_ key: (UInt64, UInt64)) { hash = KeyedHash(key.0, key.1) }

    func callAsFunction(_ name: UnsafeRawBufferPointer) -> UInt64 { FoldTable.withFolded(name) { hash($0) } }

    /// Of a name that is folded already.
    func ofFolded(_ name: UnsafeRawBufferPointer) -> UInt64 { hash(name) }
}
