import Namespace

/// Where the files of a directory of the host were last seen. No I/O.
///
/// A place is a hint: whoever uses one looks whether the file that is there is the one that was meant. So it may be forgotten
/// or wrong, and costs a search then, never a wrong answer.
struct PlaceTable {
    static let placesMax = 1 << 20
    /// Directories above a file.
    static let depthMax = 4096

    struct Place: Equatable {
        var directory: FileID
        var name: [UInt8]
    }

    let root: FileID
    private let limit: Int
    private var places: [FileID: Place] = [:]

    init(root: FileID, limit: Int = placesMax) {
        self.root = root
        self.limit = limit
    }

    var count: Int { places.count }
    subscript(file: FileID) -> Place? { places[file] }

    mutating func see(_ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer) {
        guard file != root else { return }
        if let known = places[file], known.directory == directory, known.name.elementsEqual(name) { return }
        if places.count >= limit { thinOut() }
        places[file] = Place(directory: directory, name: Array(name))
    }

    mutating func forget(_ file: FileID, in directory: FileID, _ name: UnsafeRawBufferPointer) {
        guard let known = places[file], known.directory == directory, known.name.elementsEqual(name) else { return }
        places[file] = nil
    }

    /// A quarter goes, whichever: they are found again when they are wanted.
    private mutating func thinOut() {
        for file in Array(places.keys.prefix(max(1, limit / 4))) { places[file] = nil }
    }

    /// The names that lead from the root to the file; nil: not known, or they go in a circle by now.
    func path(of file: FileID) -> [[UInt8]]? {
        var path: [[UInt8]] = []
        var place = file
        while place != root {
            guard path.count < Self.depthMax, let known = places[place] else { return nil }
            path.append(known.name)
            place = known.directory
        }
        return path.reversed()
    }
}
