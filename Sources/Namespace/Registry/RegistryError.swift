/// Why the registry did not change. Nothing has changed, but for `volume` in the course of a change of several volumes:
/// then the same command again completes it.
public enum RegistryError: Error, Equatable, Sendable {
    /// What was asked for makes no sense; the text says what does.
    case invalid(String)
    case unknown(String)
    case exists(String)
    /// The configuration says so, there.
    case declared(String, place: String)
    /// A limit, named.
    case tooMany(String)
    case volume(String, FileError)
    /// A record of the volume can not be read.
    case record(volume: String, name: String, RecordFault)
    /// Too many changes wait for their turn.
    case busy
}

extension RegistryError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .invalid(let text): text
        case .unknown(let what): "there is no \(what)"
        case .exists(let what): "there is \(what) already"
        case .declared(let what, let place):
            "\(what) is declared at \(place), and what is declared there wins: change it there"
        case .tooMany(let limit): "too many: \(limit)"
        case .volume(let name, let error): "volume \(name) does not keep it: \(error)"
        case .record(let volume, let name, let fault):
            switch fault {
            case .newer: "the record \(name) of volume \(volume) is of a newer version of this program"
            case .malformed: "the record \(name) of volume \(volume) is damaged; proxyfs fsck \(volume) says more"
            }
        case .busy: "too many other changes are under way; try again"
        }
    }
}
