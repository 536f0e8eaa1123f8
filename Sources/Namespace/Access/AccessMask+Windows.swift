extension AccessMask {
    /// A mode has less to say than Windows asks for. By a mode alone, who may read a file may execute it, and an owner who may
    /// read and write has all rights; without that he has at least those to change what is said of the file.
    mutating func widen(_ file: FileSecurity, for credential: Credential) {
        if contains(.readData) { insert(.execute) }
        guard credential.uid == file.uid else { return }
        formUnion([.readACL, .writeACL, .writeOwner, .writeAttributes])
        if file.mode & 0o600 == 0o600 { self = .all }
    }
}
