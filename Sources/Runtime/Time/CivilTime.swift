/// A moment as people write it, in UTC. Any number of seconds gives one; none traps, for times are stored by others.
public struct CivilTime: Equatable, Sendable {
    /// The written forms have room for the years 0 to 9999: what is beyond is moved to the nearest that they can say.
    private static let secondsRange: ClosedRange<Int64> = -62_167_219_200...253_402_300_799
    private static let daySeconds: Int64 = 86_400

    public let year: Int
    public let month: Int
    public let day: Int
    public let hour: Int
    public let minute: Int
    public let second: Int
    /// 0 is Sunday.
    public let weekday: Int

    /// Of seconds since 1970.
    public init(seconds: Int64) {
        let seconds = min(max(seconds, Self.secondsRange.lowerBound), Self.secondsRange.upperBound)
        let days = Self.floor(seconds, by: Self.daySeconds)
        let inDay = Int(seconds - days * Self.daySeconds)
        (hour, minute, second) = (inDay / 3600, inDay / 60 % 60, inDay % 60)
        // 1970 began with a Thursday.
        weekday = Int(((days + 4) % 7 + 7) % 7)
        // Years begin in March here, so that the leap day is the last.
        let shifted = days + 719_468
        let era = Self.floor(shifted, by: 146_097)
        let inEra = shifted - era * 146_097
        let yearOfEra = (inEra - inEra / 1460 + inEra / 36_524 - inEra / 146_096) / 365
        let inYear = inEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * inYear + 2) / 153
        day = Int(inYear - (153 * marchMonth + 2) / 5 + 1)
        month = Int(marchMonth < 10 ? marchMonth + 3 : marchMonth - 9)
        year = Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0)
    }

    /// Of nanoseconds since 1970.
    public init(nanoseconds: Int64) { self.init(seconds: Self.floor(nanoseconds, by: 1_000_000_000)) }

    private static func floor(_ value: Int64, by divisor: Int64) -> Int64 {
        value / divisor - (value % divisor < 0 ? 1 : 0)
    }
}
