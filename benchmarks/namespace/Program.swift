import Namespace

@main
enum Program {
    static func main() {}
}
