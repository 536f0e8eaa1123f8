import Configuration
import Testing

/// A tree as text, with sorted keys: what the cases below are compared with.
private func show(_ node: TOMLNode) -> String {
    switch node.value {
    case .string(let text): String(reflecting: text)
    case .integer(let number): "\(number)"
    case .float(let number): "f\(number)"
    case .boolean(let value): "\(value)"
    case .array(let nodes): "[" + nodes.map(show).joined(separator: ",") + "]"
    case .table(let table): show(table)
    }
}

private func show(_ table: TOMLTable) -> String {
    "{" + table.entries.sorted { $0.key < $1.key }.map { "\($0.key):\(show($0.node))" }.joined(separator: ",") + "}"
}

private func failure(_ text: String) -> String? {
    do throws(TOMLError) {
        _ = try TOMLDocument(Array(text.utf8))
        return nil
    } catch {
        return "\(error.position): \(error.message)"
    }
}

@Suite struct TOMLTests {
    @Test(arguments: [
        ("", "{}"), ("# only this", "{}"), ("\r\n\t \r\n", "{}"), ("a = 1", "{a:1}"), ("a=1#x\nb=2\r\n", "{a:1,b:2}"),
        ("\u{feff}a=1", "{a:1}"),
        ("\"a b\" = 1\n'c.d' = 2\n\"\" = 3", "{:3,a b:1,c.d:2}"), ("1.2 = 3\n-_ = 4", "{-_:4,1:{2:3}}"),
        ("a.b.c = 1\na.d = 2\na . \"e\" = 3", "{a:{b:{c:1},d:2,e:3}}"),
        ("[a]\nx=1\n[a.b]\ny=2\n[c.d.e]\nz=3\n[c]\nw=4", "{a:{b:{y:2},x:1},c:{d:{e:{z:3}},w:4}}"),
        ("[[a]]\nx=1\n[[a]]\n[a.b]\ny=2\n[[a.c]]\n[[a.c]]", "{a:[{x:1},{b:{y:2},c:[{},{}]}]}"),
        ("[a]\nb.c=1\n[a.b.d]\nx=1", "{a:{b:{c:1,d:{x:1}}}}"), ("[ a . b ]\n", "{a:{b:{}}}"),
        ("a = {}\nb = {x=1, y.z=2}\nc = [{q=1},{}]", "{a:{},b:{x:1,y:{z:2}},c:[{q:1},{}]}"),
        ("a = [ 1, 'x', [true,\n # note\n false,], ]", "{a:[1,\"x\",[true,false]]}"), ("a=[]", "{a:[]}"),
        ("a=0\nb=-0\nc=+1_000\nd=0xDead_beef\ne=0o17\nf=0b101", "{a:0,b:0,c:1000,d:3735928559,e:15,f:5}"),
        (
            "a=9223372036854775807\nb=-9223372036854775808\nc=0x7fffffffffffffff",
            "{a:9223372036854775807,b:-9223372036854775808,c:9223372036854775807}"
        ), ("a=1.5\nb=-2e3\nc=1_0.2_5E-1\nd=0.0\ne=-inf\nf=nan", "{a:f1.5,b:f-2000.0,c:f1.025,d:f0.0,e:f-inf,f:fnan}"),
        ("a=\"\\b\\t\\n\\f\\r\\\"\\\\\\u00e9\\U0001F600\"", "{a:\"\\u{08}\\t\\n\\u{0C}\\r\\\"\\\\é😀\"}"),
        ("a='C:\\x\"'\nb=''", "{a:\"C:\\\\x\\\"\",b:\"\"}"),
        ("a=\"\"\"\nx\r\ny\\\n   \n  z\"\"\"\"\"", "{a:\"x\\ny" + "z\\\"\\\"\"}"),
        ("a='''\n'x''\\n\n'''''", "{a:\"\\'x\\'\\'\\\\n\\n\\'\\'\"}"), ("a=\"\"\"\"\"\"", "{a:\"\"}"),
        ("a=\"\"\"a\\  \n\n  b\"\"\"", "{a:\"ab\"}"),
    ])
    func valid(_ text: String, _ tree: String) throws {
        #expect(try show(TOMLDocument(Array(text.utf8)).root) == tree)
    }

    @Test(arguments: [
        ("a", "1:2: expected '=' in a key's definition, found the end of the file"),
        ("a =", "1:4: a value is missing"), ("a = \n", "1:5: expected a value, found the end of the line"),
        ("= 1", "1:1: expected a key, found '='"), ("ä = 1", "1:1: expected a key, found 'ä'"),
        ("a = 1 b = 2", "1:7: expected the end of the line, found 'b'"), ("é\n", "1:1: expected a key, found 'é'"),
        ("a=1\n a=2", "2:2: 'a' was defined already, in line 1"),
        ("a.b=1\na.b=2", "2:3: 'b' was defined already, in line 1"),
        ("a=1\na.b=2", "2:1: 'a' was defined already, in line 1"),
        ("[a]\n[a]", "2:2: 'a' was defined already, in line 1"),
        ("a.b=1\n[a]", "2:2: 'a' was defined already, in line 1"),
        ("[a]\nb.c=1\n[a.b]", "3:4: 'b' was defined already, in line 2"),
        ("[a.b.c]\nz=9\n[a]\nb.c.t=1", "4:1: 'b' was defined already, in line 1"),
        ("a={}\n[a.b]", "2:2: 'a' is a table that is complete already"),
        ("a={x.y=1}\n[a.x]", "2:2: 'a' is a table that is complete already"),
        ("[t]\na={}\na.b=1", "3:1: 'a' was defined already, in line 2"),
        ("a=[]\n[[a]]", "2:3: 'a' was defined already, in line 1"),
        ("a=[{}]\n[a.b]", "2:2: 'a' is an array that is complete already"),
        ("[[a]]\n[a]", "2:2: 'a' was defined already, in line 1"),
        ("[a]\n[[a]]", "2:3: 'a' was defined already, in line 1"),
        ("a=1\n[a.b]", "2:2: 'a' is an integer that is complete already"),
        ("[]", "1:2: expected a key, found ']'"), ("[a", "1:3: expected ']' in the header, found the end of the file"),
        ("[[a]", "1:5: expected ']' in the header, found the end of the file"),
        ("[a] x", "1:5: expected the end of the line, found 'x'"),
        ("a={x=1,}", "1:8: expected a key, found '}'"),
        ("a={x=1\n}", "1:7: expected '}' in the inline table, found the end of the line"),
        ("a={x=1,x=2}", "1:8: 'x' was defined already, in line 1"),
        ("a=[1 2]", "1:6: expected ']' in the array, found '2'"),
        ("a=[1", "1:5: expected ']' in the array, found the end of the file"),
        ("a=[,]", "1:4: expected a value, found ','"),
        ("a=01", "1:3: '01' is no value; is it a string without its quotes?"),
        ("a=+", "1:3: '+' is no value; is it a string without its quotes?"),
        ("a=1_", "1:3: '1_' is no value; is it a string without its quotes?"),
        ("a=_1", "1:3: '_1' is no value; is it a string without its quotes?"),
        ("a=1__0", "1:3: '1__0' is no value; is it a string without its quotes?"),
        ("a=0x", "1:3: '0x' is no value; is it a string without its quotes?"),
        ("a=0xg", "1:3: '0xg' is no value; is it a string without its quotes?"),
        ("a=-0x1", "1:3: '-0x1' is no value; is it a string without its quotes?"),
        ("a=0b2", "1:3: '0b2' is no value; is it a string without its quotes?"),
        ("a=1.", "1:3: '1.' is no value; is it a string without its quotes?"),
        ("a=.5", "1:3: '.5' is no value; is it a string without its quotes?"),
        ("a=1.e5", "1:3: '1.e5' is no value; is it a string without its quotes?"),
        ("a=1e", "1:3: '1e' is no value; is it a string without its quotes?"),
        ("a=1e+-5", "1:3: '1e+-5' is no value; is it a string without its quotes?"),
        ("a=True", "1:3: 'True' is no value; is it a string without its quotes?"),
        ("a=10s", "1:3: '10s' is no value; is it a string without its quotes?"),
        ("a=9223372036854775808", "1:3: '9223372036854775808' does not fit into 64 bits"),
        ("a=-9223372036854775809", "1:3: '-9223372036854775809' does not fit into 64 bits"),
        ("a=0xffffffffffffffff", "1:3: '0xffffffffffffffff' does not fit into 64 bits"),
        ("a=1979-05-27", "1:3: a date or time; no key takes one"),
        ("a=1979-05-27T07:32:00Z", "1:3: a date or time; no key takes one"),
        ("a=07:32:00", "1:3: a date or time; no key takes one"),
        ("a=\"x", "1:3: a string that never ends"), ("a=\"x\n\"", "1:3: a string that never ends"),
        ("a='x", "1:3: a string that never ends"), ("a=\"\"\"x\"\"", "1:3: a string that never ends"),
        ("a=\"\\", "1:3: a string that never ends"), ("a=\"\\q\"", "1:4: an unknown escape in a string"),
        ("a=\"\\\n\"", "1:4: an unknown escape in a string"),
        ("a=\"\\u12\"", "1:4: an escape needs 4 hexadecimal digits"),
        ("a=\"\\ud800\"", "1:4: an escape that is no character"),
        ("a=\"\\UFFFFFFFF\"", "1:4: an escape that is no character"),
        ("a=\"\u{1}\"", "1:4: a control character in a string; write it as an escape"),
        ("a='''\u{7f}'''", "1:6: a control character in a string; write it as an escape"),
        ("# \u{1}", "1:3: a control character in a comment"), ("# \r x", "1:3: a control character in a comment"),
        ("a=\"\"\"\"\"\"\"\"\"", "1:6: too many quotes"),
        ("\"\"\"a\"\"\"=1", "1:1: a key can not be a multi-line string"),
        ("é=1\n'ü' = \"ü\" x", "1:1: expected a key, found 'é'"),
        ("'ü' = \"ü\" x", "1:11: expected the end of the line, found 'x'"),
    ])
    func invalid(_ text: String, _ message: String) { #expect(failure(text) == message) }

    @Test func notUTF8() {
        let error = #expect(throws: TOMLError.self) { try TOMLDocument(Array("a='é".utf8) + [0xff]) }
        #expect(error?.message == "not valid UTF-8")
        #expect(error?.position.description == "1:5")
    }

    @Test func limitsAndOneBeyond() {
        let size = TOMLDocument.bytesMax
        #expect(failure(String(repeating: "\n", count: size)) == nil)
        #expect(failure(String(repeating: "\n", count: size + 1)) == "1:1: larger than 1048576 bytes")

        let keys = (0..<TOMLDocument.keysMax).map { "k\($0)=1" }.joined(separator: "\n")
        #expect(failure(keys) == nil)
        #expect(failure(keys + "\nmore=1") == "10001:1: more than 10000 keys")
        #expect(failure(String(repeating: "[[a]]\n", count: 10_001)) == "10001:3: more than 10000 keys")

        let nesting = TOMLDocument.nestingMax
        let deep = { (n: Int) in "a=" + String(repeating: "[", count: n) + String(repeating: "]", count: n) }
        #expect(failure(deep(nesting - 1)) == nil)
        #expect(failure(deep(nesting)) == "1:34: more than 32 levels")
        #expect(failure("a=" + String(repeating: "[", count: size - 2)) == "1:34: more than 32 levels")
        #expect(failure("a=" + String(repeating: "{a=", count: 10_000))?.hasSuffix("more than 32 levels") == true)
        let dotted = { (n: Int) in [String](repeating: "a", count: n).joined(separator: ".") }
        #expect(failure(dotted(nesting) + "=1") == nil)
        #expect(failure(dotted(nesting + 1) + "=1")?.hasSuffix("more than 32 levels") == true)
        #expect(failure("[" + dotted(nesting) + "]") == nil)
        #expect(failure("[" + dotted(nesting + 1) + "]")?.hasSuffix("more than 32 levels") == true)
    }

    /// Damaged texts are read or refused; none traps.
    @Test(arguments: 0..<8) func damagedTexts(_ seed: UInt64) {
        let whole = Array(
            "[a.b]\nc.d = [1, {x = 'y', z.w = \"\\u00e9\"}, 0x1f, -1.5e3]\n[[e]]\nf = \"\"\"\n\\\n g\"\"\"\n[[e]]\n"
                .utf8)
        let alphabet = Array("[]{}.,='\"\\\n\r#0x1e_-+:aé\u{1}".utf8) + [0xff, 0]
        var state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1
        func random(_ n: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % n
        }
        for _ in 0..<2000 {
            var text = whole
            for _ in 0..<random(6) + 1 {
                switch random(3) {
                case 0: text[random(text.count)] = alphabet[random(alphabet.count)]
                case 1: text.insert(alphabet[random(alphabet.count)], at: random(text.count))
                default: text.removeSubrange(random(text.count)..<text.count)
                }
                if text.isEmpty { text = [0x61] }
            }
            _ = try? TOMLDocument(text)
        }
    }
}
