import Bytes
import SMB
import TestSupport
import Testing

private func units(_ name: [UInt8]) -> [UInt16] {
    var units: [UInt16] = []
    name.withUnsafeBytes { UTF16Name.units(of: $0) { units.append($0) } }
    return units
}

private func bytes(_ units: [UInt16]) -> [UInt8]? {
    var bytes: [UInt8] = []
    return units.withUnsafeBufferPointer { UTF16Name.append(component: $0, to: &bytes) } ? bytes : nil
}

@Suite struct NameTests {
    @Test(arguments: ["plain", "ünïcödé", "a\u{1F600}b", "x.y.z", "with space inside", "日本語"])
    func ordinaryNamesAreTheirUTF16(name: String) {
        #expect(units(Array(name.utf8)) == Array(name.utf16))
        #expect(bytes(Array(name.utf16)) == Array(name.utf8))
    }

    @Test(arguments: ["a:b", "a\\b", "what?", "*", "a<b>c|d\"e", "dot.", "space ", "\u{1}"])
    func namesOfOthersAreShownAndComeBack(name: String) {
        let shown = units(Array(name.utf8))
        #expect(shown != Array(name.utf16))
        #expect(bytes(shown) == Array(name.utf8))
        for unit in shown { #expect(unit >= 0x20 && !Array(":\\?*<>|\"".utf16).contains(unit)) }
    }

    @Test func bytesThatAreNoTextComeBack() {
        for name in [[0xFF], [0x61, 0xC3], [0xC0, 0x80], [0xE2, 0x82, 0x61], [0xF8, 0x88]] as [[UInt8]] {
            #expect(bytes(units(name)) == name)
        }
    }

    @Test func halfASurrogateComesBack() {
        for pair in [[0xD800], [0xDC00, 0x61], [0x61, 0xDBFF]] as [[UInt16]] {
            let stored = bytes(pair)
            #expect(stored != nil)
            #expect(stored.map(units) == pair)
        }
    }

    @Test func whatWindowsForbidsIsRefused() {
        for name in ["", "a:b", "a/b", "a*", "a?", "a|b", "a\u{7}b", "a<", "a>"] {
            #expect(bytes(Array(name.utf16)) == nil)
        }
        #expect(bytes([UInt16](repeating: 0x61, count: 255)) != nil)
        #expect(bytes([UInt16](repeating: 0x61, count: 256)) == nil)
    }

    @Test(arguments: [
        ("*", "anything", true), ("*", "", true), ("a*c", "abc", true), ("A*C", "abbbc", true), ("a*c", "abd", false),
        ("?", "x", true), ("?", "xy", false), ("??", "x", false), ("ä", "Ä", true), ("*.txt", "a.TXT", true),
        ("*.txt", "txt", false), ("<.txt", "a.b.txt", true), ("a<", "a.b.c", false),
        ("a<", "ab", true), ("<", "a.b", false),
        ("a\"txt", "a.txt", true), ("a\"", "a", true), ("a>>", "a", true), ("a>>", "abc", true), ("a>", "abc", false),
        ("**a**", "xaay", true), ("*a*b*c*", "abc", true), ("*a*b*c*", "acb", false),
    ])
    func patterns(pattern: String, name: String, expected: Bool) {
        let isMatch = Array(name.utf8).withUnsafeBytes { NamePattern(Array(pattern.utf16)).matches($0) }
        #expect(isMatch == expected, "\(pattern) \(name)")
    }

    /// A pattern that would keep a matcher busy for ever that tries all ways.
    @Test func aHostilePatternCostsNoMoreThanItsLength() {
        var pattern: [UInt16] = []
        for _ in 0..<500 { pattern += [0x2A, 0x61] }
        pattern.append(0x62)
        let name = [UInt8](repeating: 0x61, count: 255)
        #expect(!name.withUnsafeBytes { NamePattern(pattern).matches($0) })
        let long = [UInt8](repeating: 0x61, count: (NamePattern.unitsMax + 1) * 2)
        #expect(long.withUnsafeBytes { NamePattern($0) } == nil)
        #expect(long.dropLast(2).withUnsafeBytes { NamePattern($0) } != nil)
    }
}
