@main
enum Program {
    static func main() {
        print("proxyfs")
    }
}
