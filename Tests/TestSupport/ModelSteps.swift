import Glibc

/// How many steps a model test takes, or as many times that as PROXYFS_MODEL_TIMES says.
public func modelSteps(_ count: Int) -> Int { count * modelTimes }

/// The same in seeds, where one run takes as many steps as the simulator allows.
public func modelSeeds(_ count: Int) -> [UInt64] { (1...count * modelTimes).map(UInt64.init) }

private let modelTimes = getenv("PROXYFS_MODEL_TIMES").flatMap { Int(String(cString: $0)) } ?? 1
