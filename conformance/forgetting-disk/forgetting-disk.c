// A file system in memory that forgets, when told so, all that was not synced. README.md says how to use it.
//
// Each node has two states: `now`, what calls see, and `kept`, what is on the medium. A sync copies what has changed
// from one to the other. There is one thread, so a loss of power falls between two calls.
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

enum { SECTOR = 512, NAME_BYTES_MAX = 255, FILE_BYTES_MAX_LOG2 = 40 };
static const char control[] = "/.power";

struct node;

struct entry {
    char *name;
    struct node *node;
};

struct names {
    struct entry *entries;
    size_t count, capacity;
};

struct bytes {
    char *data; // zeros behind `size`, up to `capacity`
    size_t size, capacity;
};

struct range {
    size_t from, to;
};

struct node {
    ino_t ino;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    dev_t rdev;
    struct timespec modified;
    size_t uses; // names of both states, and handles
    nlink_t links; // names that can be seen
    struct bytes now, kept;
    struct names names, names_kept;
    struct range *dirty; // written since the last sync
    size_t dirty_count, dirty_capacity;
    size_t least; // the smallest size since the last sync
    uint64_t visited;
};

// A file that left `from` for `to` and whose old name is still kept.
struct move {
    struct node *from, *to, *node;
    char *name;
};

struct handle {
    struct node *node;
    uint64_t life;
};

static struct node *root;
static struct move *moves;
static size_t move_count;
static bool is_off;
static uint64_t life = 1, visit, last_ino = 1;
static uint64_t lost_writes, kept_writes, lost_names, kept_names, losses;
static struct {
    unsigned long long bytes;
} options = {4ull << 30};
static uint64_t used;

// -- memory ----------------------------------------------------------------------------------------------------------

static void *checked(void *memory) {
    if (!memory) {
        fprintf(stderr, "forgetting-disk: out of memory\n");
        abort();
    }
    return memory;
}

static void reserve(struct bytes *bytes, size_t size) {
    if (size <= bytes->capacity) return;
    size_t capacity = bytes->capacity ? bytes->capacity : 4096;
    while (capacity < size) capacity *= 2;
    bytes->data = checked(realloc(bytes->data, capacity));
    memset(bytes->data + bytes->capacity, 0, capacity - bytes->capacity);
    bytes->capacity = capacity;
}

static void resize(struct bytes *bytes, size_t size) {
    if (size < bytes->size) memset(bytes->data + size, 0, bytes->size - size);
    reserve(bytes, size);
    bytes->size = size;
}

static struct node *make(mode_t mode) {
    struct node *node = checked(calloc(1, sizeof *node));
    node->ino = ++last_ino;
    node->mode = mode;
    struct fuse_context *context = fuse_get_context();
    node->uid = context ? context->uid : 0;
    node->gid = context ? context->gid : 0;
    clock_gettime(CLOCK_REALTIME, &node->modified);
    return node;
}

static void clear(struct names *names);

static void drop(struct node *node) {
    if (--node->uses) return;
    clear(&node->names);
    clear(&node->names_kept);
    used -= node->now.size;
    free(node->now.data);
    free(node->kept.data);
    free(node->dirty);
    free(node);
}

static struct node *use(struct node *node) {
    node->uses++;
    return node;
}

// -- names -----------------------------------------------------------------------------------------------------------

static struct entry *lookup(const struct names *names, const char *name) {
    for (size_t index = 0; index < names->count; index++)
        if (!strcmp(names->entries[index].name, name)) return &names->entries[index];
    return NULL;
}

static void set(struct names *names, const char *name, struct node *node) {
    struct entry *entry = lookup(names, name);
    if (node) use(node);
    if (entry) {
        struct node *old = entry->node;
        if (node) {
            entry->node = node;
        } else {
            free(entry->name);
            *entry = names->entries[--names->count];
        }
        drop(old);
    } else if (node) {
        if (names->count == names->capacity) {
            names->capacity = names->capacity ? 2 * names->capacity : 8;
            names->entries = checked(realloc(names->entries, names->capacity * sizeof *names->entries));
        }
        names->entries[names->count++] = (struct entry){checked(strdup(name)), node};
    }
}

static void clear(struct names *names) {
    for (size_t index = 0; index < names->count; index++) {
        free(names->entries[index].name);
        drop(names->entries[index].node);
    }
    free(names->entries);
    *names = (struct names){0};
}

static void copy(struct names *to, const struct names *from) {
    struct names made = {0};
    for (size_t index = 0; index < from->count; index++) set(&made, from->entries[index].name, from->entries[index].node);
    clear(to);
    *to = made;
}

// The node that a path names, or the directory that holds it, with the last part in `last`.
static int find(const char *path, struct node **found, const char **last) {
    struct node *node = root;
    char part[NAME_BYTES_MAX + 1];
    for (path++; *path;) {
        const char *end = strchrnul(path, '/');
        size_t length = (size_t)(end - path);
        if (length > NAME_BYTES_MAX) return -ENAMETOOLONG;
        if (!S_ISDIR(node->mode)) return -ENOTDIR;
        if (last && !*end) {
            *last = path;
            break;
        }
        memcpy(part, path, length);
        part[length] = 0;
        struct entry *entry = lookup(&node->names, part);
        if (!entry) return -ENOENT;
        node = entry->node;
        path = *end ? end + 1 : end;
    }
    *found = node;
    return 0;
}

static void forget_move(size_t index) {
    struct move *move = &moves[index];
    drop(move->from);
    drop(move->to);
    drop(move->node);
    free(move->name);
    moves[index] = moves[--move_count];
}

// -- sync and loss ---------------------------------------------------------------------------------------------------

static void keep_range(struct node *node, size_t from, size_t to) {
    if (to > node->now.size) to = node->now.size;
    if (from >= to) return;
    if (node->kept.size < to) resize(&node->kept, to);
    memcpy(node->kept.data + from, node->now.data + from, to - from);
}

static void clean(struct node *node) {
    node->dirty_count = 0;
    node->least = node->now.size;
}

static void sync_file(struct node *node) {
    if (node->least < node->kept.size) resize(&node->kept, node->least);
    for (size_t index = 0; index < node->dirty_count; index++)
        keep_range(node, node->dirty[index].from, node->dirty[index].to);
    resize(&node->kept, node->now.size);
    clean(node);
}

static void sync_names(struct node *node) {
    copy(&node->names_kept, &node->names);
    for (size_t index = move_count; index-- > 0;) {
        struct move *move = &moves[index];
        if (move->from == node && !lookup(&move->to->names_kept, move->name)) set(&move->to->names_kept, move->name, move->node);
        if (move->from == node || move->to == node) forget_move(index);
    }
}

static uint64_t chance; // 0: everything is lost

static bool survives(void) {
    if (!chance) return false;
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance >> 40 & 1;
}

static void lose_names(struct node *node) {
    if (chance) {
        struct names before = {0};
        copy(&before, &node->names_kept);
        for (size_t index = 0; index < node->names.count; index++) {
            struct entry *entry = &node->names.entries[index], *old = lookup(&before, entry->name);
            if (old && old->node == entry->node) continue;
            bool is_kept = survives();
            *(is_kept ? &kept_names : &lost_names) += 1;
            if (is_kept) set(&node->names_kept, entry->name, entry->node);
        }
        for (size_t index = 0; index < before.count; index++) {
            if (lookup(&node->names, before.entries[index].name)) continue;
            bool is_kept = survives();
            *(is_kept ? &kept_names : &lost_names) += 1;
            if (is_kept) set(&node->names_kept, before.entries[index].name, NULL);
        }
        clear(&before);
    } else {
        for (size_t index = 0; index < node->names.count; index++)
            if (!lookup(&node->names_kept, node->names.entries[index].name)) lost_names++;
    }
}

static void lose_bytes(struct node *node) {
    if (node->least < node->kept.size && survives()) resize(&node->kept, node->least);
    for (size_t index = 0; index < node->dirty_count; index++) {
        struct range range = node->dirty[index];
        bool any = false;
        for (size_t from = range.from, to; from < range.to; from = to) {
            to = (from / SECTOR + 1) * SECTOR;
            if (to > range.to) to = range.to;
            if (!survives()) continue;
            keep_range(node, from, to);
            any = true;
        }
        *(any ? &kept_writes : &lost_writes) += 1;
    }
}

// First every directory decides on its names, in the tree as it can be seen; then the tree as it is kept is taken over.
static void lose_all_names(struct node *node) {
    lose_names(node);
    for (size_t index = 0; index < node->names.count; index++)
        if (S_ISDIR(node->names.entries[index].node->mode)) lose_all_names(node->names.entries[index].node);
}

static void take_over(struct node *node) {
    bool is_first = node->visited != visit;
    node->visited = visit;
    node->links = is_first ? 1 : node->links + 1;
    if (!is_first) return;
    if (S_ISDIR(node->mode)) {
        copy(&node->names, &node->names_kept);
        for (size_t index = 0; index < node->names.count; index++) take_over(node->names.entries[index].node);
        return;
    }
    lose_bytes(node);
    used -= node->now.size;
    resize(&node->now, node->kept.size);
    if (node->kept.size) memcpy(node->now.data, node->kept.data, node->kept.size);
    used += node->now.size;
    clean(node);
}

static void lose_power(uint64_t seed) {
    chance = seed ? seed * 0x9E3779B97F4A7C15u | 1 : 0;
    losses++;
    life++;
    is_off = true;
    lose_all_names(root);
    while (move_count) {
        struct move *move = &moves[move_count - 1];
        struct entry *left = NULL;
        for (size_t index = 0; index < move->from->names_kept.count; index++)
            if (move->from->names_kept.entries[index].node == move->node) left = &move->from->names_kept.entries[index];
        if (!left && !lookup(&move->to->names_kept, move->name)) set(&move->to->names_kept, move->name, move->node);
        forget_move(move_count - 1);
    }
    visit++;
    take_over(root);
}

// -- calls -----------------------------------------------------------------------------------------------------------

static bool is_control(const char *path) { return path && !strcmp(path, control); }

static struct handle *handle_of(struct fuse_file_info *info) { return (struct handle *)(uintptr_t)info->fh; }

// The node of an open file or of a path.
static int node_of(const char *path, struct fuse_file_info *info, struct node **node) {
    if (is_off) return -EIO;
    struct handle *handle = info ? handle_of(info) : NULL;
    if (!handle) return path ? find(path, node, NULL) : -EIO;
    *node = handle->node;
    return handle->life == life ? 0 : -EIO;
}

static void touch(struct node *node) { clock_gettime(CLOCK_REALTIME, &node->modified); }

static int do_getattr(const char *path, struct stat *status, struct fuse_file_info *info) {
    memset(status, 0, sizeof *status);
    if (is_control(path)) {
        status->st_mode = S_IFREG | 0600;
        status->st_nlink = 1;
        return 0;
    }
    // The root stays visible, so that the control file can be reached.
    struct node *node = root;
    bool is_root = path && !strcmp(path, "/");
    int error = is_root ? 0 : node_of(path, info, &node);
    if (error) return error;
    status->st_ino = node->ino;
    status->st_mode = node->mode;
    status->st_nlink = S_ISDIR(node->mode) ? 2 : node->links;
    status->st_uid = node->uid;
    status->st_gid = node->gid;
    status->st_rdev = node->rdev;
    status->st_size = (off_t)node->now.size;
    status->st_blocks = (blkcnt_t)((node->now.size + SECTOR - 1) / SECTOR);
    status->st_blksize = 4096;
    status->st_mtim = status->st_ctim = status->st_atim = node->modified;
    return 0;
}

static int open_node(struct node *node, struct fuse_file_info *info) {
    struct handle *handle = checked(malloc(sizeof *handle));
    *handle = (struct handle){use(node), life};
    info->fh = (uintptr_t)handle;
    info->direct_io = 1;
    return 0;
}

static int add(const char *path, mode_t mode, struct node **made) {
    if (is_off) return -EIO;
    struct node *parent;
    const char *name;
    int error = find(path, &parent, &name);
    if (error) return error;
    if (is_control(path) || lookup(&parent->names, name)) return -EEXIST;
    struct node *node = make(mode);
    set(&parent->names, name, node);
    node->links = 1;
    touch(parent);
    *made = node;
    return 0;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *info) {
    struct node *node;
    int error = add(path, S_IFREG | (mode & 07777), &node);
    return error ? error : open_node(node, info);
}

static int do_mknod(const char *path, mode_t mode, dev_t device) {
    struct node *node;
    int error = add(path, mode, &node);
    if (!error) node->rdev = device;
    return error;
}

static int do_mkdir(const char *path, mode_t mode) {
    struct node *node;
    return add(path, S_IFDIR | (mode & 07777), &node);
}

static int do_symlink(const char *target, const char *path) {
    struct node *node;
    int error = add(path, S_IFLNK | 0777, &node);
    if (error) return error;
    resize(&node->now, strlen(target));
    memcpy(node->now.data, target, node->now.size);
    used += node->now.size;
    sync_file(node);
    return 0;
}

static int do_readlink(const char *path, char *buffer, size_t size) {
    struct node *node;
    int error = node_of(path, NULL, &node);
    if (error) return error;
    if (!S_ISLNK(node->mode)) return -EINVAL;
    snprintf(buffer, size, "%.*s", (int)node->now.size, node->now.data);
    return 0;
}

static int set_size(struct node *node, size_t size) {
    if (size >> FILE_BYTES_MAX_LOG2) return -EFBIG;
    if (size > node->now.size && used + size - node->now.size > options.bytes) return -ENOSPC;
    used += size - node->now.size;
    resize(&node->now, size);
    if (size < node->least) node->least = size;
    return 0;
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *info) {
    if (is_control(path)) return 0;
    struct node *node;
    int error = node_of(path, info, &node);
    if (!error) error = set_size(node, (size_t)size);
    if (!error) touch(node);
    return error;
}

static int do_open(const char *path, struct fuse_file_info *info) {
    if (is_control(path)) {
        info->direct_io = 1;
        return 0;
    }
    struct node *node;
    int error = node_of(path, NULL, &node);
    if (error) return error;
    if (info->flags & O_TRUNC && (error = set_size(node, 0))) return error;
    return open_node(node, info);
}

static int do_release(const char *path, struct fuse_file_info *info) {
    (void)path;
    struct handle *handle = handle_of(info);
    if (handle) drop(handle->node);
    free(handle);
    return 0;
}

static int do_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *info) {
    if (is_control(path) || !handle_of(info)) {
        char text[256];
        int count = snprintf(
            text, sizeof text, "power %s\nlosses %llu\nwrites lost %llu kept %llu\nnames lost %llu kept %llu\n",
            is_off ? "off" : "on", (unsigned long long)losses, (unsigned long long)lost_writes,
            (unsigned long long)kept_writes, (unsigned long long)lost_names, (unsigned long long)kept_names);
        if (offset >= count) return 0;
        if (size > (size_t)(count - offset)) size = (size_t)(count - offset);
        memcpy(buffer, text + offset, size);
        return (int)size;
    }
    struct node *node;
    int error = node_of(path, info, &node);
    if (error) return error;
    if ((size_t)offset >= node->now.size) return 0;
    if (size > node->now.size - (size_t)offset) size = node->now.size - (size_t)offset;
    memcpy(buffer, node->now.data + offset, size);
    return (int)size;
}

static int do_command(const char *buffer, size_t size) {
    char text[64] = {0};
    if (size >= sizeof text) return -EINVAL;
    memcpy(text, buffer, size);
    unsigned long long seed = 0;
    if (!strncmp(text, "off", 3) && (sscanf(text + 3, "%llu", &seed) == 1 || !text[3] || text[3] == '\n'))
        lose_power(seed);
    else if (!strcmp(text, "on") || !strcmp(text, "on\n"))
        is_off = false;
    else
        return -EINVAL;
    return (int)size;
}

static int do_write(const char *path, const char *buffer, size_t size, off_t offset, struct fuse_file_info *info) {
    if (is_control(path) || !handle_of(info)) return do_command(buffer, size);
    struct node *node;
    int error = node_of(path, info, &node);
    if (error) return error;
    if (info->flags & O_APPEND) offset = (off_t)node->now.size;
    size_t end = (size_t)offset + size;
    if (end > node->now.size && (error = set_size(node, end))) return error;
    memcpy(node->now.data + offset, buffer, size);
    if (node->dirty_count == node->dirty_capacity) {
        node->dirty_capacity = node->dirty_capacity ? 2 * node->dirty_capacity : 8;
        node->dirty = checked(realloc(node->dirty, node->dirty_capacity * sizeof *node->dirty));
    }
    node->dirty[node->dirty_count++] = (struct range){(size_t)offset, end};
    touch(node);
    return (int)size;
}

static int do_fallocate(const char *path, int mode, off_t offset, off_t length, struct fuse_file_info *info) {
    struct node *node;
    int error = node_of(path, info, &node);
    if (error) return error;
    if (mode) return -EOPNOTSUPP;
    size_t end = (size_t)offset + (size_t)length;
    return end > node->now.size ? set_size(node, end) : 0;
}

static int do_fsync(const char *path, int data_only, struct fuse_file_info *info) {
    (void)data_only;
    if (is_control(path)) return 0;
    struct node *node;
    int error = node_of(path, info, &node);
    if (!error) sync_file(node);
    return error;
}

static int do_fsyncdir(const char *path, int data_only, struct fuse_file_info *info) {
    (void)data_only;
    struct node *node;
    int error = node_of(path, info, &node);
    if (!error) sync_names(node);
    return error;
}

static int do_opendir(const char *path, struct fuse_file_info *info) {
    struct node *node;
    int error = node_of(path, NULL, &node);
    if (error) return error;
    if (!S_ISDIR(node->mode)) return -ENOTDIR;
    open_node(node, info);
    info->direct_io = 0;
    return 0;
}

static int do_readdir(
    const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *info,
    enum fuse_readdir_flags flags) {
    (void)offset, (void)flags;
    struct node *node;
    int error = node_of(path, info, &node);
    if (error) return error;
    fill(buffer, ".", NULL, 0, 0);
    fill(buffer, "..", NULL, 0, 0);
    for (size_t index = 0; index < node->names.count; index++) {
        struct node *child = node->names.entries[index].node;
        struct stat status = {.st_ino = child->ino, .st_mode = child->mode};
        if (fill(buffer, node->names.entries[index].name, &status, 0, 0)) return -ENOMEM;
    }
    return 0;
}

static int take_away(const char *path, bool directory) {
    if (is_off) return -EIO;
    struct node *parent;
    const char *name;
    int error = find(path, &parent, &name);
    if (error) return error;
    struct entry *entry = lookup(&parent->names, name);
    if (!entry) return -ENOENT;
    if (directory != S_ISDIR(entry->node->mode)) return directory ? -ENOTDIR : -EISDIR;
    if (directory && entry->node->names.count) return -ENOTEMPTY;
    entry->node->links--;
    set(&parent->names, name, NULL);
    touch(parent);
    return 0;
}

static int do_unlink(const char *path) { return take_away(path, false); }
static int do_rmdir(const char *path) { return take_away(path, true); }

static int do_link(const char *from, const char *to) {
    struct node *node, *parent;
    const char *name;
    int error = node_of(from, NULL, &node);
    if (!error) error = find(to, &parent, &name);
    if (error) return error;
    if (S_ISDIR(node->mode)) return -EPERM;
    if (lookup(&parent->names, name)) return -EEXIST;
    set(&parent->names, name, node);
    node->links++;
    touch(parent);
    return 0;
}

static int do_rename(const char *from, const char *to, unsigned flags) {
    if (is_off) return -EIO;
    struct node *source, *target;
    const char *old_name, *new_name;
    int error = find(from, &source, &old_name);
    if (!error) error = find(to, &target, &new_name);
    if (error) return error;
    if (flags & ~(unsigned)RENAME_NOREPLACE) return -EINVAL;
    struct entry *entry = lookup(&source->names, old_name), *replaced = lookup(&target->names, new_name);
    if (!entry) return -ENOENT;
    struct node *node = entry->node;
    if (replaced) {
        if (flags & RENAME_NOREPLACE) return -EEXIST;
        if (replaced->node == node) return 0;
        if (S_ISDIR(replaced->node->mode) != S_ISDIR(node->mode)) return S_ISDIR(node->mode) ? -ENOTDIR : -EISDIR;
        if (replaced->node->names.count) return -ENOTEMPTY;
        replaced->node->links--;
    }
    if (source != target) {
        moves = checked(realloc(moves, (move_count + 1) * sizeof *moves));
        moves[move_count++] = (struct move){use(source), use(target), use(node), checked(strdup(new_name))};
    }
    set(&target->names, new_name, node);
    set(&source->names, old_name, NULL);
    touch(source);
    touch(target);
    return 0;
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *info) {
    struct node *node;
    int error = node_of(path, info, &node);
    if (!error) node->mode = (node->mode & S_IFMT) | (mode & 07777);
    return error;
}

static int do_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *info) {
    struct node *node;
    int error = node_of(path, info, &node);
    if (error) return error;
    if (uid != (uid_t)-1) node->uid = uid;
    if (gid != (gid_t)-1) node->gid = gid;
    return 0;
}

static int do_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info) {
    struct node *node;
    int error = node_of(path, info, &node);
    if (error || times[1].tv_nsec == UTIME_OMIT) return error;
    if (times[1].tv_nsec == UTIME_NOW) touch(node);
    else node->modified = times[1];
    return 0;
}

static int do_statfs(const char *path, struct statvfs *status) {
    (void)path;
    memset(status, 0, sizeof *status);
    status->f_bsize = status->f_frsize = 4096;
    status->f_blocks = options.bytes / 4096;
    status->f_bfree = status->f_bavail = used < options.bytes ? (options.bytes - used) / 4096 : 0;
    status->f_namemax = NAME_BYTES_MAX;
    return 0;
}

static void *do_init(struct fuse_conn_info *connection, struct fuse_config *config) {
    (void)connection;
    config->use_ino = 1;
    config->hard_remove = 1;
    config->nullpath_ok = 1;
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
    return NULL;
}

static const struct fuse_operations operations = {
    .init = do_init,
    .getattr = do_getattr,
    .readlink = do_readlink,
    .mknod = do_mknod,
    .mkdir = do_mkdir,
    .unlink = do_unlink,
    .rmdir = do_rmdir,
    .symlink = do_symlink,
    .rename = do_rename,
    .link = do_link,
    .chmod = do_chmod,
    .chown = do_chown,
    .truncate = do_truncate,
    .open = do_open,
    .read = do_read,
    .write = do_write,
    .statfs = do_statfs,
    .release = do_release,
    .fsync = do_fsync,
    .opendir = do_opendir,
    .readdir = do_readdir,
    .releasedir = do_release,
    .fsyncdir = do_fsyncdir,
    .create = do_create,
    .utimens = do_utimens,
    .fallocate = do_fallocate,
};

int main(int count, char **arguments) {
    static const struct fuse_opt known[] = {{"bytes=%llu", offsetof(__typeof__(options), bytes), 0}, FUSE_OPT_END};
    struct fuse_args args = FUSE_ARGS_INIT(count, arguments);
    if (fuse_opt_parse(&args, &options, known, NULL) < 0) return 2;
    // One thread: a loss of power falls between two calls. The kernel asks before each access, and caches nothing.
    fuse_opt_add_arg(&args, "-s");
    root = make(S_IFDIR | 0755);
    root->uid = root->gid = 0;
    root->ino = 1;
    root->links = 1;
    use(root);
    return fuse_main(args.argc, args.argv, &operations, NULL);
}
