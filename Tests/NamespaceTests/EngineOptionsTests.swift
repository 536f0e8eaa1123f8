import Headhunter
import Namespace
import Testing

@testable import Configuration

@Suite struct EngineOptionsTests {
    /// Ten values that differ, so that none can take another one's place.
    @Test func eachKeyReachesTheEngine() {
        var engine = Configuration.Engine()
        engine.flushSize = .mebi(11)
        engine.flushTime = .seconds(12)
        engine.checkpointInterval = .seconds(13)
        engine.logSize = .mebi(14)
        engine.stageSize = .mebi(15)
        engine.nonceRange = 16
        engine.nodeCache = .mebi(17)
        engine.dataCache = .mebi(18)
        engine.deleteDelay = .seconds(19)
        engine.leaseDrift = .seconds(20)
        let options = HeadhunterOptions(engine)
        #expect(options.flushBytes == 11 << 20)
        #expect(options.flushNanoseconds == 12_000_000_000)
        #expect(options.checkpointNanoseconds == 13_000_000_000)
        #expect(options.logBytesMax == 14 << 20)
        #expect(options.stagedBytesMax == 15 << 20)
        #expect(options.nonceRange == 16)
        #expect(options.cacheBytes == 17 << 20)
        #expect(options.dataCacheBytes == 18 << 20)
        #expect(options.keepNanoseconds == 19_000_000_000)
        #expect(options.driftNanoseconds == 20_000_000_000)
    }
}
