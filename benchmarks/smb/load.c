/* The load of benchmarks/smb: SMB2 written by hand on one connection, as many requests under way as the depth says.
 *
 *     load [-P pid] [-t tests] [-d depth] [-T seconds] [-n files] [-N entries] [-M MiB] [-r label] port share user secret
 *     load -I sessions [-P pid] [-r label] port share user secret
 *
 * One line a test: label, test, depth, operations, operations/s, the server's processor time in microseconds an operation, p50
 * and p99 in microseconds. The server is the process of -P and all that it has forked. With -I: so many sessions that do nothing,
 * and what the server's processes hold then and held before, in MiB.
 *
 * Dialect 3.0.2, NTLMv2, neither signed nor encrypted: what is left is what a request costs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NEGOTIATE, SETUP, LOGOFF, TREE, UNTREE, CREATE, CLOSE, FLUSH, READ, WRITE, LOCK, IOCTL, CANCEL, ECHO, LIST, NOTIFY, INFO, SET };
enum { PENDING = 0x103, MORE = 0xC0000016, NO_MORE_FILES = 0x80000006 };

static int port, server, depth = 16, files = 1000, entries = 10000, megabytes = 64;
static double seconds = 3;
static const char *share, *user, *secret, *label = "-";

static void die(const char *why)
{
    fprintf(stderr, "load: %s (%s)\n", why, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* ---- what the server's processes take ---- */

/* Of one process: its parent, and the ticks of it and of the children that have ended. */
static int process(const char *pid, int *parent, double *ticks)
{
    char path[300], line[1024];
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    char *p = strrchr(line, ')');
    unsigned long u, s;
    long cu, cs;
    if (!p || sscanf(p + 2, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", parent, &u, &s, &cu, &cs) != 5)
        return 0;
    *ticks = u + s + cu + cs;
    return 1;
}

static double resident(const char *pid)
{
    char path[300], line[256];
    double kib = 0;
    snprintf(path, sizeof path, "/proc/%s/smaps_rollup", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Pss: %lf", &kib) == 1)
            break;
    fclose(f);
    return kib / 1024;
}

/* Processor seconds of the server and all below it; and their memory, what they share counted once. */
static double usage(double *memory)
{
    static struct { int pid, parent; double ticks; char name[16]; } all[65536];
    int count = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d)) && count < 65536;) {
        if (e->d_name[0] < '0' || e->d_name[0] > '9' || !process(e->d_name, &all[count].parent, &all[count].ticks))
            continue;
        all[count].pid = atoi(e->d_name);
        snprintf(all[count].name, sizeof all[count].name, "%.15s", e->d_name);
        count++;
    }
    closedir(d);
    double ticks = 0;
    if (memory)
        *memory = 0;
    for (int i = 0; i < count; i++) {
        int at = all[i].pid;
        for (int steps = 0; at != server && at > 1 && steps < 8; steps++) {
            int j = 0;
            while (j < count && all[j].pid != at)
                j++;
            at = j < count ? all[j].parent : 0;
        }
        if (at != server)
            continue;
        ticks += all[i].ticks;
        if (memory)
            *memory += resident(all[i].name);
    }
    return ticks / sysconf(_SC_CLK_TCK);
}

/* ---- NTLMv2 ---- */

static uint32_t turn(uint32_t x, int n) { return x << n | x >> (32 - n); }

/* RFC 1320, of less than 56 bytes: a secret is no longer. */
static void md4(const uint8_t *text, size_t count, uint8_t out[16])
{
    uint8_t block[64] = { 0 };
    uint32_t x[16], a = 0x67452301, b = 0xefcdab89, c = 0x98badcfe, d = 0x10325476;
    if (count >= 56)
        die("a secret too long");
    memcpy(block, text, count);
    block[count] = 0x80;
    block[56] = count * 8 & 0xff;
    block[57] = count * 8 >> 8;
    memcpy(x, block, 64);
    for (int i = 0; i < 48; i++) {
        static const int order[2][16] = { { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 },
            { 0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15 } };
        static const int turns[3][4] = { { 3, 7, 11, 19 }, { 3, 5, 9, 13 }, { 3, 9, 11, 15 } };
        int round = i / 16;
        uint32_t f = round == 0 ? (b & c) | (~b & d) : round == 1 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t k = round == 0 ? 0 : round == 1 ? 0x5a827999 : 0x6ed9eba1;
        uint32_t sum = turn(a + f + k + x[round == 0 ? i : order[round - 1][i % 16]], turns[round][i % 4]);
        a = d;
        d = c;
        c = b;
        b = sum;
    }
    uint32_t sums[4] = { a + 0x67452301, b + 0xefcdab89, c + 0x98badcfe, d + 0x10325476 };
    memcpy(out, sums, 16);
}

static void hmac(const uint8_t *key, const uint8_t *text, size_t count, uint8_t out[16])
{
    unsigned length = 16;
    if (!HMAC(EVP_md5(), key, 16, text, count, out, &length))
        die("no HMAC-MD5");
}

static size_t wide(uint8_t *to, const char *text, int isUpper)
{
    size_t n = 0;
    for (; *text; text++) {
        to[n++] = isUpper && *text >= 'a' && *text <= 'z' ? *text - 32 : *text;
        to[n++] = 0;
    }
    return n;
}

static void put(uint8_t *to, uint64_t value, int bytes) { memcpy(to, &value, bytes); }
static uint64_t get(const uint8_t *from, int bytes)
{
    uint64_t value = 0;
    memcpy(&value, from, bytes);
    return value;
}

static const uint8_t hello[32] = "NTLMSSP\0\1\0\0\0\5\2\10\240";

static size_t answer(const uint8_t *challenge, uint8_t *out)
{
    uint8_t name[128], hash[16], key[16], both[2048], proof[16];
    md4(name, wide(name, secret, 0), hash);
    hmac(hash, name, wide(name, user, 1), key);
    size_t info = get(challenge + 40, 2), at = get(challenge + 44, 4), blob = 8;
    if (info > 1024)
        die("a challenge too long");
    memset(both, 0, sizeof both);
    memcpy(both, challenge + 24, 8);
    both[blob] = both[blob + 1] = 1;
    /* The time is the server's own, where it tells it. */
    for (size_t i = at; i + 4 <= at + info; i += 4 + get(challenge + i + 2, 2))
        if (get(challenge + i, 2) == 7)
            memcpy(both + blob + 8, challenge + i + 4, 8);
    memset(both + blob + 16, 7, 8);
    memcpy(both + blob + 28, challenge + at, info);
    size_t count = 28 + info + 4;
    hmac(key, both, blob + count, proof);
    memset(out, 0, 64);
    memcpy(out, "NTLMSSP\0\3", 9);
    size_t end = 64;
    uint8_t *fields = out + 12;
    put(fields + 4, end, 4);
    fields += 8;
    put(fields, 16 + count, 2), put(fields + 2, 16 + count, 2), put(fields + 4, end, 4);
    memcpy(out + end, proof, 16);
    memcpy(out + end + 16, both + blob, count);
    end += 16 + count;
    fields += 8;
    put(fields + 4, end, 4);
    fields += 8;
    size_t length = wide(out + end, user, 0);
    put(fields, length, 2), put(fields + 2, length, 2), put(fields + 4, end, 4);
    end += length;
    put(fields + 12, end, 4);
    put(fields + 20, end, 4);
    put(out + 60, 0xa0080205, 4);
    return end;
}

/* ---- messages ---- */

struct link {
    int socket;
    uint64_t next, session;
    uint32_t tree;
    uint8_t *in, *out;
    size_t have, used, waiting;
};

enum { ROOM = 4 << 20 };

static struct link *dial(void)
{
    struct link *l = calloc(1, sizeof *l);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1;
    l->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (l->socket < 0 || connect(l->socket, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    setsockopt(l->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return l;
}

static void needRoom(struct link *l)
{
    if (!l->in) {
        l->in = malloc(ROOM);
        l->out = malloc(ROOM);
    }
}

/* Appends a request and returns its number. */
static uint64_t add(struct link *l, int command, const void *body, size_t count, const void *data, size_t more)
{
    needRoom(l);
    if (l->waiting + 68 + count + more > ROOM)
        die("requests too long");
    uint8_t *p = l->out + l->waiting;
    memset(p, 0, 68);
    put(p, htonl(64 + count + more), 4);
    p += 4;
    memcpy(p, "\xfeSMB", 4);
    put(p + 4, 64, 2);
    put(p + 6, 1, 2);
    put(p + 12, command, 2);
    put(p + 14, 64, 2);
    put(p + 24, l->next, 8);
    put(p + 36, l->tree, 4);
    put(p + 40, l->session, 8);
    memcpy(p + 64, body, count);
    if (more)
        memcpy(p + 64 + count, data, more);
    l->waiting += 68 + count + more;
    return l->next++;
}

static void flush(struct link *l)
{
    for (size_t at = 0; at < l->waiting;) {
        ssize_t n = send(l->socket, l->out + at, l->waiting - at, MSG_NOSIGNAL);
        if (n <= 0)
            die("send");
        at += n;
    }
    l->waiting = 0;
}

/* The next answer that lies in the buffer, or NULL. */
static uint8_t *taken(struct link *l, size_t *count)
{
    if (l->have - l->used < 4)
        return NULL;
    size_t length = ntohl(get(l->in + l->used, 4)) & 0xffffff;
    if (l->have - l->used < 4 + length)
        return NULL;
    uint8_t *message = l->in + l->used + 4;
    l->used += 4 + length;
    *count = length;
    return message;
}

static void more(struct link *l)
{
    memmove(l->in, l->in + l->used, l->have - l->used);
    l->have -= l->used;
    l->used = 0;
    ssize_t n = recv(l->socket, l->in + l->have, ROOM - l->have, 0);
    if (n <= 0)
        die("the server has ended the connection");
    l->have += n;
}

static uint32_t statusOf(const uint8_t *message) { return get(message + 8, 4); }

/* Sends one and waits for its answer. */
static uint8_t *ask(struct link *l, int command, const void *body, size_t size, const void *data, size_t length, size_t *count)
{
    uint64_t number = add(l, command, body, size, data, length);
    flush(l);
    for (;;) {
        uint8_t *message = taken(l, count);
        if (!message)
            more(l);
        else if (get(message + 24, 8) == number && statusOf(message) != PENDING)
            return message;
    }
}

static void logOn(struct link *l, int guid)
{
    uint8_t body[64] = { 0 }, token[4096], path[512];
    size_t count;
    put(body, 36, 2), put(body + 2, 1, 2), put(body + 4, 1, 2), put(body + 12, guid, 8), put(body + 36, 0x0302, 2);
    put(body + 8, 0x04, 4);
    if (statusOf(ask(l, NEGOTIATE, body, 38, NULL, 0, &count)))
        die("negotiate");
    memset(body, 0, sizeof body);
    put(body, 25, 2), put(body + 3, 1, 1), put(body + 12, 88, 2), put(body + 14, 32, 2);
    uint8_t *reply = ask(l, SETUP, body, 24, hello, 32, &count);
    if (statusOf(reply) != MORE)
        die("session setup");
    l->session = get(reply + 40, 8);
    size_t length = answer(reply + get(reply + 68, 2), token);
    put(body + 14, length, 2);
    if (statusOf(ask(l, SETUP, body, 24, token, length, &count)))
        die("log-on");
    char text[200];
    snprintf(text, sizeof text, "\\\\127.0.0.1\\%s", share);
    length = wide(path, text, 0);
    memset(body, 0, 8);
    put(body, 9, 2), put(body + 4, 72, 2), put(body + 6, length, 2);
    reply = ask(l, TREE, body, 8, path, length, &count);
    if (statusOf(reply))
        die("tree connect");
    l->tree = get(reply + 36, 4);
}

/* Access, disposition and options as in [MS-SMB2] 2.2.13. */
static uint64_t addCreate(struct link *l, const char *name, uint32_t access, uint32_t disposition, uint32_t options)
{
    uint8_t body[56] = { 0 }, path[256];
    size_t length = wide(path, name, 0);
    put(body, 57, 2), put(body + 4, 2, 4), put(body + 24, access, 4), put(body + 32, 7, 4);
    put(body + 36, disposition, 4), put(body + 40, options, 4), put(body + 44, 120, 2), put(body + 46, length, 2);
    return add(l, CREATE, body, 56, path, length ? length : 2);
}

static uint64_t addClose(struct link *l, const uint8_t *handle)
{
    uint8_t body[24] = { 0 };
    put(body, 24, 2);
    memcpy(body + 8, handle, 16);
    return add(l, CLOSE, body, 24, NULL, 0);
}

static uint64_t addRead(struct link *l, const uint8_t *handle, uint64_t offset)
{
    uint8_t body[49] = { 0 };
    put(body, 49, 2), put(body + 2, 0x50, 1), put(body + 4, 4096, 4), put(body + 8, offset, 8);
    memcpy(body + 16, handle, 16);
    return add(l, READ, body, 49, NULL, 0);
}

static uint64_t addWrite(struct link *l, const uint8_t *handle, uint64_t offset, const void *data, size_t count)
{
    uint8_t body[48] = { 0 };
    put(body, 49, 2), put(body + 2, 112, 2), put(body + 4, count, 4), put(body + 8, offset, 8);
    memcpy(body + 16, handle, 16);
    return add(l, WRITE, body, 48, data, count);
}

static uint64_t addList(struct link *l, const uint8_t *handle)
{
    uint8_t body[32] = { 0 };
    put(body, 33, 2), put(body + 2, 37, 1), put(body + 24, 96, 2), put(body + 26, 2, 2), put(body + 28, 65536, 4);
    memcpy(body + 8, handle, 16);
    return add(l, LIST, body, 32, "*\0", 2);
}

/* ---- tests ---- */

enum { READING, WRITING, OPENING, MAKING, LISTING, FILLING };
static const char *tests[] = { "read4k", "write4k", "openclose", "createunlink", "list", "filling" };
static const char *folder;

struct slot {
    uint64_t number;
    int step, index;
    uint8_t handle[16];
    double since;
};

static int byTime(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static uint64_t chance = 88172645463325252;
static uint64_t dice(void)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance;
}

static uint8_t file[16], page[1 << 16];
static uint64_t listed;

/* The slot's next request; 0: its operation is done. */
static uint64_t step(struct link *l, int test, struct slot *s, const uint8_t *reply)
{
    char name[64];
    if (reply && s->step && statusOf(reply) && !(test == LISTING && statusOf(reply) == NO_MORE_FILES)) {
        fprintf(stderr, "load: %s, step %d: status %x\n", tests[test], s->step, statusOf(reply));
        exit(1);
    }
    switch (test) {
    case READING:
        return s->step++ ? 0 : addRead(l, file, dice() % ((uint64_t)megabytes << 8) * 4096);
    case WRITING:
        return s->step++ ? 0 : addWrite(l, file, dice() % ((uint64_t)megabytes << 8) * 4096, page + dice() % 15 * 4096, 4096);
    case OPENING:
        snprintf(name, sizeof name, "load\\open\\f%05d", (int)(dice() % files));
        switch (s->step++) {
        case 0: return addCreate(l, name, 0x120089, 1, 0);
        case 1: return addClose(l, reply + 128);
        default: return 0;
        }
    case MAKING:
        snprintf(name, sizeof name, "load\\made\\n%d", s->index);
        switch (s->step++) {
        case 0: return addCreate(l, name, 0x12019f, 2, 0x40);
        case 1: return addClose(l, reply + 128);
        case 2: return addCreate(l, name, 0x10080, 1, 0x1000);
        case 3: return addClose(l, reply + 128);
        default: return 0;
        }
    case FILLING:
        snprintf(name, sizeof name, "%s\\f%05d", folder, s->index);
        switch (s->step++) {
        case 0: return addCreate(l, name, 0x12019f, 2, 0x40);
        case 1: return addClose(l, reply + 128);
        default: return 0;
        }
    default:
        if (s->step == 0) {
            s->step = 1;
            return addCreate(l, "load\\many", 0x120089, 1, 1);
        }
        if (s->step == 1) {
            memcpy(s->handle, reply + 128, 16);
            s->step = 2;
            return addList(l, s->handle);
        }
        if (s->step == 3)
            return 0;
        if (statusOf(reply) == NO_MORE_FILES) {
            s->step = 3;
            return addClose(l, s->handle);
        }
        for (const uint8_t *entry = reply + get(reply + 66, 2);; entry += get(entry, 4)) {
            listed++;
            if (!get(entry, 4))
                break;
        }
        return addList(l, s->handle);
    }
}

/* So many operations and silently, or as many as the time is for. */
static void measure(struct link *l, int test, int most)
{
    struct slot slots[256] = { { 0 } };
    size_t room = 1 << 22, done = 0, count;
    float *times = malloc(room * sizeof *times);
    int width = test == LISTING ? 1 : depth, made = 0;
    listed = 0;
    double before = usage(NULL), start = now();
    for (int i = 0; i < width; i++) {
        slots[i].since = start;
        slots[i].index = made++;
        slots[i].number = step(l, test, &slots[i], NULL);
    }
    flush(l);
    for (int active = width; active;) {
        uint8_t *reply = taken(l, &count);
        if (!reply) {
            flush(l);
            more(l);
            continue;
        }
        if (statusOf(reply) == PENDING || get(reply + 24, 8) == UINT64_MAX)
            continue;
        struct slot *s = slots;
        while (s->number != get(reply + 24, 8))
            if (++s == slots + width)
                die("an answer to nothing");
        if ((s->number = step(l, test, s, reply)))
            continue;
        double end = now();
        if (done < room)
            times[done++] = (end - s->since) * 1e6;
        if (most ? made >= most : end - start > seconds) {
            s->number = UINT64_MAX;
            active--;
            continue;
        }
        s->step = 0;
        s->since = end;
        s->index = made++;
        s->number = step(l, test, s, NULL);
    }
    double elapsed = now() - start, spent = usage(NULL) - before;
    double operations = test == LISTING ? listed : done;
    if (most) {
        free(times);
        return;
    }
    qsort(times, done, sizeof *times, byTime);
    printf("%s\t%s\t%d\t%.0f\t%.0f\t%.2f\t%.0f\t%.0f\n", label, tests[test], width, operations, operations / elapsed,
        spent * 1e6 / operations, times[done / 2], times[done - 1 - done / 100]);
    fflush(stdout);
    free(times);
}

/* What a test works on. */
static void make(struct link *l, const char *name, int isDirectory, uint8_t handle[16])
{
    size_t count;
    uint8_t kept[16];
    uint64_t number = addCreate(l, name, 0x12019f, 3, isDirectory ? 1 : 0x40);
    flush(l);
    uint8_t *reply;
    do {
        while (!(reply = taken(l, &count)))
            more(l);
    } while (get(reply + 24, 8) != number || statusOf(reply) == PENDING);
    if (statusOf(reply))
        die(name);
    memcpy(kept, reply + 128, 16);
    if (handle) {
        memcpy(handle, kept, 16);
        return;
    }
    uint8_t body[24] = { 0 };
    put(body, 24, 2);
    memcpy(body + 8, kept, 16);
    ask(l, CLOSE, body, 24, NULL, 0, &count);
}

static void prepare(struct link *l, int test)
{
    make(l, "load", 1, NULL);
    if (test == READING || test == WRITING) {
        make(l, "load\\file", 0, file);
        for (uint64_t at = 0; at < (uint64_t)megabytes << 20; at += sizeof page) {
            uint64_t number = addWrite(l, file, at, page, sizeof page);
            size_t count;
            uint8_t *reply;
            flush(l);
            do {
                while (!(reply = taken(l, &count)))
                    more(l);
            } while (get(reply + 24, 8) != number || statusOf(reply) == PENDING);
            if (statusOf(reply))
                die("a file to read");
        }
    } else {
        int many = test == LISTING ? entries : test == OPENING ? files : 0;
        folder = test == LISTING ? "load\\many" : test == OPENING ? "load\\open" : "load\\made";
        make(l, folder, 1, NULL);
        if (many)
            measure(l, FILLING, many);
    }
}

int main(int argc, char **argv)
{
    const char *chosen = "read4k,write4k,openclose,createunlink,list";
    int idle = 0;
    for (int c; (c = getopt(argc, argv, "P:t:d:T:n:N:M:r:I:")) != -1;)
        switch (c) {
        case 'P': server = atoi(optarg); break;
        case 't': chosen = optarg; break;
        case 'd': depth = atoi(optarg); break;
        case 'T': seconds = atof(optarg); break;
        case 'n': files = atoi(optarg); break;
        case 'N': entries = atoi(optarg); break;
        case 'M': megabytes = atoi(optarg); break;
        case 'r': label = optarg; break;
        case 'I': idle = atoi(optarg); break;
        default: return 2;
        }
    if (argc - optind != 4 || depth < 1 || depth > 256 || server < 1)
        return 2;
    port = atoi(argv[optind]);
    share = argv[optind + 1];
    user = argv[optind + 2];
    secret = argv[optind + 3];
    if (idle) {
        struct rlimit limit = { idle + 100, idle + 100 };
        double before, after;
        setrlimit(RLIMIT_NOFILE, &limit);
        usage(&before);
        for (int i = 0; i < idle; i++) {
            struct link *l = dial();
            logOn(l, i + 1);
            free(l->in);
            free(l->out);
            l->in = l->out = NULL;
        }
        sleep(1);
        usage(&after);
        printf("%s\tidle\t%d\t%.1f\t%.1f\n", label, idle, after, before);
        return 0;
    }
    for (size_t i = 0; i < sizeof page; i++)
        page[i] = dice();
    for (int test = READING; test <= LISTING; test++) {
        if (!strstr(chosen, tests[test]))
            continue;
        struct link *l = dial();
        logOn(l, 1);
        prepare(l, test);
        measure(l, test, 0);
        close(l->socket);
    }
    return 0;
}
