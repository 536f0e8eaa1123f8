import JSON
import Testing

struct JSONTests {
    private func parse(_ text: String) throws -> JSON { try JSON(Array(text.utf8)) }

    @Test(arguments: [
        "null", "true", "false", "0", "-1", "9223372036854775807", "18446744073709551615", "\"\"", "\"a\\\"b\\\\c\"",
        "[]", "[1,[2,[]],{}]", "{\"a\":1,\"b\":[true,null],\"c\":{\"d\":\"e\"}}", "\"\u{e9}\u{1F600}\"",
    ])
    func whatIsReadIsWrittenTheSame(_ text: String) throws { #expect(try parse(text).description == text) }

    @Test func escapes() throws {
        #expect(try parse(#""\u0041\n\t\ud83d\ude00\/""#) == .string("A\n\t\u{1F600}/"))
        #expect(JSON.string("\u{1b}[31m\u{7f}").description == #""\u001b[31m\u007f""#)
        #expect(try parse(" { \"a\" : [ 1 , 2 ] } \n") == ["a": [1, 2]])
    }

    @Test(arguments: [
        "", " ", "nul", "1.5", "1e3", "01", "-", "\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"",
        "[1", "[1,]", "[,1]", "{\"a\"}", "{\"a\":}", "{a:1}", "{\"a\":1,}", "1 2", "\"\u{1}\"", "]", "}",
        "18446744073709551616",
    ])
    func badTextIsRefused(_ text: String) { #expect(throws: JSONFault.self) { try parse(text) } }

    @Test func bytesThatAreNoTextAreRefused() {
        #expect(throws: JSONFault.self) { try JSON([0x22, 0xff, 0x22]) }
    }

    @Test func depthHasALimit() throws {
        let most = String(repeating: "[", count: JSON.depthMax) + String(repeating: "]", count: JSON.depthMax)
        _ = try parse(most)
        #expect(throws: JSONFault.self) { try parse("[" + most + "]") }
        #expect(throws: JSONFault.self) { try parse(String(repeating: "[", count: 1_000_000)) }
        #expect(throws: JSONFault.self) { try parse(String(repeating: "{\"a\":", count: 100_000)) }
    }

    @Test func everyPrefixIsRefusedAndNoByteTraps() {
        let text = Array(#"{"a":[1,-2,"x\u00e9\n"],"b":{"c":null,"d":true}}"#.utf8)
        for count in 0..<text.count { #expect(throws: JSONFault.self) { try JSON(Array(text[..<count])) } }
        var state: UInt64 = 7
        for _ in 0..<20_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1
            var changed = text
            changed[Int(state >> 33) % text.count] = UInt8(truncatingIfNeeded: state >> 20)
            _ = try? JSON(changed)
        }
    }
}
