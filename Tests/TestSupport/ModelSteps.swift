import Glibc

/// How many steps a model test takes, or as many times that as PROXYFS_MODEL_TIMES says.
public func modelSteps(_ count: Int) -> Int {
    count * (getenv("PROXYFS_MODEL_TIMES").flatMap { Int(String(cString: $0)) } ?? 1)
}
