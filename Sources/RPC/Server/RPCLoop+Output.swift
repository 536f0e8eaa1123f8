import Runtime

/// What waits to be taken by all clients of a loop is bounded: a client that asks and never reads keeps what its connection may
/// hold, and thousands of them must not keep thousands of times as much.
///
/// Nobody tells when output has left, so it is counted: once as much was written as may be pending, and again while it is too
/// much.
extension RPCLoop {
    /// The stream has written so much.
    @inline(__always)
    func wrote(_ count: Int, _ stream: RPCStream) {
        written += count
        if stream.writerIndex < 0 {
            stream.writerIndex = writers.count
            writers.append(stream)
        }
        if written > limits.outputBytesMax, !isOutputFull { countOutput() }
    }

    /// The stream has ended.
    func forgetWriter(_ stream: RPCStream) {
        let index = stream.writerIndex
        guard index >= 0 else { return }
        let last = writers.removeLast()
        if last !== stream {
            writers[index] = last
            last.writerIndex = index
        }
        stream.writerIndex = -1
    }

    private func countOutput() {
        let before = isOutputFull
        written = recount()
        isOutputFull = written > limits.outputBytesMax / 2
        if isOutputFull {
            _ = loop.schedule(after: limits.recordPatience) { [self] in
                giveUpSlowest()
                countOutput()
            }
        } else if before {
            giveRoom()
        }
    }

    /// What is pending now; streams whose output has left are writers no more.
    private func recount() -> Int {
        var pending = 0
        for stream in writers {
            let left = stream.outputPending
            pending += left
            if left == 0 { forgetWriter(stream) }
        }
        return pending
    }

    /// Ends the connections whose clients have taken least since the last count, until there is room.
    private func giveUpSlowest() {
        var pending = recount()
        let late = writers.map { (stream: $0, taken: $0.noteTaken()) }.sorted { $0.taken < $1.taken }
        for (stream, _) in late where pending > limits.outputBytesMax / 2 {
            pending -= stream.outputPending
            stream.abandon("client does not take its results while others wait")
        }
    }
}
