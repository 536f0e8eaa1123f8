import Configuration
import Headhunter
import Namespace
import Testing

@Suite struct EngineOptionsTests {
    /// Ten values that differ, so that none can take another one's place.
    @Test func eachKeyReachesTheEngine() {
        var engine = Configuration().engine
        engine.flushSize = ByteSize(amount: 11 << 20)
        engine.flushTime = TimeSpan(amount: 12_000_000_000)
        engine.checkpointInterval = TimeSpan(amount: 13_000_000_000)
        engine.logSize = ByteSize(amount: 14 << 20)
        engine.stageSize = ByteSize(amount: 15 << 20)
        engine.nonceRange = 16
        engine.nodeCache = ByteSize(amount: 17 << 20)
        engine.dataCache = ByteSize(amount: 18 << 20)
        engine.deleteDelay = TimeSpan(amount: 19_000_000_000)
        engine.leaseDrift = TimeSpan(amount: 20_000_000_000)
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
