import LogFS

extension LogFileSystem {
    public func empty(_ request: Request, _ file: FileID) -> Attempt<Changed> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.resize(inner(request), id, to: 0), request.reader, id) {
            Changed(before: nil, after: outer($0))
        }
    }

    public func acl(_ request: Request, _ file: FileID) -> Attempt<ACL?> {
        guard let id = inner(file) else { return .refused(.stale) }
        let attempt = files.accessList(inner(request), id)
        guard case .done(let list?, _) = attempt else { return outer(attempt, request.reader, id) { _ in nil } }
        do { return .done(try list.withUnsafeBytes { try ACL(stored: $0) }, number: 0) } catch {
            // What can not be read lets nobody in, and nobody change it unseen.
            return .refused(.inputOutput("an access list that this program can not read"))
        }
    }

    public func setACL(_ request: Request, _ file: FileID, _ acl: ACL?, mode: UInt16) -> Attempt<Changed> {
        guard let id = inner(file) else { return .refused(.stale) }
        let attempt =
            acl.map { acl in
                acl.bytes.withUnsafeBytes { files.setAccessList(inner(request), id, $0, mode: mode) }
            } ?? files.setAccessList(inner(request), id, nil, mode: mode)
        return outer(attempt, request.reader, id) { Changed(before: nil, after: outer($0)) }
    }

    public func whereabouts(_ request: Request, of file: FileID) -> Attempt<Whereabouts?> {
        guard let id = inner(file) else { return .refused(.stale) }
        return outer(files.whereabouts(inner(request), of: id), request.reader) { place in
            place.map { Whereabouts(directory: outer($0.directory), name: $0.name) }
        }
    }
}
