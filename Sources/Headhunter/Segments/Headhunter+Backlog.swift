extension Headhunter {
    /// Bytes of data that are on their way to the store. From any thread.
    public var unstoredBytes: Int { segments.lag.bytes }
}
