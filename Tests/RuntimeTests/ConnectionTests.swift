import Bytes
import CShim
import Runtime
import Synchronization
import Testing

@Suite(.serialized) struct ConnectionTests {
    @Test func echoesWhatItReceives() async throws {
        let rig = try Rig(loops: 2)
        defer { rig.stop() }
        let listener = try rig.listen { _ in Script.echo() }
        let bytes = pattern(3_000_000)
        let peer = try Peer(listener.address)
        var received: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 100_000) {
            peer.send(Array(bytes[start..<start + 100_000]))
            received += peer.receive(100_000)
        }
        #expect(received == bytes)
        peer.close()
        #expect(await eventually { listener.active == 0 })
        #expect(listener.accepted == 1)
    }

    @Test(arguments: [1000, 65_536, 200_000])
    func aMessageOfInputMaxPassesAndOneByteMoreDoesNot(_ max: Int) async throws {
        let rig = try Rig()
        defer { rig.stop() }
        for size in [max, max + 1] {
            let script = Script { script in
                script.onReceived = { bytes, connection in
                    guard bytes.count >= size else { return 0 }
                    connection.write(bytes)
                    return bytes.count
                }
            }
            let listener = try rig.listen(.loopback(port: 0), { $0.limits.inputMax = max }) { _ in script }
            let peer = try Peer(listener.address)
            peer.send(pattern(size))
            if size == max {
                #expect(peer.receive(size) == pattern(size))
            } else {
                #expect(await eventually { script.reason == .inputOverflow })
            }
        }
    }

    @Test func aRequirementBeyondInputMaxCloses() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let scripts = [1 << 16, 1 << 16 + 1].map { required in
            Script { script in
                script.onReceived = { bytes, connection in
                    guard bytes.count >= 8 else { return 0 }
                    if bytes.count < 1 << 16 {
                        connection.require(required)
                        return 0
                    }
                    return bytes.count
                }
            }
        }
        for (index, script) in scripts.enumerated() {
            let listener = try rig.listen(.loopback(port: 0), { $0.limits.inputMax = 1 << 16 }) { _ in script }
            let peer = try Peer(listener.address)
            peer.send(pattern(100))
            #expect(await eventually { script.log.calls == 1 })
            peer.send(pattern(1 << 16 - 101))
            if index == 0 {
                // Not called for what is less than required, and then once.
                try await Task.sleep(nanoseconds: 20_000_000)
                #expect(script.log.calls == 1)
                peer.send([0])
                #expect(await eventually { script.log.received.count == 1 << 16 && script.log.calls == 2 })
            } else {
                #expect(await eventually { script.reason == .inputOverflow })
            }
        }
    }

    @Test func aPeerThatNeverReadsIsThrottledAndThenClosed() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let script = Script.echo()
        let connections = Guarded<Connection?>(nil)
        let listener = try rig.listen(
            .loopback(port: 0),
            {
                $0.limits.outputHigh = 100_000
                // Far longer than the wait below, so that a slow machine looks before the connection is closed.
                $0.limits.writeTimeout = 3_000 * millisecond
            }
        ) { connection in
            connections.withLock { $0 = connection }
            return script
        }
        let other = try Peer(listener.address)
        let peer = try Peer(listener.address)
        let sent = peer.send(pattern(64 << 20), within: 0.3)
        #expect(sent < 64 << 20)
        let connection = try #require(connections.withLock { $0 })
        let pending = await rig.loop.perform { connection.outputPending }
        // Reading stops above the mark and starts again below its quarter; one readable event comes on top.
        #expect(pending > 25_000 && pending <= 100_000 + connection.limits.readBudget)
        other.send([1, 2, 3])
        #expect(other.receive(3) == [1, 2, 3])
        #expect(await eventually { script.reason == .writeTimeout })
        #expect(await eventually { listener.active == 1 })
    }

    @Test func aSlowReaderGetsEverythingAndTheHandlerIsToldWhenItHasDrained() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let total = 20 << 20
        let block = pattern(1 << 20).withUnsafeBytes { Block(copying: $0) }
        let written = Atomic(0)
        let script = Script { script in
            let more: (Connection) -> Void = { connection in
                while written.load(ordering: .relaxed) < total, !connection.isOutputFull {
                    connection.write(block, count: block.count)
                    written.wrappingAdd(block.count, ordering: .relaxed)
                }
                if written.load(ordering: .relaxed) == total { connection.close() }
            }
            script.onOpened = more
            script.onDrained = more
        }
        let listener = try rig.listen { _ in script }
        let peer = try Peer(listener.address)
        #expect(await eventually { script.log.opened == 1 })
        try await Task.sleep(nanoseconds: 50_000_000)
        #expect(written.load(ordering: .relaxed) < total)
        let bytes = peer.receive(total + 1)
        try #require(bytes.count == total, "\(bytes.count) \(script.log.closed) \(script.log.drained)")
        #expect(bytes.suffix(1 << 20).elementsEqual(pattern(1 << 20)))
        #expect(script.log.drained > 0)
        peer.close()
        #expect(await eventually { script.reason == .local })
    }

    @Test func outputBeyondOutputMaxClosesAndUpToItDoesNot() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        // More than the kernel takes, and then the limit exactly or one more.
        for extra in [0, 1] {
            let script = Script()
            let held = Guarded<Connection?>(nil)
            let listener = try rig.listen(
                .loopback(port: 0),
                {
                    $0.limits.outputHigh = 1 << 20
                    $0.limits.outputMax = 8 << 20
                }
            ) { connection in
                held.withLock { $0 = connection }
                return script
            }
            let peer = try Peer(listener.address)
            #expect(await eventually { script.log.opened == 1 })
            let connection = try #require(held.withLock { $0 })
            let block = Block(capacity: 8 << 20)
            block.count = 8 << 20
            await rig.loop.perform { connection.write(block, count: 8 << 20) }
            await rig.loop.perform {}
            try await Task.sleep(nanoseconds: 50_000_000)
            let pending = await rig.loop.perform { connection.outputPending }
            try #require(pending > 0, "the kernel took all of it")
            await rig.loop.perform { connection.write(block, count: (8 << 20) - connection.outputPending + extra) }
            if extra > 0 { #expect(await eventually { script.reason != nil }) }
            try await Task.sleep(nanoseconds: 20_000_000)
            #expect(script.reason == (extra == 0 ? nil : .outputOverflow))
            peer.close()
        }
    }

    @Test func smallAndLargeOutputKeepsItsOrder() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        var expected: [UInt8] = []
        var pieces: [(Block?, [UInt8])] = []
        for index in 0..<400 {
            let bytes = pattern(index % 7 == 0 ? 70_000 : index * 13 % 5000 + 1, seed: UInt64(index))
            let block = index % 3 == 0 ? bytes.withUnsafeBytes { Block(copying: $0) } : nil
            pieces.append((block, bytes))
            expected += block == nil ? bytes : Array(bytes.dropFirst(index % 2))
        }
        let script = Script { [pieces] script in
            script.onOpened = { connection in
                for (index, (block, bytes)) in pieces.enumerated() {
                    if let block {
                        connection.write(block, offset: index % 2, count: block.count - index % 2)
                    } else {
                        bytes.withUnsafeBytes { connection.write($0) }
                    }
                }
                connection.finish()
            }
        }
        let listener = try rig.listen { _ in script }
        let peer = try Peer(listener.address)
        #expect(peer.receive(expected.count + 1) == expected)
    }

    @Test func repliesMadeLaterByTasksLeave() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let loop = rig.loop
        let script = Script { script in
            script.onReceived = { bytes, connection in
                for byte in bytes {
                    loop.task {
                        await loop.sleep(nanoseconds: UInt64(10 - byte) * millisecond)
                        withUnsafeBytes(of: byte) { connection.write($0) }
                    }
                }
                return bytes.count
            }
        }
        let listener = try rig.listen { _ in script }
        let peer = try Peer(listener.address)
        peer.send([0, 3, 6, 9])
        #expect(peer.receive(4) == [9, 6, 3, 0])
    }

    @Test func aBlockIsFilledPastTheInputBuffer() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let size = 3_000_000
        let script = Script { script in
            script.onReceived = { bytes, connection in
                connection.fill(Block(capacity: size), count: size)
                return 10
            }
            script.onFilled = { block, connection in
                connection.write(block, count: block.count)
                connection.pauseReading()
                connection.resumeReading()
            }
        }
        let listener = try rig.listen(.loopback(port: 0), { $0.limits.inputMax = 65_536 }) { _ in script }
        let peer = try Peer(listener.address)
        for round in 0..<3 {
            let bytes = pattern(size + 10, seed: UInt64(round))
            peer.send(bytes)
            #expect(peer.receive(size) == Array(bytes[10...]))
        }
        #expect(script.log.filled == 3)
    }

    @Test func aPausedConnectionReadsNothingAndThenEverything() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let held = Guarded<Connection?>(nil)
        let script = Script { script in
            script.onOpened = { connection in
                held.withLock { $0 = connection }
                connection.pauseReading()
            }
        }
        let listener = try rig.listen { _ in script }
        let peer = try Peer(listener.address)
        let bytes = pattern(500_000)
        peer.send(Array(bytes[..<1000]))
        #expect(await eventually { script.log.opened == 1 })
        let before = rig.loop.counters.rounds.value
        try await Task.sleep(nanoseconds: 30_000_000)
        #expect(script.log.calls == 0)
        // What nobody wants to hear is told once at the most.
        #expect(rig.loop.counters.rounds.value - before < 20)
        let connection = try #require(held.withLock { $0 })
        await rig.loop.perform { connection.resumeReading() }
        peer.send(Array(bytes[1000...]))
        #expect(await eventually { script.log.received == bytes })
    }

    @Test func halfClosedPeersAreStillAnswered() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let loop = rig.loop
        let script = Script { script in
            script.onEnded = { connection in
                loop.task {
                    await loop.sleep(nanoseconds: 20 * millisecond)
                    [7, 8, 9].withUnsafeBytes { (bytes: UnsafeRawBufferPointer) in connection.write(bytes) }
                    connection.finish()
                }
            }
        }
        let listener = try rig.listen { _ in script }
        let peer = try Peer(listener.address)
        peer.send([1])
        peer.finish()
        #expect(peer.receive(100).count == 3 * MemoryLayout<Int>.size)
        #expect(await eventually { script.reason == .finished })
        #expect(script.log.ended == 1)
    }

    @Test func theLastReplySurvivesInputThatNobodyReads() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let script = Script { script in
            script.onReceived = { bytes, connection in
                pattern(1000).withUnsafeBytes { connection.write($0) }
                connection.close()
                return bytes.count
            }
        }
        let listener = try rig.listen { _ in script }
        let peer = try Peer(listener.address)
        peer.send(pattern(300_000))
        try await Task.sleep(nanoseconds: 30_000_000)
        peer.send(pattern(100_000))
        #expect(peer.receive(1001) == pattern(1000))
        #expect(script.log.calls == 1)
        #expect(listener.active == 1)
        peer.finish()
        #expect(await eventually { listener.active == 0 })
    }

    @Test func closingAnotherConnectionInACallIsSafe() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let all = Guarded<[Connection]>([])
        let listener = try rig.listen { connection in
            all.withLock { $0.append(connection) }
            return Script { script in
                script.onReceived = { bytes, connection in
                    // Everybody else is ready in the same batch; new sockets take the same numbers at once.
                    for other in all.withLock({ $0 }) where other !== connection { other.abort() }
                    connection.abort()
                    return 0
                }
            }
        }
        for _ in 0..<50 {
            let peers = try (0..<8).map { _ in try Peer(listener.address) }
            #expect(await eventually { listener.active == 8 })
            await rig.loop.perform { for peer in peers { peer.send([1]) } }
            #expect(await eventually { listener.active == 0 })
            all.withLock { $0 = [] }
        }
    }

    @Test func anEventOfAClosedSocketDoesNotReachTheNextOneOfItsNumber() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        // Handshakes are not answered here once the queue of one is full: who connects is never opened.
        var raw = shim_address()
        #expect(SocketAddress.loopback(port: 0).store(into: &raw))
        let fd = shim_listen(&raw, 0, 0)
        try #require(fd >= 0)
        defer { shim_close(fd) }
        shim_local_address(fd, &raw)
        let dead = try #require(SocketAddress(raw))
        let fillers = try (0..<2).map { _ in try Peer(dead) }
        let all = Guarded<[Connection]>([])
        let outgoing = Script()
        let listener = try rig.listen { connection in
            all.withLock { $0.append(connection) }
            return Script { script in
                script.onReceived = { bytes, connection in
                    // The other one is ready in the same batch; its number is taken again at once.
                    for other in all.withLock({ $0 }) where other !== connection { other.abort() }
                    var options = ConnectOptions()
                    options.limits.connectTimeout = 100 * millisecond
                    // Several, because lower numbers may be free too.
                    for _ in 0..<32 { _ = rig.network.connect(to: dead, options, on: rig.loop, handler: outgoing) }
                    return bytes.count
                }
            }
        }
        let peers = try (0..<2).map { _ in try Peer(listener.address) }
        #expect(await eventually { listener.active == 2 })
        await rig.loop.perform { for peer in peers { peer.send([1]) } }
        #expect(await eventually { outgoing.reason == .openTimeout })
        #expect(outgoing.log.opened == 0)
        for filler in fillers { filler.close() }
    }

    @Test func whatAHandlerIsShownLastsUntilItReturns() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let bystander = Guarded<Connection?>(nil)
        let intact = Guarded<[Bool]>([])
        for ending in 0..<2 {
            let listener = try rig.listen { connection in
                if bystander.withLock({ held in
                    defer { held = held ?? connection }
                    return held == nil
                }) {
                    return Script()
                }
                return Script { script in
                    script.onReceived = { bytes, connection in
                        let before = Array(bytes)
                        if ending == 0 { connection.abort() } else { connection.close() }
                        // Takes pooled memory: not what we look at.
                        [UInt8](repeating: 0xff, count: 60_000).withUnsafeBytes { noise in
                            bystander.withLock { $0?.write(noise) }
                        }
                        intact.withLock { $0.append(before == Array(bytes)) }
                        return bytes.count
                    }
                }
            }
            let quiet = try Peer(listener.address)
            #expect(await eventually { listener.active == 1 })
            let peer = try Peer(listener.address)
            peer.send(pattern(1000))
            #expect(await eventually { intact.withLock { $0.count } == ending + 1 })
            #expect(quiet.receive(60_000).count == 60_000)
            bystander.withLock { $0 = nil }
        }
        #expect(intact.withLock { $0 } == [true, true])
    }

    @Test func aStoppingLoopClosesConnectionsAndRunsWhatTheyHandOver() async throws {
        let rig = try Rig()
        let ran = Atomic(false)
        let script = Script { script in
            script.onClosed = { connection in connection.loop.execute { ran.store(true, ordering: .relaxed) } }
        }
        weak var listener: Listener?
        let peer: Peer
        do {
            let made = try rig.listen { _ in script }
            listener = made
            peer = try Peer(made.address)
        }
        #expect(await eventually { script.log.opened == 1 })
        #expect(listener != nil)
        rig.stop()
        #expect(ran.load(ordering: .relaxed) && script.log.closed == [.local])
        #expect(peer.readsEnd() <= 0)
    }

    @Test func aListenerGoesWithItsLastConnection() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        weak var listener: Listener?
        let peer: Peer
        do {
            let made = try rig.listen { _ in Script.echo() }
            listener = made
            peer = try Peer(made.address)
            peer.send([1])
            #expect(peer.receive(1) == [1])
            made.stopAccepting()
        }
        await rig.loop.perform {}
        #expect(listener != nil)
        peer.send([2])
        #expect(peer.receive(1) == [2])
        peer.close()
        #expect(await eventually { listener == nil })
    }

    @Test func nothingIsKeptOfClosedConnections() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        weak var connection: Connection?
        let listener = try rig.listen { accepted in
            let made = Script.echo()
            made.onClosed = { _ in _ = accepted }
            return made
        }
        let mine = Script()
        var outgoing: Connection? = await rig.connect(listener.address, ConnectOptions(), mine)
        connection = outgoing
        #expect(await eventually { mine.log.opened == 1 })
        await rig.loop.perform { [outgoing] in outgoing?.close() }
        outgoing = nil
        #expect(await eventually { listener.active == 0 && connection == nil })
        #expect(rig.loop.counters.opened.value == rig.loop.counters.closed.value)
        #expect(await rig.loop.perform { rig.loop.io.pool.inUse } == 0)
    }
}
