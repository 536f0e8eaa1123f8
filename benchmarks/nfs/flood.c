/* The load of benchmarks/nfs that takes least of the machine for itself: calls of NFSv3 made once and sent again with other
 * numbers, over several connections, as many under way on each as the depth says. What libnfs takes for a call is more than some
 * servers take.
 *
 *     flood [-P pid] [-t test,..] [-c connections] [-d depth] [-T seconds] [-w seconds] [-n names] [-b blocks of the file] [-r label]
 *         port mountport export
 *
 * With -w each test runs for so long before it is measured, and names come and go once: what servers take for memory that they meet
 * for the first time is no operation's cost.
 *
 * One line a test: label, test, connections, depth, operations, seconds, operations/s, p50 and p99 in microseconds, the
 * server's and the client's processor time in microseconds an operation, errors.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOUNT = 100005, NFS = 100003, BLOCK = 4096, CHUNK = 1 << 20, DEPTH_MAX = 256, CONNECTIONS_MAX = 64 };
enum procedure { GETATTR = 1, LOOKUP = 3, READ = 6, WRITE = 7, CREATE = 8, MKDIR = 9, REMOVE = 12, RMDIR = 13 };

static void fail(const char *what) {
    fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t clock_of(clockid_t id) {
    struct timespec t;
    if (clock_gettime(id, &t) != 0) fail("a clock");
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static uint64_t now(void) { return clock_of(CLOCK_MONOTONIC); }

/* ---- messages ---- */

struct message {
    uint8_t bytes[BLOCK + 512];
    uint32_t count;
};
struct handle {
    uint8_t bytes[64];
    uint32_t count;
};

static void word(struct message *m, uint32_t value) {
    value = htonl(value);
    memcpy(m->bytes + m->count, &value, 4);
    m->count += 4;
}
static void opaque(struct message *m, const void *bytes, uint32_t count) {
    word(m, count);
    memcpy(m->bytes + m->count, bytes, count);
    memset(m->bytes + m->count + count, 0, -count & 3);
    m->count += (count + 3) & ~3u;
}
static void begin(struct message *m, uint32_t program, uint32_t procedure) {
    m->count = 4;
    word(m, 0);
    word(m, 0), word(m, 2), word(m, program), word(m, 3), word(m, procedure);
    word(m, 1), word(m, 24), word(m, 0), opaque(m, "load", 4), word(m, 0), word(m, 0), word(m, 0);
    word(m, 0), word(m, 0);
}
static void end(struct message *m) {
    uint32_t mark = htonl((m->count - 4) | 0x80000000u);
    memcpy(m->bytes, &mark, 4);
}
/* Sets nothing but the mode. */
static void attributes(struct message *m, uint32_t mode) {
    word(m, 1), word(m, mode);
    for (int i = 0; i < 5; i++) word(m, 0);
}

static int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connecting");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}
static void put(int fd, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        ssize_t n = send(fd, bytes, count, MSG_NOSIGNAL);
        if (n <= 0) fail("sending");
        bytes += n, count -= n;
    }
}
static void take(int fd, uint8_t *bytes, size_t count) {
    while (count > 0) {
        ssize_t n = recv(fd, bytes, count, 0);
        if (n <= 0) fail("receiving");
        bytes += n, count -= n;
    }
}
/* Sends a call, waits, and answers where its results begin. */
static const uint8_t *ask(int fd, struct message *m, uint8_t reply[CHUNK]) {
    uint32_t mark, length;
    end(m);
    put(fd, m->bytes, m->count);
    take(fd, (uint8_t *)&mark, 4);
    length = ntohl(mark) & 0x7fffffff;
    if (length > CHUNK || length < 28) fail("a reply that is none");
    take(fd, reply, length);
    return reply + 24;
}
static uint32_t get(const uint8_t *p) {
    uint32_t value;
    memcpy(&value, p, 4);
    return ntohl(value);
}

static uint8_t reply[CHUNK];

static struct handle mounted(int port, const char *path) {
    struct message m;
    struct handle h;
    int fd = dial(port);
    begin(&m, MOUNT, 1);
    opaque(&m, path, strlen(path));
    const uint8_t *p = ask(fd, &m, reply);
    if (get(p) != 0) fail("mounting");
    h.count = get(p + 4);
    memcpy(h.bytes, p + 8, h.count);
    close(fd);
    return h;
}
/* CREATE or MKDIR of a name that is not there; LOOKUP finds it, since the handle in the results is optional. */
static struct handle made(int fd, struct handle directory, const char *name, int procedure) {
    struct message m;
    struct handle h;
    begin(&m, NFS, procedure);
    opaque(&m, directory.bytes, directory.count), opaque(&m, name, strlen(name));
    if (procedure == CREATE) word(&m, 0);
    attributes(&m, 0755);
    if (get(ask(fd, &m, reply)) != 0) fail(name);
    begin(&m, NFS, LOOKUP);
    opaque(&m, directory.bytes, directory.count), opaque(&m, name, strlen(name));
    const uint8_t *p = ask(fd, &m, reply);
    if (get(p) != 0) fail(name);
    h.count = get(p + 4);
    memcpy(h.bytes, p + 8, h.count);
    return h;
}
static void removed(int fd, struct handle directory, const char *name, int procedure) {
    struct message m;
    begin(&m, NFS, procedure);
    opaque(&m, directory.bytes, directory.count), opaque(&m, name, strlen(name));
    ask(fd, &m, reply);
}

/* ---- a run ---- */

static const char *label = "-";
static clockid_t server_clock;
static int has_server, depth = 64, connections = 1;
static double seconds = 3, warming;
static float *latencies;
static size_t latency_count, latency_room;

struct connection {
    int fd, under_way;
    uint64_t begun[DEPTH_MAX];
    uint8_t input[256 << 10];
    size_t have;
    uint8_t output[DEPTH_MAX * (BLOCK + 512)];
    size_t pending;
};
static struct connection *all[CONNECTIONS_MAX];

struct run {
    struct message call;
    /* Where the name's number or the offset is; -1: nowhere. */
    int name_at, offset_at;
    uint64_t span, limit, next, done, errors;
    uint64_t deadline;
    uint64_t random;
};

static uint64_t chance(struct run *r) {
    r->random ^= r->random << 13, r->random ^= r->random >> 7, r->random ^= r->random << 17;
    return r->random;
}

static void issue(struct run *r, struct connection *c, int slot) {
    uint8_t *place = c->output + c->pending;
    memcpy(place, r->call.bytes, r->call.count);
    uint32_t xid = htonl((uint32_t)((r->next + 1) * DEPTH_MAX + slot));
    memcpy(place + 4, &xid, 4);
    if (r->name_at >= 0) {
        uint64_t number = r->limit ? r->next : chance(r) % r->span;
        for (int i = 7; i >= 0; i--, number /= 10) place[r->name_at + i] = '0' + number % 10;
    }
    if (r->offset_at >= 0) {
        uint64_t offset = chance(r) % r->span * BLOCK;
        uint32_t high = htonl(offset >> 32), low = htonl((uint32_t)offset);
        memcpy(place + r->offset_at, &high, 4), memcpy(place + r->offset_at + 4, &low, 4);
    }
    r->next++;
    c->pending += r->call.count;
    c->under_way++;
    c->begun[slot] = now();
}

static int may_issue(struct run *r, uint64_t t) { return r->limit ? r->next < r->limit : t < r->deadline; }

static void flush(struct connection *c) {
    if (c->pending) put(c->fd, c->output, c->pending);
    c->pending = 0;
}

static void receive(struct run *r, struct connection *c) {
    ssize_t n = recv(c->fd, c->input + c->have, sizeof c->input - c->have, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN)) fail("receiving");
    if (n > 0) c->have += n;
    size_t at = 0;
    while (c->have - at >= 4) {
        uint32_t length = get(c->input + at) & 0x7fffffff;
        if (c->have - at < 4 + length) break;
        const uint8_t *p = c->input + at + 4;
        int slot = get(p) % DEPTH_MAX;
        uint64_t t = now();
        if (latency_count < latency_room) latencies[latency_count++] = (t - c->begun[slot]) / 1e3f;
        if (get(p + 8) != 0 || get(p + 20) != 0 || get(p + 24) != 0) r->errors++;
        r->done++;
        c->under_way--;
        at += 4 + length;
        if (may_issue(r, t)) issue(r, c, slot);
    }
    memmove(c->input, c->input + at, c->have - at);
    c->have -= at;
    flush(c);
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void drive(struct run *r, const char *name) {
    end(&r->call);
    r->random = 0x9e3779b97f4a7c15ull;
    latency_count = 0;
    uint64_t begun = now(), server = has_server ? clock_of(server_clock) : 0, own = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    r->deadline = begun + (uint64_t)(seconds * 1e9);
    for (int i = 0; i < connections; i++) {
        for (int slot = 0; slot < depth && may_issue(r, begun); slot++) issue(r, all[i], slot);
        flush(all[i]);
    }
    for (;;) {
        struct pollfd items[CONNECTIONS_MAX];
        int busy = 0;
        for (int i = 0; i < connections; i++) {
            items[i] = (struct pollfd){.fd = all[i]->fd, .events = POLLIN};
            busy += all[i]->under_way > 0;
        }
        if (!busy) break;
        if (poll(items, connections, 60000) <= 0) fail("no answer for a minute");
        for (int i = 0; i < connections; i++)
            if (items[i].revents) receive(r, all[i]);
    }
    double took = (now() - begun) / 1e9, count = r->done ? r->done : 1;
    if (!name) return;
    qsort(latencies, latency_count, sizeof *latencies, compare);
    printf("%s\t%s\t%d\t%d\t%.0f\t%.2f\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%llu\n", label, name, connections, depth, count, took,
        count / took, latency_count ? latencies[latency_count / 2] : 0,
        latency_count ? latencies[(size_t)(latency_count * 0.99)] : 0,
        has_server ? (clock_of(server_clock) - server) / 1e3 / count : 0,
        (clock_of(CLOCK_PROCESS_CPUTIME_ID) - own) / 1e3 / count, (unsigned long long)r->errors);
    fflush(stdout);
}

static void measure(struct run *r, const char *name) {
    if (warming > 0) {
        struct run first = *r;
        double wanted = seconds;
        seconds = warming;
        drive(&first, NULL);
        seconds = wanted;
    }
    drive(r, name);
}

static struct run prepared(int procedure, struct handle target) {
    struct run r = {.name_at = -1, .offset_at = -1};
    begin(&r.call, NFS, procedure);
    opaque(&r.call, target.bytes, target.count);
    return r;
}
static void named(struct run *r) {
    word(&r->call, 9);
    r->call.bytes[r->call.count++] = 'f';
    r->name_at = r->call.count;
    r->call.count += 8;
    memset(r->call.bytes + r->call.count, 0, 3), r->call.count += 3;
}
static void names(struct handle directory, int procedure, uint64_t count, const char *name) {
    struct run r = prepared(procedure, directory);
    named(&r);
    if (procedure == CREATE) word(&r.call, 0), attributes(&r.call, 0644);
    r.limit = count;
    drive(&r, name);
}

static int wanted(const char *list, const char *name) {
    char key[64], with[512];
    snprintf(key, sizeof key, ",%s,", name), snprintf(with, sizeof with, ",%s,", list);
    return strstr(with, key) != NULL;
}

int main(int argc, char **argv) {
    const char *tests = "getattr,lookup,read,write,create";
    uint64_t count = 20000, blocks = 16384;
    for (int option; (option = getopt(argc, argv, "P:t:c:d:T:w:n:b:r:")) != -1;) switch (option) {
        case 'P':
            if (clock_getcpuclockid(atoi(optarg), &server_clock) != 0) fail("the server's clock");
            has_server = 1;
            break;
        case 't': tests = optarg; break;
        case 'c': connections = atoi(optarg); break;
        case 'd': depth = atoi(optarg); break;
        case 'T': seconds = atof(optarg); break;
        case 'w': warming = atof(optarg); break;
        case 'n': count = strtoull(optarg, NULL, 10); break;
        case 'b': blocks = strtoull(optarg, NULL, 10); break;
        case 'r': label = optarg; break;
        default: return 2;
    }
    if (argc - optind != 3 || depth < 1 || depth > DEPTH_MAX || connections < 1 || connections > CONNECTIONS_MAX) return 2;
    int port = atoi(argv[optind]);
    struct handle root = mounted(atoi(argv[optind + 1]), argv[optind + 2]);
    latency_room = 20000000;
    latencies = malloc(latency_room * sizeof *latencies);
    for (int i = 0; i < connections; i++) {
        all[i] = calloc(1, sizeof *all[i]);
        all[i]->fd = dial(port);
    }
    int fd = all[0]->fd;
    char name[32];
    snprintf(name, sizeof name, "flood-%d", (int)getpid());
    struct handle home = made(fd, root, name, MKDIR), file = made(fd, home, "file", CREATE);
    uint8_t data[BLOCK];
    for (int i = 0; i < BLOCK; i++) data[i] = i * 31 + (i >> 8);
    if (wanted(tests, "read") || wanted(tests, "write")) {
        struct message m;
        for (uint64_t i = 0; i < blocks; i++) {
            begin(&m, NFS, WRITE);
            opaque(&m, file.bytes, file.count);
            word(&m, (i * BLOCK) >> 32), word(&m, (uint32_t)(i * BLOCK)), word(&m, BLOCK), word(&m, 0);
            opaque(&m, data, BLOCK);
            if (get(ask(fd, &m, reply)) != 0) fail("filling the file");
        }
    }
    if (wanted(tests, "getattr")) {
        struct run r = prepared(GETATTR, file);
        measure(&r, "getattr");
    }
    if (wanted(tests, "lookup")) {
        struct handle directory = made(fd, home, "lookups", MKDIR);
        names(directory, CREATE, 1000, NULL);
        struct run r = prepared(LOOKUP, directory);
        named(&r);
        r.span = 1000;
        measure(&r, "lookup");
        names(directory, REMOVE, 1000, NULL);
        removed(fd, home, "lookups", RMDIR);
    }
    if (wanted(tests, "read")) {
        struct run r = prepared(READ, file);
        r.offset_at = r.call.count, r.span = blocks;
        word(&r.call, 0), word(&r.call, 0), word(&r.call, BLOCK);
        measure(&r, "read");
    }
    if (wanted(tests, "write")) {
        struct run r = prepared(WRITE, file);
        r.offset_at = r.call.count, r.span = blocks;
        word(&r.call, 0), word(&r.call, 0), word(&r.call, BLOCK), word(&r.call, 0);
        opaque(&r.call, data, BLOCK);
        measure(&r, "write");
    }
    if (wanted(tests, "create")) {
        struct handle directory = made(fd, home, "names", MKDIR);
        if (warming > 0) names(directory, CREATE, count, NULL), names(directory, REMOVE, count, NULL);
        names(directory, CREATE, count, "create");
        names(directory, REMOVE, count, "remove");
        removed(fd, home, "names", RMDIR);
    }
    removed(fd, home, "file", REMOVE);
    removed(fd, root, name, RMDIR);
    return 0;
}
