// load PORT CONNECTIONS SECONDS|once FILE: replays requests over kept-alive connections, each as soon as the one before is
// answered, and counts; `once`: until each has been answered. FILE holds requests that are complete, signature and body included, each behind its length as
// 4 bytes, little endian. One thread: all it does is to send bytes that are there and to find the end of answers.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { connectionsMax = 1024, headMax = 16384, latenciesMax = 4000000 };

struct connection {
    int fd;
    uint32_t request;
    size_t sent;
    char head[headMax];
    size_t headCount;
    int64_t bodyLeft;  // -1: the head is not complete
    uint64_t begun;
    int idle;
};

static struct connection connections[connectionsMax];
static char **requests;
static uint32_t *lengths;
static uint32_t requestCount;
static float *latencies;
static uint64_t done, bytesIn, refused;
static char scratch[1 << 20];

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int order(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void push(struct connection *c) {
    while (c->sent < lengths[c->request]) {
        ssize_t n = send(c->fd, requests[c->request] + c->sent, lengths[c->request] - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) return;
            fail("send");
        }
        c->sent += (size_t)n;
    }
}

static void begin(struct connection *c, uint32_t step) {
    c->request = (c->request + step) % requestCount;
    c->sent = 0;
    c->headCount = 0;
    c->bodyLeft = -1;
    c->begun = now();
    push(c);
}

// True when an answer is complete.
static int take(struct connection *c) {
    for (;;) {
        if (c->bodyLeft < 0) {
            ssize_t n = recv(c->fd, c->head + c->headCount, headMax - 1 - c->headCount, 0);
            if (n == 0) fail("the server closed");
            if (n < 0) {
                if (errno == EAGAIN) return 0;
                fail("recv");
            }
            c->headCount += (size_t)n;
            c->head[c->headCount] = 0;
            char *end = strstr(c->head, "\r\n\r\n");
            if (!end) continue;
            if (c->head[9] != '2' && refused++ == 0) fprintf(stderr, "load: refused: %.600s\n", c->head);
            char *field = strcasestr(c->head, "\ncontent-length:");
            int64_t length = field && field < end ? strtoll(field + 16, NULL, 10) : 0;
            int64_t got = (int64_t)(c->headCount - (size_t)(end + 4 - c->head));
            bytesIn += (uint64_t)got;
            c->bodyLeft = length - got;
        } else if (c->bodyLeft > 0) {
            size_t most = (size_t)c->bodyLeft < sizeof scratch ? (size_t)c->bodyLeft : sizeof scratch;
            ssize_t n = recv(c->fd, scratch, most, 0);
            if (n == 0) fail("the server closed");
            if (n < 0) {
                if (errno == EAGAIN) return 0;
                fail("recv");
            }
            bytesIn += (uint64_t)n;
            c->bodyLeft -= n;
        }
        if (c->bodyLeft == 0) return 1;
    }
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int port = atoi(argv[1]), count = atoi(argv[2]);
    int once = strcmp(argv[3], "once") == 0;
    double seconds = once ? 1e9 : atof(argv[3]);
    int file = open(argv[4], O_RDONLY);
    struct stat s;
    if (file < 0 || fstat(file, &s) != 0) fail(argv[4]);
    char *bytes = malloc((size_t)s.st_size);
    for (off_t place = 0; place < s.st_size;) {
        ssize_t n = read(file, bytes + place, (size_t)(s.st_size - place));
        if (n <= 0) fail("read");
        place += n;
    }
    requests = calloc((size_t)s.st_size / 8 + 1, sizeof *requests);
    lengths = calloc((size_t)s.st_size / 8 + 1, sizeof *lengths);
    for (off_t place = 0; place < s.st_size;) {
        uint32_t length;
        memcpy(&length, bytes + place, 4);
        requests[requestCount] = bytes + place + 4;
        lengths[requestCount++] = length;
        place += 4 + length;
    }
    if (once && (uint32_t)count > requestCount) count = (int)requestCount;
    if (count < 1 || count > connectionsMax) return 2;
    latencies = malloc(latenciesMax * sizeof *latencies);
    int poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
        int one = 1;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
        c->request = (uint32_t)i % requestCount;
        begin(c, 0);
    }
    uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9);
    while (now() < end && !(once && done >= requestCount)) {
        struct epoll_event events[256];
        int n = epoll_wait(poll, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->idle) continue;
            push(c);
            while (take(c)) {
                if (done < latenciesMax) latencies[done] = (float)((double)(now() - c->begun) / 1e6);
                done++;
                if (once && c->request + (uint32_t)count >= requestCount) {
                    c->idle = 1;
                    break;
                }
                begin(c, (uint32_t)count);
            }
        }
    }
    double elapsed = (double)(now() - start) / 1e9;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double own = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec
        + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    uint64_t kept = done < latenciesMax ? done : latenciesMax;
    qsort(latencies, kept, sizeof *latencies, order);
    // Operations a second, MiB a second, milliseconds at half and at 99 %, our own processor time for each, refusals.
    printf("%.0f %.1f %.3f %.3f %.2f %lu %lu\n", (double)done / elapsed, (double)bytesIn / elapsed / 1048576,
        kept ? latencies[kept / 2] : 0, kept ? latencies[kept * 99 / 100] : 0,
        done ? own * 1e6 / (double)done : 0, (unsigned long)done, (unsigned long)refused);
    return refused > 0;
}
