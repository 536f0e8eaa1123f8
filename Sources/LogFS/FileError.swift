import Headhunter

/// Why an operation on files was refused. It has changed nothing.
public enum FileError: Error, Equatable, Sendable {
    case noEntry
    case exists
    case notDirectory
    case isDirectory
    case notEmpty
    case nameTooLong
    /// Empty, `.`, `..`, or with a slash or a zero byte in it.
    case badName
    /// The file is gone; its number may never come back.
    case stale
    case noSpace
    case fileTooBig
    /// A directory was to be moved into itself or below.
    case loop
    case tooDeep
    case tooManyLinks
    case noAttribute
    case attributeTooBig
    case tooManyAttributes
    case noSetting
    case settingTooBig
    case tooManySettings
    case invalid
    /// The file's mode, owner or list is not any more what the change was made from (`NewAttributes.basis`).
    case overtaken
    /// Not for this type of file.
    case wrongType
    case crossSubvolume
    /// It is locked (`LogFS.lockName`): no name of it goes.
    case locked
    /// A request with this token was made before, with other content.
    case tokenReused
    /// `Request.isRepeat`, and it is new.
    case tokenForgotten
}

/// What came of a call that never waits.
public enum Attempt<Value> {
    /// `number` is the change's place in the log: tell nobody that it is durable before `commit(number)`. 0 when
    /// nothing was changed.
    case done(Value, number: UInt64)
    case refused(FileError)
    /// Metadata is not in memory: `await load(for:)`, then try again.
    case missing
    /// Too much is dirty: `await room()`, then try again.
    case full
    /// Use the asynchronous form of the call; where there is none, a file must be flushed first: `await clear(for:)`,
    /// then try again.
    case busy
    case failed(VolumeError)
}

/// What an asynchronous call throws.
public enum Failure: Error, Equatable, Sendable {
    case file(FileError)
    case volume(VolumeError)
}

/// Ends the planning of an operation.
enum Halt: Error {
    case missing(Missing)
    case refused(FileError)
    case damaged(WrongRecord)
}
