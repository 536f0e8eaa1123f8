// fault-proxy TARGET-PORT: stands between a client and a server on loopback and does what networks and stores do.
//
// Prints the port that it listens on. Each line of its input is what holds from then on:
//   pass       everything goes through
//   delay MS   each byte takes MS/2 on its way, so that a request takes MS more
//   hang       nothing moves, connections stay open
//   refuse     each request is answered with 503
//   cut BYTES  each connection ends after so many bytes of answers
//   reset      connections end at once, new ones too
// The end of the input ends it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { pairs_max = 1024, chunk_bytes = 64 << 10, queue_bytes_max = 4 << 20 };
enum mode { PASS, HANG, REFUSE, CUT, RESET };

struct chunk {
    struct chunk *next;
    uint64_t due;
    size_t count, sent;
    char bytes[];
};

// One direction of a connection.
struct way {
    int from, to;
    struct chunk *first, *last;
    size_t queued;
    int ended;
};

struct pair {
    int client, server;
    struct way up, down;
    size_t answered;
};

static struct pair pairs[pairs_max];
static size_t count;
static enum mode mode = PASS;
static uint64_t delay;
static size_t cut_after;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000ull + (uint64_t)time.tv_nsec;
}

static int make(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void drop(struct way *way) {
    while (way->first) {
        struct chunk *next = way->first->next;
        free(way->first);
        way->first = next;
    }
}

static void end(struct pair *pair, int hard) {
    struct linger linger = {.l_onoff = 1};
    if (hard) setsockopt(pair->client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(pair->client);
    close(pair->server);
    drop(&pair->up);
    drop(&pair->down);
    *pair = pairs[--count];
}

static void begin(int listener, int target) {
    int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
    if (client < 0) return;
    if (count == pairs_max || mode == RESET) {
        close(client);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int server = make();
    struct sockaddr_in address = loopback(target);
    connect(server, (struct sockaddr *)&address, sizeof address);
    pairs[count++] = (struct pair){
        .client = client, .server = server, .up = {.from = client, .to = server}, .down = {.from = server, .to = client}};
}

// 0: the pair is to end.
static int receive(struct way *way) {
    struct chunk *chunk = malloc(sizeof *chunk + chunk_bytes);
    ssize_t got = read(way->from, chunk->bytes, chunk_bytes);
    if (got <= 0) {
        free(chunk);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
        way->ended = 1;
        return got == 0;
    }
    chunk->next = NULL;
    chunk->due = now() + delay / 2;
    chunk->count = (size_t)got;
    chunk->sent = 0;
    if (way->first) way->last->next = chunk;
    else way->first = chunk;
    way->last = chunk;
    way->queued += chunk->count;
    return 1;
}

static int forward(struct pair *pair, struct way *way) {
    while (way->first && way->first->due <= now()) {
        struct chunk *chunk = way->first;
        size_t room = chunk->count - chunk->sent;
        if (mode == CUT && way == &pair->down) {
            if (pair->answered >= cut_after) return 0;
            if (room > cut_after - pair->answered) room = cut_after - pair->answered;
        }
        ssize_t put = write(way->to, chunk->bytes + chunk->sent, room);
        if (put < 0) return errno == EAGAIN || errno == EINTR || errno == ENOTCONN;
        chunk->sent += (size_t)put;
        if (way == &pair->down) pair->answered += (size_t)put;
        if (chunk->sent < chunk->count) return 1;
        way->first = chunk->next;
        way->queued -= chunk->count;
        free(chunk);
    }
    if (way->ended && !way->first) shutdown(way->to, SHUT_WR);
    return !(pair->up.ended && pair->down.ended && !pair->up.first && !pair->down.first);
}

static int refuse(struct pair *pair) {
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    char bytes[4096];
    ssize_t got = read(pair->client, bytes, sizeof bytes);
    if (got < 0) return errno == EAGAIN;
    // The rest of a body is read, not left: a reset would take the answer away.
    if (got > 0 && pair->answered == 0) pair->answered = (size_t)write(pair->client, answer, sizeof answer - 1);
    return got > 0;
}

static int obey(void) {
    static char line[256];
    static size_t have;
    ssize_t got = read(0, line + have, sizeof line - have - 1);
    if (got <= 0) return 0;
    have += (size_t)got;
    char *newline;
    while ((newline = memchr(line, '\n', have))) {
        *newline = 0;
        unsigned long value = 0;
        if (!strcmp(line, "pass")) mode = PASS, delay = 0;
        else if (sscanf(line, "delay %lu", &value) == 1) mode = PASS, delay = value * 1000000ull;
        else if (!strcmp(line, "hang")) mode = HANG;
        else if (!strcmp(line, "refuse")) mode = REFUSE;
        else if (sscanf(line, "cut %lu", &value) == 1) mode = CUT, cut_after = value;
        else if (!strcmp(line, "reset")) mode = RESET;
        else fprintf(stderr, "fault-proxy: what is \"%s\"?\n", line);
        for (size_t index = 0; index < count; index++) pairs[index].answered = 0;
        have -= (size_t)(newline + 1 - line);
        memmove(line, newline + 1, have);
    }
    return 1;
}

int main(int argc, char **argv) {
    int target = argc == 2 ? atoi(argv[1]) : 0;
    signal(SIGPIPE, SIG_IGN);
    if (!target) return fprintf(stderr, "usage: fault-proxy TARGET-PORT\n"), 2;
    int listener = make();
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 512)
        || getsockname(listener, (struct sockaddr *)&address, &size))
        return perror("fault-proxy"), 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    static struct pollfd polls[2 + 2 * pairs_max];
    while (1) {
        polls[0] = (struct pollfd){.fd = 0, .events = POLLIN};
        polls[1] = (struct pollfd){.fd = listener, .events = POLLIN};
        uint64_t next = UINT64_MAX, time = now();
        for (size_t index = 0; index < count; index++) {
            struct pair *pair = &pairs[index];
            struct way *ways[2] = {&pair->up, &pair->down};
            for (int side = 0; side < 2; side++) {
                struct way *in = ways[side], *out = ways[1 - side];
                short events = 0;
                if (mode != HANG && !in->ended && in->queued < queue_bytes_max) events |= POLLIN;
                if (mode != HANG && out->first && out->first->due <= time) events |= POLLOUT;
                if (out->first && out->first->due > time && out->first->due < next) next = out->first->due;
                polls[2 + 2 * index + (size_t)side] = (struct pollfd){.fd = events ? in->from : -1, .events = events};
            }
        }
        uint64_t wait = next == UINT64_MAX ? 1000000000ull : next - time;
        struct timespec span = {(time_t)(wait / 1000000000ull), (long)(wait % 1000000000ull)};
        if (ppoll(polls, 2 + 2 * count, &span, NULL) < 0 && errno != EINTR) return perror("fault-proxy"), 1;
        if (polls[0].revents && !obey()) return 0;
        size_t known = count;
        if (polls[1].revents) begin(listener, target);
        // Backwards: the last one takes the place of one that ends.
        for (size_t index = known; index-- > 0;) {
            struct pair *pair = &pairs[index];
            int lives = mode != RESET;
            if (lives && mode == REFUSE) lives = polls[2 + 2 * index].revents ? refuse(pair) : 1;
            else if (lives && mode != HANG) {
                if (polls[2 + 2 * index].revents && !pair->up.ended) lives = receive(&pair->up);
                if (lives && polls[3 + 2 * index].revents && !pair->down.ended) lives = receive(&pair->down);
                if (lives) lives = forward(pair, &pair->up) && forward(pair, &pair->down);
            }
            if (!lives) end(pair, mode == RESET || mode == CUT);
        }
    }
}
