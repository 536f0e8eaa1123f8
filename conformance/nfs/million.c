/* million ENTRIES URL: makes a directory with so many entries over libnfs's raw calls, lists it by READDIRPLUS while others come and
 * go, and finds each of the first once, with its attributes and a handle that leads to it. */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

/* Each wants those above it. */
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <nfsc/libnfs-raw-mount.h>

enum { DEPTH = 64 };

static struct rpc_context *rpc;
static struct nfs_fh3 directory;
static uint8_t *seen;
static long entries, made, under_way, listed, others, calls;

static void fail(const char *what, long number) {
    fprintf(stderr, "million: FAILED: %s (%ld)\n", what, number);
    exit(1);
}
static void serve_once(void) {
    struct pollfd item = {.fd = rpc_get_fd(rpc), .events = rpc_which_events(rpc)};
    if (poll(&item, 1, 60000) <= 0) fail("no answer for a minute", 0);
    if (rpc_service(rpc, item.revents) < 0) fail(rpc_get_error(rpc), 0);
}
static void keep(struct nfs_fh3 *to, const struct nfs_fh3 *from) {
    to->data.data_len = from->data.data_len;
    to->data.data_val = memcpy(malloc(64), from->data.data_val, from->data.data_len);
}

struct answer {
    int done, status;
    struct nfs_fh3 handle;
    uint64_t cookie, number;
    char verifier[8];
    int is_end;
};
static void await(struct answer *a) {
    while (!a->done) serve_once();
}

static void connected(struct rpc_context *c, int status, void *data, void *private) {
    (void)c, (void)data;
    struct answer *a = private;
    a->done = 1, a->status = status;
}
static void mounted(struct rpc_context *c, int status, void *data, void *private) {
    (void)c;
    struct answer *a = private;
    mountres3 *result = data;
    a->done = 1;
    a->status = status ? -1 : (int)result->fhs_status;
    if (a->status) return;
    struct nfs_fh3 handle = {.data = {result->mountres3_u.mountinfo.fhandle.fhandle3_len, result->mountres3_u.mountinfo.fhandle.fhandle3_val}};
    keep(&a->handle, &handle);
}
static void looked(struct rpc_context *c, int status, void *data, void *private) {
    (void)c;
    struct answer *a = private;
    LOOKUP3res *result = data;
    a->done = 1;
    a->status = status ? -1 : (int)result->status;
    if (!a->status) keep(&a->handle, &result->LOOKUP3res_u.resok.object);
}
static void finished(struct rpc_context *c, int status, void *data, void *private) {
    (void)c;
    struct answer *a = private;
    a->done = 1;
    a->status = status ? -1 : *(int *)data;
}

static void change(const char *name, int isMade) {
    struct answer a = {0};
    if (isMade) {
        CREATE3args create = {.where = {directory, (char *)name}};
        rpc_nfs3_create_async(rpc, finished, &create, &a);
    } else {
        REMOVE3args removal = {.object = {directory, (char *)name}};
        rpc_nfs3_remove_async(rpc, finished, &removal, &a);
    }
    await(&a);
    if (a.status) fail(name, a.status);
}

static void create_next(void);
static void created(struct rpc_context *c, int status, void *data, void *private) {
    (void)c, (void)private;
    if (status || *(int *)data) fail("a file is not made", status ? -1 : *(int *)data);
    under_way--;
    create_next();
}
static void create_next(void) {
    if (made == entries) return;
    char name[32];
    snprintf(name, sizeof name, "entry-%ld", made++);
    CREATE3args create = {.where = {directory, name}};
    create.how.mode = GUARDED;
    if (rpc_nfs3_create_async(rpc, created, &create, NULL)) fail(rpc_get_error(rpc), made);
    under_way++;
}

static void page(struct rpc_context *c, int status, void *data, void *private) {
    (void)c;
    struct answer *a = private;
    READDIRPLUS3res *result = data;
    a->done = 1;
    a->status = status ? -1 : (int)result->status;
    if (a->status) return;
    READDIRPLUS3resok *ok = &result->READDIRPLUS3res_u.resok;
    memcpy(a->verifier, ok->cookieverf, 8);
    a->is_end = ok->reply.eof;
    for (entryplus3 *entry = ok->reply.entries; entry; entry = entry->nextentry) {
        a->cookie = entry->cookie;
        if (strncmp(entry->name, "entry-", 6)) {
            others++;
            continue;
        }
        long number = atol(entry->name + 6);
        if (number < 0 || number >= entries) fail("a name that nobody made", number);
        if (seen[number]++) fail("a name comes twice", number);
        listed++;
        if (!entry->name_attributes.attributes_follow || !entry->name_handle.handle_follows) fail("no attributes or handle", number);
        fattr3 *attributes = &entry->name_attributes.post_op_attr_u.attributes;
        if (attributes->type != NF3REG || attributes->nlink != 1 || attributes->fileid != entry->fileid) fail("other attributes", number);
        a->number = number;
        free(a->handle.data.data_val);
        keep(&a->handle, &entry->name_handle.post_op_fh3_u.handle);
    }
}

int main(int argc, char **argv) {
    int port, mount_port;
    char path[128];
    if (argc != 3 || (entries = atol(argv[1])) <= 0 || sscanf(argv[2], "nfs://127.0.0.1%127[^?]?nfsport=%d&mountport=%d", path, &port, &mount_port) != 3) {
        fprintf(stderr, "usage: million ENTRIES 'nfs://127.0.0.1/EXPORT?nfsport=N&mountport=N'\n");
        return 2;
    }
    struct answer a = {0};
    rpc = rpc_init_context();
    rpc_connect_port_async(rpc, "127.0.0.1", mount_port, MOUNT_PROGRAM, MOUNT_V3, connected, &a);
    await(&a);
    a = (struct answer){0};
    rpc_mount3_mnt_async(rpc, mounted, path, &a);
    await(&a);
    if (a.status) fail("mounting", a.status);
    struct nfs_fh3 root = a.handle;
    rpc_destroy_context(rpc);
    rpc = rpc_init_context();
    a = (struct answer){0};
    rpc_connect_port_async(rpc, "127.0.0.1", port, NFS_PROGRAM, NFS_V3, connected, &a);
    await(&a);
    MKDIR3args make = {.where = {root, "million"}};
    make.attributes.mode.set_it = 1, make.attributes.mode.set_mode3_u.mode = 0755;
    a = (struct answer){0};
    rpc_nfs3_mkdir_async(rpc, finished, &make, &a);
    await(&a);
    LOOKUP3args look = {.what = {root, "million"}};
    a = (struct answer){0};
    rpc_nfs3_lookup_async(rpc, looked, &look, &a);
    await(&a);
    if (a.status) fail("the directory", a.status);
    directory = a.handle;

    time_t begun = time(NULL);
    for (int i = 0; i < DEPTH; i++) create_next();
    while (under_way) serve_once();
    printf("%ld made in %ld s\n", entries, (long)(time(NULL) - begun));
    begun = time(NULL);
    seen = calloc(entries, 1);
    struct answer list = {0};
    do {
        READDIRPLUS3args arguments = {.dir = directory, .cookie = list.cookie, .dircount = 8192, .maxcount = 65536};
        memcpy(arguments.cookieverf, list.verifier, 8);
        list.done = 0;
        rpc_nfs3_readdirplus_async(rpc, page, &arguments, &list);
        await(&list);
        if (list.status) fail("READDIRPLUS", list.status);
        if (++calls % 50 == 0) {
            // Others come and go, and move nobody.
            change("passing", 1), change("passing", 0);
            GETATTR3args get = {.object = list.handle};
            struct answer there = {0};
            rpc_nfs3_getattr_async(rpc, finished, &get, &there);
            await(&there);
            if (there.status) fail("the handle of a listing leads nowhere", (long)list.number);
        }
    } while (!list.is_end);
    if (listed != entries) fail("names are missing", entries - listed);
    printf("%ld listed in %ld s by %ld calls, %ld others seen\n", listed, (long)(time(NULL) - begun), calls, others);
    return 0;
}
