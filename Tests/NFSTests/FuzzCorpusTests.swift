import TestSupport
import Testing
import WireSamples

/// What the fuzzer of fuzz/RPC.swift found worth keeping runs with every test: read or refused, never trapped on.
@Suite struct FuzzCorpusTests {
    @Test func everyInputIsReadOrRefused() {
        let inputs = fuzzCorpus("RPC")
        #expect(inputs.count > 20)
        var requests = 0, headers = 0
        for input in inputs {
            switch input.withUnsafeBytes({ WireCheck.check($0) }) {
            case .nothing, .message: break
            case .request: requests += 1
            case .header: headers += 1
            }
        }
        // The seeds among them are whole.
        #expect(requests >= 5 && headers >= 5)
    }

    /// Messages of each type, whole, cut short, and with a bit turned.
    @Test(arguments: [1, 2, 3] as [UInt64]) func messagesAreReadOrRefused(_ seed: UInt64) {
        var random = SeededRandom(seed)
        for (index, type) in WireCheck.types.enumerated() {
            var whole = 0
            // Some are rare in random words.
            for _ in 0..<100_000 where whole < 20 {
                guard let message = random.message(type) else { continue }
                var input = [UInt8(index)] + message
                let found = input.withUnsafeBytes { WireCheck.check($0) }
                if found == .message { whole += 1 }
                guard !message.isEmpty else { continue }
                let place = 1 + Int(random.next() % UInt64(message.count))
                input.prefix(place).withUnsafeBytes { _ = WireCheck.check($0) }
                input[place] ^= 1 << UInt8(random.next() % 8)
                input.withUnsafeBytes { _ = WireCheck.check($0) }
            }
            #expect(whole > 0, "\(type.name)")
        }
    }
}
