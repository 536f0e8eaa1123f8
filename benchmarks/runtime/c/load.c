// The load: `load PORT CONNECTIONS DEPTH MESSAGES PID` keeps DEPTH frames of 104 bytes in flight on each connection
// until MESSAGES were answered, checks the answers, and prints, in nanoseconds per message, the wall time and the
// user and system time of process PID.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME = 104, DEPTH_MAX = 64, WARM_UP = 20 };

static void processor_time(int pid, double *user, double *system) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) exit(2);
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    unsigned long u, s;
    char *end = strrchr(text, ')');
    if (!end || sscanf(end + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s) != 2) exit(2);
    double tick = 1e9 / (double)sysconf(_SC_CLK_TCK);
    *user = (double)u * tick;
    *system = (double)s * tick;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static char batch[FRAME * DEPTH_MAX];
static size_t got[1024];
static int fds[1024];

static void push(int fd, size_t count) {
    if (send(fd, batch, count, MSG_NOSIGNAL) != (ssize_t)count) exit(3);
}

static void run(int epoll, int connections, int depth, long messages) {
    long sent = 0, done = 0;
    struct epoll_event events[256];
    char buffer[FRAME * DEPTH_MAX];
    size_t whole = (size_t)FRAME * (size_t)depth;
    int live = connections;
    for (int i = 0; i < connections; i++, sent += depth) {
        got[i] = 0;
        push(fds[i], whole);
    }
    while (live > 0) {
        int count = epoll_wait(epoll, events, 256, 10000);
        if (count <= 0) exit(4);
        for (int i = 0; i < count; i++) {
            int c = (int)events[i].data.u32;
            ssize_t n = recv(fds[c], buffer, whole - got[c], 0);
            if (n <= 0 || memcmp(buffer, batch + got[c], (size_t)n) != 0) exit(5);
            got[c] += (size_t)n;
            if (got[c] < whole) continue;
            got[c] = 0;
            done += depth;
            if (sent < messages) {
                sent += depth;
                push(fds[c], whole);
            } else {
                live--;
            }
        }
    }
    if (done < messages) exit(6);
}

int main(int argc, char **argv) {
    if (argc != 6) return 1;
    int port = atoi(argv[1]), connections = atoi(argv[2]), depth = atoi(argv[3]), pid = atoi(argv[5]), on = 1;
    long messages = atol(argv[4]);
    int epoll = epoll_create1(0);
    for (int i = 0; i < FRAME * DEPTH_MAX; i++) batch[i] = (char)(i * 31);
    for (int i = 0; i < DEPTH_MAX; i++) {
        uint32_t length = htonl(FRAME - 4);
        memcpy(batch + i * FRAME, &length, 4);
    }
    for (int i = 0; i < connections; i++) {
        struct sockaddr_in address = {
            .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fds[i], (struct sockaddr *)&address, sizeof address)) return 7;
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
    }
    run(epoll, connections, depth, messages / WARM_UP);
    double user[2], system[2], wall = now();
    processor_time(pid, &user[0], &system[0]);
    run(epoll, connections, depth, messages);
    wall = now() - wall;
    processor_time(pid, &user[1], &system[1]);
    printf("%.1f %.1f %.1f\n", wall / (double)messages, (user[1] - user[0]) / (double)messages,
        (system[1] - system[0]) / (double)messages);
    return 0;
}
