import Bytes
import NFS
import RPC

/// A message type, the name of its XDR description, and what it does with bytes.
public struct WireType: Sendable {
    public let name: String
    /// Reads a message, and answers how many bytes it took and what it writes; throws what the reading throws.
    public let roundTrip: @Sendable (UnsafeRawBufferPointer) throws(BytesError) -> (consumed: Int, written: [UInt8])

    init<Message: XDRMessage & SendableMetatype>(_ name: String, _ type: Message.Type) {
        self.name = name
        roundTrip = { bytes throws(BytesError) in
            var reader = Reader(bytes)
            let message = try Message(reading: &reader)
            return (reader.position, Self.written(bytes.count) { message.write(into: &$0) })
        }
    }

    /// A call's header is refused in words of its own.
    private init(call name: String) {
        self.name = name
        roundTrip = { bytes throws(BytesError) in
            var reader = Reader(bytes)
            let header: CallHeader
            do throws(CallFault) { header = try CallHeader(reading: &reader) } catch { throw .malformed }
            return (reader.position, Self.written(bytes.count) { header.write(into: &$0) })
        }
    }

    /// What was read is at most as long as what it was read from.
    private static func written(_ capacity: Int, _ write: (inout Writer) -> Void) -> [UInt8] {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 8)
        defer { memory.deallocate() }
        var writer = Writer(memory)
        write(&writer)
        precondition(!writer.overflowed, "a message is written longer than it was read")
        return [UInt8](writer.written)
    }

    /// All that go over the wire, by the names in Protocols/*.x and in libtirpc.
    public static let all: [WireType] = [
        WireType("nfs_fh3", NFS3Handle.self),
        WireType("SETATTR3args", NFS3SetAttributesArguments.self),
        WireType("diropargs3", NFS3Name.self),
        WireType("ACCESS3args", NFS3AccessArguments.self),
        WireType("READ3args", NFS3ReadArguments.self),
        WireType("WRITE3args", NFS3WriteArguments.self),
        WireType("CREATE3args", NFS3CreateArguments.self),
        WireType("MKDIR3args", NFS3MakeDirectoryArguments.self),
        WireType("SYMLINK3args", NFS3SymlinkArguments.self),
        WireType("MKNOD3args", NFS3MakeNodeArguments.self),
        WireType("RENAME3args", NFS3RenameArguments.self),
        WireType("LINK3args", NFS3LinkArguments.self),
        WireType("READDIR3args", NFS3ReadDirectoryArguments.self),
        WireType("READDIRPLUS3args", NFS3ReadDirectoryPlusArguments.self),
        WireType("COMMIT3args", NFS3CommitArguments.self),
        WireType("GETATTR3res", NFS3Results.GetAttributes.self),
        WireType("SETATTR3res", NFS3Results.SetAttributes.self),
        WireType("LOOKUP3res", NFS3Results.Lookup.self),
        WireType("ACCESS3res", NFS3Results.Access.self),
        WireType("READLINK3res", NFS3Results.ReadLink.self),
        WireType("READ3res", NFS3Results.Read.self),
        WireType("WRITE3res", NFS3Results.Write.self),
        WireType("CREATE3res", NFS3Results.Create.self),
        WireType("REMOVE3res", NFS3Results.Remove.self),
        WireType("RENAME3res", NFS3Results.Rename.self),
        WireType("LINK3res", NFS3Results.Link.self),
        WireType("READDIR3res", NFS3Results.ReadDirectory.self),
        WireType("READDIRPLUS3res", NFS3Results.ReadDirectoryPlus.self),
        WireType("FSSTAT3res", NFS3Results.FileSystemStatistics.self),
        WireType("FSINFO3res", NFS3Results.FileSystemInformation.self),
        WireType("PATHCONF3res", NFS3Results.PathConfiguration.self),
        WireType("COMMIT3res", NFS3Results.Commit.self),
        WireType("dirpath", MountPath.self),
        WireType("mountres3", MountResult.self),
        WireType("fhstatus", MountResultV1.self),
        WireType("mountlist", MountList.self),
        WireType("exports", MountExports.self),
        WireType("nlm4_testargs", LockTestArguments<LockWidth64>.self),
        WireType("nlm_testargs", LockTestArguments<LockWidth32>.self),
        WireType("nlm4_lockargs", LockArguments<LockWidth64>.self),
        WireType("nlm_lockargs", LockArguments<LockWidth32>.self),
        WireType("nlm4_cancargs", LockCancelArguments<LockWidth64>.self),
        WireType("nlm_cancargs", LockCancelArguments<LockWidth32>.self),
        WireType("nlm4_unlockargs", LockUnlockArguments<LockWidth64>.self),
        WireType("nlm_unlockargs", LockUnlockArguments<LockWidth32>.self),
        WireType("nlm4_res", LockResult.self),
        WireType("nlm4_testres", LockTestResult<LockWidth64>.self),
        WireType("nlm_testres", LockTestResult<LockWidth32>.self),
        WireType("nlm4_shareargs", LockShareArguments.self),
        WireType("nlm4_shareres", LockShareResult.self),
        WireType("nlm4_notify", LockNotice.self),
        WireType("sm_name", MonitorName.self),
        WireType("sm_stat_res", MonitorStatusResult.self),
        WireType("sm_stat", MonitorState.self),
        WireType("mon_id", MonitorID.self),
        WireType("mon", MonitorArguments.self),
        WireType("my_id", MonitorCaller.self),
        WireType("stat_chge", MonitorChange.self),
        WireType("sm_status", MonitorCallback.self),
        WireType("secattr", ACLPair.self),
        WireType("GETACL3args", ACLGetArguments.self),
        WireType("GETACL3res", NFS3Result<ACLGetResults, NFS3PostAttributes>.self),
        WireType("SETACL3args", ACLSetArguments.self),
        WireType("SETACL3res", NFS3Result<NFS3PostAttributes, NFS3PostAttributes>.self),
        WireType("getquota_args", QuotaArguments.self),
        WireType("ext_getquota_args", QuotaArgumentsV2.self),
        WireType("getquota_rslt", QuotaResult.self),
        WireType("authunix_parms", SystemCredential.self),
        WireType("rpc_msg_reply", ReplyHeader.self),
        WireType("opaque_auth", Authenticator.self),
        WireType(call: "rpc_msg_call"),
        WireType("rpc_gss_cred", GSSCredential.self),
        WireType("rpc_gss_init_res", GSSInitResult.self),
    ]

    /// What libtirpc has no routine for that others may call.
    public static let ours: [WireType] = [
        WireType("rpc_gss_integ_data", GSSSignedData.self),
        WireType("rpc_gss_priv_data", GSSEncryptedData.self),
        WireType("rpc_gss_data_t", GSSNumberedData.self),
    ]
}

/// Random numbers from a seed, so that a failure can be run again.
public struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    public init(_ seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    public mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }

    /// Bytes that many decoders find something in: words that are small, seldom anything, with text between.
    public mutating func words(_ count: Int) -> [UInt8] {
        (0..<count).flatMap { _ -> [UInt8] in
            let value = next()
            let word: UInt32 =
                switch value >> 60 {
                case 0...5: UInt32(truncatingIfNeeded: value & 1)
                case 6...8: UInt32(truncatingIfNeeded: value & 7)
                case 9...10: UInt32(truncatingIfNeeded: value & 31)
                case 11...12: 0x6162_6364
                default: UInt32(truncatingIfNeeded: value)
                }
            return withUnsafeBytes(of: word.bigEndian) { Array($0) }
        }
    }

    /// A message of this type in its canonical form: what was found in random words. Nil when they hold none.
    public mutating func message(_ type: WireType, words count: Int = 120) -> [UInt8]? {
        let source = words(count)
        return source.withUnsafeBytes { bytes in
            do throws(BytesError) { return try type.roundTrip(bytes).written } catch { return nil }
        }
    }
}
