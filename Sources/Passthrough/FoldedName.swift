import LogFS

/// Names without case are the same ones here as on the engine's volumes. In a file of its own: the engine has words for files,
/// too, and they are not meant anywhere else here.
enum FoldedName {
    static func areEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        a.withUnsafeBytes { a in b.withUnsafeBytes { FoldTable.areEqual(a, $0) } }
    }
}
