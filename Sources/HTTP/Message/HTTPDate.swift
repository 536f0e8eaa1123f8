import Runtime

/// The date form of HTTP, `Sun, 06 Nov 1994 08:49:37 GMT`: what servers must send.
public enum HTTPDate {
    private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    /// Of seconds since 1970; times that the form can not express are moved to the nearest that it can.
    public static func format(_ seconds: Int64) -> String {
        let time = CivilTime(seconds: seconds)
        return "\(days[time.weekday]), \(two(time.day)) \(months[time.month - 1]) "
            + "\(two(time.year / 100))\(two(time.year % 100)) "
            + "\(two(time.hour)):\(two(time.minute)):\(two(time.second)) GMT"
    }

    private static func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
}
