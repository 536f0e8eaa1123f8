import Bytes
import CShim
import Glibc
import Runtime
import Synchronization
import Testing

/// Each named limit of loops, pools and sockets: what it lets through, and what comes one beyond. Those of single
/// connections are in ConnectionTests and DeadlineTests.
@Suite(.serialized) struct LimitTests {
    // MARK: Loops

    /// Ready sockets beyond those that one call tells of are told by the next.
    @Test(arguments: [Int(SHIM_EVENTS_MAX), Int(SHIM_EVENTS_MAX) + 1, 2 * Int(SHIM_EVENTS_MAX) + 1])
    func everybodyWhoIsReadyIsServed(_ count: Int) async throws {
        _ = shim_open_files(4_096)
        let rig = try Rig()
        defer { rig.stop() }
        let listener = try rig.listen { _ in Script.echo() }
        let peers = try (0..<count).map { _ in try Peer(listener.address) }
        #expect(await eventually { listener.active == count })
        // All of them while the loop is busy: the next round finds all of them ready.
        await rig.loop.perform { for (index, peer) in peers.enumerated() { peer.send([UInt8(index & 255)]) } }
        for (index, peer) in peers.enumerated() { try #require(peer.receive(1) == [UInt8(index & 255)]) }
    }

    @Test func jobsOfOneRound() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let loop = rig.loop
        for count in [EpollLoop.jobsPerRound, 2 * EpollLoop.jobsPerRound + 1] {
            let rounds = Guarded<[UInt64]>([])
            await loop.perform {
                // Handed over in one go: they are there when the loop looks next, in this round or the next one.
                for _ in 0..<count { loop.execute { rounds.withLock { $0.append(loop.counters.rounds.value) } } }
            }
            #expect(await eventually { rounds.withLock { $0.count } == count })
            let seen = rounds.withLock { $0 }
            let perRound = Dictionary(seen.map { ($0, 1) }, uniquingKeysWith: +)
            let least = (count + EpollLoop.jobsPerRound - 1) / EpollLoop.jobsPerRound
            #expect(least <= perRound.count && perRound.count <= least + 1)
            #expect(perRound.values.max() ?? 0 <= EpollLoop.jobsPerRound)
        }
    }

    @Test func timersOfOneQueue() async {
        var queue = TimerQueue(countMax: 3)
        let timers = (0..<3).map { queue.add(deadline: UInt64($0)) {} }
        queue.cancel(timers[1])
        _ = queue.add(deadline: 5) {}
        #expect(queue.count == 3)
        await #expect(processExitsWith: .failure) {
            var queue = TimerQueue(countMax: 3)
            for index in 0..<4 { _ = queue.add(deadline: UInt64(index)) {} }
        }
    }

    @Test func buffersThatALoopKeeps() {
        let pool = Runtime.BufferPool()
        for (size, limit) in [
            (Runtime.BufferPool.small, Runtime.BufferPool.smallKept),
            (Runtime.BufferPool.large, Runtime.BufferPool.largeKept),
        ] {
            let taken = (0...limit).map { _ in pool.take(size) }
            #expect(pool.inUse == (limit + 1) * size)
            for (index, buffer) in taken.enumerated() {
                pool.give(buffer, size)
                let kept = size == Runtime.BufferPool.small ? pool.kept.smalls : pool.kept.larges
                #expect(kept == min(index + 1, limit))
            }
            #expect(pool.inUse == 0)
        }
        // What has another size comes from the system and goes back to it.
        let odd = pool.take(3 * Runtime.BufferPool.large)
        #expect(pool.inUse == 3 * Runtime.BufferPool.large)
        pool.give(odd, 3 * Runtime.BufferPool.large)
        #expect(pool.kept == (Runtime.BufferPool.smallKept, Runtime.BufferPool.largeKept))
    }

    // MARK: The pool of threads

    @Test func theQueueOfThePoolHoldsBackWhoFillsIt() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let pool = try ThreadPool(threads: 1, queue: 4)
        let gate = Gate()
        let submitted = Atomic(0)
        let completed = Atomic(0)
        let loop = rig.loop
        let submitter = try Thread {
            // One that keeps the thread busy, as many as may wait, and one beyond.
            for index in 0..<6 {
                pool.submit(
                    { if index == 0 { gate.wait() } },
                    then: { completed.wrappingAdd(1, ordering: .relaxed) }, on: loop)
                submitted.wrappingAdd(1, ordering: .relaxed)
                // The first one has to be taken off before the others fill the queue.
                if index == 0 { while !gate.isAwaited { usleep(200) } }
            }
        }
        func expect(_ count: borrowing Atomic<Int>, _ value: Int) {
            let count = count.load(ordering: .relaxed)
            #expect(count == value, "the caller beyond the limit is held back, and nobody else")
        }
        #expect(await eventually { submitted.load(ordering: .relaxed) == 5 })
        try await Task.sleep(nanoseconds: 100_000_000)
        expect(submitted, 5)
        gate.open()
        submitter.join()
        expect(submitted, 6)
        pool.stop()
        #expect(await eventually { completed.load(ordering: .relaxed) == 6 })
    }

    // MARK: Sockets

    /// More peers knock at once than one go accepts.
    @Test(arguments: [64, 65, 300]) func allWhoKnockAreLetIn(_ count: Int) async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let listener = try rig.listen { _ in Script.echo() }
        let peers = Guarded<[Peer]>([])
        let failed = Atomic(false)
        let address = listener.address
        await rig.loop.perform {
            for _ in 0..<count {
                guard let peer = try? Peer(address) else { return failed.store(true, ordering: .relaxed) }
                peers.withLock { $0.append(peer) }
            }
        }
        let hasFailed = failed.load(ordering: .relaxed)
        #expect(!hasFailed)
        #expect(await eventually { listener.active == count })
        #expect(listener.accepted == UInt64(count) && listener.refused == 0)
    }

    /// A process without descriptors accepts nobody, loses nobody, and goes on when there is room.
    @Test func outOfDescriptorsThePeersWait() async throws {
        let server = try EchoProcess("--loops", "1", openFiles: 64)
        let frame: [UInt8] = [0, 0, 0, 4, 1, 2, 3, 4]
        let peers = try (0..<100).map { _ in try Peer(server.address) }
        for peer in peers { peer.send(frame) }
        var served: [Int] = []
        for (index, peer) in peers.enumerated() where peer.receive(8, within: served.isEmpty ? 5 : 0.02) == frame {
            served.append(index)
        }
        #expect(served.count > 30 && served.count < 64, "\(served.count) are served")
        for index in served { peers[index].close() }
        for (index, peer) in peers.enumerated() where !served.contains(index) {
            try #require(peer.receive(8, within: 10) == frame, "peer \(index) was lost")
            peer.close()
        }
    }

    @Test(arguments: [16, 17, 8 * 16, 8 * 16 + 1]) func batchesOfDatagrams(_ count: Int) async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let collector = DatagramTests.Collector()
        let loop = rig.loop
        let socket = try await loop.perform { () -> Result<DatagramSocket, Errno> in
            Result { () throws(Errno) in
                try rig.network.datagrams(on: .loopback(port: 0), loop: loop, handler: collector)
            }
        }.get()
        let address = socket.localAddress
        // To itself: all are sent, and wait in the kernel, before the loop looks again.
        await loop.perform {
            for index in 0..<count {
                withUnsafeBytes(of: UInt32(index)) { socket.send($0, to: DatagramPeer(remote: address)) }
            }
        }
        #expect(await eventually { collector.received.withLock { $0.count } == count })
        let order = collector.received.withLock {
            $0.map { $0.1.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) } }
        }
        #expect(order == (0..<count).map { UInt32($0) })
        #expect(loop.counters.datagramsOut.value == UInt64(count) && loop.counters.datagramsDropped.value == 0)
        await loop.perform { socket.close() }
    }

    @Test func aDatagramOneByteTooLongIsABug() async {
        await #expect(processExitsWith: .failure) {
            let loop = try EpollLoop(index: 0)
            let handler = DatagramTests.Collector()
            await loop.perform {
                guard let socket = try? EpollNetwork().datagrams(on: .loopback(port: 0), loop: loop, handler: handler)
                else { exit(0) }
                let bytes = [UInt8](repeating: 0, count: DatagramSocket.bytesMax + 1)
                bytes.withUnsafeBytes { socket.send($0, to: DatagramPeer(remote: socket.localAddress)) }
            }
        }
    }

    // MARK: Secrets

    @Test func theLongestSecret() async throws {
        let folder = try temporaryFolder()
        defer {
            unlink(folder + "/secret")
            rmdir(folder)
        }
        let disk = try RealDisk(path: folder)
        let text = try SecretFile.load("secret", bytes: SecretFile.bytesMax, disk, SystemRandom())
        #expect(text.utf8.count == 2 * SecretFile.bytesMax)
        #expect(try SecretFile.load("secret", bytes: SecretFile.bytesMax, disk, SystemRandom()) == text)
        // A file with one byte more, or less, is no such secret.
        for count in [2 * SecretFile.bytesMax - 1, 2 * SecretFile.bytesMax + 1] {
            let file = try disk.open("secret", [.write, .truncate])
            try [UInt8](repeating: 0x61, count: count).withUnsafeBytes { try file.write($0, at: 0) }
            file.close()
            #expect(throws: SecretFile.Problem.damaged) {
                try SecretFile.load("secret", bytes: SecretFile.bytesMax, disk, SystemRandom())
            }
        }
        await #expect(processExitsWith: .failure) {
            _ = try? SecretFile.load("secret", bytes: SecretFile.bytesMax + 1, RealDisk(path: "/"), SystemRandom())
        }
    }

    // MARK: Peers that take all they can get

    /// One who sends without end has his budget in each round, and the others their turn between.
    @Test func theReadBudgetOfOneRound() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let budget = 100_000
        let perRound = Guarded<[UInt64: Int]>([:])
        let listener = try rig.listen(.loopback(port: 0), { $0.limits.readBudget = budget }) { _ in
            Script { script in
                script.onReceived = { bytes, connection in
                    let round = connection.loop.counters.rounds.value
                    perRound.withLock { $0[round, default: 0] += bytes.count }
                    return bytes.count
                }
            }
        }
        let flood = try Peer(listener.address)
        #expect(await eventually { listener.active == 1 })
        // More than one budget is waiting when the loop looks.
        let sent = Atomic(0)
        await rig.loop.perform {
            sent.store(flood.send([UInt8](repeating: 1, count: 2 * budget + 1), within: 0), ordering: .relaxed)
        }
        let total = sent.load(ordering: .relaxed)
        try #require(total > budget, "the kernel holds only \(total) bytes")
        #expect(await eventually { perRound.withLock { $0.values.reduce(0, +) } == total })
        #expect(perRound.withLock { $0.values.max() } == budget)
        #expect(perRound.withLock { $0.count } == (total + budget - 1) / budget)
    }

    /// Peers that ask and never read: each costs what its limits say, and everybody else is served.
    @Test func manyPeersThatNeverRead() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let count = 20
        let high = 256 << 10
        let listener = try rig.listen(
            .loopback(port: 0),
            {
                $0.limits.outputHigh = high
                $0.limits.readBudget = 64 << 10
            }
        ) { _ in Script.echo() }
        let good = try Peer(listener.address)
        let deaf = try (0..<count).map { _ in try Peer(listener.address) }
        // More than the kernel's buffers of both ends hold.
        let bytes = [UInt8](repeating: 7, count: 32 << 20)
        for peer in deaf { try #require(peer.send(bytes, within: 0.1) < bytes.count) }
        for round in 0..<50 {
            good.send([UInt8(round)])
            #expect(good.receive(1) == [UInt8(round)])
        }
        // Output up to the mark and one readable event beyond it, the chunk that it ends in, and one of input.
        let inUse = await rig.loop.perform { rig.loop.io.pool.inUse }
        #expect(inUse <= count * (high + 3 * (64 << 10)), "\(inUse >> 10) KiB for \(count) peers")
        #expect(inUse > count * high / 4)
        for peer in deaf { peer.close() }
        #expect(await eventually { listener.active == 1 })
        #expect(await eventually { await rig.loop.perform { rig.loop.io.pool.inUse } == 0 })
    }
}

/// Opens once.
private final class Gate: Sendable {
    private let isOpen = Atomic(false)
    private let awaited = Atomic(false)
    var isAwaited: Bool { awaited.load(ordering: .acquiring) }
    func open() { isOpen.store(true, ordering: .releasing) }
    func wait() {
        awaited.store(true, ordering: .releasing)
        while !isOpen.load(ordering: .acquiring) { usleep(200) }
    }
}

/// A thread that may block.
private final class Thread {
    private var thread = pthread_t()
    private final class Box {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    init(_ body: @escaping @Sendable () -> Void) throws {
        let box = Unmanaged.passRetained(Box(body)).toOpaque()
        let made = pthread_create(
            &thread, nil,
            { box in
                guard let box else { return nil }
                Unmanaged<Box>.fromOpaque(box).takeRetainedValue().body()
                return nil
            }, box)
        try #require(made == 0)
    }

    func join() { pthread_join(thread, nil) }
}

func temporaryFolder() throws -> String {
    var name = Array("/var/tmp/proxyfs-test-XXXXXX\0".utf8CString)
    let made = name.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!).map { String(cString: $0) } }
    return try #require(made)
}
