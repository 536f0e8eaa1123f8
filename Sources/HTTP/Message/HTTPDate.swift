/// The date form of HTTP, `Sun, 06 Nov 1994 08:49:37 GMT`: what servers must send.
public enum HTTPDate {
    private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    /// The form has room for years 0000 to 9999.
    private static let secondsRange: ClosedRange<Int64> = -62_167_219_200...253_402_300_799

    /// Of seconds since 1970; times that the form can not express are moved to the nearest that it can.
    public static func format(_ seconds: Int64) -> String {
        let seconds = min(max(seconds, secondsRange.lowerBound), secondsRange.upperBound)
        let day = seconds >= 0 ? seconds / 86_400 : -((86_399 - seconds) / 86_400)
        let inDay = Int(seconds - day * 86_400)
        let (year, month, dayOfMonth) = civil(day)
        let weekday = Int(((day % 7) + 7) % 7)
        return "\(days[weekday]), \(two(dayOfMonth)) \(months[month - 1]) \(two(year / 100))\(two(year % 100)) "
            + "\(two(inDay / 3600)):\(two(inDay / 60 % 60)):\(two(inDay % 60)) GMT"
    }

    private static func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }

    /// Year, month and day of a day number since 1970. Years begin in March here, so that the leap day is the last.
    private static func civil(_ day: Int64) -> (Int, Int, Int) {
        let shifted = day + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let inEra = shifted - era * 146_097
        let yearOfEra = (inEra - inEra / 1460 + inEra / 36_524 - inEra / 146_096) / 365
        let inYear = inEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * inYear + 2) / 153
        let dayOfMonth = Int(inYear - (153 * marchMonth + 2) / 5 + 1)
        let month = Int(marchMonth < 10 ? marchMonth + 3 : marchMonth - 9)
        return (Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0), month, dayOfMonth)
    }
}
