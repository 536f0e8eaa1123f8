import Bytes

/// A request of any command, as it was read.
package enum SMBRequest {
    case negotiate(NegotiateRequest)
    case sessionSetup(SessionSetupRequest)
    case treeConnect(TreeConnectRequest)
    case create(CreateRequest)
    case close(CloseRequest)
    case flush(FlushRequest)
    case read(ReadRequest)
    case write(WriteRequest)
    case lock(LockRequest)
    case control(IoctlRequest)
    case queryDirectory(QueryDirectoryRequest)
    case changeNotify(ChangeNotifyRequest)
    case queryInfo(QueryInfoRequest)
    case setInfo(SetInfoRequest)
    case acknowledgement(BreakAcknowledgement)
    /// LOGOFF, TREE_DISCONNECT, ECHO, CANCEL.
    case empty

    package init(_ command: Command, reading element: Element) throws(BytesError) {
        switch command {
        case .negotiate: self = .negotiate(try NegotiateRequest(reading: element))
        case .sessionSetup: self = .sessionSetup(try SessionSetupRequest(reading: element))
        case .treeConnect: self = .treeConnect(try TreeConnectRequest(reading: element))
        case .create:
            let request = try CreateRequest(reading: element)
            _ = try CreateContexts(reading: request.contexts)
            self = .create(request)
        case .close: self = .close(try CloseRequest(reading: element))
        case .flush: self = .flush(try FlushRequest(reading: element))
        case .read: self = .read(try ReadRequest(reading: element))
        case .write: self = .write(try WriteRequest(reading: element))
        case .lock: self = .lock(try LockRequest(reading: element))
        case .ioctl: self = .control(try IoctlRequest(reading: element))
        case .queryDirectory: self = .queryDirectory(try QueryDirectoryRequest(reading: element))
        case .changeNotify: self = .changeNotify(try ChangeNotifyRequest(reading: element))
        case .queryInfo: self = .queryInfo(try QueryInfoRequest(reading: element))
        case .setInfo: self = .setInfo(try SetInfoRequest(reading: element))
        case .oplockBreak: self = .acknowledgement(try BreakAcknowledgement(reading: element))
        case .logoff, .treeDisconnect, .echo, .cancel:
            _ = try EmptyRequest(reading: element)
            self = .empty
        }
    }

    package static func isReadable(_ command: Command, _ element: Element) -> Bool {
        do throws(BytesError) { _ = try SMBRequest(command, reading: element) } catch { return false }
        return true
    }
}
