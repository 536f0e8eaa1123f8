import Glibc
import JSON

/// Standard output and standard error, past any buffer: what was said has been said.
enum Terminal {
    static func print(_ text: String) { write(text, 1) }
    static func error(_ text: String) { write(text, 2) }

    private static func write(_ text: String, _ descriptor: Int32) {
        var text = text
        text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while !rest.isEmpty {
                let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
                if count < 0, errno != EINTR { return }
                if count > 0 { rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count)) }
            }
        }
    }

    /// Without what a terminal would obey: names of files come from anybody.
    static func plain(_ text: String) -> String {
        String(
            String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? "?" : $0 }))
    }

    /// A text as a JSON string.
    static func json(_ text: String) -> String { JSON.string(text).description }
}
