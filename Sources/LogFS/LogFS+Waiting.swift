import Headhunter

/// For callers that live on other loops: what a call lacked is taken down where it was made, and supplied on the
/// volume's loop.
extension LogFS {
    /// What `reader` met and did not find. On that reader's loop, right after the call that was `.missing`.
    public func wanted(by reader: Int) -> Wanted { headhunter.wanted(by: reader) }

    /// On the volume's loop, like the others.
    public func fetch(_ wanted: Wanted) async throws(Failure) {
        do throws(VolumeError) { try await headhunter.load(wanted) } catch { throw .volume(error) }
    }

    /// After a call was `.busy`: flushes the file that it was about, and all others when too much is dirty in all.
    public func makeRoom(for inode: UInt64?) async throws(Failure) {
        if let inode, await files.whenUnclaimed(inode) { return }
        if let inode, files.bytes + Self.writeBytesMax <= files.bytesMax {
            // One flush is enough for all who wait.
            if await files.whenRoom(inode) { return }
            try await flush(inode)
        } else {
            do throws(Failure) { try await flushAll() } catch {
                // Others' troubles are not the caller's while there is room.
                guard files.bytes + Self.writeBytesMax <= files.bytesMax else { throw error }
            }
        }
    }
}

extension LogFS {
    /// Bytes that were written and not flushed, with what they take in memory. From any thread.
    public var unflushedBytes: Int { files.bytes }

    /// For what makes files grow.
    func needSpace() throws(Halt) {
        if headhunter.isShortOfSpace { throw .refused(.noSpace) }
    }
}
