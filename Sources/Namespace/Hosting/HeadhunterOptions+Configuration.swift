import Configuration
import Headhunter

extension HeadhunterOptions {
    /// What the file of settings says of engines. What it says of one volume comes on top.
    public init(_ engine: Configuration.Engine) {
        self.init()
        flushBytes = Int(clamping: engine.flushSize.bytes)
        flushNanoseconds = engine.flushTime.nanoseconds
        checkpointNanoseconds = engine.checkpointInterval.nanoseconds
        logBytesMax = Int(clamping: engine.logSize.bytes)
        stagedBytesMax = Int(clamping: engine.stageSize.bytes)
        nonceRange = UInt64(engine.nonceRange)
        cacheBytes = Int(clamping: engine.nodeCache.bytes)
        dataCacheBytes = Int(clamping: engine.dataCache.bytes)
        keepNanoseconds = engine.deleteDelay.nanoseconds
        driftNanoseconds = engine.leaseDrift.nanoseconds
    }
}
