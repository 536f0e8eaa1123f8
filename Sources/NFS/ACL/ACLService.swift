import Bytes
import Namespace
import RPC
import Runtime

/// NFSACL version 3: the POSIX access lists of files, which are Namespace's lists in another form (docs/access.md).
public final class ACLService: RPCProgram {
    public let number = NFSACL.program
    public let versions = NFSACL.version...NFSACL.version
    private let context: NFSContext

    public init(_ context: NFSContext) { self.context = context }

    public func serve(
        _ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results
    ) -> Outcome {
        guard let procedure = ACLProcedure(rawValue: call.procedure) else { return .refused(.procedureUnavailable) }
        let caller = NFSCaller(context, call.identity, call.remoteAddress, call.loop)
        let work: Work
        do throws(BytesError) {
            switch procedure {
            case .null: return .done
            case .getACL:
                let wanted = try ACLGetArguments(reading: &arguments)
                work = Work(caller: caller, handle: Array(wanted.file.bytes), mask: wanted.mask)
            case .setACL:
                let wanted = try ACLSetArguments(reading: &arguments)
                work = Work(
                    caller: caller, handle: Array(wanted.file.bytes), mask: wanted.lists.mask,
                    lists: Lists(
                        mask: wanted.lists.mask, access: wanted.lists.access, defaults: wanted.lists.defaults))
            }
        } catch { return .refused(.garbageArguments) }
        let first = work.attempt()
        if case .done(let answer, 0, _) = first {
            answer.write(into: &results)
            return .done
        }
        if case .refused(let status) = first { return .refused(status) }
        guard let held = call.hold() else { return .dropped }
        call.loop.task { await work.carryOn(first, held) }
        return .held
    }
}

extension ACLService {
    /// What became of one attempt.
    fileprivate enum Step {
        /// The answer, true when the change of that number is safe.
        case done(Answer, UInt64, NFSPlace?)
        case refused(ReplyStatus)
        case lacks(Lack)
    }

    fileprivate struct Answer: Sendable {
        var status = NFS3Status.ok
        var attributes: NFS3Attributes?
        var lists: Lists?

        func write(into results: inout Results) {
            let entries = (lists?.access.count ?? 0) + (lists?.defaults.count ?? 0)
            results.provide(64 + NFS3Attributes.bytes + 12 * entries)
            results.writer.u32(status.rawValue)
            results.writer.optional(attributes)
            lists?.pair.write(into: &results.writer)
        }
    }

    /// Both lists of a file, as their entries travel.
    fileprivate struct Lists: Sendable {
        var mask: NFSACL.Mask
        var access: [ACLEntry] = []
        var defaults: [ACLEntry] = []

        var pair: ACLPair {
            ACLPair(
                mask: mask, accessCount: UInt32(access.count), access: mask.contains(.access) ? access : [],
                defaultsCount: UInt32(defaults.count), defaults: mask.contains(.defaults) ? defaults : [])
        }
    }

    fileprivate struct Work: Sendable {
        var caller: NFSCaller
        var handle: [UInt8]
        var mask: NFSACL.Mask
        /// Nil: they are asked for.
        var lists: Lists?

        func attempt() -> Step {
            var place: NFSPlace?
            do throws(NFSHalt) {
                let found = try caller.place(handle, needsFlavor: true)
                place = found
                guard mask.isSubset(of: .all) else { throw .status(.invalid) }
                guard let lists else { return try get(found) }
                return try set(lists, found)
            } catch {
                switch error {
                case .status(let status):
                    return .done(Answer(status: status, attributes: place?.attributesAtHand), 0, nil)
                case .auth(let error): return .refused(.authError(error))
                case .lacks(let lack): return .lacks(lack)
                case .waits, .flushes: return .refused(.systemError)
                }
            }
        }

        private func value<Value>(_ attempt: Attempt<Value>) throws(NFSHalt) -> (value: Value, number: UInt64) {
            switch attempt {
            case .done(let value, let number): return (value, number)
            case .refused(let error): throw .status(NFS3Status(error))
            case .lacks(let lack): throw .lacks(lack)
            }
        }

        private func get(_ place: NFSPlace) throws(NFSHalt) -> Step {
            let found = try value(place.volume.posixACL(place.caller, place.file)).value
            let file = found.file
            var lists = Lists(mask: mask)
            if !mask.isDisjoint(with: [.access, .accessCount]) {
                lists.access = found.access.entries(uid: file.uid, gid: file.gid)
            }
            if !mask.isDisjoint(with: [.defaults, .defaultsCount]) {
                lists.defaults =
                    found.passedOn?.entries(uid: file.uid, gid: file.gid, flags: PosixACL.Tag.defaults) ?? []
            }
            return .done(Answer(attributes: place.attributes(file), lists: lists), 0, nil)
        }

        private func set(_ lists: Lists, _ place: NFSPlace) throws(NFSHalt) -> Step {
            var access = NewPosixACL.unchanged
            if mask.contains(.access) {
                guard let new = PosixACL(lists.access) else { throw .status(.invalid) }
                access = .list(new)
            }
            var passedOn = NewPosixACL.unchanged
            if mask.contains(.defaults) {
                if lists.defaults.isEmpty {
                    passedOn = .none
                } else {
                    guard let new = PosixACL(lists.defaults) else { throw .status(.invalid) }
                    passedOn = .list(new)
                }
            }
            let changed = try value(
                place.volume.setPosixACL(place.caller, place.file, access: access, passedOn: passedOn))
            return .done(Answer(attributes: place.attributes(changed.value.after)), changed.number, place)
        }

        func carryOn(_ first: Step, _ held: RPCCall) async {
            var step = first
            for _ in 0..<NFSService.attemptsMax {
                do throws(FileError) {
                    switch step {
                    case .refused(let status): return held.refuse(status)
                    case .done(let answer, let number, let place):
                        if number > 0, let place {
                            try await place.volume.settled(number, place.durability, on: caller.loop)
                        }
                        return held.reply { results in
                            answer.write(into: &results)
                            return .done
                        }
                    case .lacks(let lack): try await lack.supplied()
                    }
                } catch {
                    let status = NFS3Status(error)
                    return held.reply { results in
                        Answer(status: status).write(into: &results)
                        return .done
                    }
                }
                step = attempt()
            }
            held.reply { results in
                Answer(status: .jukebox).write(into: &results)
                return .done
            }
        }
    }
}

extension NFSACL.Mask {
    fileprivate static let all: NFSACL.Mask = [.access, .accessCount, .defaults, .defaultsCount]
}
