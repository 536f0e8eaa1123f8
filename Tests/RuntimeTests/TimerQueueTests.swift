import Runtime
import Testing

@Suite struct TimerQueueTests {
    @Test func firesByDeadlineAndThenInOrderOfMaking() {
        var queue = TimerQueue()
        var fired: [Int] = []
        for (index, deadline) in [30, 10, 20, 10, 30, 10].enumerated() {
            _ = queue.add(deadline: UInt64(deadline)) { fired.append(index) }
        }
        let early = queue.popDue(9)
        #expect(early == nil)
        while let work = queue.popDue(20) { work() }
        #expect(fired == [1, 3, 5, 2])
        while let work = queue.popDue(30) { work() }
        #expect(fired == [1, 3, 5, 2, 0, 4])
    }

    @Test func aLateCancelHitsNobody() {
        var queue = TimerQueue()
        let first = queue.add(deadline: 1) {}
        queue.popDue(1)?()
        let second = queue.add(deadline: 2) {}
        #expect(first != second)
        let cancelled = [queue.cancel(first), queue.cancel(second), queue.cancel(second)]
        #expect(cancelled == [false, true, false])
        #expect(queue.nextDeadline == nil)
    }

    @Test func agreesWithASortedList() {
        var state: UInt64 = 42
        func next(_ below: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % below
        }
        var queue = TimerQueue()
        var model: [(deadline: UInt64, order: Int, timer: LoopTimer)] = []
        var names: Set<LoopTimer> = []
        var fired = -1
        for step in 0..<20_000 {
            switch next(5) {
            case 0, 1:
                let deadline = next(1000)
                let timer = queue.add(deadline: deadline) { fired = step }
                #expect(names.insert(timer).inserted)
                model.append((deadline, step, timer))
            case 2 where !model.isEmpty:
                let victim = Int(next(UInt64(model.count)))
                let cancelled = queue.cancel(model.remove(at: victim).timer)
                #expect(cancelled)
            default:
                let now = next(1000)
                let expected = model.filter { $0.deadline <= now }.min {
                    ($0.deadline, $0.order) < ($1.deadline, $1.order)
                }
                let work = queue.popDue(now)
                #expect((work != nil) == (expected != nil))
                guard let work, let expected else { continue }
                work()
                #expect(fired == expected.order)
                model.removeAll { $0.order == expected.order }
            }
            #expect(queue.count == model.count)
        }
    }
}
