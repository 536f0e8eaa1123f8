import Bytes
import Namespace
import RPC

/// Procedures that change nothing (RFC 1813 3.3.1, 3.3.3 to 3.3.5, 3.3.18 to 3.3.20).
extension NFSOperation {
    func getAttributes(_ handle: NFS3Handle, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(handle)
        let found = try value(place.volume.attributes(place.caller, place.file))
        results.writer.u32(NFS3Status.ok.rawValue)
        place.attributes(found).write(into: &results.writer)
        return .done
    }

    func lookup(_ arguments: NFS3Name, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(arguments.directory)
        let name = try name(arguments.name)
        // The root of an export is the end of the way up, wherever it lies in the volume.
        let isBeyondRoot = place.file == place.root && name.elementsEqual("..".utf8)
        let found =
            isBeyondRoot
            ? try value(place.volume.attributes(place.caller, place.file))
            : try value(place.volume.lookup(place.caller, in: place.file, name))
        results.writer.u32(NFS3Status.ok.rawValue)
        place.handle(found.file).write(into: &results.writer, place.key)
        results.writer.bool(true)
        place.attributes(found).write(into: &results.writer)
        results.writer.optional(place.attributesAtHand)
        return .done
    }

    func access(_ arguments: NFS3AccessArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(arguments.object)
        let found = try value(place.volume.attributes(place.caller, place.file))
        let rights = try value(place.volume.rights(place.caller, found))
        var access: NFS3.Access = []
        if rights.contains(.read) { access.insert(.read) }
        if rights.contains(.write), !place.caller.isReadOnly, !place.volume.isReadOnly {
            access.formUnion([.modify, .extend])
            if found.type == .directory { access.insert(.delete) }
        }
        if rights.contains(.execute) { access.insert(found.type == .directory ? .lookup : .execute) }
        results.writer.u32(NFS3Status.ok.rawValue)
        results.writer.bool(true)
        place.attributes(found).write(into: &results.writer)
        results.writer.u32(access.intersection(arguments.access).rawValue)
        return .done
    }

    func readLink(_ handle: NFS3Handle, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(handle)
        let found = try value(place.volume.attributes(place.caller, place.file))
        guard found.type == .symlink else { throw .status(.invalid) }
        let target = try value(place.volume.target(place.caller, of: place.file))
        results.provide(NFS3Attributes.bytes + target.count + 32)
        results.writer.u32(NFS3Status.ok.rawValue)
        results.writer.bool(true)
        place.attributes(found).write(into: &results.writer)
        target.withUnsafeBytes { results.writer.opaque($0) }
        return .done
    }

    func statistics(_ handle: NFS3Handle, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(handle)
        let found = try value(place.volume.attributes(place.caller, place.file))
        let space = try value(place.volume.space(place.caller, at: place.file))
        NFS3Results.FileSystemStatistics.ok(
            NFS3FileSystemStatisticsResults(
                attributes: place.attributes(found), bytes: space.bytes, bytesFree: space.bytesFree,
                bytesAvailable: space.bytesFree, files: space.files, filesFree: space.filesFree,
                filesAvailable: space.filesFree, invariantSeconds: 0)
        ).write(into: &results.writer)
        return .done
    }

    /// Clients' offsets have a sign: no file is longer, wherever it is kept.
    static let fileSizeMax = UInt64(Int64.max)
    static let directoryPreferred: UInt32 = 32 << 10

    func information(_ handle: NFS3Handle, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(handle)
        let found = try value(place.volume.attributes(place.caller, place.file))
        // Over datagrams what fits into one; a power of two, as clients round down to it.
        let dataMax = results.takesBlocks ? UInt32(NFS3.dataMax) : 32 << 10
        NFS3Results.FileSystemInformation.ok(
            NFS3FileSystemInformationResults(
                attributes: place.attributes(found), readMax: dataMax, readPreferred: dataMax, readMultiple: 4096,
                writeMax: dataMax, writePreferred: dataMax, writeMultiple: 4096,
                directoryPreferred: Self.directoryPreferred,
                fileSizeMax: min(place.volume.fileBytesMax(at: place.file), Self.fileSizeMax),
                timeDelta: NFS3Time(seconds: 0, nanoseconds: 1),
                properties: [.hardLinks, .symbolicLinks, .isHomogeneous, .canSetTime])
        ).write(into: &results.writer)
        return .done
    }

    static let linksMax: UInt32 = 65_000

    func pathConfiguration(_ handle: NFS3Handle, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(handle)
        let found = try value(place.volume.attributes(place.caller, place.file))
        NFS3Results.PathConfiguration.ok(
            NFS3PathConfigurationResults(
                attributes: place.attributes(found), linksMax: Self.linksMax, nameMax: UInt32(Self.nameMax),
                refusesLongNames: true, restrictsOwners: true, ignoresCase: false, preservesCase: true)
        ).write(into: &results.writer)
        return .done
    }
}
