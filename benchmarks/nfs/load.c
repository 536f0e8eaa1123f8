/* The load of benchmarks/nfs: calls of NFSv3 over libnfs's raw RPC on one connection, as many under way as the depth says.
 *
 *     load [-P pid,pid..] [-t tests] [-S MiB] [-T seconds] [-D entries] [-r label] nfs://host/export?nfsport=..&mountport=..
 *
 * One line a test: label, test, block size, depth, operations, seconds, operations/s, MiB/s, p50 and p99 in microseconds,
 * the server's and the client's processor time in microseconds an operation, errors, load average.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <unistd.h>
#include <time.h>
#include <poll.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <nfsc/libnfs-raw-mount.h>

static struct rpc_context *rpc;
static struct nfs_fh3 rootfh;
static char *pids;
static const char *label = "-";
static double dur = 3.0;
static long seqmib = 512;
static int ndir = 10000;
static uint32_t rtmax = 1048576, wtmax = 1048576;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double selfcpu(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

static double srvcpu(void)
{
    double tot = 0;
    char buf[1024], *save = NULL;
    if (!pids)
        return 0;
    char *s = strdup(pids);
    for (char *p = strtok_r(s, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%s/stat", p);
        FILE *f = fopen(path, "r");
        if (!f)
            continue;
        size_t n = fread(buf, 1, sizeof buf - 1, f);
        buf[n] = 0;
        fclose(f);
        char *q = strrchr(buf, ')');
        unsigned long u = 0, k = 0;
        if (q && sscanf(q + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &k) == 2)
            tot += (u + k) / (double)sysconf(_SC_CLK_TCK);
    }
    free(s);
    return tot;
}

static double load1(void)
{
    double l = 0;
    FILE *f = fopen("/proc/loadavg", "r");
    if (f) {
        if (fscanf(f, "%lf", &l) != 1)
            l = 0;
        fclose(f);
    }
    return l;
}

/* ---- closed-loop pipelined runner ---- */
enum op { O_READ, O_WRITE, O_WRITESYNC, O_GETATTR, O_LOOKUP, O_CREATE, O_REMOVE, O_COMMIT };
struct run;
struct slot {
    struct run *r;
    double t0;
    uint64_t idx;
    char name[32];
};
struct run {
    enum op op;
    int qd;
    uint64_t next, maxops;
    double deadline;
    uint64_t fsize;
    uint32_t bs;
    int rnd;
    uint64_t done;
    int inflight;
    uint64_t errs;
    uint64_t bytes;
    float *lat;
    size_t nlat, clat;
    struct nfs_fh3 fh;
    const char *pfx;
    uint64_t rs;
};
static char *wbuf;
static uint64_t xr(uint64_t * s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void cb(struct rpc_context *c, int status, void *data, void *priv);
static void issue(struct slot *s)
{
    struct run *r = s->r;
    s->idx = r->next++;
    s->t0 = now();
    r->inflight++;
    uint64_t nb = r->fsize / r->bs;
    uint64_t off = r->rnd ? (xr(&r->rs) % nb) * r->bs : (s->idx % (nb ? nb : 1)) * (uint64_t) r->bs;
    int rc = 0;
    switch (r->op) {
    case O_READ:{
            READ3args a = { 0 };
            a.file = r->fh;
            a.offset = off;
            a.count = r->bs;
            rc = rpc_nfs3_read_async(rpc, cb, &a, s);
            break;
        }
    case O_WRITE:
    case O_WRITESYNC:{
            WRITE3args a = { 0 };
            a.file = r->fh;
            a.offset = off;
            a.count = r->bs;
            a.stable = r->op == O_WRITE ? UNSTABLE : FILE_SYNC;
            a.data.data_len = r->bs;
            a.data.data_val = wbuf + (s->idx % 16) * 4096;
            rc = rpc_nfs3_write_async(rpc, cb, &a, s);
            break;
        }
    case O_COMMIT:{
            COMMIT3args a = { 0 };
            a.file = r->fh;
            rc = rpc_nfs3_commit_async(rpc, cb, &a, s);
            break;
        }
    case O_GETATTR:{
            GETATTR3args a = { 0 };
            a.object = r->fh;
            rc = rpc_nfs3_getattr_async(rpc, cb, &a, s);
            break;
        }
    case O_LOOKUP:{
            LOOKUP3args a = { 0 };
            a.what.dir = r->fh;
            snprintf(s->name, sizeof s->name, "%s%llu", r->pfx, (unsigned long long)(xr(&r->rs) % r->fsize));
            a.what.name = s->name;
            rc = rpc_nfs3_lookup_async(rpc, cb, &a, s);
            break;
        }
    case O_CREATE:{
            CREATE3args a;
            memset(&a, 0, sizeof a);
            a.where.dir = r->fh;
            snprintf(s->name, sizeof s->name, "%s%llu", r->pfx, (unsigned long long)s->idx);
            a.where.name = s->name;
            a.how.mode = UNCHECKED;
            a.how.createhow3_u.obj_attributes.mode.set_it = 1;
            a.how.createhow3_u.obj_attributes.mode.set_mode3_u.mode = 0644;
            rc = rpc_nfs3_create_async(rpc, cb, &a, s);
            break;
        }
    case O_REMOVE:{
            REMOVE3args a = { 0 };
            a.object.dir = r->fh;
            snprintf(s->name, sizeof s->name, "%s%llu", r->pfx, (unsigned long long)s->idx);
            a.object.name = s->name;
            rc = rpc_nfs3_remove_async(rpc, cb, &a, s);
            break;
        }
    }
    if (rc) {
        fprintf(stderr, "issue failed: %s\n", rpc_get_error(rpc));
        exit(2);
    }
}

static void cb(struct rpc_context *c, int status, void *data, void *priv)
{
    (void)c;
    struct slot *s = priv;
    struct run *r = s->r;
    double t = now();
    r->inflight--;
    r->done++;
    if (r->nlat == r->clat) {
        r->clat = r->clat ? r->clat * 2 : 65536;
        r->lat = realloc(r->lat, r->clat * sizeof(float));
    }
    r->lat[r->nlat++] = (t - s->t0) * 1e6;
    if (status != RPC_STATUS_SUCCESS)
        r->errs++;
    else if (*(int *)data != NFS3_OK) {
        if (!r->errs)
            fprintf(stderr, "nfs status %d op %d\n", *(int *)data, r->op);
        r->errs++;
    } else if (r->op == O_READ)
        r->bytes += ((READ3res *) data)->READ3res_u.resok.count;
    else if (r->op == O_WRITE || r->op == O_WRITESYNC)
        r->bytes += ((WRITE3res *) data)->WRITE3res_u.resok.count;
    if (r->next < r->maxops && (r->deadline == 0 || t < r->deadline))
        issue(s);
}

static void pump(int *inflight)
{
    while (*inflight) {
        struct pollfd p = {.fd = rpc_get_fd(rpc),.events = rpc_which_events(rpc) };
        if (poll(&p, 1, 30000) <= 0) {
            fprintf(stderr, "poll timeout\n");
            exit(3);
        }
        if (rpc_service(rpc, p.revents) < 0) {
            fprintf(stderr, "rpc_service: %s\n", rpc_get_error(rpc));
            exit(3);
        }
    }
}

static int cmpf(const void *a, const void *b)
{
    float x = *(float *)a, y = *(float *)b;
    return x < y ? -1 : x > y;
}

static double T0, S0, C0;
static void begin(void)
{
    S0 = srvcpu();
    C0 = selfcpu();
    T0 = now();
}

static void row(const char *t, uint32_t bs, int qd, double ops, double bytes, float *lat, size_t n, uint64_t errs)
{
    double el = now() - T0, sc = srvcpu() - S0, cc = selfcpu() - C0;
    double p50 = 0, p99 = 0;
    if (n) {
        qsort(lat, n, sizeof(float), cmpf);
        p50 = lat[n / 2];
        p99 = lat[(size_t)(n * 0.99)];
    }
    printf("%s\t%s\t%u\t%d\t%.0f\t%.2f\t%.0f\t%.1f\t%.0f\t%.0f\t%.1f\t%.1f\t%llu\t%.2f\n", label, t, bs, qd, ops, el,
           ops / el, bytes / 1048576 / el, p50, p99, sc * 1e6 / ops, cc * 1e6 / ops, (unsigned long long)errs, load1());
    fflush(stdout);
}

static void drive(struct run *r)
{
    struct slot *s = calloc(r->qd, sizeof *s);
    r->rs = 0x9E3779B97F4A7C15ull;
    r->next = r->done = r->errs = r->bytes = 0;
    r->inflight = 0;
    r->nlat = 0;
    for (int i = 0; i < r->qd && r->next < r->maxops; i++) {
        s[i].r = r;
        issue(&s[i]);
    } pump(&r->inflight);
    free(s);
}

static void bench(const char *name, struct run *r)
{
    begin();
    if (r->deadline >= 0 && r->maxops == UINT64_MAX)
        r->deadline = now() + dur;
    drive(r);
    row(name, r->bs, r->qd, r->done, r->bytes, r->lat, r->nlat, r->errs);
    free(r->lat);
    r->lat = NULL;
    r->clat = 0;
}

/* ---- small sync helpers ---- */
struct sy {
    int done;
    int st;
    struct nfs_fh3 fh;
    READDIRPLUS3res *rd;
    uint64_t cookie;
    char verf[8];
    uint64_t n;
    int eof;
    uint32_t rt, wt;
};
static void fhdup(struct nfs_fh3 *d, struct nfs_fh3 *s)
{
    d->data.data_len = s->data.data_len;
    d->data.data_val = malloc(s->data.data_len);
    memcpy(d->data.data_val, s->data.data_val, s->data.data_len);
}

static void wait1(struct sy *y)
{
    while (!y->done) {
        struct pollfd p = {.fd = rpc_get_fd(rpc),.events = rpc_which_events(rpc) };
        if (poll(&p, 1, 60000) <= 0)
            exit(3);
        if (rpc_service(rpc, p.revents) < 0)
            exit(3);
    }
}

static void lk_cb(struct rpc_context *c, int st, void *d, void *p)
{
    (void)c;
    struct sy *y = p;
    y->done = 1;
    y->st = st ? -1 : *(int *)d;
    if (!y->st)
        fhdup(&y->fh, &((LOOKUP3res *) d)->LOOKUP3res_u.resok.object);
}

static void any_cb(struct rpc_context *c, int st, void *d, void *p)
{
    (void)c;
    struct sy *y = p;
    y->done = 1;
    y->st = st ? -1 : *(int *)d;
}

static void fsi_cb(struct rpc_context *c, int st, void *d, void *p)
{
    (void)c;
    struct sy *y = p;
    y->done = 1;
    y->st = st ? -1 : *(int *)d;
    if (!y->st) {
        y->rt = ((FSINFO3res *) d)->FSINFO3res_u.resok.rtmax;
        y->wt = ((FSINFO3res *) d)->FSINFO3res_u.resok.wtmax;
    }
}

static int lookup(struct nfs_fh3 dir, const char *n, struct nfs_fh3 *out)
{
    struct sy y = { 0 };
    LOOKUP3args a = { 0 };
    a.what.dir = dir;
    a.what.name = (char *)n;
    rpc_nfs3_lookup_async(rpc, lk_cb, &a, &y);
    wait1(&y);
    if (!y.st)
        *out = y.fh;
    return y.st;
}

static void mkdirx(struct nfs_fh3 dir, const char *n)
{
    struct sy y = { 0 };
    MKDIR3args a;
    memset(&a, 0, sizeof a);
    a.where.dir = dir;
    a.where.name = (char *)n;
    a.attributes.mode.set_it = 1;
    a.attributes.mode.set_mode3_u.mode = 0755;
    rpc_nfs3_mkdir_async(rpc, any_cb, &a, &y);
    wait1(&y);
}

static void mkfile(struct nfs_fh3 dir, const char *n)
{
    struct sy y = { 0 };
    CREATE3args a;
    memset(&a, 0, sizeof a);
    a.where.dir = dir;
    a.where.name = (char *)n;
    a.how.mode = UNCHECKED;
    a.how.createhow3_u.obj_attributes.mode.set_it = 1;
    a.how.createhow3_u.obj_attributes.mode.set_mode3_u.mode = 0644;
    rpc_nfs3_create_async(rpc, any_cb, &a, &y);
    wait1(&y);
}

static void rmfile(struct nfs_fh3 dir, const char *n)
{
    struct sy y = { 0 };
    REMOVE3args a = { 0 };
    a.object.dir = dir;
    a.object.name = (char *)n;
    rpc_nfs3_remove_async(rpc, any_cb, &a, &y);
    wait1(&y);
}

static void rmdirx(struct nfs_fh3 dir, const char *n)
{
    struct sy y = { 0 };
    RMDIR3args a = { 0 };
    a.object.dir = dir;
    a.object.name = (char *)n;
    rpc_nfs3_rmdir_async(rpc, any_cb, &a, &y);
    wait1(&y);
}

static void rd_cb(struct rpc_context *c, int st, void *d, void *p)
{
    (void)c;
    struct sy *y = p;
    y->done = 1;
    y->st = st ? -1 : *(int *)d;
    if (y->st)
        return;
    READDIRPLUS3resok *k = &((READDIRPLUS3res *) d)->READDIRPLUS3res_u.resok;
    memcpy(y->verf, k->cookieverf, 8);
    y->eof = k->reply.eof;
    for (entryplus3 * e = k->reply.entries; e; e = e->nextentry) {
        y->n++;
        y->cookie = e->cookie;
    }
}

static void conn_cb(struct rpc_context *c, int st, void *d, void *p)
{
    (void)c;
    (void)d;
    struct sy *y = p;
    y->done = 1;
    y->st = st;
}

static void mnt_cb(struct rpc_context *c, int st, void *d, void *p)
{
    (void)c;
    struct sy *y = p;
    y->done = 1;
    if (st) {
        y->st = -1;
        return;
    }
    mountres3 *m = d;
    y->st = m->fhs_status;
    if (!y->st) {
        y->fh.data.data_len = m->mountres3_u.mountinfo.fhandle.fhandle3_len;
        y->fh.data.data_val = malloc(64);
        memcpy(y->fh.data.data_val, m->mountres3_u.mountinfo.fhandle.fhandle3_val, y->fh.data.data_len);
    }
}

static int want(const char *list, const char *n)
{
    if (!list)
        return 1;
    char k[64];
    snprintf(k, sizeof k, ",%s,", n);
    char l[512];
    snprintf(l, sizeof l, ",%s,", list);
    return strstr(l, k) != NULL;
}

int main(int argc, char **argv)
{
    char *tests = NULL;
    int o;
    uint32_t capbs = 1048576;
    while ((o = getopt(argc, argv, "P:t:S:T:D:r:b:")) != -1)
        switch (o) {
        case 'P':
            pids = optarg;
            break;
        case 't':
            tests = optarg;
            break;
        case 'S':
            seqmib = atol(optarg);
            break;
        case 'T':
            dur = atof(optarg);
            break;
        case 'D':
            ndir = atoi(optarg);
            break;
        case 'r':
            label = optarg;
            break;
        case 'b':
            capbs = atoi(optarg);
            break;
        default:
            return 1;
        }
    {                           /* nfs://host/path?nfsport=N&mountport=M */
        char *url = argv[optind];
        if (!url || strncmp(url, "nfs://", 6))
            return 1;
        char *host = strdup(url + 6), *path = strchr(host, '/');
        char *q = strchr(url, '?');
        int np = 2049, mp = 0;
        char *x;
        if (q) {
            if ((x = strstr(q, "nfsport=")))
                np = atoi(x + 8);
            if ((x = strstr(q, "mountport=")))
                mp = atoi(x + 10);
        }
        path = strdup(path);
        host[strchr(host, '/') - host] = 0;
        if ((x = strchr(path, '?')))
            *x = 0;
        struct sy y = { 0 };
        struct rpc_context *mr = rpc = rpc_init_context();
        if (rpc_connect_port_async(mr, host, mp ? mp : np, MOUNT_PROGRAM, MOUNT_V3, conn_cb, &y)) {
            fprintf(stderr, "connect: %s\n", rpc_get_error(mr));
            return 1;
        }
        wait1(&y);
        if (y.st) {
            fprintf(stderr, "mount connect failed\n");
            return 1;
        }
        memset(&y, 0, sizeof y);
        rpc_mount3_mnt_async(mr, mnt_cb, path, &y);
        wait1(&y);
        if (y.st) {
            fprintf(stderr, "MNT failed %d\n", y.st);
            return 1;
        }
        rootfh = y.fh;
        rpc_destroy_context(mr);
        memset(&y, 0, sizeof y);
        rpc = rpc_init_context();
        rpc_connect_port_async(rpc, host, np, NFS_PROGRAM, NFS_V3, conn_cb, &y);
        wait1(&y);
        if (y.st) {
            fprintf(stderr, "nfs connect failed\n");
            return 1;
        }
    }
    {
        struct sy y = { 0 };
        FSINFO3args a = { 0 };
        a.fsroot = rootfh;
        rpc_nfs3_fsinfo_async(rpc, fsi_cb, &a, &y);
        wait1(&y);
        rtmax = y.rt < capbs ? y.rt : capbs;
        wtmax = y.wt < capbs ? y.wt : capbs;
        fprintf(stderr, "rtmax %u wtmax %u (fsinfo %u/%u)\n", rtmax, wtmax, y.rt, y.wt);
    }
    wbuf = malloc(2 << 20); {
        uint64_t s = 88172645463325252ull;
        for (size_t i = 0; i < (2 << 20) / 8; i++)
            ((uint64_t *) wbuf)[i] = xr(&s);
    }
    char dn[32];
    snprintf(dn, sizeof dn, "nb%d", (int)getpid());
    struct nfs_fh3 dir, f;
    mkdirx(rootfh, dn);
    if (lookup(rootfh, dn, &dir)) {
        fprintf(stderr, "mkdir failed\n");
        return 1;
    }
    uint64_t sz = (uint64_t) seqmib << 20;
    struct run r;
    mkfile(dir, "big");
    if (lookup(dir, "big", &f))
        return 1;
    int qs[] = { 8, 16 };
    for (int i = 0; i < 2; i++)
        if (want(tests, "seqwrite")) {
            memset(&r, 0, sizeof r);
            r.op = O_WRITE;
            r.qd = qs[i];
            r.bs = wtmax;
            r.fsize = sz;
            r.maxops = sz / wtmax;
            r.deadline = 0;
            r.fh = f;
            begin();
            drive(&r); {
                struct sy y = { 0 };
                COMMIT3args a = { 0 };
                a.file = f;
                rpc_nfs3_commit_async(rpc, any_cb, &a, &y);
                wait1(&y);
            } row("seqwrite+commit", r.bs, r.qd, r.done, r.bytes, r.lat, r.nlat, r.errs);
            free(r.lat);
        }
    for (int i = 0; i < 2; i++)
        if (want(tests, "seqread")) {
            memset(&r, 0, sizeof r);
            r.op = O_READ;
            r.qd = qs[i];
            r.bs = rtmax;
            r.fsize = sz;
            r.maxops = sz / rtmax;
            r.fh = f;
            bench("seqread", &r);
        }
    int q3[] = { 1, 16, 64 };
    for (int i = 0; i < 3; i++)
        if (want(tests, "randread")) {
            memset(&r, 0, sizeof r);
            r.op = O_READ;
            r.rnd = 1;
            r.qd = q3[i];
            r.bs = 4096;
            r.fsize = sz;
            r.maxops = UINT64_MAX;
            r.fh = f;
            bench("randread", &r);
        }
    for (int i = 0; i < 3; i++)
        if (want(tests, "randwrite")) {
            memset(&r, 0, sizeof r);
            r.op = O_WRITE;
            r.rnd = 1;
            r.qd = q3[i];
            r.bs = 4096;
            r.fsize = sz;
            r.maxops = UINT64_MAX;
            r.fh = f;
            bench("randwrite-unstable", &r);
        }
    for (int i = 0; i < 3; i++)
        if (want(tests, "randwritesync")) {
            memset(&r, 0, sizeof r);
            r.op = O_WRITESYNC;
            r.rnd = 1;
            r.qd = q3[i];
            r.bs = 4096;
            r.fsize = sz;
            r.maxops = UINT64_MAX;
            r.fh = f;
            bench("randwrite-filesync", &r);
        }
    int q2[] = { 1, 64 };
    for (int i = 0; i < 2; i++)
        if (want(tests, "getattr")) {
            memset(&r, 0, sizeof r);
            r.op = O_GETATTR;
            r.qd = q2[i];
            r.bs = 1;
            r.fsize = 1;
            r.maxops = UINT64_MAX;
            r.fh = f;
            bench("getattr", &r);
        }
    if (want(tests, "lookup")) {
        mkdirx(dir, "lk");
        struct nfs_fh3 ld;
        lookup(dir, "lk", &ld);
        memset(&r, 0, sizeof r);
        r.op = O_CREATE;
        r.qd = 16;
        r.bs = 1;
        r.fsize = 1;
        r.maxops = 1000;
        r.fh = ld;
        r.pfx = "f";
        drive(&r);
        for (int i = 0; i < 2; i++) {
            memset(&r, 0, sizeof r);
            r.op = O_LOOKUP;
            r.qd = q2[i];
            r.bs = 1;
            r.fsize = 1000;
            r.maxops = UINT64_MAX;
            r.fh = ld;
            r.pfx = "f";
            bench("lookup", &r);
        }
        memset(&r, 0, sizeof r);
        r.op = O_REMOVE;
        r.qd = 16;
        r.bs = 1;
        r.fsize = 1;
        r.maxops = 1000;
        r.fh = ld;
        r.pfx = "f";
        drive(&r);
        rmdirx(dir, "lk");
    }
    int qc[] = { 1, 32 };
    uint64_t nc[] = { 3000, 10000 };
    for (int i = 0; i < 2; i++)
        if (want(tests, "create")) {
            mkdirx(dir, "cr");
            struct nfs_fh3 cd;
            lookup(dir, "cr", &cd);
            memset(&r, 0, sizeof r);
            r.op = O_CREATE;
            r.qd = qc[i];
            r.bs = 1;
            r.fsize = 1;
            r.maxops = nc[i];
            r.fh = cd;
            r.pfx = "f";
            bench("create", &r);
            memset(&r, 0, sizeof r);
            r.op = O_REMOVE;
            r.qd = qc[i];
            r.bs = 1;
            r.fsize = 1;
            r.maxops = nc[i];
            r.fh = cd;
            r.pfx = "f";
            bench("remove", &r);
            rmdirx(dir, "cr");
        }
    if (want(tests, "readdirplus")) {
        mkdirx(dir, "rd");
        struct nfs_fh3 rd;
        lookup(dir, "rd", &rd);
        memset(&r, 0, sizeof r);
        r.op = O_CREATE;
        r.qd = 32;
        r.bs = 1;
        r.fsize = 1;
        r.maxops = ndir;
        r.fh = rd;
        r.pfx = "entry-name-";
        drive(&r);
        for (int pass = 0; pass < 2; pass++) {
            begin();
            uint64_t tot = 0;
            int scans = 0, calls = 0;
            float lat[100000];
            size_t nl = 0;
            int errs = 0;
            double end = now() + (pass ? dur : 0);
            do {
                struct sy y = { 0 };
                do {
                    double t = now();
                    y.done = 0;
                    READDIRPLUS3args a;
                    memset(&a, 0, sizeof a);
                    a.dir = rd;
                    a.cookie = y.cookie;
                    memcpy(a.cookieverf, y.verf, 8);
                    a.dircount = 8192;
                    a.maxcount = 65536;
                    rpc_nfs3_readdirplus_async(rpc, rd_cb, &a, &y);
                    wait1(&y);
                    if (nl < 100000)
                        lat[nl++] = (now() - t) * 1e6;
                    calls++;
                    if (y.st) {
                        errs++;
                        break;
                    }
                } while (!y.eof);
                tot += y.n;
                scans++;
                if (errs)
                    break;
            } while (now() < end);
            fprintf(stderr, "readdirplus: %d scans %d calls %llu entries\n", scans, calls, (unsigned long long)tot);
            row(pass ? "readdirplus-entries" : "readdirplus-first", 65536, 1, tot, 0, lat, nl, errs);
        }
        memset(&r, 0, sizeof r);
        r.op = O_REMOVE;
        r.qd = 32;
        r.bs = 1;
        r.fsize = 1;
        r.maxops = ndir;
        r.fh = rd;
        r.pfx = "entry-name-";
        drive(&r);
        rmdirx(dir, "rd");
    }
    rmfile(dir, "big");
    rmdirx(rootfh, dn);
    return 0;
}
