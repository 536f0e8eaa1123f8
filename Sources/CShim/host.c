#include "CShim.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20
#endif

#define AGAIN(result, call)                    \
    do {                                       \
        result = (call);                       \
    } while (result < 0 && errno == EINTR)

// Tries after something on the way was renamed meanwhile.
enum { RACES_MAX = 64 };

int shim_host_open(int base, const char *path, int how, int cached) {
    struct open_how options = {.flags = O_CLOEXEC | O_NOFOLLOW};
    options.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
    if (cached) options.resolve |= RESOLVE_CACHED;
    switch (how) {
    case SHIM_HOST_NAME: options.flags |= O_PATH; break;
    // A fifo or a device is never opened so: the caller has looked, and what came since does not hold us up.
    case SHIM_HOST_READ: options.flags |= O_RDONLY | O_NONBLOCK | O_NOCTTY; break;
    case SHIM_HOST_WRITE: options.flags |= O_RDWR | O_NONBLOCK | O_NOCTTY; break;
    default: options.flags |= O_RDONLY | O_DIRECTORY; break;
    }
    for (int race = 0;; race++) {
        int fd = (int)syscall(SYS_openat2, base, *path ? path : ".", &options, sizeof options);
        if (fd >= 0) return fd;
        if (errno != EINTR && (errno != EAGAIN || cached || race == RACES_MAX)) return -errno;
    }
}

// FNV-1a: a name for the handle's bytes that is the same after every start.
static uint64_t digest(uint64_t sum, const void *bytes, size_t count) {
    const unsigned char *next = bytes;
    while (count--) sum = (sum ^ *next++) * 0x100000001b3;
    return sum;
}

static int64_t nanoseconds(struct statx_timestamp time) { return time.tv_sec * 1000000000 + time.tv_nsec; }

int shim_host_status(int fd, struct shim_host_status *status) {
    struct statx found;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &found) < 0) return -errno;
    struct {
        struct file_handle handle;
        unsigned char bytes[SHIM_HOST_HANDLE_MAX];
    } known;
    known.handle.handle_bytes = SHIM_HOST_HANDLE_MAX;
    int mount;
    uint64_t generation = 0xcbf29ce484222325;
    if (name_to_handle_at(fd, "", &known.handle, &mount, AT_EMPTY_PATH) == 0) {
        generation = digest(generation, &known.handle.handle_type, sizeof known.handle.handle_type);
        generation = digest(generation, known.handle.f_handle, known.handle.handle_bytes);
    } else if (found.stx_mask & STATX_BTIME) {
        generation = digest(generation, &found.stx_btime.tv_sec, sizeof found.stx_btime.tv_sec);
        generation = digest(generation, &found.stx_btime.tv_nsec, sizeof found.stx_btime.tv_nsec);
    }
    *status = (struct shim_host_status){
        .device = makedev(found.stx_dev_major, found.stx_dev_minor),
        .inode = found.stx_ino,
        .generation = generation,
        .mode = found.stx_mode,
        .links = found.stx_nlink,
        .uid = found.stx_uid,
        .gid = found.stx_gid,
        .size = found.stx_size,
        .allocated = found.stx_blocks * 512,
        .accessed = nanoseconds(found.stx_atime),
        .modified = nanoseconds(found.stx_mtime),
        .changed = nanoseconds(found.stx_ctime),
        .born = found.stx_mask & STATX_BTIME ? nanoseconds(found.stx_btime) : nanoseconds(found.stx_mtime),
        .major = found.stx_rdev_major,
        .minor = found.stx_rdev_minor,
    };
    return 0;
}

// The file itself, whatever leads to it now: for calls that take no descriptor that only names a file.
static const char *itself(int fd, char path[32]) {
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return path;
}

int shim_host_reopen(int fd, int how) {
    char path[32];
    int flags = how == SHIM_HOST_WRITE ? O_RDWR : how == SHIM_HOST_DIRECTORY ? O_RDONLY | O_DIRECTORY : O_RDONLY;
    int again;
    AGAIN(again, open(itself(fd, path), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    return again < 0 ? -errno : again;
}

int shim_host_chmod(int fd, uint32_t mode) {
    char path[32];
    return chmod(itself(fd, path), mode & 07777) < 0 ? -errno : 0;
}

int shim_host_chown(int fd, uint32_t uid, uint32_t gid) {
    return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

// Owner first: giving a file away takes bits of its mode.
static int dress(int fd, const struct shim_host_new *what) {
    struct stat now;
    if (fstat(fd, &now) < 0) return -errno;
    if (geteuid() == 0 && (now.st_uid != what->uid || now.st_gid != what->gid)) {
        int result = shim_host_chown(fd, what->uid, what->gid);
        if (result < 0) return result;
    }
    return S_ISLNK(what->mode) ? 0 : shim_host_chmod(fd, what->mode);
}

int shim_host_create(int directory, const char *name, const struct shim_host_new *what) {
    int fd;
    mode_t kind = what->mode & S_IFMT;
    if (kind == S_IFREG) {
        AGAIN(fd, openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600));
        if (fd < 0) return -errno;
    } else {
        int result;
        if (kind == S_IFDIR)
            result = mkdirat(directory, name, 0700);
        else if (kind == S_IFLNK)
            result = symlinkat(what->target, directory, name);
        else
            result = mknodat(directory, name, kind | 0600, makedev(what->major, what->minor));
        if (result < 0) return -errno;
        fd = shim_host_open(directory, name, SHIM_HOST_NAME, 0);
        if (fd < 0) return fd;
        // Somebody may have put another thing there: that is not ours to change.
        struct stat now;
        if (fstat(fd, &now) < 0 || (now.st_mode & S_IFMT) != kind) {
            close(fd);
            return -ENOENT;
        }
    }
    int result = dress(fd, what);
    if (result == 0) return fd;
    close(fd);
    unlinkat(directory, name, kind == S_IFDIR ? AT_REMOVEDIR : 0);
    return result;
}

int shim_host_create_nameless(int directory, const struct shim_host_new *what) {
    int fd;
    AGAIN(fd, openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (fd < 0) return -errno;
    int result = dress(fd, what);
    if (result == 0) return fd;
    close(fd);
    return result;
}

int shim_host_remove(int directory, const char *name, int is_directory) {
    return unlinkat(directory, name, is_directory ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

int shim_host_rename(int from, const char *name, int to, const char *new_name, int how) {
    unsigned flags = how == 1 ? RENAME_NOREPLACE : how == 2 ? RENAME_EXCHANGE : 0;
    return renameat2(from, name, to, new_name, flags) < 0 ? -errno : 0;
}

int shim_host_link(int fd, int directory, const char *name) {
    char path[32];
    return linkat(AT_FDCWD, itself(fd, path), directory, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static struct timespec moment(int64_t time) {
    if (time == INT64_MIN) return (struct timespec){.tv_nsec = UTIME_OMIT};
    int64_t seconds = time / 1000000000, rest = time % 1000000000;
    if (rest < 0) {
        seconds--;
        rest += 1000000000;
    }
    return (struct timespec){.tv_sec = seconds, .tv_nsec = rest};
}

int shim_host_times(int fd, int64_t accessed, int64_t modified) {
    struct timespec times[2] = {moment(accessed), moment(modified)};
    return utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

ssize_t shim_host_target(int fd, char *buffer, size_t count) {
    ssize_t got = readlinkat(fd, "", buffer, count);
    return got < 0 ? -errno : got;
}

struct linux_entry {
    uint64_t inode;
    int64_t next;
    unsigned short length;
    unsigned char type;
    char name[];
};

ssize_t shim_host_list(int fd, uint64_t cookie, void *block, size_t count) {
    if (lseek(fd, (off_t)cookie, SEEK_SET) < 0) return -errno;
    ssize_t got;
    AGAIN(got, syscall(SYS_getdents64, fd, block, count));
    return got < 0 ? -errno : got;
}

int shim_host_next(const void *block, size_t count, size_t *offset, struct shim_host_entry *entry) {
    if (*offset >= count) return 0;
    const struct linux_entry *next = (const void *)((const char *)block + *offset);
    *offset += next->length;
    *entry = (struct shim_host_entry){
        .inode = next->inode, .cookie = (uint64_t)next->next, .type = next->type, .name = next->name};
    return 1;
}

ssize_t shim_host_read(int fd, void *buffer, size_t count, uint64_t offset, int cached) {
    size_t done = 0;
    while (done < count) {
        struct iovec piece = {(char *)buffer + done, count - done};
        ssize_t got;
        AGAIN(got, preadv2(fd, &piece, 1, (off_t)(offset + done), cached ? RWF_NOWAIT : 0));
        // Not every file system can tell that it would wait.
        if (got < 0 && cached && errno == EOPNOTSUPP) AGAIN(got, pread(fd, piece.iov_base, piece.iov_len, (off_t)(offset + done)));
        if (got < 0) return -errno;
        if (got == 0) break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

ssize_t shim_host_write(int fd, const void *buffer, size_t count, uint64_t offset) {
    size_t done = 0;
    while (done < count) {
        ssize_t put;
        AGAIN(put, pwrite(fd, (const char *)buffer + done, count - done, (off_t)(offset + done)));
        if (put <= 0) return done > 0 ? (ssize_t)done : put < 0 ? -errno : -EIO;
        done += (size_t)put;
    }
    return (ssize_t)done;
}

int shim_host_truncate(int fd, uint64_t size) {
    int result;
    AGAIN(result, ftruncate(fd, (off_t)size));
    return result < 0 ? -errno : 0;
}

int shim_host_punch(int fd, uint64_t offset, uint64_t length) {
    int result;
    AGAIN(result, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length));
    return result < 0 ? -errno : 0;
}

int64_t shim_host_seek(int fd, uint64_t offset, int data) {
    off_t found = lseek(fd, (off_t)offset, data ? SEEK_DATA : SEEK_HOLE);
    return found < 0 ? -errno : found;
}

int shim_host_copy(int from, uint64_t offset, uint64_t length, int to, uint64_t place) {
    off_t in = (off_t)offset, out = (off_t)place;
    while (length > 0) {
        ssize_t put;
        AGAIN(put, copy_file_range(from, &in, to, &out, length, 0));
        if (put < 0) return -errno;
        if (put == 0) return 0;
        length -= (uint64_t)put;
    }
    return 0;
}

int shim_host_sync(int fd) { return fsync(fd) < 0 ? -errno : 0; }
int shim_host_sync_all(int fd) { return syncfs(fd) < 0 ? -errno : 0; }

int shim_host_space(int fd, uint64_t *bytes, uint64_t *bytes_free, uint64_t *files, uint64_t *files_free) {
    struct statvfs found;
    if (fstatvfs(fd, &found) < 0) return -errno;
    *bytes = (uint64_t)found.f_blocks * found.f_frsize;
    *bytes_free = (uint64_t)found.f_bavail * found.f_frsize;
    *files = found.f_files;
    *files_free = found.f_favail;
    return 0;
}

ssize_t shim_host_attribute(int fd, const char *name, void *buffer, size_t count) {
    char path[32];
    ssize_t got = getxattr(itself(fd, path), name, buffer, count);
    return got < 0 ? -errno : got;
}

int shim_host_set_attribute(int fd, const char *name, const void *value, size_t count) {
    char path[32];
    int result = value ? setxattr(itself(fd, path), name, value, count, 0) : removexattr(itself(fd, path), name);
    return result < 0 ? -errno : 0;
}

ssize_t shim_host_attributes(int fd, char *buffer, size_t count) {
    char path[32];
    ssize_t got = listxattr(itself(fd, path), buffer, count);
    return got < 0 ? -errno : got;
}

int shim_host_watcher(void) {
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int shim_host_watch(int watcher, int fd) {
    char path[32];
    uint32_t mask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_ONLYDIR;
    int watch = inotify_add_watch(watcher, itself(fd, path), mask);
    return watch < 0 ? -errno : watch;
}

void shim_host_unwatch(int watcher, int watch) { inotify_rm_watch(watcher, watch); }

ssize_t shim_host_events(int watcher, void *block, size_t count, int milliseconds) {
    ssize_t got;
    struct pollfd ready = {.fd = watcher, .events = POLLIN};
    if (milliseconds > 0) AGAIN(got, poll(&ready, 1, milliseconds));
    AGAIN(got, read(watcher, block, count));
    return got < 0 ? -errno : got;
}

int shim_host_next_event(const void *block, size_t count, size_t *offset, struct shim_host_event *event) {
    if (*offset + sizeof(struct inotify_event) > count) return 0;
    const struct inotify_event *next = (const void *)((const char *)block + *offset);
    *offset += sizeof *next + next->len;
    static const uint32_t words[][2] = {
        {IN_Q_OVERFLOW, SHIM_NOTICE_OVERRUN}, {IN_IGNORED | IN_DELETE_SELF, SHIM_NOTICE_ENDED},
        {IN_CREATE, SHIM_NOTICE_CREATED},     {IN_DELETE, SHIM_NOTICE_REMOVED},
        {IN_MOVED_FROM, SHIM_NOTICE_LEFT},    {IN_MOVED_TO, SHIM_NOTICE_CAME},
        {IN_MODIFY, SHIM_NOTICE_WRITTEN},     {IN_ISDIR, SHIM_NOTICE_DIRECTORY},
    };
    uint32_t what = 0;
    for (size_t word = 0; word < sizeof words / sizeof *words; word++)
        if (next->mask & words[word][0]) what |= words[word][1];
    *event = (struct shim_host_event){
        .watch = next->wd, .what = what, .cookie = next->cookie, .name = next->len ? next->name : ""};
    return 1;
}
