import Logging
import Synchronization
import Testing

@Suite struct LoggerTests {
    /// A logger into memory, with a clock that the test moves.
    final class Bench: Sendable {
        let lines = Mutex<[String]>([])
        let now = Atomic<UInt64>(5_000_000_000)

        func logger(_ level: LogLevel = .info, _ format: LogFormat = .logfmt) -> Logger {
            Logger(
                level: level, format: format, wall: { 1_700_000_000_123_456_789 },
                monotonic: { self.now.load(ordering: .relaxed) },
                sink: { bytes in self.lines.withLock { $0.append(String(decoding: bytes, as: UTF8.self)) } })
        }

        var output: [String] { lines.withLock { $0 } }
    }

    @Test func logfmtLine() {
        let bench = Bench()
        bench.logger().info(
            "connection closed",
            [.init("peer", "10.0.0.1:999"), .init("bytes", 7), .init("clean", true), .init("why", "")])
        #expect(
            bench.output == [
                "time=2023-11-14T22:13:20.123Z level=info event=\"connection closed\" peer=10.0.0.1:999 bytes=7 "
                    + "clean=true why=\"\"\n"
            ])
    }

    @Test func jsonLine() {
        let bench = Bench()
        bench.logger(.debug, .json).debug("x", [.init("name", "a\"b\\c\n\u{1b}[31m"), .init("n", UInt64.max)])
        #expect(
            bench.output == [
                #"{"time":"2023-11-14T22:13:20.123Z","level":"debug","event":"x","name":"a\"b\\c\n\u001b[31m","#
                    + "\"n\":18446744073709551615}\n"
            ])
    }

    @Test func aValueCanNotForgeALine() {
        for format in LogFormat.allCases {
            let bench = Bench()
            let evil = "x\nlevel=error event=fake\r\u{2028}\u{85}\u{202e}\u{7f}\0\u{1b}]0;t\u{7}"
            bench.logger(.info, format).info("login", [.init("user", evil)])
            let line = bench.output[0]
            #expect(bench.output.count == 1)
            let controls = line.dropLast().unicodeScalars.filter {
                $0.properties.generalCategory == .control || $0.properties.generalCategory == .format
                    || $0.properties.generalCategory == .lineSeparator
            }
            #expect(controls.isEmpty)
            #expect(line.last == "\n")
        }
    }

    @Test func levelsAndFieldsOfSilentLines() {
        let bench = Bench()
        let log = bench.logger(.warning)
        var built = 0
        func fields() -> [LogField] {
            built += 1
            return []
        }
        log.debug("a", fields())
        log.info("b", fields())
        #expect(built == 0)
        log.warning("c", fields())
        log.error("d", fields())
        #expect(built == 2)
        log.level = .off
        log.error("e", fields())
        log.level = .debug
        log.debug("f", fields())
        #expect(built == 3)
        #expect(bench.output.count == 3)
    }

    @Test func oneEventCanNotFloodTheOthers() {
        let bench = Bench()
        let log = bench.logger()
        for _ in 0..<Logger.burst + 5 { log.info("flood") }
        #expect(bench.output.count == Logger.burst)
        log.info("other")
        #expect(bench.output.count == Logger.burst + 1)
        bench.now.add(Logger.windowNanoseconds - 1, ordering: .relaxed)
        log.info("flood")
        #expect(bench.output.count == Logger.burst + 1)
        bench.now.add(1, ordering: .relaxed)
        log.info("flood")
        log.info("flood")
        #expect(bench.output.count == Logger.burst + 3)
        #expect(bench.output[Logger.burst + 1].contains("suppressed=6"))
        #expect(!bench.output[Logger.burst + 2].contains("suppressed"))
    }

    @Test func longLinesAreCut() {
        for format in LogFormat.allCases {
            let bench = Bench()
            let long = String(repeating: "\u{1}ä", count: 20_000)
            bench.logger(.info, format).info("long", [.init("a", long), .init("b", long), .init("c", 1)])
            #expect(bench.output[0].utf8.count <= 8192)
            #expect(bench.output[0].contains("...\""))
            #expect(bench.output[0].hasSuffix(format == .json ? "}\n" : "\"\n"))
        }
    }

    @Test func secretsStaySecret() {
        struct Holder { let secret = Secret("hunter2") }
        let bench = Bench()
        bench.logger().info("s", [.init("a", describing: Secret("hunter2")), .init("b", "\(Secret("hunter2"))")])
        var dumped = ""
        dump(Holder(), to: &dumped)
        for text in [bench.output[0], dumped, String(reflecting: Holder()), "\(Holder())", "\([Secret("hunter2")])"] {
            #expect(!text.contains("hunter2"))
            #expect(text.contains("redacted") || text == dumped)
        }
        #expect(Secret("a") == Secret("a"))
        #expect(Secret("a") != Secret("b"))
        #expect(Secret("a") != Secret("ab"))
        #expect(Secret("hunter2").revealed == "hunter2")
    }

    @Test(arguments: [
        (0, "1970-01-01T00:00:00.000Z"), (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"), (4_107_542_399_999_999_999, "2100-02-28T23:59:59.999Z"),
        (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000Z"), (Int64.max, "2262-04-11T23:47:16.854Z"),
        (Int64.min, "1677-09-21T00:12:43.145Z"),
    ])
    func dates(_ wall: Int64, _ text: String) {
        let bench = Bench()
        Logger(
            level: .info, format: .logfmt, wall: { wall }, monotonic: { 9_000_000_000 },
            sink: { bytes in bench.lines.withLock { $0.append(String(decoding: bytes, as: UTF8.self)) } }
        ).info("t")
        #expect(bench.output[0].hasPrefix("time=\(text) "))
    }
}
