import Bytes

/// A service that answers calls: one program, or some versions of it.
public protocol RPCProgram: AnyObject, Sendable {
    var number: UInt32 { get }
    var versions: ClosedRange<UInt32> { get }

    /// Answers a call of one of `versions`, on the loop of the caller's connection, without waiting: `arguments` are
    /// read in place, `results` are written in place. What can not be answered now is held (`CallContext.hold`) and
    /// answered from a task of the loop.
    func serve(
        _ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results
    ) -> Outcome
}

/// What became of a call.
public enum Outcome: Sendable {
    /// The results are written; without any for procedures that have none.
    case done
    /// What was written is dropped, this is the answer.
    case refused(ReplyStatus)
    /// Whoever has the `RPCCall` answers.
    case held
    /// There is no answer: for messages that have none.
    case dropped
}

/// The programs and flavors of one server. Does not change while the server runs, so that every loop may read it.
struct Registry: Sendable {
    static let programsMax = 32

    let programs: [any RPCProgram]
    let flavors: [any SecurityFlavor]

    init(programs: [any RPCProgram], flavors: [any SecurityFlavor]) {
        precondition(programs.count <= Self.programsMax, "too many programs")
        for (index, program) in programs.enumerated() {
            let others = programs[..<index].filter { $0.number == program.number }
            precondition(!others.contains { $0.versions.overlaps(program.versions) }, "two programs for one version")
        }
        let reserved = [AuthFlavor.none, AuthFlavor.system]
        precondition(!flavors.contains { reserved.contains($0.number) }, "this flavor is served already")
        self.programs = programs
        self.flavors = flavors
    }

    enum Found {
        case program(any RPCProgram)
        case nothing(ReplyStatus)
    }

    func find(_ number: UInt32, _ version: UInt32) -> Found {
        var low = UInt32.max, high = UInt32.min
        for program in programs where program.number == number {
            let versions = program.versions
            if versions.contains(version) { return .program(program) }
            low = min(low, versions.lowerBound)
            high = max(high, versions.upperBound)
        }
        return .nothing(low <= high ? .programMismatch(low: low, high: high) : .programUnavailable)
    }
}
