/* Does through libnfs what a program does with files, and checks each answer. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>

/* It wants the headers above, and says so nowhere. */
#include <nfsc/libnfs.h>

static struct nfs_context *nfs;

#define MUST(condition)                                                                     \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, nfs_get_error(nfs)); \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

int main(int count, char **words) {
    if (count != 2) return 2;
    MUST((nfs = nfs_init_context()) != NULL);
    struct nfs_url *url = nfs_parse_url_dir(nfs, words[1]);
    MUST(url != NULL);
    MUST(nfs_mount(nfs, url->server, url->path) == 0);

    /* Directories, names, what is there and what is not. */
    struct nfs_stat_64 status;
    MUST(nfs_mkdir(nfs, "/d") == 0);
    MUST(nfs_mkdir(nfs, "/d") == -EEXIST);
    MUST(nfs_stat64(nfs, "/d", &status) == 0 && S_ISDIR(status.nfs_mode));
    MUST(nfs_stat64(nfs, "/none", &status) == -ENOENT);
    MUST(nfs_rmdir(nfs, "/none") == -ENOENT);

    /* Writing, reading, holes, sizes. */
    struct nfsfh *file;
    static char block[65536], back[65536];
    for (size_t n = 0; n < sizeof block; n++) block[n] = (char)(n * 31);
    MUST(nfs_open(nfs, "/d/f", O_RDWR | O_CREAT | O_EXCL, &file) == 0);
    MUST(nfs_pwrite(nfs, file, 0, sizeof block, block) == (int)sizeof block);
    MUST(nfs_pwrite(nfs, file, 1ull << 33, 5, "hello") == 5);
    MUST(nfs_fsync(nfs, file) == 0);
    MUST(nfs_pread(nfs, file, 0, sizeof back, back) == (int)sizeof back && !memcmp(block, back, sizeof back));
    MUST(nfs_pread(nfs, file, 1ull << 32, 100, back) == 100 && back[0] == 0 && back[99] == 0);
    MUST(nfs_pread(nfs, file, 1ull << 33, 100, back) == 5 && !memcmp(back, "hello", 5));
    MUST(nfs_fstat64(nfs, file, &status) == 0 && status.nfs_size == (1ull << 33) + 5);
    MUST(nfs_ftruncate(nfs, file, 10) == 0);
    MUST(nfs_pread(nfs, file, 0, 100, back) == 10);
    MUST(nfs_close(nfs, file) == 0);
    MUST(nfs_open(nfs, "/d/f", O_RDWR | O_CREAT | O_EXCL, &file) == -EEXIST);

    /* Modes, times, links. */
    MUST(nfs_chmod(nfs, "/d/f", 0640) == 0);
    MUST(nfs_stat64(nfs, "/d/f", &status) == 0 && (status.nfs_mode & 07777) == 0640);
    struct timeval times[2] = {{1000000000, 123456}, {1100000000, 654321}};
    MUST(nfs_utimes(nfs, "/d/f", times) == 0);
    MUST(nfs_stat64(nfs, "/d/f", &status) == 0);
    MUST(status.nfs_atime == 1000000000 && status.nfs_mtime == 1100000000 && status.nfs_mtime_nsec == 654321000);
    MUST(nfs_link(nfs, "/d/f", "/d/hard") == 0);
    MUST(nfs_stat64(nfs, "/d/hard", &status) == 0 && status.nfs_nlink == 2);
    MUST(nfs_symlink(nfs, "f", "/d/soft") == 0);
    MUST(nfs_readlink(nfs, "/d/soft", back, sizeof back) == 0 && !strcmp(back, "f"));
    MUST(nfs_mknod(nfs, "/d/pipe", S_IFIFO | 0600, 0) == 0);

    /* Renames over files, a directory that is not empty, listings. */
    MUST(nfs_rename(nfs, "/d/hard", "/d/other") == 0);
    MUST(nfs_rmdir(nfs, "/d") == -ENOTEMPTY || nfs_rmdir(nfs, "/d") == -EEXIST);
    for (int n = 0; n < 500; n++) {
        char name[64];
        snprintf(name, sizeof name, "/d/name-%d", n);
        MUST(nfs_creat(nfs, name, 0644, &file) == 0);
        MUST(nfs_close(nfs, file) == 0);
    }
    struct nfsdir *directory;
    int found = 0;
    MUST(nfs_opendir(nfs, "/d", &directory) == 0);
    for (struct nfsdirent *entry; (entry = nfs_readdir(nfs, directory));) found += !strncmp(entry->name, "name-", 5);
    nfs_closedir(nfs, directory);
    MUST(found == 500);
    struct statvfs space;
    MUST(nfs_statvfs(nfs, "/", &space) == 0 && space.f_blocks > 0 && space.f_bavail > 0);
    for (int n = 0; n < 500; n++) {
        char name[64];
        snprintf(name, sizeof name, "/d/name-%d", n);
        MUST(nfs_unlink(nfs, name) == 0);
    }
    for (const char *names[] = {"/d/f", "/d/other", "/d/soft", "/d/pipe"}, **name = names; name < names + 4; name++)
        MUST(nfs_unlink(nfs, *name) == 0);
    MUST(nfs_rmdir(nfs, "/d") == 0);
    nfs_destroy_url(url);
    nfs_destroy_context(nfs);
    return 0;
}
