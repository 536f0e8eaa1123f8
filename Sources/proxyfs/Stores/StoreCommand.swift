import Configuration
import JSON
import Runtime
import Transfer

/// `proxyfs store check`: what a store really does, and what follows from it.
enum StoreCommand {
    static func check(_ words: [String]) throws(CommandFailure) -> ExitStatus {
        var rest: [String] = []
        var place: String?
        var isJSON = false
        var words = words[...]
        while let word = words.popFirst() {
            switch word {
            case "--json": isJSON = true
            case "--config":
                guard let value = words.popFirst() else { throw .misuse("store check: \(word) needs a value") }
                rest += [word, value]
            default:
                guard !word.hasPrefix("-"), place == nil else {
                    throw .misuse("store check: unknown word \"\(word)\"; see proxyfs store check --help")
                }
                place = word
            }
        }
        guard let place else { throw .misuse("store check: URL is missing; see proxyfs store check --help") }
        let configuration = try Settings(Settings.options(rest, of: "store check")).configuration
        guard var description = try describe(place, configuration) else {
            throw .misuse("store check: directory is a folder of this host; proxyfs doctor looks at it")
        }
        // The question is whether it does, not whether somebody said so.
        description.createsIfAbsent = true
        let report = try run(description, configuration.engine.flushSize, isQuiet: isJSON)
        Terminal.print(isJSON ? json(description, report) : text(description, report))
        return report.isGood ? .success : .failure
    }

    static func describe(
        _ text: String, _ configuration: Configuration
    ) throws(CommandFailure) -> Configuration.Store? {
        if let fault = configuration.fault(inStore: text) { throw .misuse(fault) }
        do throws(Issue) { return try configuration.store(text, place: "the command line") } catch {
            throw .misuse(error.message)
        }
    }

    private static func run(
        _ description: Configuration.Store, _ segmentSize: ByteSize, isQuiet: Bool
    ) throws(CommandFailure) -> StoreCheck.Report {
        let world: World
        // Nothing is written here: a world has a disk.
        do throws(Errno) { world = try World.real(disk: RealDisk(path: "/"), loops: 1) } catch {
            throw .failure("can not start an event loop and its threads: \(error); raise the limits of this user")
        }
        let loop = world.loops[0]
        let connection = try StoreConnection(description, world: world, loop: loop)
        let begun = world.clock.monotonic()
        let result = Offline.wait(on: loop) { () async -> Result<StoreCheck.Report, StoreProblem> in
            do throws(StoreProblem) {
                return .success(
                    try await StoreCheck(connection, segmentSize: segmentSize, world: world, loop: loop).run {
                        step, done, total in
                        guard !isQuiet else { return }
                        let seconds = Double(world.clock.monotonic() - begun) / 1e9
                        let line = Progress.line("store check: \(step)", "steps", done, total, seconds)
                        Terminal.error(seconds < 1 ? "store check: \(step)\n" : line + "\n")
                    })
            } catch { return .failure(error) }
        }
        connection.stop()
        switch result {
        case .success(let report): return report
        case .failure(let problem): throw .failure("the store \(description.address) can not be used: \(problem)")
        }
    }

    private static func text(_ description: Configuration.Store, _ report: StoreCheck.Report) -> String {
        let width = report.findings.map(\.name.count).max() ?? 0
        var text = ""
        for finding in report.findings {
            let name = finding.name + String(repeating: " ", count: width - finding.name.count)
            let mark = finding.verdict == .bad ? "BAD " : finding.verdict.rawValue
            text += "\(mark)  \(name)  \(Terminal.plain(finding.found))\n"
            text += "      \(String(repeating: " ", count: width))  -> \(Terminal.plain(finding.follows))\n"
        }
        let places = places(report).joined(separator: ", ")
        return text + "\(description.address): log places \(places); \(report.requests) requests\n"
    }

    /// Where the log may be.
    private static func places(_ report: StoreCheck.Report) -> [String] {
        guard report.isGood else { return [] }
        return ["local disk", "shared path"] + (report.createsIfAbsent && report.listsConsistently ? ["store"] : [])
    }

    private static func json(_ description: Configuration.Store, _ report: StoreCheck.Report) -> String {
        let findings = report.findings.map { finding -> JSON in
            [
                "name": .string(finding.name), "verdict": .string(finding.verdict.rawValue),
                "found": .string(finding.found), "follows": .string(finding.follows),
            ]
        }
        let json: JSON = [
            "store": .string(description.address), "usable": .bool(report.isGood), "findings": .array(findings),
            "conditional": .bool(report.createsIfAbsent), "consistent_listings": .bool(report.listsConsistently),
            "log_places": .array(places(report).map { .string($0) }),
            "fencing": .string(report.createsIfAbsent ? "epochs in the store" : "lease"),
            "requests": .number(report.requests),
        ]
        return json.description + "\n"
    }
}
