import Bytes
import Namespace
import RPC
import Runtime

/// rquota, versions 1 and 2: what users and groups may have in an export's volume, and what they have.
public final class QuotaService: RPCProgram {
    public let number = RemoteQuota.program
    public let versions = RemoteQuota.versions
    private let context: NFSContext

    public init(_ context: NFSContext) { self.context = context }

    public func serve(
        _ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results
    ) -> Outcome {
        // What would set quotas is known and not done: they are the server's operator's.
        guard let procedure = QuotaProcedure(rawValue: call.procedure) else { return .refused(.procedureUnavailable) }
        if procedure == .null { return .done }
        let path: String
        let subject: QuotaSubject
        do throws(BytesError) {
            if call.version == 1 {
                let wanted = try QuotaArguments(reading: &arguments)
                path = String(decoding: wanted.path, as: UTF8.self)
                subject = .user(wanted.uid)
            } else {
                let wanted = try QuotaArgumentsV2(reading: &arguments)
                path = String(decoding: wanted.path, as: UTF8.self)
                subject = wanted.kind == .user ? .user(wanted.id) : .group(wanted.id)
            }
        } catch { return .refused(.garbageArguments) }
        let caller = NFSCaller(context, call.identity, call.remoteAddress, call.loop)
        switch attempt(caller, path, subject) {
        case .done(let result, _):
            result.write(into: &results.writer)
            return .done
        case .refused:
            QuotaResult.notPermitted.write(into: &results.writer)
            return .done
        case .lacks(let first):
            guard let held = call.hold() else { return .dropped }
            call.loop.task { [self] in
                var lack = first
                var result = QuotaResult.notPermitted
                for _ in 0..<NFSService.attemptsMax {
                    do throws(FileError) { try await lack.supplied() } catch { break }
                    guard case .lacks(let next) = attempt(caller, path, subject) else {
                        if case .done(let found, _) = attempt(caller, path, subject) { result = found }
                        break
                    }
                    lack = next
                }
                let answer = result
                held.reply { results in
                    answer.write(into: &results.writer)
                    return .done
                }
            }
            return .held
        }
    }

    private func attempt(_ caller: NFSCaller, _ path: String, _ subject: QuotaSubject) -> Attempt<QuotaResult> {
        guard let (export, _) = context.exports.snapshot.containing(path), let volume = context.volumes[export.volume]
        else { return .done(.noQuota, number: 0) }
        do throws(NFSHalt) {
            // Users ask by themselves, from any port, under AUTH_SYS whatever the mount's flavor is.
            let caller = try caller.caller(in: export, needsFlavor: false, needsPort: false)
            do throws(FileError) {
                guard let report = try volume.quota(caller, subject) else { return .done(.noQuota, number: 0) }
                return .done(.ok(QuotaReport(report, now: caller.request.now)), number: 0)
            } catch { return .refused(error) }
        } catch {
            if case .lacks(let lack) = error { return .lacks(lack) }
            return .refused(.accessDenied)
        }
    }
}

extension QuotaReport {
    /// In blocks that make the largest number fit: clients multiply.
    init(_ report: Namespace.QuotaReport, now: Int64) {
        let limit = report.limit
        var block: UInt64 = 1024
        let most = max(limit.hardBytes, limit.softBytes, report.usage.bytes)
        while most / block >= UInt64(UInt32.max) { block *= 2 }
        func blocks(_ bytes: UInt64) -> UInt32 {
            UInt32(clamping: bytes / block + (bytes % block == 0 ? 0 : 1))
        }
        /// In seconds from now on; 0: it does not run.
        func rest(_ end: UInt64?) -> UInt32 {
            guard let end else { return 0 }
            let now = UInt64(clamping: now)
            return end > now ? UInt32(clamping: (end - now) / 1_000_000_000) : 0
        }
        self.init(
            blockSize: UInt32(clamping: block), isActive: report.isCounted,
            limits: QuotaLimits(
                blocksHard: blocks(limit.hardBytes), blocksSoft: blocks(limit.softBytes),
                blocks: blocks(report.usage.bytes), filesHard: UInt32(clamping: limit.hardFiles),
                filesSoft: UInt32(clamping: limit.softFiles), files: UInt32(clamping: report.usage.files),
                blocksTime: rest(report.bytesGraceEnd), filesTime: rest(report.filesGraceEnd)))
    }
}
