import Headhunter

/// For callers that live on other loops: what a call lacked is taken down where it was made, and supplied on the
/// volume's loop.
extension LogFS {
    /// What `reader` met and did not find. On that reader's loop, right after the call that was `.missing`.
    public func wanted(by reader: Int) -> Wanted { headhunter.wanted(by: reader) }

    public func fetch(_ wanted: Wanted) async throws(Failure) {
        try await wait { () throws(VolumeError) in try await headhunter.load(wanted) }
    }

    /// After `.full`.
    public func makeRoom() async throws(Failure) {
        try await wait { () throws(VolumeError) in try await headhunter.room() }
    }
}
