import Bytes
import Namespace

/// LOCK, CHANGE_NOTIFY, OPLOCK_BREAK ([MS-SMB2] 3.3.5.14, 3.3.5.19, 3.3.5.22).
extension Exchange {
    func lock(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try LockRequest(reading: element) }
        _ = try open(request.file)
        guard !request.ranges.isEmpty else { throw .status(.invalidParameter) }
        throw .status(.notSupported)
    }

    func notify(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let request = try parse { (element) throws(BytesError) in try ChangeNotifyRequest(reading: element) }
        _ = try open(request.file)
        throw .status(.notSupported)
    }

    func acknowledgeBreak(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let acknowledgement = try parse { (element) throws(BytesError) in try BreakAcknowledgement(reading: element) }
        switch acknowledgement {
        case .oplock: throw .status(.invalidDeviceState)
        case .lease: throw .status(.objectNameNotFound)
        }
    }
}
