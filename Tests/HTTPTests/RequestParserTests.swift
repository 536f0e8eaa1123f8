import HTTP
import Testing

/// What a parser makes of a stream: heads, bodies, and how it ended.
private struct Reading: Equatable {
    var heads: [String] = []
    var bodies: [[UInt8]] = []
    var complete = 0
    var fault: RequestFault?
}

/// Shows the parser the stream in pieces that end at `cuts`, with what it did not take before each.
private func read(_ bytes: [UInt8], cuts: [Int] = [], limits: HTTPLimits = HTTPLimits()) -> Reading {
    var parser = RequestParser(limits)
    var reading = Reading()
    var taken = 0
    do throws(RequestFault) {
        for cut in cuts + [bytes.count] {
            let shown = Array(bytes[taken..<cut])
            var offset = 0
            var isHungry = false
            while !isHungry {
                let result = shown.withUnsafeBytes { memory in
                    Result { () throws(RequestFault) in
                        try parser.next(UnsafeRawBufferPointer(rebasing: memory[offset...]))
                    }
                }
                switch try result.get() {
                case .more(let consumed):
                    offset += consumed
                    isHungry = true
                case .head(let head, let consumed):
                    offset += consumed
                    reading.heads.append(
                        "\(head.method) \(head.path) \(head.query ?? "-") \(head.host) \(head.framing)")
                    for index in 0..<head.fields.count {
                        reading.heads.append("\(head.fields.name(at: index))=\(head.fields.value(at: index))")
                    }
                    reading.bodies.append([])
                case .body(let range):
                    reading.bodies[reading.bodies.count - 1] +=
                        shown[offset...][(offset + range.lowerBound)..<(offset + range.upperBound)]
                    offset += range.upperBound
                case .end(let consumed):
                    offset += consumed
                    reading.complete += 1
                }
            }
            taken += offset
        }
    } catch { reading.fault = error }
    return reading
}

private func read(_ text: String, cuts: [Int] = [], limits: HTTPLimits = HTTPLimits()) -> Reading {
    read(Array(text.utf8), cuts: cuts, limits: limits)
}

@Suite struct RequestParserTests {
    static let stream =
        "\r\nGET /a/b?x=1 HTTP/1.1\r\nHost: h:80\r\nX-Two:  a b \t\r\nempty:\r\n\r\n"
        + "PUT /o HTTP/1.1\r\nhost: h\r\nContent-Length: 5\r\n\r\nhello"
        + "POST /p? HTTP/1.1\r\nhost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
        + "3\r\nabc\r\n0A;name=\"v\"\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n"
        + "OPTIONS * HTTP/1.0\r\n\r\n" + "GET http://Other:1/z?q HTTP/1.1\r\nhost: other:1\r\n\r\n"

    fileprivate static let expected = Reading(
        heads: [
            "GET /a/b x=1 h:80 none", "host=h:80", "x-two=a b", "empty=", "PUT /o - h length(5)", "host=h",
            "content-length=5", "POST /p  h chunked", "host=h", "transfer-encoding=Chunked", "OPTIONS * -  none",
            "GET /z q other:1 none", "host=other:1",
        ], bodies: [[], Array("hello".utf8), Array("abc0123456789".utf8), [], []], complete: 5, fault: nil)

    @Test func readsPipelinedRequests() { #expect(read(Self.stream) == Self.expected) }

    @Test func splitsAtEachByteChangeNothing() {
        for cut in 0...Self.stream.utf8.count { #expect(read(Self.stream, cuts: [cut]) == Self.expected) }
        #expect(read(Self.stream, cuts: Array(0..<Self.stream.utf8.count)) == Self.expected)
    }

    @Test(arguments: [
        ("GET / HTTP/1.1\nHost: h\n\n", RequestFault.bareLineFeed),
        ("GET / HTTP/1.1\r\nHost: h\n\r\n", .bareLineFeed),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", .foldedField),
        ("GET / HTTP/1.1\r\n Host: h\r\n\r\n", .foldedField),
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", .fieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\nnocolon\r\n\r\n", .fieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\n: v\r\n\r\n", .fieldName),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\u{0}c\r\n\r\n", .fieldValue),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\rc: d\r\n\r\n", .fieldValue),
        ("GET / HTTP/1.1\r\nHost: h\r\nA\u{0}: b\r\n\r\n", .fieldName),
        ("GET / HTTP/1.1\r\n\r\n", .host),
        ("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", .host),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", .host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", .host),
        ("GET http://a.h/ HTTP/1.1\r\nHost: b.h\r\n\r\n", .host),
        ("GET http://h/ HTTP/1.0\r\n\r\n", .host),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", .severalContentLengths),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\n", .contentLength),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n", .contentLength),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", .contentLength),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\n", .contentLength),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", .contentLength),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9223372036854775808\r\n\r\n", .contentLength),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n", .contentLength),
        (
            "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            .contentLengthWithTransferEncoding
        ),
        ("PUT / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", .transferEncoding),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", .transferEncoding),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", .transferEncoding),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;x\r\n\r\n", .transferEncoding),
        (
            "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
            .transferEncoding
        ),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", .unknownTransferEncoding),
        ("PUT / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n", .expectation),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", .version),
        ("GET / HTTP/1.10\r\nHost: h\r\n\r\n", .version),
        ("GET / http/1.1\r\nHost: h\r\n\r\n", .requestLine),
        ("GET /\r\nHost: h\r\n\r\n", .requestLine),
        ("GET  HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("GET a HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("GET /\u{0} HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", .target),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", .method),
        ("G@T / HTTP/1.1\r\nHost: h\r\n\r\n", .method),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", .requestLine),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", .chunkSize),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n", .chunkSize),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n", .chunkSize),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n", .chunkSize),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", .chunkSize),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n", .bareLineFeed),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", .chunkEnd),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\rb", .chunkEnd),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;\u{0}\r\na\r\n", .chunkSize),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad name: 1\r\n\r\n", .fieldName),
    ])
    func refusesWhatTwoReadersCouldReadInTwoWays(_ text: String, _ fault: RequestFault) {
        let whole = read(text)
        #expect(whole.fault == fault)
        #expect(whole.complete == 0)
        let bytes = Array(text.utf8)
        for cut in 0...bytes.count { #expect(read(bytes, cuts: [cut]).fault == fault, "cut at \(cut)") }
        #expect(read(bytes, cuts: Array(0..<bytes.count)).fault == fault)
    }

    @Test func eachLimitHoldsAtItsValueAndOneBeyond() {
        var limits = HTTPLimits()
        limits.targetBytesMax = 100
        limits.headBytesMax = 1000
        limits.fieldsMax = 5
        limits.chunkLineBytesMax = 10
        limits.trailerBytesMax = 40
        func check(_ text: String, _ fault: RequestFault?, line: Int = #line) {
            let bytes = Array(text.utf8)
            #expect(read(bytes, limits: limits).fault == fault, "line \(line)")
            #expect(read(bytes, cuts: Array(0..<bytes.count), limits: limits).fault == fault, "line \(line)")
            if fault == nil { #expect(read(bytes, limits: limits).complete == 1, "line \(line)") }
        }
        func text(_ count: Int) -> String { String(repeating: "a", count: count) }
        check("GET /\(text(99)) HTTP/1.1\r\nhost: h\r\n\r\n", nil)
        check("GET /\(text(100)) HTTP/1.1\r\nhost: h\r\n\r\n", .targetTooLong)
        check("GET /\(text(500))", .targetTooLong)
        let frame = "GET / HTTP/1.1\r\nhost: h\r\nx: \r\n\r\n".utf8.count
        check("GET / HTTP/1.1\r\nhost: h\r\nx: \(text(1000 - frame))\r\n\r\n", nil)
        check("GET / HTTP/1.1\r\nhost: h\r\nx: \(text(1001 - frame))\r\n\r\n", .headTooLarge)
        check("GET / HTTP/1.1\r\nhost: h\r\nx: \(text(2000))", .headTooLarge)
        let fields = String(repeating: "x: y\r\n", count: 4)
        check("GET / HTTP/1.1\r\nhost: h\r\n\(fields)\r\n", nil)
        check("GET / HTTP/1.1\r\nhost: h\r\n\(fields)x: y\r\n\r\n", .tooManyFields)
        let chunked = "PUT / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
        check(chunked + "1;\(text(8))\r\na\r\n0\r\n\r\n", nil)
        check(chunked + "1;\(text(9))\r\na\r\n0\r\n\r\n", .chunkSize)
        check(chunked + "0\r\nx: \(text(35))\r\n\r\n", nil)
        check(chunked + "0\r\nx: \(text(36))\r\n\r\n", .trailer)
        check(chunked + "0\r\n" + String(repeating: "x: y\r\n", count: 7) + "\r\n", .trailer)
        check("\(text(32)) / HTTP/1.1\r\nhost: h\r\n\r\n", nil)
        check("\(text(33)) / HTTP/1.1\r\nhost: h\r\n\r\n", .method)
    }

    @Test func garbageIsRefusedOrWaitedForButNeverTraps() {
        var state: UInt64 = 11
        func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        let pieces: [[UInt8]] =
            [
                "GET ", "/ ", "HTTP/1.1", "\r\n", "\n", "\r", "\r\n\r\n", "Host: h", "Content-Length: 3",
                "Transfer-Encoding: chunked",
                "5\r\n", "0\r\n", ":", ";", " ", "\u{0}", "abc", "http://", "Expect: 100-continue",
            ].map { Array($0.utf8) } + [[0xff, 0xfe]]
        for _ in 0..<20_000 {
            var bytes: [UInt8] = []
            for _ in 0..<next(24) { bytes += pieces[next(pieces.count)] }
            let cut = next(bytes.count + 1)
            let whole = read(bytes)
            let split = read(bytes, cuts: [cut])
            #expect(whole == split)
        }
    }
}

@Suite struct MessageTests {
    @Test(arguments: [
        (Int64(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (-1, "Wed, 31 Dec 1969 23:59:59 GMT"), (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"), (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        (.max, "Fri, 31 Dec 9999 23:59:59 GMT"), (.min, "Sat, 01 Jan 0000 00:00:00 GMT"),
    ])
    func dates(_ seconds: Int64, _ text: String) { #expect(HTTPDate.format(seconds) == text) }

    @Test func anAnswersFieldCanNotEndTheHead() {
        func takes(_ name: String, _ value: String) -> Bool {
            var fields = ResponseFields()
            return fields.add(name: name, value)
        }
        #expect(takes("location", "/a b"))
        #expect(takes("x-meta-1", "\u{e4}"))
        #expect(!takes("location", "/a\r\nx: y"))
        #expect(!takes("x-meta", "a\u{0}"))
        #expect(!takes("x\r\ny", "a"))
        #expect(!takes("", "a"))
    }
}
