import Bytes
import NFS
import RPC

/// A message whose fields are known by their names in C: two fields changed for each other in reader and writer alike give the same
/// bytes, and only their names tell.
public struct NamedSample {
    public let type: String
    public let message: [UInt8]
    /// `EXPRESSION=VALUE`, of the C structure that the message is read into; bytes as hexadecimal.
    public let fields: [String]

    /// One of each type that has fields to take for each other.
    public static func all(_ random: inout SeededRandom) -> [NamedSample] {
        let maker = NamedMaker(random)
        let samples = maker.arguments() + maker.results() + maker.locks() + maker.others()
        random = maker.random
        return samples
    }
}

/// Makes values, and notes which field they are in.
private final class NamedMaker {
    var random: SeededRandom
    private var fields: [String] = []
    private var memory: [UnsafeMutableRawBufferPointer] = []

    init(_ random: SeededRandom) { self.random = random }
    deinit { for piece in memory { piece.deallocate() } }

    private func note(_ field: String, _ value: String) { fields.append("\(field)=\(value)") }

    private func sample(_ type: String, _ write: (inout Writer) -> Void) -> NamedSample {
        let space = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 8)
        defer { space.deallocate() }
        var writer = Writer(space)
        write(&writer)
        precondition(!writer.overflowed, "a sample is short")
        defer { fields = [] }
        return NamedSample(type: type, message: Array(writer.written), fields: fields)
    }

    private func sample(_ type: String, _ message: some XDRMessage) -> NamedSample {
        sample(type) { message.write(into: &$0) }
    }

    // MARK: Values

    private func u32(_ field: String) -> UInt32 {
        let value = UInt32(truncatingIfNeeded: random.next())
        note(field, "\(value)")
        return value
    }

    private func i32(_ field: String) -> Int32 {
        let value = Int32(truncatingIfNeeded: random.next())
        note(field, "\(UInt32(bitPattern: value))")
        return value
    }

    private func u64(_ field: String) -> UInt64 {
        let value = random.next()
        note(field, "\(value)")
        return value
    }

    private func flag(_ field: String) -> Bool {
        let value = random.next() & 1 == 1
        note(field, value ? "1" : "0")
        return value
    }

    private func pick<Value: RawRepresentable<UInt32>>(
        _ field: String, _ type: Value.Type, _ numbers: ClosedRange<UInt32>
    ) -> Value {
        let number = UInt32.random(in: numbers, using: &random)
        guard let value = Value(rawValue: number) else { preconditionFailure("\(type) has no \(number)") }
        note(field, "\(number)")
        return value
    }

    /// Without zeros: C's strings end there.
    private func bytes(_ field: String, _ count: Int? = nil) -> UnsafeRawBufferPointer {
        let count = count ?? 1 + Int(random.next() % 30)
        let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 8)
        memory.append(piece)
        var text = ""
        for index in 0..<count {
            piece[index] = UInt8(1 + random.next() % 255)
            text += (piece[index] < 16 ? "0" : "") + String(piece[index], radix: 16)
        }
        note(field, text)
        return UnsafeRawBufferPointer(piece)
    }

    private func time(_ field: String) -> NFS3Time {
        NFS3Time(seconds: u32(field + ".seconds"), nanoseconds: u32(field + ".nseconds"))
    }

    private func handle(_ field: String) -> NFS3Handle { NFS3Handle(bytes(field + ".data")) }
    private func name(_ field: String) -> NFS3Name {
        NFS3Name(directory: handle(field + ".dir"), name: bytes(field + ".name"))
    }

    private func attributes(_ place: String) -> NFS3Attributes {
        NFS3Attributes(
            type: pick(place + ".type", NFS3FileType.self, 1...7), mode: u32(place + ".mode"),
            links: u32(place + ".nlink"),
            uid: u32(place + ".uid"), gid: u32(place + ".gid"), size: u64(place + ".size"), used: u64(place + ".used"),
            device: NFS3Device(major: u32(place + ".rdev.specdata1"), minor: u32(place + ".rdev.specdata2")),
            fileSystem: u64(place + ".fsid"), file: u64(place + ".fileid"), accessed: time(place + ".atime"),
            modified: time(place + ".mtime"), changed: time(place + ".ctime"))
    }

    private func post(_ place: String) -> NFS3Attributes { attributes(place + ".post_op_attr_u.attributes") }

    private func weak(_ place: String) -> NFS3WeakData {
        let before = place + ".before.pre_op_attr_u.attributes"
        return NFS3WeakData(
            before: NFS3WeakAttributes(
                size: u64(before + ".size"), modified: time(before + ".mtime"), changed: time(before + ".ctime")),
            after: post(place + ".after"))
    }

    private func set(_ place: String) -> NFS3SetAttributes {
        NFS3SetAttributes(
            mode: u32(place + ".mode.set_uint32_u.value"), uid: u32(place + ".uid.set_uint32_u.value"),
            gid: u32(place + ".gid.set_uint32_u.value"), size: u64(place + ".size.set_uint64_u.value"),
            accessed: .clientTime(time(place + ".atime.set_time_u.value")),
            modified: .clientTime(time(place + ".mtime.set_time_u.value")))
    }

    // MARK: Messages

    func arguments() -> [NamedSample] {
        [
            sample(
                "SETATTR3args",
                NFS3SetAttributesArguments(
                    object: handle("object"), attributes: set("attributes"),
                    guardTime: time("guard.sattrguard3_u.ctime"))),
            sample(
                "ACCESS3args", NFS3AccessArguments(object: handle("object"), access: .init(rawValue: u32("access")))),
            sample("READ3args", NFS3ReadArguments(file: handle("file"), offset: u64("offset"), count: u32("count"))),
            sample(
                "WRITE3args",
                NFS3WriteArguments(
                    file: handle("file"), offset: u64("offset"), count: u32("count"),
                    stability: pick("stable", NFS3Stability.self, 0...2), data: bytes("data"))),
            sample(
                "CREATE3args",
                NFS3CreateArguments(place: name("where"), how: .guarded(set("how.createhow3_u.guarded")))),
            sample("MKDIR3args", NFS3MakeDirectoryArguments(place: name("where"), attributes: set("attributes"))),
            sample(
                "SYMLINK3args",
                NFS3SymlinkArguments(place: name("where"), attributes: set("attributes"), target: bytes("target"))),
            sample("RENAME3args", NFS3RenameArguments(from: name("from"), to: name("to"))),
            sample("LINK3args", NFS3LinkArguments(file: handle("file"), place: name("link"))),
            sample(
                "READDIR3args",
                NFS3ReadDirectoryArguments(
                    directory: handle("dir"), cookie: u64("cookie"), verifier: u64("verf"), count: u32("count"))),
            sample(
                "READDIRPLUS3args",
                NFS3ReadDirectoryPlusArguments(
                    directory: handle("dir"), cookie: u64("cookie"), verifier: u64("verf"),
                    directoryCount: u32("dircount"), countMax: u32("maxcount"))),
            sample(
                "COMMIT3args", NFS3CommitArguments(file: handle("file"), offset: u64("offset"), count: u32("count"))),
        ]
    }

    func results() -> [NamedSample] {
        [
            sample("GETATTR3res", NFS3Results.GetAttributes.ok(attributes("GETATTR3res_u.attributes"))),
            sample("SETATTR3res", NFS3Results.SetAttributes.ok(weak("SETATTR3res_u.resok"))),
            sample(
                "LOOKUP3res",
                NFS3Results.Lookup.ok(
                    NFS3LookupResults(
                        object: handle("LOOKUP3res_u.resok.object"), attributes: post("LOOKUP3res_u.resok.attributes"),
                        directory: post("LOOKUP3res_u.resok.dir")))),
            sample(
                "READ3res",
                NFS3Results.Read.ok(
                    NFS3ReadResults(
                        attributes: post("READ3res_u.resok.attributes"), count: u32("READ3res_u.resok.count"),
                        isEnd: flag("READ3res_u.resok.eof"), data: bytes("READ3res_u.resok.data")))),
            sample(
                "WRITE3res",
                NFS3Results.Write.ok(
                    NFS3WriteResults(
                        file: weak("WRITE3res_u.resok.file"), count: u32("WRITE3res_u.resok.count"),
                        stability: pick("WRITE3res_u.resok.committed", NFS3Stability.self, 0...2),
                        verifier: u64("WRITE3res_u.resok.verf")))),
            sample(
                "CREATE3res",
                NFS3Results.Create.ok(
                    NFS3CreateResults(
                        object: handle("CREATE3res_u.resok.object.post_op_fh3_u.handle"),
                        attributes: post("CREATE3res_u.resok.attributes"), directory: weak("CREATE3res_u.resok.dir")))),
            sample(
                "RENAME3res",
                NFS3Results.Rename.ok(
                    NFS3RenameResults(from: weak("RENAME3res_u.resok.fromdir"), to: weak("RENAME3res_u.resok.todir")))),
            sample(
                "LINK3res",
                NFS3Results.Link.ok(
                    NFS3LinkResults(
                        attributes: post("LINK3res_u.resok.file"), directory: weak("LINK3res_u.resok.linkdir")))),
            sample(
                "READDIR3res",
                NFS3Results.ReadDirectory.ok(
                    NFS3ReadDirectoryResults(
                        attributes: post("READDIR3res_u.resok.dir"), verifier: u64("READDIR3res_u.resok.verf"),
                        entries: [
                            NFS3Entry(
                                file: u64("READDIR3res_u.resok.reply.entries->fileid"),
                                name: bytes("READDIR3res_u.resok.reply.entries->name"),
                                cookie: u64("READDIR3res_u.resok.reply.entries->cookie"))
                        ], isEnd: flag("READDIR3res_u.resok.reply.eof")))),
            sample(
                "READDIRPLUS3res",
                NFS3Results.ReadDirectoryPlus.ok(
                    NFS3ReadDirectoryPlusResults(
                        attributes: post("READDIRPLUS3res_u.resok.dir"), verifier: u64("READDIRPLUS3res_u.resok.verf"),
                        entries: [
                            NFS3EntryPlus(
                                file: u64("READDIRPLUS3res_u.resok.reply.entries->fileid"),
                                name: bytes("READDIRPLUS3res_u.resok.reply.entries->name"),
                                cookie: u64("READDIRPLUS3res_u.resok.reply.entries->cookie"), attributes: nil,
                                handle: handle("READDIRPLUS3res_u.resok.reply.entries->handle.post_op_fh3_u.handle"))
                        ], isEnd: flag("READDIRPLUS3res_u.resok.reply.eof")))),
            sample(
                "FSSTAT3res",
                NFS3Results.FileSystemStatistics.ok(
                    NFS3FileSystemStatisticsResults(
                        attributes: post("FSSTAT3res_u.resok.attributes"), bytes: u64("FSSTAT3res_u.resok.tbytes"),
                        bytesFree: u64("FSSTAT3res_u.resok.fbytes"), bytesAvailable: u64("FSSTAT3res_u.resok.abytes"),
                        files: u64("FSSTAT3res_u.resok.tfiles"), filesFree: u64("FSSTAT3res_u.resok.ffiles"),
                        filesAvailable: u64("FSSTAT3res_u.resok.afiles"),
                        invariantSeconds: u32("FSSTAT3res_u.resok.invarsec")))),
            sample(
                "FSINFO3res",
                NFS3Results.FileSystemInformation.ok(
                    NFS3FileSystemInformationResults(
                        attributes: post("FSINFO3res_u.resok.attributes"), readMax: u32("FSINFO3res_u.resok.rtmax"),
                        readPreferred: u32("FSINFO3res_u.resok.rtpref"), readMultiple: u32("FSINFO3res_u.resok.rtmult"),
                        writeMax: u32("FSINFO3res_u.resok.wtmax"), writePreferred: u32("FSINFO3res_u.resok.wtpref"),
                        writeMultiple: u32("FSINFO3res_u.resok.wtmult"),
                        directoryPreferred: u32("FSINFO3res_u.resok.dtpref"),
                        fileSizeMax: u64("FSINFO3res_u.resok.maxfilesize"),
                        timeDelta: time("FSINFO3res_u.resok.time_delta"),
                        properties: .init(rawValue: u32("FSINFO3res_u.resok.properties"))))),
            sample(
                "PATHCONF3res",
                NFS3Results.PathConfiguration.ok(
                    NFS3PathConfigurationResults(
                        attributes: post("PATHCONF3res_u.resok.attributes"),
                        linksMax: u32("PATHCONF3res_u.resok.linkmax"),
                        nameMax: u32("PATHCONF3res_u.resok.name_max"),
                        refusesLongNames: flag("PATHCONF3res_u.resok.no_trunc"),
                        restrictsOwners: flag("PATHCONF3res_u.resok.chown_restricted"),
                        ignoresCase: flag("PATHCONF3res_u.resok.case_insensitive"),
                        preservesCase: flag("PATHCONF3res_u.resok.case_preserving")))),
            sample(
                "COMMIT3res",
                NFS3Results.Commit.ok(
                    NFS3CommitResults(file: weak("COMMIT3res_u.resok.file"), verifier: u64("COMMIT3res_u.resok.verf")))),
        ]
    }

    private func lock<Width: LockWidth>(_ place: String, _ width: Width.Type, _ number: (String) -> UInt64)
        -> LockDescription<Width>
    {
        LockDescription(
            caller: bytes(place + ".caller_name"), file: bytes(place + ".fh"), owner: bytes(place + ".oh"),
            process: i32(place + ".svid"), offset: number(place + ".l_offset"), length: number(place + ".l_len"))
    }

    private func locks<Width: LockWidth>(_ prefix: String, _ width: Width.Type, _ number: (String) -> UInt64)
        -> [NamedSample]
    {
        let holder = prefix + "_testrply_u.holder"
        return [
            sample(
                prefix + "_testargs",
                LockTestArguments(
                    cookie: bytes("cookie"), isExclusive: flag("exclusive"), lock: lock("alock", width, number))),
            sample(
                prefix + "_lockargs",
                LockArguments(
                    cookie: bytes("cookie"), mayBlock: flag("block"), isExclusive: flag("exclusive"),
                    lock: lock("alock", width, number), isReclaim: flag("reclaim"), state: i32("state"))),
            sample(
                prefix + "_cancargs",
                LockCancelArguments(
                    cookie: bytes("cookie"), mayBlock: flag("block"), isExclusive: flag("exclusive"),
                    lock: lock("alock", width, number))),
            sample(
                prefix + "_unlockargs",
                LockUnlockArguments(cookie: bytes("cookie"), lock: lock("alock", width, number))),
            sample(
                prefix + "_testres",
                LockTestResult(
                    cookie: bytes("cookie"), status: .denied,
                    holder: LockHolder<Width>(
                        isExclusive: flag("test_stat.\(holder).exclusive"), process: i32("test_stat.\(holder).svid"),
                        owner: bytes("test_stat.\(holder).oh"), offset: number("test_stat.\(holder).l_offset"),
                        length: number("test_stat.\(holder).l_len")))),
        ]
    }

    func locks() -> [NamedSample] {
        locks("nlm4", LockWidth64.self, u64) + locks("nlm", LockWidth32.self) { UInt64(u32($0)) } + [
            sample(
                "nlm4_shareargs",
                LockShareArguments(
                    cookie: bytes("cookie"), caller: bytes("share.caller_name"), file: bytes("share.fh"),
                    owner: bytes("share.oh"), deny: pick("share.mode", ShareBits.self, 0...3),
                    access: pick("share.access", ShareBits.self, 0...3), isReclaim: flag("reclaim"))),
            sample(
                "nlm4_shareres",
                LockShareResult(
                    cookie: bytes("cookie"), status: pick("stat", LockStatus.self, 0...9), sequence: i32("sequence"))),
            sample("nlm4_notify", LockNotice(name: bytes("name"), state: i32("state"))),
        ]
    }

    private func caller(_ place: String) -> MonitorCaller {
        MonitorCaller(
            name: bytes(place + "my_name"), program: i32(place + "my_prog"), version: i32(place + "my_vers"),
            procedure: i32(place + "my_proc"))
    }

    func others() -> [NamedSample] {
        let rquota = "getquota_rslt_u.gqr_rquota"
        return [
            sample("my_id", caller("")),
            sample("mon_id", MonitorID(name: bytes("mon_name"), caller: caller("id."))),
            sample(
                "sm_status",
                MonitorCallback(name: bytes("mon_name"), state: i32("state"), privateData: bytes("priv", 16))),
            sample(
                "ext_getquota_args",
                QuotaArgumentsV2(
                    path: bytes("gqa_pathp"), kind: pick("gqa_type", QuotaKind.self, 0...1), id: u32("gqa_id"))),
            sample(
                "getquota_rslt",
                QuotaResult.ok(
                    QuotaReport(
                        blockSize: u32(rquota + ".bsize"), isActive: flag(rquota + ".active"),
                        limits: QuotaLimits(
                            blocksHard: u32(rquota + ".limits.bhardlimit"),
                            blocksSoft: u32(rquota + ".limits.bsoftlimit"), blocks: u32(rquota + ".limits.curblocks"),
                            filesHard: u32(rquota + ".limits.fhardlimit"),
                            filesSoft: u32(rquota + ".limits.fsoftlimit"),
                            files: u32(rquota + ".limits.curfiles"), blocksTime: u32(rquota + ".limits.btimeleft"),
                            filesTime: u32(rquota + ".limits.ftimeleft"))))),
            header(),
            sample(
                "rpc_gss_cred",
                GSSCredential(
                    procedure: pick("gc_proc", GSS.Procedure.self, 0...3), sequence: u32("gc_seq"),
                    service: pick("gc_svc", GSS.Service.self, 1...3), handle: bytes("gc_ctx"))),
            sample(
                "rpc_gss_init_res",
                GSSInitResult(
                    handle: bytes("gr_ctx"), major: u32("gr_major"), minor: u32("gr_minor"), window: u32("gr_win"),
                    token: bytes("gr_token"))),
        ]
    }

    private func header() -> NamedSample {
        var call = CallHeader(
            xid: u32("rm_xid"), program: u32("ru.RM_cmb.cb_prog"), version: u32("ru.RM_cmb.cb_vers"),
            procedure: u32("ru.RM_cmb.cb_proc"))
        call.credential = Authenticator(
            flavor: u32("ru.RM_cmb.cb_cred.oa_flavor"), body: bytes("ru.RM_cmb.cb_cred.oa_base"))
        call.verifier = Authenticator(
            flavor: u32("ru.RM_cmb.cb_verf.oa_flavor"), body: bytes("ru.RM_cmb.cb_verf.oa_base"))
        return sample("rpc_msg_call") { call.write(into: &$0) }
    }
}
