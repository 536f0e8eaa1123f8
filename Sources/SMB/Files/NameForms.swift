import Namespace
@_spi(_Unicode) import Swift

/// A letter with its accent may be one character or two (Unicode's forms C and D): systems differ in which they write, and users see one
/// name.
package enum NameForms {
    /// The other ways to write a name; of what is plain or no text there are none.
    package static func others(_ name: [UInt8]) -> [[UInt8]] {
        guard name.contains(where: { $0 >= 0x80 }), let text = String(validating: name, as: UTF8.self) else {
            return []
        }
        let (composed, decomposed) = (bytes(text._nfc), bytes(text._nfd))
        return [composed, decomposed].filter { $0 != name }
    }

    private static func bytes(_ scalars: some Sequence<Unicode.Scalar>) -> [UInt8] {
        var text = String.UnicodeScalarView()
        for scalar in scalars { text.append(scalar) }
        return Array(String(text).utf8)
    }
}

extension NewFile {
    /// To clients of SMB a name is the same one in each case, and however its accents are written.
    mutating func refuse(_ spellings: [[UInt8]]) {
        ignoresCase = true
        self.spellings = spellings
    }
}
