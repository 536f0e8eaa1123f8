import CShim
import Glibc
import Runtime
import Synchronization
import Testing

@Suite(.serialized) struct EpollLoopTests {
    @Test func timersFireInOrderAndCanBeCancelled() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let fired = Guarded<[Int]>([])
        let started = shim_clock_monotonic()
        await rig.loop.perform {
            let loop = rig.loop
            for (index, delay) in [30, 10, 20].enumerated() {
                _ = loop.schedule(after: UInt64(delay) * millisecond) { fired.withLock { $0.append(index) } }
            }
            let cancelled = loop.schedule(after: 5 * millisecond) { fired.withLock { $0.append(99) } }
            loop.cancel(cancelled)
            _ = loop.schedule(after: .max) { fired.withLock { $0.append(98) } }
        }
        #expect(await eventually { fired.withLock { $0.count } == 3 })
        #expect(shim_clock_monotonic() - started >= 30 * millisecond)
        #expect(fired.withLock { $0 } == [1, 2, 0])
    }

    @Test func nothingHandedOverByOtherThreadsIsLostAndEachThreadsOrderIsKept() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let (threads, each) = (4, 50_000)
        final class Seen: @unchecked Sendable {
            var last = [-1, -1, -1, -1]
            var total = 0
            var disorder = 0
        }
        let seen = Seen()
        let pool = try ThreadPool(threads: threads)
        let loop = rig.loop
        for thread in 0..<threads {
            pool.submit(
                {
                    for index in 0..<each {
                        loop.execute {
                            if seen.last[thread] != index - 1 { seen.disorder += 1 }
                            seen.last[thread] = index
                            seen.total += 1
                        }
                        // Lets the loop fall asleep now and then, so that waking it is tried many times.
                        if index % 1000 == 999 { usleep(200) }
                    }
                }, then: {}, on: loop)
        }
        pool.stop()
        #expect(await eventually { await loop.perform { seen.total } == threads * each })
        #expect(await loop.perform { seen.disorder } == 0)
    }

    /// A loop that was told of what is to come meets it, serves all else meanwhile, and does not stay awake for what does not come.
    @Test func whatIsExpectedIsNotWaitedForAwakeForLong() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let loop = rig.loop
        let spent = { @Sendable () -> UInt64 in
            var time = timespec()
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
            return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        }
        let before = await loop.perform {
            loop.expect()
            return spent()
        }
        // Each timer ends the loop's sleep, so it may try to stay awake again each time.
        let fired = Guarded(0)
        for round in 0..<300 {
            await loop.perform {
                _ = loop.schedule(after: millisecond) { fired.withLock { $0 += 1 } }
            }
            #expect(await eventually { fired.withLock { $0 } == round + 1 })
        }
        let awake = await loop.perform { spent() - before }
        // Awake all the time it would have been 300 ms; 250 us of each would be 75 ms.
        #expect(awake < 60 * millisecond, "\(awake / 1000) us")
        // What comes from a thread a moment later is met, whether the loop is awake or not.
        let pool = try ThreadPool(threads: 1)
        defer { pool.stop() }
        let came = Guarded(0)
        for round in 0..<300 {
            pool.submit({ usleep(round % 3 == 0 ? 1_000 : 20) }, then: { came.withLock { $0 += 1 } }, on: loop)
            #expect(await eventually { came.withLock { $0 } == round + 1 })
        }
        await loop.perform { loop.expectNoMore() }
    }

    /// Who lingers sees what comes, asks once at least, and does not stay for what does not come.
    @Test func lingeringEnds() async throws {
        let pool = try ThreadPool(threads: 2)
        defer { pool.stop() }
        var asked = 0
        pool.linger {
            asked += 1
            return true
        }
        #expect(asked == 1)
        // In vain, as often as it likes: each time it is asked, and most times no more than that.
        asked = 0
        let rounds = 1_000
        let start = shim_clock_monotonic()
        for _ in 0..<rounds {
            pool.linger {
                asked += 1
                return false
            }
        }
        #expect(asked >= rounds)
        #expect(shim_clock_monotonic() - start < 1_000_000_000)
        // What comes a moment later is met, once lingering has been seen to pay.
        var met = 0
        for _ in 0..<500 {
            var left = 3
            pool.linger {
                left -= 1
                return left == 0
            }
            if left == 0 { met += 1 }
        }
        #expect(met > 300)
    }

    @Test func aSingleWakeIsNeverLost() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        for _ in 0..<5_000 { await rig.loop.perform {} }
    }

    @Test func everyStepOfATaskRunsOnItsLoop() async throws {
        let rig = try Rig(loops: 2)
        defer { rig.stop() }
        let pool = try ThreadPool(threads: 1)
        defer { pool.stop() }
        for loop in rig.loops {
            let steps = await loop.task { () async -> [Bool] in
                var steps = [loop.isCurrent]
                await Task.yield()
                steps.append(loop.isCurrent)
                await loop.sleep(nanoseconds: millisecond)
                steps.append(loop.isCurrent)
                let onLoop = await pool.run(on: loop) { loop.isCurrent }
                steps.append(!onLoop)
                steps.append(loop.isCurrent)
                async let child = { () async -> Bool in
                    await Task.yield()
                    return loop.isCurrent
                }()
                steps.append(await child)
                steps.append(loop.isCurrent)
                let group = await withTaskGroup(of: Bool.self) { group in
                    for _ in 0..<4 {
                        group.addTask {
                            await Task.yield()
                            return loop.isCurrent
                        }
                    }
                    return await group.reduce(true) { $0 && $1 }
                }
                steps.append(group)
                steps.append(loop.isCurrent)
                return steps
            }.value
            #expect(steps == Array(repeating: true, count: 9))
        }
        #expect(!rig.loop.isCurrent)
    }

    /// At the end of a process its parts do not end at the same moment: what comes too late is dropped, not a crash.
    @Test func whatComesAfterTheEndIsDropped() throws {
        let rig = try Rig(loops: 2)
        let pool = try ThreadPool(threads: 1)
        let ran = Atomic(0)
        pool.submit(
            { ran.wrappingAdd(1, ordering: .relaxed) }, then: { ran.wrappingAdd(10, ordering: .relaxed) }, on: rig.loop)
        pool.stop()
        pool.submit({ ran.wrappingAdd(100, ordering: .relaxed) }, then: {}, on: rig.loop)
        rig.stop()
        rig.loop.execute { ran.wrappingAdd(1000, ordering: .relaxed) }
        rig.loops[1].task { ran.wrappingAdd(10_000, ordering: .relaxed) }
        let count = ran.load(ordering: .relaxed)
        #expect(count == 11)
    }

    /// A task that waits for one short thing after another does not go round the loop for each.
    @Test func whatJobsHandOverRunsSoon() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let loop = rig.loop
        let steps = 2_000
        let rounds = await loop.task {
            let before = loop.counters.rounds.value
            for _ in 0..<steps { await Task.yield() }
            return loop.counters.rounds.value - before
        }.value
        #expect(rounds < steps / 2 && rounds >= steps / EpollLoop.jobsPerRound)
    }

    /// One that has worked for long lets others have their turn when it says so.
    @Test func whoGivesWayBehindMuchWorkWaitsForTheNextRound() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let loop = rig.loop
        let rounds = await loop.task {
            let before = loop.counters.rounds.value
            for _ in 0..<20 {
                let end = shim_clock_monotonic() + millisecond
                while shim_clock_monotonic() < end {}
                await Task.yield()
            }
            return loop.counters.rounds.value - before
        }.value
        #expect(rounds >= 20)
    }

    @Test func workThatNeverEndsDoesNotKeepTimersFromFiring() async throws {
        let rig = try Rig()
        let stop = Atomic(false)
        let fired = Atomic(false)
        let loop = rig.loop
        @Sendable func again() { if !stop.load(ordering: .relaxed) { loop.execute { again() } } }
        for _ in 0..<EpollLoop.jobsPerRound * 2 { loop.execute { again() } }
        loop.execute { _ = loop.schedule(after: millisecond) { fired.store(true, ordering: .relaxed) } }
        #expect(await eventually { fired.load(ordering: .relaxed) })
        stop.store(true, ordering: .relaxed)
        rig.stop()
    }

    @Test func stoppingRunsWhatWasHandedOver() throws {
        let rig = try Rig()
        let ran = Atomic(0)
        let loop = rig.loop
        for _ in 0..<10_000 { loop.execute { loop.execute { ran.wrappingAdd(1, ordering: .relaxed) } } }
        rig.stop()
        #expect(ran.load(ordering: .relaxed) == 10_000)
    }

    /// Each thread ends, and what was submitted before that has run.
    @Test(arguments: [1, 3])
    func stoppingThePoolRunsWhatWasSubmitted(_ threads: Int) throws {
        let rig = try Rig()
        defer { rig.stop() }
        for jobs in [0, 1, threads, 50] {
            let pool = try ThreadPool(threads: threads)
            let ran = Atomic(0)
            for _ in 0..<jobs {
                pool.submit(
                    {
                        usleep(500)
                        ran.wrappingAdd(1, ordering: .relaxed)
                    }, then: {}, on: rig.loop)
            }
            pool.stop()
            #expect(ran.load(ordering: .relaxed) == jobs)
            // Again, and what comes too late.
            pool.stop()
            pool.submit({ ran.wrappingAdd(1, ordering: .relaxed) }, then: {}, on: rig.loop)
            #expect(ran.load(ordering: .relaxed) == jobs)
        }
    }

    @Test func theBlockingPoolsQueueIsBounded() async throws {
        let rig = try Rig()
        defer { rig.stop() }
        let (first, second) = (try ThreadPool(threads: 1, queue: 2), try ThreadPool(threads: 1))
        let gate = Atomic(false)
        let submitted = Atomic(0)
        let completed = Atomic(0)
        let loop = rig.loop
        second.submit(
            {
                for _ in 0..<5 {
                    first.submit(
                        { while !gate.load(ordering: .acquiring) { usleep(500) } },
                        then: { completed.wrappingAdd(1, ordering: .relaxed) }, on: loop)
                    submitted.wrappingAdd(1, ordering: .relaxed)
                }
            }, then: {}, on: loop)
        // One runs, two wait: the fourth call must not return.
        #expect(await eventually { submitted.load(ordering: .relaxed) == 3 })
        try await Task.sleep(nanoseconds: 50_000_000)
        #expect(submitted.load(ordering: .relaxed) == 3)
        gate.store(true, ordering: .releasing)
        second.stop()
        first.stop()
        #expect(await eventually { completed.load(ordering: .relaxed) == 5 })
    }
}
