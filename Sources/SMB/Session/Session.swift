import Kerberos
import Namespace
import Runtime

/// Somebody who has logged on, or is about to. Confined to the loop of its connection.
final class Session: @unchecked Sendable {
    enum State {
        case inProgress
        case valid
        /// It has to log on again before anything else.
        case expired
        /// It was logged off by an element of the chain that is being answered.
        case over
    }

    let id: UInt64
    /// Nil: the connection is gone.
    weak var stream: SMBStream?
    var state = State.inProgress
    var logOn: LogOn?
    /// Of a log-on by ticket, as long as it lasts.
    var handshake: KerberosHandshake?
    /// When the user's ticket ends, by the clock that only goes forward; nil: he needs none.
    var end: UInt64?
    /// A name that nobody here has was let in as nobody's: clients know that nothing of theirs is signed then.
    var isGuest = false
    /// Its client has encrypted a message.
    var hasEncrypted = false
    /// Its log-on failed: it ends when that may be told.
    var isRefused = false
    /// Over this session's messages, while it logs on.
    var preauth: [UInt8]
    var user: SMBUser?
    /// Who had it last of those who have a name: trees and opens are his, whoever it speaks for now.
    var owner: SMBUser?
    /// Of the catalog, when user and trees were looked up.
    var generation: UInt64 = 0
    var keys: SessionKeys?
    /// What its keys were made of, for another connection that speaks of this session.
    var terms: SessionTerms?
    var requiresSigning = false
    var requiresEncryption = false
    var trees: [UInt32: Tree] = [:]
    private var lastTree: UInt32 = 0
    var opens: [UInt64: Open] = [:]

    init(_ id: UInt64, _ stream: SMBStream, preauth: [UInt8]) {
        self.id = id
        self.stream = stream
        self.preauth = preauth
    }

    /// Whether what the server says of its own accord is encrypted, too.
    var isToldEncrypted: Bool { keys?.canEncrypt == true && (requiresEncryption || hasEncrypted) }

    var credential: Credential { user?.credential ?? .nobody }

    /// `root`: nil for pipes.
    func addTree(_ share: SMBShare, root: FileID?, access: UInt32) -> Tree? {
        guard trees.count < (user == nil ? SMBLimits.treesOfNobody : SMBLimits.treesPerSession) else { return nil }
        repeat { lastTree &+= 1 } while lastTree == 0 || lastTree == SMB2.noTree || trees[lastTree] != nil
        let tree = Tree(lastTree, share, root, self, access: access)
        trees[lastTree] = tree
        return tree
    }
}

/// A session's use of a share.
final class Tree: @unchecked Sendable {
    let id: UInt32
    /// As it was when somebody last changed anything.
    var share: SMBShare
    /// Where its names begin; nil: there are pipes only.
    let root: FileID?
    /// Each refers to the other until one of them ends.
    let session: Session
    let access: UInt32

    init(_ id: UInt32, _ share: SMBShare, _ root: FileID?, _ session: Session, access: UInt32) {
        self.id = id
        self.share = share
        self.root = root
        self.session = session
        self.access = access
    }
}

/// What was agreed on for a session, and its secret.
struct SessionTerms: Sendable {
    let key: [UInt8]
    let dialect: Dialect
    let signing: SigningAlgorithm
    let encryption: EncryptionAlgorithm?
    let preauth: [UInt8]

    /// Contexts of OpenSSL belong to one thread: each that needs the keys makes its own.
    func makeKeys() -> SessionKeys {
        SessionKeys(session: key, dialect, signing, encryption, preauth: preauth)
    }

    /// Why a connection that agreed on other things can not be one of the session's ([MS-SMB2] 3.3.5.5).
    func refusal(_ connection: Negotiation) -> NTStatus {
        // Before the dialects, as Windows does it.
        if connection.signing != signing {
            if signing == .aesGMAC { return .requestOutOfSequence }
            if connection.signing == .aesGMAC { return .notSupported }
        }
        guard let dialect = connection.dialect, dialect.isThree else { return .requestNotAccepted }
        guard self.dialect.isThree else { return .invalidParameter }
        guard dialect == self.dialect, connection.encryption == encryption else { return .invalidParameter }
        // A session has one connection here.
        return .requestNotAccepted
    }
}
