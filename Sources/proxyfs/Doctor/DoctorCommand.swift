import Configuration

enum DoctorCommand {
    static func run(_ words: [String]) throws(CommandFailure) -> ExitStatus {
        let settings = try Settings(Settings.options(words.filter { $0 != "--json" }, of: "doctor"))
        let findings = Examination(settings.configuration).findings
        Terminal.print(words.contains("--json") ? json(findings) : table(findings))
        return findings.contains { $0.verdict == .bad } ? .failure : .success
    }

    private static func table(_ findings: [Finding]) -> String {
        let width = findings.map(\.subject.count).max() ?? 0
        return findings.map { finding in
            let subject = finding.subject + String(repeating: " ", count: width - finding.subject.count)
            let advice = finding.advice.map { "\n      \(String(repeating: " ", count: width))  -> \($0)" } ?? ""
            return "\(finding.verdict.mark)  \(subject)  \(finding.found)\(advice)\n"
        }.joined()
    }

    private static func json(_ findings: [Finding]) -> String {
        let items = findings.map { finding in
            var item = "  {\"subject\":\(Terminal.json(finding.subject)),\"verdict\":\"\(finding.verdict.rawValue)\","
            item += "\"found\":\(Terminal.json(finding.found))"
            if let advice = finding.advice { item += ",\"advice\":\(Terminal.json(advice))" }
            return item + "}"
        }
        return "[\n\(items.joined(separator: ",\n"))\n]\n"
    }
}

/// One thing that was looked at.
struct Finding {
    enum Verdict: String {
        case good
        /// Something works less well, or not at all, that can be done without.
        case warning
        /// Must be mended before serving.
        case bad

        var mark: String {
            switch self {
            case .good: "good"
            case .warning: "warn"
            case .bad: "BAD "
            }
        }
    }

    let subject: String
    let verdict: Verdict
    let found: String
    /// What to do; for everything that is not good.
    let advice: String?

    static func good(_ subject: String, _ found: String) -> Finding {
        Finding(subject: subject, verdict: .good, found: found, advice: nil)
    }
    static func warning(_ subject: String, _ found: String, _ advice: String) -> Finding {
        Finding(subject: subject, verdict: .warning, found: found, advice: advice)
    }
    static func bad(_ subject: String, _ found: String, _ advice: String) -> Finding {
        Finding(subject: subject, verdict: .bad, found: found, advice: advice)
    }
}
