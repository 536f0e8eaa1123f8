import Bytes
import Crypto
import ObjectStore
import Runtime
import Transfer

/// What a volume counts on, tried before it is opened: a store that lets nobody write, or lets two create one name, would
/// be found out when it is too late.
extension S3Store {
    private static let probeNanoseconds: UInt64 = 15_000_000_000
    private static let probers = 4
    /// A store may be busy: then nothing is proved, and another name is tried.
    private static let roundsMax = 4
    private static let roundPauseNanoseconds: UInt64 = 500_000_000

    public func probe() async throws(StoreProblem) {
        var answer = TransferReply()
        for round in 0..<Self.roundsMax {
            if round > 0 { await loop.sleep(nanoseconds: Self.roundPauseNanoseconds << UInt64(round)) }
            let name =
                (options.prefix.isEmpty ? "" : options.prefix + "/") + "proxyfs-probe-"
                + String(world.random.next(), radix: 16)
            let outcome = await probe(name)
            let removed = await send(.delete, name, Self.probeNanoseconds, over: writes)
            switch outcome {
            case .busy(let reply): answer = reply
            case .bad(let problem): throw problem
            case .good:
                guard removed.status == 403 else { return }
                throw problem("deleting", removed, "let this access key delete from it, or space never comes back")
            }
        }
        throw problem("writing to", answer, "try again later")
    }

    private enum ProbeOutcome {
        case good
        case busy(TransferReply)
        case bad(StoreProblem)
    }

    private func problem(_ doing: String, _ answer: TransferReply, _ advice: String) -> StoreProblem {
        StoreProblem(
            tried: "\(doing) the bucket \(options.bucket) at \(options.endpoint)",
            answer: answer.failure?.reason ?? S3Answer(answer).text(answer.status), advice: advice)
    }

    private static func text(_ index: Int) -> [UInt8] { Array("ProxyFS was here: \(index)\n".utf8) }

    private func create(_ name: String, _ index: Int) async -> TransferReply {
        var extras = Extras()
        let text = Self.text(index)
        extras.body = .blocks([text.withUnsafeBytes { Block(copying: $0) }])
        extras.hash = Hexadecimal.encode(Digest.of(.sha256, text))
        extras.headers = [("Content-Type", "application/octet-stream")]
        if options.createsIfAbsent { extras.headers.append(("If-None-Match", "*")) }
        return await send(.put, name, Self.probeNanoseconds, over: writes, extras)
    }

    private func probe(_ name: String) async -> ProbeOutcome {
        let count = options.createsIfAbsent ? Self.probers : 1
        var answers = await withTaskGroup(of: (Int, TransferReply).self) { group in
            for index in 0..<count { group.addTask { (index, await self.create(name, index)) } }
            var answers: [(Int, TransferReply)] = []
            for await answer in group { answers.append(answer) }
            return answers
        }
        let winners = answers.filter { $0.1.status / 100 == 2 }.map(\.0)
        if options.createsIfAbsent, !winners.isEmpty { answers.append((count, await create(name, count))) }
        for (_, answer) in answers where answer.status / 100 != 2 {
            if let problem = refusal(answer) { return .bad(problem) }
            // One that was not answered may have won.
            if ![409, 412].contains(answer.status) { return .busy(answer) }
        }
        guard let winner = winners.first else { return .busy(answers[0].1) }
        guard answers.count(where: { $0.1.status / 100 == 2 }) == 1 else {
            return .bad(
                StoreProblem(
                    tried: "creating one name several times in the bucket \(options.bucket) at \(options.endpoint)",
                    answer: "more than one was let through", advice: Self.unconditional))
        }
        let read = await send(.get, name, Self.probeNanoseconds, over: reads)
        guard read.status == 200 else {
            if read.status == 403 { return .bad(problem("reading", read, "let this access key read it")) }
            return .busy(read)
        }
        guard read.bodyBytes == Self.text(winner) else {
            return .bad(
                StoreProblem(
                    tried: "reading what was written to the bucket \(options.bucket)", answer: "other bytes",
                    advice: options.createsIfAbsent ? Self.unconditional : "this store can not be used"))
        }
        return .good
    }

    private static let unconditional =
        "set conditional = false in [[store]], and let one server at a time have the volume"

    /// Nil: it is no refusal.
    private func refusal(_ answer: TransferReply) -> StoreProblem? {
        let what = S3Answer(answer)
        if options.createsIfAbsent, answer.status == 501 || what.code == "NotImplemented" {
            return problem("creating a name once in", answer, Self.unconditional)
        }
        switch answer.status {
        case 401, 403:
            if what.code == "QuotaExceeded" { return problem("writing to", answer, "make room in it") }
            return problem("writing to", answer, "let this access key write to it")
        case 413, 507: return problem("writing to", answer, "make room in it")
        default: return nil
        }
    }
}
