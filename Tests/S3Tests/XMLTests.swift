import Foundation
import S3
import Testing
import XML

@Suite struct XMLTests {
    private func parse(_ text: String) throws -> XMLElement { try XMLElement(Array(text.utf8)) }

    @Test func takesWhatClientsSend() throws {
        let root = try parse(
            "\u{feff}<?xml version=\"1.0\"?>\n<!-- c --><s:Delete xmlns:s=\"x\"><Object><Key>a &amp; &#x41;&#66;</Key></Object>"
                + "<Object ><Key><![CDATA[<b>]]></Key><ETag/></Object><Quiet>true</Quiet></s:Delete>\n")
        #expect(root.name == "Delete")
        #expect(root.all("Object").map { $0.text("Key") } == ["a & AB", "<b>"])
        #expect(root.text("Quiet") == "true" && root.all("Object")[1].text("ETag") == "")
    }

    @Test func refusesTheRest() {
        let bombs = [
            "", "x", "<a>", "<a></b>", "<a/><b/>", "</a>", "<a", "<a b></a>", "<a b=c></a>", "<a>&x;</a>",
            "<a>&#0;</a>",
            "<a>&#xD800;</a>", "<a>&amp</a>", "<!DOCTYPE a [<!ENTITY b \"bbbb\">]><a>&b;</a>", "<?pi?><a/>",
            "<a><?pi?></a>",
            "<a b=\"1\"c=\"2\"/>", "<a><!-- </a>", "<a><![CDATA[</a>", "<a/>x", "<a>\u{0}",
            String(repeating: "<a>", count: 1000),
            String(repeating: "<a>", count: 13) + String(repeating: "</a>", count: 13),
            "<a>" + String(repeating: "<b/>", count: XMLElement.elementsMax) + "</a>",
            "<a " + (0..<17).map { "b\($0)=\"\" " }.joined() + "/>",
        ]
        for bomb in bombs { #expect(throws: S3Error.self, "\(bomb.prefix(50))") { try parse(bomb) } }
        let deep = String(repeating: "<a>", count: 12) + String(repeating: "</a>", count: 12)
        #expect(throws: Never.self) { try parse(deep) }
        #expect(throws: S3Error.self) { try XMLElement([UInt8](repeating: 0x20, count: XMLElement.bytesMax + 1)) }
        #expect(throws: S3Error.self) { try XMLElement(Array("<a>".utf8) + [0xff] + Array("</a>".utf8)) }
    }

    @Test func writesWhatCanBeRead() throws {
        var xml = XMLWriter()
        let text = "a<b>&\"c\"\u{1}\r\n ü \u{1F600}"
        xml.root("R") { $0.element("T", text) }
        #expect(try XMLElement(xml.bytes).text("T") == text.replacingOccurrences(of: "\u{1}", with: "\u{fffd}"))
    }
}
