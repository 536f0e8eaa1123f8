import Configuration
import Headhunter
import Namespace

extension VolumeHost {
    static let onlyRead = "it is another server's, or a copy, and only read here"

    static func durability(_ word: Configuration.Durability) -> Durability {
        switch word {
        case .store: .store
        case .log: .log
        case .memory: .memory
        }
    }

    static func durability(_ word: String) -> Durability? {
        Configuration.Durability(rawValue: word).map { durability($0) }
    }

    static func text(_ error: HostingError) -> String {
        switch error {
        case .inUse: "another process has it; stop that one first"
        case .disk(let code, let doing): "\(doing): \(code)"
        case .volume(let error): text(error)
        case .store(let why): why
        }
    }

    static func text(_ error: VolumeError) -> String {
        switch error {
        case .readOnly(let why), .unavailable(let why): why
        case .damaged(let why): "damaged: \(why); proxyfs fsck says more"
        case .unknownFormat(let why): "another version of this program made it: \(why)"
        case .fenced: "another server has taken it over"
        case .closed: "it is closed"
        case .noVolume: "there is no volume"
        case .logElsewhere:
            "its replay log is in another place, with changes that may be nowhere else: open it there, or, when that place is gone "
                + "for good, go on from what the store has with proxyfs volume take"
        }
    }
}
