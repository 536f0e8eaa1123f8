/* load PORT DEPTH CALLS: null calls with AUTH_SYS of 4 groups over one connection, DEPTH of them in flight; prints the
 * nanoseconds of wall time for each. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned char call[4 + 40 + 44];
static void put(int word, unsigned value) {
    unsigned wire = htonl(value);
    memcpy(call + 4 * word, &wire, 4);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int depth = atoi(argv[2]);
    long calls = atol(argv[3]), sent = 0, answered = 0;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) return 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    put(0, 0x80000000u | (sizeof call - 4));
    put(2, 0), put(3, 2), put(4, 0x20000001), put(5, 1), put(6, 0);
    put(7, 1), put(8, 36);                                          /* AUTH_SYS */
    put(9, 1), put(10, 4), memcpy(call + 44, "host", 4), put(12, 1000), put(13, 1000), put(14, 4);
    for (int i = 0; i < 4; i++) put(15 + i, 100 + i);
    /* The last words are the empty verifier. */
    unsigned char *out = malloc((sizeof call) * depth), in[65536];
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    size_t have = 0;
    while (answered < calls) {
        int burst = 0;
        while (sent < calls && sent - answered < depth) {
            put(1, (unsigned)sent++);
            memcpy(out + burst++ * sizeof call, call, sizeof call);
        }
        for (size_t at = 0, all = burst * sizeof call; at < all;) {
            ssize_t n = write(fd, out + at, all - at);
            if (n <= 0) return 1;
            at += n;
        }
        ssize_t n = read(fd, in + have, sizeof in - have);
        if (n <= 0) return 1;
        have += n;
        /* Each reply is a mark and 24 bytes of success. */
        long whole = have / 28;
        for (long i = 0; i < whole; i++) {
            if (memcmp(in + 28 * i + 8, "\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)) return 3;
        }
        answered += whole;
        have -= whole * 28;
        memmove(in, in + whole * 28, have);
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.0f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / calls);
    return 0;
}
