/// How many letters must be inserted, deleted, replaced or swapped with their neighbour to make `a` into `b`.
func editDistance(_ a: String, _ b: String) -> Int {
    let a = Array(a.utf8), b = Array(b.utf8)
    var beforeLast = [Int](repeating: 0, count: b.count + 1)
    var last = Array(0...b.count)
    for i in 0..<a.count {
        var row = [i + 1]
        for j in 0..<b.count {
            var best = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, beforeLast[j - 1] + 1) }
            row.append(best)
        }
        (beforeLast, last) = (last, row)
    }
    return last[b.count]
}

/// `; did you mean "x"?` when one of the names is near enough to be meant, else nothing.
func suggestion(_ text: String, _ names: [String]) -> String {
    // Longer than any name can be near to; and a hostile file must not make this slow.
    guard text.utf8.count <= 64 else { return "" }
    let distances = names.map { (name: $0, distance: editDistance(text, $0)) }
    guard let best = distances.min(by: { $0.distance < $1.distance }) else { return "" }
    return best.distance <= max(1, best.name.utf8.count / 3) ? "; did you mean \(quoted(best.name))?" : ""
}
