// Files and directories below one root.
#include "CShimDisk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

int shim_open_root(const char *path) {
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int open_beneath(int root, const char *path, int flags, mode_t mode) {
    struct open_how how = {.flags = (uint64_t)flags, .mode = mode, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    for (;;) {
        long fd = syscall(SYS_openat2, root, path, &how, sizeof how);
        if (fd >= 0) return (int)fd;
        // A rename of something on the way while it was looked up.
        if (errno != EAGAIN && errno != EINTR) return -errno;
    }
}

int shim_open_below(int root, const char *path, unsigned flags) {
    int mode = O_CLOEXEC | O_NOCTTY | (flags & 1 ? O_RDWR : O_RDONLY);
    if (flags & 2) mode |= O_CREAT;
    if (flags & 4) mode |= O_EXCL;
    if (flags & 8) mode |= O_TRUNC;
    if (flags & 16) mode |= O_DIRECT;
    return open_beneath(root, path, mode, flags & 2 ? 0600 : 0);
}

int shim_reserve(int fd, uint64_t size) {
    while (fallocate(fd, 0, 0, (off_t)size) != 0) {
        // A file system that can not reserve does without: space then runs out at the write.
        if (errno == EOPNOTSUPP) return 0;
        if (errno != EINTR) return -errno;
    }
    return 0;
}

int shim_lock_file(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) return 1;
    return errno == EAGAIN || errno == EACCES ? 0 : -errno;
}

int shim_stat_below(int root, const char *path, int *kind, uint64_t *size, int64_t *modified) {
    struct stat info;
    if (fstatat(root, path, &info, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0) return -errno;
    *kind = S_ISREG(info.st_mode) ? 0 : S_ISDIR(info.st_mode) ? 1 : 2;
    *size = (uint64_t)info.st_size;
    *modified = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    return 0;
}

int shim_space(int root, uint64_t *total, uint64_t *free_bytes) {
    struct statvfs info;
    if (fstatvfs(root, &info) != 0) return -errno;
    *total = (uint64_t)info.f_blocks * info.f_frsize;
    *free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    return 0;
}

int64_t shim_pwritev(int fd, const struct iovec *vectors, int count, uint64_t offset) {
    for (;;) {
        ssize_t written = pwritev(fd, vectors, count, (off_t)offset);
        if (written >= 0) return written;
        if (errno != EINTR) return -errno;
    }
}

void *shim_open_directory(int root, const char *path, int *error) {
    int fd = open_beneath(root, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) {
        *error = -fd;
        return NULL;
    }
    DIR *directory = fdopendir(fd);
    if (!directory) {
        *error = errno;
        close(fd);
    }
    return directory;
}

int shim_next_entry(void *directory, char *name, size_t capacity) {
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (!entry) return errno ? -2 : -1;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        size_t length = strlen(entry->d_name);
        if (length >= capacity) continue;
        memcpy(name, entry->d_name, length + 1);
        int type = entry->d_type;
        if (type == DT_UNKNOWN) {
            struct stat info;
            if (fstatat(dirfd(directory), name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
            type = S_ISREG(info.st_mode) ? DT_REG : S_ISDIR(info.st_mode) ? DT_DIR : DT_CHR;
        }
        return type == DT_REG ? 0 : type == DT_DIR ? 1 : 2;
    }
}

void shim_close_directory(void *directory) { closedir(directory); }
