#include "CShim.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// One system call takes so many pieces. Writing back begins after each PUSH_BYTES.
enum { PIECES_MAX = 256, PUSH_BYTES = 4 << 20 };

#define AGAIN(result, call)                    \
    do {                                       \
        result = (call);                       \
    } while (result < 0 && errno == EINTR)

static const char *named(const char *path) { return *path ? path : "."; }

int shim_disk_root(const char *path) {
    int fd;
    AGAIN(fd, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return fd < 0 ? -errno : fd;
}

// No symbolic link on the way is followed. Where a sandbox hides openat2, only the last part is looked at.
static int open_below(int root, const char *path, int flags, mode_t mode) {
    struct open_how how = {.flags = (uint64_t)flags, .mode = mode, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    for (;;) {
        int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
        if (fd < 0 && (errno == ENOSYS || errno == EPERM)) fd = openat(root, path, flags | O_NOFOLLOW, mode);
        // EAGAIN: something on the way was renamed meanwhile.
        if (fd >= 0 || (errno != EINTR && errno != EAGAIN)) return fd;
    }
}

int shim_disk_open(int root, const char *path, unsigned options) {
    int flags = O_CLOEXEC | O_NOCTTY | (options & SHIM_OPEN_WRITE ? O_RDWR : O_RDONLY);
    if (options & SHIM_OPEN_CREATE) flags |= O_CREAT;
    if (options & SHIM_OPEN_EXCLUSIVE) flags |= O_EXCL;
    if (options & SHIM_OPEN_TRUNCATE) flags |= O_TRUNC;
    int fd;
    // Not every file system can bypass its cache, and one that can not says so only after it has made the file.
    if (options & SHIM_OPEN_DIRECT) {
        fd = open_below(root, path, flags | O_DIRECT, flags & O_CREAT ? 0600 : 0);
        if (fd >= 0) goto opened;
        if (errno != EINVAL) return -errno;
        if (options & SHIM_OPEN_CREATE) flags &= ~O_EXCL;
    }
    fd = open_below(root, path, flags, flags & O_CREAT ? 0600 : 0);
    if (fd < 0) return -errno;
opened:;
    struct stat status;
    // A directory opens for reading; a fifo would block. Only plain files hold our bytes.
    int error = fstat(fd, &status) < 0 ? errno : S_ISDIR(status.st_mode) ? EISDIR : S_ISREG(status.st_mode) ? 0 : EINVAL;
    if (error) {
        close(fd);
        return -error;
    }
    return fd;
}

void shim_disk_close(int fd) { close(fd); }

ssize_t shim_disk_read(int fd, void *buffer, size_t count, uint64_t offset) {
    size_t done = 0;
    while (done < count) {
        ssize_t got;
        AGAIN(got, pread(fd, (char *)buffer + done, count - done, (off_t)(offset + done)));
        if (got < 0) return -errno;
        if (got == 0) break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

int shim_disk_read_now(int fd, void *buffer, size_t count, uint64_t offset) {
    struct iovec piece = {.iov_base = buffer, .iov_len = count};
    ssize_t got;
    AGAIN(got, preadv2(fd, &piece, 1, (off_t)offset, RWF_NOWAIT));
    return got == (ssize_t)count;
}

int shim_disk_write(
    int fd, const struct shim_piece *pieces, size_t count, uint64_t offset, size_t at_once, int push) {
    size_t skip = 0; // bytes of the first piece that are written
    uint64_t pushed = offset;
    while (count > 0) {
        struct iovec vector[PIECES_MAX];
        size_t used = 0, bytes = 0, from = skip;
        for (size_t index = 0; index < count && used < PIECES_MAX; index++, from = 0) {
            size_t length = pieces[index].length - from;
            if (length > at_once - bytes) length = at_once - bytes;
            if (length > 0)
                vector[used++] = (struct iovec){.iov_base = (char *)pieces[index].base + from, .iov_len = length};
            bytes += length;
            if (bytes == at_once) break;
        }
        if (bytes == 0) break;
        ssize_t written;
        AGAIN(written, pwritev(fd, vector, (int)used, (off_t)offset));
        if (written < 0) return -errno;
        if (written == 0) return -EIO;
        offset += (uint64_t)written;
        if (push && offset - pushed >= PUSH_BYTES) {
            // An error here shows in the sync, which decides.
            sync_file_range(fd, (off_t)pushed, (off_t)(offset - pushed), SYNC_FILE_RANGE_WRITE);
            pushed = offset;
        }
        size_t left = (size_t)written;
        while (count > 0 && left >= pieces->length - skip) {
            left -= pieces->length - skip;
            skip = 0;
            pieces++;
            count--;
        }
        skip += left;
        // Many kernels take the processor from nobody before the next tick, 4 ms later.
        if (count > 0) sched_yield();
    }
    if (push && offset > pushed) sync_file_range(fd, (off_t)pushed, (off_t)(offset - pushed), SYNC_FILE_RANGE_WRITE);
    return 0;
}

int shim_disk_sync(int fd) {
    int result;
    AGAIN(result, fdatasync(fd));
    return result < 0 ? -errno : 0;
}

void shim_disk_start_writing(int fd, uint64_t offset, uint64_t count) {
    sync_file_range(fd, (off64_t)offset, (off64_t)count, SYNC_FILE_RANGE_WRITE);
}

int shim_disk_truncate(int fd, uint64_t size) {
    int result;
    AGAIN(result, ftruncate(fd, (off_t)size));
    return result < 0 ? -errno : 0;
}

int shim_disk_allocate(int fd, uint64_t size) {
    int result;
    AGAIN(result, fallocate(fd, 0, 0, (off_t)size));
    if (result == 0) return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS) return -errno;
    // No reservations here: the size at least need not change any more.
    int64_t now = shim_disk_size(fd);
    if (now < 0) return (int)now;
    return (uint64_t)now < size ? shim_disk_truncate(fd, size) : 0;
}

int64_t shim_disk_size(int fd) {
    struct stat status;
    return fstat(fd, &status) < 0 ? -errno : (int64_t)status.st_size;
}

int shim_disk_lock(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int result;
    AGAIN(result, fcntl(fd, F_OFD_SETLK, &lock));
    if (result == 0) return 1;
    return errno == EAGAIN || errno == EACCES ? 0 : -errno;
}

int shim_disk_make_directory(int root, const char *path) { return mkdirat(root, path, 0700) < 0 ? -errno : 0; }

int shim_disk_remove(int root, const char *path, int directory) {
    return unlinkat(root, path, directory ? AT_REMOVEDIR : 0) < 0 ? -errno : 0;
}

int shim_disk_rename(int root, const char *from, const char *to) {
    return renameat(root, from, root, to) < 0 ? -errno : 0;
}

int shim_disk_link(int root, const char *from, const char *to) {
    return linkat(root, from, root, to, 0) < 0 ? -errno : 0;
}

static int kind_of(mode_t mode) {
    return S_ISREG(mode) ? SHIM_KIND_FILE : S_ISDIR(mode) ? SHIM_KIND_DIRECTORY : SHIM_KIND_OTHER;
}

int shim_disk_status(int root, const char *path, struct shim_status *status) {
    struct stat found;
    if (fstatat(root, named(path), &found, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    status->kind = kind_of(found.st_mode);
    status->size = S_ISREG(found.st_mode) ? (uint64_t)found.st_size : 0;
    status->modified = (int64_t)found.st_mtim.tv_sec * 1000000000 + found.st_mtim.tv_nsec;
    return 0;
}

static int open_directory(int root, const char *path) {
    int fd = open_below(root, named(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int shim_disk_sync_directory(int root, const char *path) {
    int fd = open_directory(root, path);
    if (fd < 0) return fd;
    int result;
    AGAIN(result, fsync(fd));
    result = result < 0 ? -errno : 0;
    close(fd);
    return result;
}

int shim_disk_space(int root, uint64_t *total, uint64_t *available) {
    struct statvfs status;
    int result;
    AGAIN(result, fstatvfs(root, &status));
    if (result < 0) return -errno;
    *total = (uint64_t)status.f_blocks * status.f_frsize;
    *available = (uint64_t)status.f_bavail * status.f_frsize;
    return 0;
}

struct shim_listing {
    DIR *stream;
};

int shim_listing_open(int root, const char *path, struct shim_listing **listing) {
    int fd = open_directory(root, path);
    if (fd < 0) return fd;
    struct shim_listing *made = malloc(sizeof *made);
    if (made) made->stream = fdopendir(fd);
    if (!made || !made->stream) {
        close(fd);
        free(made);
        return -ENOMEM;
    }
    *listing = made;
    return 0;
}

int shim_listing_next(struct shim_listing *listing, const char **name, int *kind) {
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(listing->stream);
        if (!entry) return errno ? -errno : 0;
        const char *found = entry->d_name;
        if (found[0] == '.' && (!found[1] || (found[1] == '.' && !found[2]))) continue;
        *name = found;
        switch (entry->d_type) {
        case DT_REG: *kind = SHIM_KIND_FILE; return 1;
        case DT_DIR: *kind = SHIM_KIND_DIRECTORY; return 1;
        case DT_UNKNOWN: break;
        default: *kind = SHIM_KIND_OTHER; return 1;
        }
        struct stat status;
        if (fstatat(dirfd(listing->stream), found, &status, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno == ENOENT) continue;
            return -errno;
        }
        *kind = kind_of(status.st_mode);
        return 1;
    }
}

void shim_listing_close(struct shim_listing *listing) {
    closedir(listing->stream);
    free(listing);
}
