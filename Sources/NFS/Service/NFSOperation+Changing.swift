import Bytes
import Namespace
import RPC

/// Procedures that change names and attributes (RFC 1813 3.3.2, 3.3.8 to 3.3.15).
extension NFSOperation {
    private func settles(_ number: UInt64, _ place: Place) -> NFSStep {
        number == 0 ? .done : .settles(number, place.volume, place.durability)
    }

    func setAttributes(_ arguments: NFS3SetAttributesArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(arguments.object)
        let new = try wanted(arguments)
        guard new.size == nil else { throw .waits }
        let changed = try done(place.volume.setAttributes(place.caller, place.file, new))
        NFS3Results.SetAttributes.ok(place.weak(changed.value)).write(into: &results.writer)
        return settles(changed.number, place)
    }

    private func wanted(_ arguments: NFS3SetAttributesArguments) throws(NFSHalt) -> NewAttributes {
        guard var new = NewAttributes(arguments.attributes, now: now) else { throw .status(.invalid) }
        if let size = new.size, size > Self.fileSizeMax { throw .status(.fileTooBig) }
        if let time = arguments.guardTime {
            guard let time = time.asNanoseconds else { throw .status(.notSynchronized) }
            new.ifChanged = time
        }
        return new
    }

    func setAttributesSlowly(_ arguments: NFS3SetAttributesArguments, _ held: RPCCall) async throws(NFSHalt) {
        let place = try place(arguments.object)
        let new = try wanted(arguments)
        let changed = try await resize(place, place.caller, place.file, new)
        held.reply { results in
            NFS3Results.SetAttributes.ok(place.weak(changed)).write(into: &results.writer)
            return .done
        }
    }

    /// Sets the size and other attributes, and waits until that is safe.
    private func resize(
        _ place: Place, _ caller: Caller, _ file: FileID, _ new: NewAttributes
    ) async throws(NFSHalt) -> Changed {
        let allowed = try await supplied { place.volume.mayResize(caller, file, new) }.value
        guard let size = allowed.size else { throw .status(.serverFault) }
        do throws(FileError) {
            let (changed, number) = try await place.volume.resize(caller.request, file, to: size, allowed)
            if number > 0 { try await place.volume.settled(number, place.durability, on: loop) }
            return changed
        } catch { throw .status(NFS3Status(error)) }
    }

    // MARK: Making

    private func newFile(_ type: FileType, _ attributes: NFS3SetAttributes) throws(NFSHalt) -> NewFile {
        guard let new = NewFile(type, attributes, now: now) else { throw .status(.invalid) }
        if new.size > Self.fileSizeMax { throw .status(.fileTooBig) }
        return new
    }

    private func make(
        _ name: NFS3Name, _ new: NewFile, _ results: inout Results
    ) throws(NFSHalt) -> NFSStep {
        let place = try place(name.directory)
        let created = try done(place.volume.create(place.caller, in: place.file, try self.name(name.name), new))
        put(created.value, place, &results)
        return settles(created.number, place)
    }

    private func put(_ created: Created, _ place: Place, _ results: inout Results) {
        results.writer.u32(NFS3Status.ok.rawValue)
        results.writer.bool(true)
        place.handle(created.file.file).write(into: &results.writer, place.key)
        results.writer.bool(true)
        place.attributes(created.file).write(into: &results.writer)
        place.weak(created.directory).write(into: &results.writer)
    }

    func create(_ arguments: NFS3CreateArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(arguments.place.directory)
        let created = try done(try create(arguments, place))
        if !created.value.isNew, arguments.how.size != nil { throw .waits }
        put(created.value, place, &results)
        return settles(created.number, place)
    }

    private func create(_ arguments: NFS3CreateArguments, _ place: Place) throws(NFSHalt) -> Attempt<Created> {
        let name = try name(arguments.place.name)
        switch arguments.how {
        case .unchecked(let attributes):
            return place.volume.create(
                place.caller, in: place.file, name, try newFile(.file, attributes), .openOrCreate)
        case .guarded(let attributes):
            return place.volume.create(place.caller, in: place.file, name, try newFile(.file, attributes), .exclusive)
        case .exclusive(let verifier):
            let new = NewFile(type: .file, mode: NewFile.fileMode)
            return place.volume.create(place.caller, in: place.file, name, new, .verified(verifier))
        }
    }

    /// A file that is there is cut, whatever its size is: the call is remembered so, and a late copy of it cuts off nothing that
    /// was written since. One that was made by this call has its size from the beginning.
    func createSlowly(_ arguments: NFS3CreateArguments, _ held: RPCCall) async throws(NFSHalt) {
        let place = try place(arguments.place.directory)
        var (created, number) = try await supplied { () throws(NFSHalt) in try create(arguments, place) }
        if !created.isNew, let size = arguments.how.size {
            var new = NewAttributes()
            new.size = size
            created.file = try await resize(place, place.caller, created.file.file, new).after
        } else if number > 0 {
            do throws(FileError) {
                try await place.volume.settled(number, place.durability, on: loop)
            } catch { throw .status(NFS3Status(error)) }
        }
        let made = created
        held.reply { results in
            put(made, place, &results)
            return .done
        }
    }

    func makeDirectory(_ arguments: NFS3MakeDirectoryArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        try make(arguments.place, try newFile(.directory, arguments.attributes), &results)
    }

    func symlink(_ arguments: NFS3SymlinkArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        var new = try newFile(.symlink, arguments.attributes)
        new.mode = 0o777
        new.target = Array(arguments.target)
        return try make(arguments.place, new, &results)
    }

    func makeNode(_ arguments: NFS3MakeNodeArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        var new: NewFile
        switch arguments.node {
        case .characterDevice(let attributes, let device):
            new = try newFile(.characterDevice, attributes)
            new.major = device.major
            new.minor = device.minor
        case .blockDevice(let attributes, let device):
            new = try newFile(.blockDevice, attributes)
            new.major = device.major
            new.minor = device.minor
        case .socket(let attributes): new = try newFile(.socket, attributes)
        case .fifo(let attributes): new = try newFile(.fifo, attributes)
        case .other: throw .status(.badType)
        }
        return try make(arguments.place, new, &results)
    }

    // MARK: Removing and moving

    func remove(_ name: NFS3Name, isDirectory: Bool, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let place = try place(name.directory)
        let removed = try done(
            place.volume.remove(
                place.caller, in: place.file, try self.name(name.name), isDirectory: isDirectory))
        NFS3Results.Remove.ok(place.weak(removed.value.directory)).write(into: &results.writer)
        return settles(removed.number, place)
    }

    func rename(_ arguments: NFS3RenameArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let from = try place(arguments.from.directory)
        let to = try place(arguments.to.directory)
        guard from.export == to.export else { throw .status(.crossDevice) }
        let renamed = try done(
            from.volume.rename(
                from.caller, from: from.file, try name(arguments.from.name), to: to.file,
                try name(arguments.to.name)))
        NFS3Results.Rename.ok(
            NFS3RenameResults(from: from.weak(renamed.value.source), to: from.weak(renamed.value.target))
        ).write(into: &results.writer)
        return settles(renamed.number, from)
    }

    func link(_ arguments: NFS3LinkArguments, _ results: inout Results) throws(NFSHalt) -> NFSStep {
        let file = try place(arguments.file)
        let place = try place(arguments.place.directory)
        guard file.export == place.export else { throw .status(.crossDevice) }
        let linked = try done(
            place.volume.link(place.caller, file.file, in: place.file, try name(arguments.place.name)))
        NFS3Results.Link.ok(
            NFS3LinkResults(
                attributes: place.attributes(linked.value.file), directory: place.weak(linked.value.directory))
        ).write(into: &results.writer)
        return settles(linked.number, place)
    }

    // MARK: In a task

    /// Makes an attempt until it lacks nothing.
    func supplied<Value>(
        _ attempt: () throws(NFSHalt) -> Attempt<Value>
    ) async throws(NFSHalt) -> (value: Value, number: UInt64) {
        for _ in 0..<NFSService.attemptsMax {
            switch try attempt() {
            case .done(let value, let number): return (value, number)
            case .refused(let error): throw .status(NFS3Status(error))
            case .lacks(let lack):
                do throws(FileError) { try await lack.supplied() } catch { throw .status(NFS3Status(error)) }
            }
        }
        throw .status(.jukebox)
    }

    /// The calls that no single attempt can answer.
    func performSlowly(_ held: RPCCall) async {
        do throws(NFSHalt) {
            switch request {
            case .read(let arguments): try await readSlowly(arguments, held)
            case .setAttributes(let arguments): try await setAttributesSlowly(arguments, held)
            case .create(let arguments): try await createSlowly(arguments, held)
            default: preconditionFailure("a call that its attempts answer")
            }
        } catch {
            held.reply { results in
                switch error {
                case .status(let status): return fail(status, &results)
                case .auth(let error): return .refused(.authError(error))
                case .lacks, .waits, .flushes: return fail(.jukebox, &results)
                }
            }
        }
    }
}

extension NFS3CreateHow {
    fileprivate var size: UInt64? {
        switch self {
        case .unchecked(let attributes), .guarded(let attributes): attributes.size
        case .exclusive: nil
        }
    }
}
