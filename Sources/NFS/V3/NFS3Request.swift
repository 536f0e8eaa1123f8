import Bytes
import RPC

/// RFC 1813 3.3.
public enum NFS3Procedure: UInt32, Sendable, CaseIterable {
    case null = 0
    case getAttributes, setAttributes, lookup, access, readLink, read, write, create, makeDirectory, symlink
    case makeNode, remove, removeDirectory, rename, link, readDirectory, readDirectoryPlus, fileSystemStatistics
    case fileSystemInformation, pathConfiguration, commit
}

/// The arguments of a call, by its procedure.
public enum NFS3Request {
    case null
    case getAttributes(NFS3Handle)
    case setAttributes(NFS3SetAttributesArguments)
    case lookup(NFS3Name)
    case access(NFS3AccessArguments)
    case readLink(NFS3Handle)
    case read(NFS3ReadArguments)
    case write(NFS3WriteArguments)
    case create(NFS3CreateArguments)
    case makeDirectory(NFS3MakeDirectoryArguments)
    case symlink(NFS3SymlinkArguments)
    case makeNode(NFS3MakeNodeArguments)
    case remove(NFS3Name)
    case removeDirectory(NFS3Name)
    case rename(NFS3RenameArguments)
    case link(NFS3LinkArguments)
    case readDirectory(NFS3ReadDirectoryArguments)
    case readDirectoryPlus(NFS3ReadDirectoryPlusArguments)
    case fileSystemStatistics(NFS3Handle)
    case fileSystemInformation(NFS3Handle)
    case pathConfiguration(NFS3Handle)
    case commit(NFS3CommitArguments)

    public init(_ procedure: NFS3Procedure, reading reader: inout Reader) throws(BytesError) {
        switch procedure {
        case .null: self = .null
        case .getAttributes: self = .getAttributes(try NFS3Handle(reading: &reader))
        case .setAttributes: self = .setAttributes(try NFS3SetAttributesArguments(reading: &reader))
        case .lookup: self = .lookup(try NFS3Name(reading: &reader))
        case .access: self = .access(try NFS3AccessArguments(reading: &reader))
        case .readLink: self = .readLink(try NFS3Handle(reading: &reader))
        case .read: self = .read(try NFS3ReadArguments(reading: &reader))
        case .write: self = .write(try NFS3WriteArguments(reading: &reader))
        case .create: self = .create(try NFS3CreateArguments(reading: &reader))
        case .makeDirectory: self = .makeDirectory(try NFS3MakeDirectoryArguments(reading: &reader))
        case .symlink: self = .symlink(try NFS3SymlinkArguments(reading: &reader))
        case .makeNode: self = .makeNode(try NFS3MakeNodeArguments(reading: &reader))
        case .remove: self = .remove(try NFS3Name(reading: &reader))
        case .removeDirectory: self = .removeDirectory(try NFS3Name(reading: &reader))
        case .rename: self = .rename(try NFS3RenameArguments(reading: &reader))
        case .link: self = .link(try NFS3LinkArguments(reading: &reader))
        case .readDirectory: self = .readDirectory(try NFS3ReadDirectoryArguments(reading: &reader))
        case .readDirectoryPlus: self = .readDirectoryPlus(try NFS3ReadDirectoryPlusArguments(reading: &reader))
        case .fileSystemStatistics: self = .fileSystemStatistics(try NFS3Handle(reading: &reader))
        case .fileSystemInformation: self = .fileSystemInformation(try NFS3Handle(reading: &reader))
        case .pathConfiguration: self = .pathConfiguration(try NFS3Handle(reading: &reader))
        case .commit: self = .commit(try NFS3CommitArguments(reading: &reader))
        }
    }

    /// What goes over the wire: all but the null procedure have arguments.
    var message: any XDRMessage {
        switch self {
        case .null: XDRVoid()
        case .getAttributes(let handle), .readLink(let handle), .fileSystemStatistics(let handle),
            .fileSystemInformation(let handle), .pathConfiguration(let handle):
            handle
        case .lookup(let name), .remove(let name), .removeDirectory(let name): name
        case .setAttributes(let arguments): arguments
        case .access(let arguments): arguments
        case .read(let arguments): arguments
        case .write(let arguments): arguments
        case .create(let arguments): arguments
        case .makeDirectory(let arguments): arguments
        case .symlink(let arguments): arguments
        case .makeNode(let arguments): arguments
        case .rename(let arguments): arguments
        case .link(let arguments): arguments
        case .readDirectory(let arguments): arguments
        case .readDirectoryPlus(let arguments): arguments
        case .commit(let arguments): arguments
        }
    }

    public func write(into writer: inout Writer) { message.write(into: &writer) }
}
