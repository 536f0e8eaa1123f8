#include "CShimSystem.h"

#include "CShimMemory.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static void held(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
}

void shim_signals_hold(void) {
    sigset_t set;
    held(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int shim_signal_wait(int milliseconds) {
    sigset_t set;
    held(&set);
    struct timespec limit = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    int number = milliseconds < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &limit);
    switch (number) {
    case SIGTERM:
    case SIGINT: return SHIM_SIGNAL_TERMINATE;
    case SIGHUP: return SHIM_SIGNAL_HANGUP;
    case SIGUSR1: return SHIM_SIGNAL_WAKE;
    default: return SHIM_SIGNAL_NONE;
    }
}

void shim_signal_wake(void) { kill(getpid(), SIGUSR1); }

void shim_kernel_release(char *out, size_t size) {
    struct utsname name;
    snprintf(out, size, "%s", uname(&name) == 0 ? name.release : "unknown");
}

uint64_t shim_file_system(const char *path) {
    struct statfs status;
    return statfs(path, &status) == 0 ? (uint64_t)(uint32_t)status.f_type : 0;
}

int shim_clock_is_synchronized(void) {
    struct timex state = {0};
    int result = adjtimex(&state);
    if (result < 0) return -errno;
    return result != TIME_ERROR;
}

uint64_t shim_memory_bytes(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

void shim_open_files_limits(uint64_t *soft, uint64_t *hard) {
    struct rlimit limit = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    *soft = limit.rlim_cur;
    *hard = limit.rlim_max;
}

const char *shim_openssl_version(void) { return OpenSSL_version(OPENSSL_VERSION); }

void shim_touch(void *first, size_t bytes) {
    for (size_t place = 0; place < bytes; place += 4096) {
        volatile unsigned char *byte = (volatile unsigned char *)first + place;
#if defined(__x86_64__)
        // Said to the processor, because a compiler may make a mere load of an "or" with nothing.
        __asm__ volatile("lock orb $0, %0" : "+m"(*byte));
#else
        __atomic_fetch_or(byte, 0, __ATOMIC_RELAXED);
#endif
    }
}
