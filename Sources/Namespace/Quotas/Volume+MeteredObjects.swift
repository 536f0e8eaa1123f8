import Runtime

/// Objects of a volume that has quotas: what counted on its way ceases to when it has its name, in the same change.
extension Volume {
    /// `draft`: the file that is given the name, if it is one. `shelf`: where the file goes that has the name.
    @inline(__always)
    func placeFile(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, draft: FileID? = nil,
        shelf: Shelf? = nil, size: UInt64, uid: UInt32, gid: UInt32, _ place: () -> Attempt<PlacedFile>
    ) throws(Halt) -> Attempt<PlacedFile> {
        if counts(directory) {
            return try meteredPlacing(caller, in: directory, name, draft, shelf, size, .init(uid: uid, gid: gid), place)
        }
        let attempt = place()
        if let draft, case .done = attempt { meter.state.withLock { _ = meter.remove(draft, &$0) } }
        return attempt
    }

    @inline(never)
    private func meteredPlacing(
        _ caller: Caller, in directory: FileID, _ name: UnsafeRawBufferPointer, _ draft: FileID?, _ shelf: Shelf?,
        _ size: UInt64, _ owner: QuotaMeter.Owner, _ place: () -> Attempt<PlacedFile>
    ) throws(Halt) -> Attempt<PlacedFile> {
        let request = caller.request
        return try meter.change { (state) throws(Halt) in
            guard let places = try state.places(request, directory, name) else { return place() }
            let (subjects, files) = (
                places.subjects + (places.uploader ?? owner).subjects, Int64(places.uploader == nil ? 1 : 0)
            )
            var bill = Bill()
            bill.add(subjects, bytes: Int64(clamping: size), files: files)
            // What it counts for now it does no more.
            let freed = try draft.map { (draft) throws(Halt) in try state.freed(request, by: draft) }
            for (account, bytes) in freed?.accounts ?? [] {
                bill.add(account.subjects, bytes: -Int64(clamping: bytes), files: -Int64(clamping: account.files))
            }
            var loss: QuotaMeter.Loss?
            var leaving: QuotaMeter.Leaving?
            switch fileSystem.lookup(request, in: directory, name) {
            case .done(let other, _) where shelf != nil && other.type == .file:
                if let shelf {
                    let goes = try state.leaving(request, other, in: directory, name, shelf)
                    bill.add(goes.from, bytes: -Int64(clamping: goes.load.bytes), files: -1)
                    bill.add(goes.to, bytes: Int64(clamping: goes.load.bytes), files: 1)
                    leaving = goes
                }
            case .done(let other, _):
                loss = try state.loss(request, other, in: directory, name)
                if let loss, other.links == 1 {
                    let files = -Int64(clamping: loss.account.files)
                    bill.add(loss.account.subjects, bytes: -Int64(clamping: loss.bytes), files: files)
                } else if let loss {
                    bill.add(loss.places, bytes: 0, files: -Int64(clamping: loss.account.files))
                }
            case .refused: break
            case .lacks(let lack): throw .lacks(lack)
            }
            try state.admit(request, bill)
            let attempt = place()
            guard case .done(let placed, let number) = attempt, number > 0 else { return attempt }
            if let loss, let left = placed.other { state.lost(request, loss, left: left) }
            if let leaving, let other = placed.other {
                state.move(request, other.file.inode, leaving.load, from: leaving.from, to: leaving.to)
            }
            for (account, bytes) in freed?.accounts ?? [] {
                state.add(
                    request, account.subjects, of: account.inode, bytes: -Int64(clamping: bytes),
                    files: -Int64(clamping: account.files))
            }
            if let draft { _ = meter.remove(draft, &state) }
            for part in freed?.parts ?? [] { state.spent[part.file] = part.spent }
            state.add(
                request, subjects, of: placed.file.file.inode, bytes: Int64(clamping: placed.file.size), files: files)
            return attempt
        }
    }

    /// A file without a name goes with its last close.
    func closeDraft(_ caller: Caller, _ file: FileID) -> Attempt<Void> {
        let request = caller.request
        return attempt { () throws(Halt) in
            try meter.change { (state) throws(Halt) in
                guard state.drafts[file] != nil else { return fileSystem.close(request, file) }
                var counted: (account: QuotaMeter.Account, bytes: UInt64)?
                if meter.isOn {
                    let found = try attributes(caller, of: file)
                    if let account = try state.account(request, found) {
                        counted = (account, try state.bytes(request, found))
                    }
                }
                let attempt = fileSystem.close(request, file)
                guard case .done = attempt else { return attempt }
                _ = meter.remove(file, &state)
                if let (account, bytes) = counted {
                    state.add(request, account.subjects, of: account.inode, bytes: -Int64(clamping: bytes), files: 0)
                }
                return attempt
            }
        }
    }
}

extension QuotaMeter.State {
    /// What ceases to count elsewhere when a draft takes its name: itself, or the parts that it is made of.
    mutating func freed(
        _ request: Request, by file: FileID
    ) throws(Halt) -> (
        accounts: [(account: Account, bytes: UInt64)], parts: [(file: FileID, spent: QuotaMeter.SpentPart)]
    ) {
        let draft = try fileSystem.attributes(request, file).get()
        var accounts: [(account: Account, bytes: UInt64)] = []
        var parts: [(file: FileID, spent: QuotaMeter.SpentPart)] = []
        if drafts[file] != nil, let account = try account(request, draft) {
            accounts.append((account, try bytes(request, draft)))
        }
        // Parts lie in one directory: what that is needs to be asked once.
        var upload: (directory: FileID, bucket: FileID, account: Account)?
        for part in drafts[file]?.parts ?? [] {
            let found: Attributes
            switch fileSystem.attributes(request, part) {
            case .done(let attributes, _): found = attributes
            case .refused: continue
            case .lacks(let lack): throw .lacks(lack)
            }
            guard let home = try home(request, found) else { continue }
            if upload?.directory != home.directory {
                let draft = try self.draft(request, near: home.directory)
                // Only what is to go with the upload: another file stays what it was.
                guard draft.uploader != nil, let bucket = draft.near, let account = try account(request, found) else {
                    continue
                }
                upload = (home.directory, bucket, account)
            }
            guard let upload else { continue }
            var account = upload.account
            account.inode = part.inode
            let bytes = try bytes(request, found)
            accounts.append((account, bytes))
            parts.append((part, QuotaMeter.SpentPart(bucket: upload.bucket, size: bytes)))
        }
        return (accounts, parts)
    }
}
