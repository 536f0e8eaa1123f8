/// As much of the engine's refusals as its records' types name.
enum FileError: Error {
    case noEntry, exists, stale
}

enum Halt: Error {
    case refused(FileError)
}
