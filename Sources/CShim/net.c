#include "CShimNet.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static socklen_t to_system(const struct shim_address *in, struct sockaddr_storage *out) {
    memset(out, 0, sizeof *out);
    switch (in->family) {
    case SHIM_FAMILY_IPV4: {
        struct sockaddr_in *a = (struct sockaddr_in *)out;
        a->sin_family = AF_INET;
        a->sin_port = htons(in->port);
        memcpy(&a->sin_addr, &in->ip_high, 4);
        return sizeof *a;
    }
    case SHIM_FAMILY_IPV6: {
        struct sockaddr_in6 *a = (struct sockaddr_in6 *)out;
        a->sin6_family = AF_INET6;
        a->sin6_port = htons(in->port);
        a->sin6_scope_id = in->scope;
        memcpy(a->sin6_addr.s6_addr, &in->ip_high, 8);
        memcpy(a->sin6_addr.s6_addr + 8, &in->ip_low, 8);
        return sizeof *a;
    }
    default: {
        struct sockaddr_un *a = (struct sockaddr_un *)out;
        a->sun_family = AF_UNIX;
        memcpy(a->sun_path, in->path, sizeof a->sun_path - 1);
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a->sun_path) + 1);
    }
    }
}

static void from_system(const struct sockaddr_storage *in, socklen_t length, struct shim_address *out) {
    memset(out, 0, sizeof *out);
    switch (in->ss_family) {
    case AF_INET: {
        const struct sockaddr_in *a = (const struct sockaddr_in *)in;
        out->family = SHIM_FAMILY_IPV4;
        out->port = ntohs(a->sin_port);
        memcpy(&out->ip_high, &a->sin_addr, 4);
        break;
    }
    case AF_INET6: {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)in;
        out->family = SHIM_FAMILY_IPV6;
        out->port = ntohs(a->sin6_port);
        out->scope = a->sin6_scope_id;
        memcpy(&out->ip_high, a->sin6_addr.s6_addr, 8);
        memcpy(&out->ip_low, a->sin6_addr.s6_addr + 8, 8);
        break;
    }
    case AF_UNIX: {
        const struct sockaddr_un *a = (const struct sockaddr_un *)in;
        size_t start = offsetof(struct sockaddr_un, sun_path);
        out->family = SHIM_FAMILY_UNIX;
        if (length > start) memcpy(out->path, a->sun_path, sizeof out->path - 1);
        break;
    }
    }
}

int shim_address_parse(const char *text, struct shim_address *out) {
    struct in_addr v4;
    struct in6_addr v6;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &v4) == 1) {
        out->family = SHIM_FAMILY_IPV4;
        memcpy(&out->ip_high, &v4, 4);
        return 0;
    }
    // A link-local address names its interface behind a percent sign.
    char host[INET6_ADDRSTRLEN];
    const char *percent = strchr(text, '%');
    size_t length = percent ? (size_t)(percent - text) : strlen(text);
    if (length >= sizeof host) return -EINVAL;
    memcpy(host, text, length);
    host[length] = 0;
    if (inet_pton(AF_INET6, host, &v6) != 1) return -EINVAL;
    if (percent) {
        out->scope = if_nametoindex(percent + 1);
        if (out->scope == 0) out->scope = (uint32_t)strtoul(percent + 1, NULL, 10);
        if (out->scope == 0) return -EINVAL;
    }
    out->family = SHIM_FAMILY_IPV6;
    memcpy(&out->ip_high, v6.s6_addr, 8);
    memcpy(&out->ip_low, v6.s6_addr + 8, 8);
    return 0;
}

int shim_address_format(const struct shim_address *address, char *out, size_t size) {
    struct sockaddr_storage system;
    to_system(address, &system);
    const void *ip = address->family == SHIM_FAMILY_IPV4 ? (const void *)&((struct sockaddr_in *)&system)->sin_addr
                                                         : (const void *)&((struct sockaddr_in6 *)&system)->sin6_addr;
    return inet_ntop(system.ss_family, ip, out, (socklen_t)size) ? 0 : -errno;
}

static int fail(int fd) {
    int error = errno;
    if (fd >= 0) close(fd);
    return -error;
}

// A Unix socket's name outlives a killed server. It may go only when nobody answers there.
static void remove_stale(const struct sockaddr_storage *address, socklen_t length) {
    const char *path = ((const struct sockaddr_un *)address)->sun_path;
    struct stat status;
    if (lstat(path, &status) != 0 || !S_ISSOCK(status.st_mode)) return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    if (connect(fd, (const struct sockaddr *)address, length) != 0 && errno == ECONNREFUSED) unlink(path);
    close(fd);
}

int shim_listen(const struct shim_address *address, int backlog, uint32_t unix_mode) {
    struct sockaddr_storage system;
    socklen_t length = to_system(address, &system);
    int fd = socket(system.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0) return -errno;
    if (address->family == SHIM_FAMILY_UNIX) {
        remove_stale(&system, length);
        // The mode must hold from the first moment: Linux takes a new name's mode from the socket itself.
        if (fchmod(fd, unix_mode) != 0) return fail(fd);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (address->family == SHIM_FAMILY_IPV6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if (bind(fd, (struct sockaddr *)&system, length) != 0) return fail(fd);
    if (address->family == SHIM_FAMILY_UNIX && chmod(address->path, unix_mode) != 0) return fail(fd);
    if (listen(fd, backlog) != 0) return fail(fd);
    return fd;
}

int shim_accept(int listener, struct shim_address *remote) {
    struct sockaddr_storage system;
    socklen_t length = sizeof system;
    int fd = accept4(listener, (struct sockaddr *)&system, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return -errno;
    from_system(&system, length, remote);
    return fd;
}

int shim_connect(const struct shim_address *address, int privileged_port, int *in_progress) {
    struct sockaddr_storage system;
    socklen_t length = to_system(address, &system);
    int fd = socket(system.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    if (privileged_port && address->family != SHIM_FAMILY_UNIX) {
        int bound = 0;
        for (int port = 1023; port > 600 && !bound; port--) {
            struct shim_address local = {.family = address->family, .port = (uint16_t)port};
            struct sockaddr_storage own;
            socklen_t own_length = to_system(&local, &own);
            bound = bind(fd, (struct sockaddr *)&own, own_length) == 0;
            if (!bound && errno != EADDRINUSE) return fail(fd);
        }
        if (!bound) return fail(fd);
    }
    *in_progress = 0;
    if (connect(fd, (struct sockaddr *)&system, length) != 0) {
        if (errno != EINPROGRESS) return fail(fd);
        *in_progress = 1;
    }
    return fd;
}

int shim_socket_error(int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
    return error;
}

int shim_local_address(int fd, struct shim_address *out) {
    struct sockaddr_storage system;
    socklen_t length = sizeof system;
    if (getsockname(fd, (struct sockaddr *)&system, &length) != 0) return -errno;
    from_system(&system, length, out);
    return 0;
}

int shim_peer_credentials(int fd, int32_t *process, uint32_t *user, uint32_t *group) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -errno;
    *process = credentials.pid;
    *user = credentials.uid;
    *group = credentials.gid;
    return 0;
}

// Replies are coalesced by us, so the kernel shall not wait for more. Keep-alive finds peers that went away without a
// word: after a minute of silence, and a minute of unanswered probes.
void shim_tune_tcp(int fd) {
    int on = 1, idle = 60, interval = 10, probes = 6;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

int shim_unread(int fd) {
    int count = 0;
    return ioctl(fd, TIOCOUTQ, &count) == 0 ? count : 0;
}

ssize_t shim_receive(int fd, void *buffer, size_t count) {
    ssize_t n;
    do n = recv(fd, buffer, count, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t shim_send(int fd, const void *buffer, size_t count) {
    ssize_t n;
    do n = send(fd, buffer, count, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t shim_send_vectors(int fd, const struct iovec *vectors, int count) {
    struct msghdr message = {.msg_iov = (struct iovec *)vectors, .msg_iovlen = (size_t)count};
    ssize_t n;
    do n = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int shim_shutdown_write(int fd) { return shutdown(fd, SHUT_WR) == 0 ? 0 : -errno; }
void shim_close(int fd) { close(fd); }
void shim_unlink(const char *path) { unlink(path); }

int shim_datagram_socket(const struct shim_address *address) {
    struct sockaddr_storage system;
    socklen_t length = to_system(address, &system);
    if (address->family == SHIM_FAMILY_UNIX) return -EAFNOSUPPORT;
    int fd = socket(system.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0) return -errno;
    if (address->family == SHIM_FAMILY_IPV6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        if (setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) != 0) return fail(fd);
    } else if (setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) != 0) {
        return fail(fd);
    }
    if (bind(fd, (struct sockaddr *)&system, length) != 0) return fail(fd);
    return fd;
}

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

int shim_receive_datagrams(int fd, struct shim_datagram *datagrams, uint32_t count, uint32_t capacity) {
    struct mmsghdr messages[SHIM_DATAGRAMS_MAX];
    struct iovec vectors[SHIM_DATAGRAMS_MAX];
    struct sockaddr_storage names[SHIM_DATAGRAMS_MAX];
    union control controls[SHIM_DATAGRAMS_MAX];
    if (count > SHIM_DATAGRAMS_MAX) count = SHIM_DATAGRAMS_MAX;
    memset(messages, 0, sizeof messages);
    for (uint32_t i = 0; i < count; i++) {
        vectors[i].iov_base = datagrams[i].bytes;
        vectors[i].iov_len = capacity;
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &names[i], .msg_namelen = sizeof names[i], .msg_iov = &vectors[i], .msg_iovlen = 1,
            .msg_control = &controls[i], .msg_controllen = sizeof controls[i]};
    }
    int n;
    do n = recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    for (int i = 0; i < n; i++) {
        struct msghdr *message = &messages[i].msg_hdr;
        datagrams[i].count = messages[i].msg_len;
        datagrams[i].truncated = (message->msg_flags & MSG_TRUNC) != 0;
        from_system(&names[i], message->msg_namelen, &datagrams[i].remote);
        memset(&datagrams[i].local, 0, sizeof datagrams[i].local);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
            struct shim_address *local = &datagrams[i].local;
            if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
                struct in_pktinfo info;
                memcpy(&info, CMSG_DATA(c), sizeof info);
                local->family = SHIM_FAMILY_IPV4;
                memcpy(&local->ip_high, &info.ipi_addr, 4);
            } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
                struct in6_pktinfo info;
                memcpy(&info, CMSG_DATA(c), sizeof info);
                local->family = SHIM_FAMILY_IPV6;
                local->scope = info.ipi6_ifindex;
                memcpy(&local->ip_high, info.ipi6_addr.s6_addr, 8);
                memcpy(&local->ip_low, info.ipi6_addr.s6_addr + 8, 8);
            }
        }
    }
    return n;
}

int shim_send_datagrams(int fd, const struct shim_datagram *datagrams, uint32_t count) {
    struct mmsghdr messages[SHIM_DATAGRAMS_MAX];
    struct iovec vectors[SHIM_DATAGRAMS_MAX];
    struct sockaddr_storage names[SHIM_DATAGRAMS_MAX];
    union control controls[SHIM_DATAGRAMS_MAX];
    if (count > SHIM_DATAGRAMS_MAX) count = SHIM_DATAGRAMS_MAX;
    memset(messages, 0, sizeof messages);
    memset(controls, 0, sizeof controls);
    for (uint32_t i = 0; i < count; i++) {
        const struct shim_datagram *d = &datagrams[i];
        struct msghdr *message = &messages[i].msg_hdr;
        vectors[i].iov_base = d->bytes;
        vectors[i].iov_len = d->count;
        message->msg_name = &names[i];
        message->msg_namelen = to_system(&d->remote, &names[i]);
        message->msg_iov = &vectors[i];
        message->msg_iovlen = 1;
        if (d->local.family == 0 || d->local.family != d->remote.family) continue;
        message->msg_control = &controls[i];
        struct cmsghdr *c = &controls[i].header;
        if (d->local.family == SHIM_FAMILY_IPV4) {
            struct in_pktinfo info = {0};
            memcpy(&info.ipi_spec_dst, &d->local.ip_high, 4);
            message->msg_controllen = CMSG_SPACE(sizeof info);
            c->cmsg_level = IPPROTO_IP;
            c->cmsg_type = IP_PKTINFO;
            c->cmsg_len = CMSG_LEN(sizeof info);
            memcpy(CMSG_DATA(c), &info, sizeof info);
        } else {
            struct in6_pktinfo info = {.ipi6_ifindex = d->local.scope};
            memcpy(info.ipi6_addr.s6_addr, &d->local.ip_high, 8);
            memcpy(info.ipi6_addr.s6_addr + 8, &d->local.ip_low, 8);
            message->msg_controllen = CMSG_SPACE(sizeof info);
            c->cmsg_level = IPPROTO_IPV6;
            c->cmsg_type = IPV6_PKTINFO;
            c->cmsg_len = CMSG_LEN(sizeof info);
            memcpy(CMSG_DATA(c), &info, sizeof info);
        }
    }
    int n;
    do n = sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static uint32_t to_epoll(uint32_t interest) {
    return (interest & SHIM_READABLE ? EPOLLIN : 0) | (interest & SHIM_WRITABLE ? EPOLLOUT : 0);
}

static int control(int epoll, int operation, int fd, uint32_t interest, uint64_t tag) {
    struct epoll_event event = {.events = to_epoll(interest), .data.u64 = tag};
    return epoll_ctl(epoll, operation, fd, &event) == 0 ? 0 : -errno;
}

int shim_epoll_create(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
int shim_epoll_add(int epoll, int fd, uint32_t interest, uint64_t tag) {
    return control(epoll, EPOLL_CTL_ADD, fd, interest, tag);
}
int shim_epoll_change(int epoll, int fd, uint32_t interest, uint64_t tag) {
    return control(epoll, EPOLL_CTL_MOD, fd, interest, tag);
}
int shim_epoll_remove(int epoll, int fd) { return control(epoll, EPOLL_CTL_DEL, fd, 0, 0); }

int shim_epoll_wait(int epoll, struct shim_event *events, int milliseconds) {
    struct epoll_event system[SHIM_EVENTS_MAX];
    int n = epoll_wait(epoll, system, SHIM_EVENTS_MAX, milliseconds);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        uint32_t e = system[i].events;
        events[i].tag = system[i].data.u64;
        events[i].ready = (e & EPOLLIN ? SHIM_READABLE : 0) | (e & EPOLLOUT ? SHIM_WRITABLE : 0) |
                          (e & (EPOLLERR | EPOLLHUP) ? SHIM_BROKEN : 0);
    }
    return n;
}

int shim_eventfd(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}
void shim_eventfd_signal(int fd) {
    uint64_t one = 1;
    // It can only fail when the counter is full, and then the reader is about to wake anyway.
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}
void shim_eventfd_clear(int fd) {
    uint64_t value;
    ssize_t ignored = read(fd, &value, sizeof value);
    (void)ignored;
}

uint64_t shim_clock_monotonic(void) {
    struct timespec t;
    // It goes on while the machine sleeps: who wakes must not take a lease of before for good.
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
int64_t shim_clock_wall(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
int shim_random(void *buffer, size_t count) {
    while (count > 0) {
        ssize_t n = getrandom(buffer, count, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -EIO;
        buffer = (char *)buffer + n;
        count -= (size_t)n;
    }
    return 0;
}

struct start {
    void (*body)(void *);
    void *context;
    char name[16];
};

static void *run(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    pthread_setname_np(pthread_self(), start.name);
    start.body(start.context);
    return NULL;
}

int shim_thread_start(const char *name, void (*body)(void *), void *context, uint64_t *thread) {
    struct start *start = calloc(1, sizeof *start);
    if (!start) return -ENOMEM;
    start->body = body;
    start->context = context;
    snprintf(start->name, sizeof start->name, "%s", name);
    sigset_t all, old;
    sigfillset(&all);
    // A trap must reach its handler: a blocked one kills without a backtrace.
    int traps[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT};
    for (size_t i = 0; i < sizeof traps / sizeof *traps; i++) sigdelset(&all, traps[i]);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_t id;
    int error = pthread_create(&id, NULL, run, start);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error) {
        free(start);
        return -error;
    }
    *thread = (uint64_t)id;
    return 0;
}
void shim_thread_join(uint64_t thread) { pthread_join((pthread_t)thread, NULL); }
void shim_thread_yield(void) { sched_yield(); }

static __thread void *mark;
void *shim_thread_mark(void) { return mark; }
void shim_thread_set_mark(void *value) { mark = value; }

struct shim_semaphore {
    sem_t count;
};

struct shim_monitor {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_cond_t room;
};

struct shim_monitor *shim_monitor_create(void) {
    struct shim_monitor *m = malloc(sizeof *m);
    if (!m) return NULL;
    // What it guards takes microseconds: another processor waits that long rather than sleep.
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&m->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_cond_init(&m->work, NULL);
    pthread_cond_init(&m->room, NULL);
    return m;
}
void shim_monitor_destroy(struct shim_monitor *m) {
    pthread_cond_destroy(&m->room);
    pthread_cond_destroy(&m->work);
    pthread_mutex_destroy(&m->lock);
    free(m);
}
void shim_monitor_enter(struct shim_monitor *m) { pthread_mutex_lock(&m->lock); }
void shim_monitor_exit(struct shim_monitor *m) { pthread_mutex_unlock(&m->lock); }
void shim_monitor_wait_work(struct shim_monitor *m) { pthread_cond_wait(&m->work, &m->lock); }
void shim_monitor_wait_room(struct shim_monitor *m) { pthread_cond_wait(&m->room, &m->lock); }
void shim_monitor_signal_work(struct shim_monitor *m) { pthread_cond_signal(&m->work); }
void shim_monitor_signal_room(struct shim_monitor *m) { pthread_cond_signal(&m->room); }
void shim_monitor_broadcast(struct shim_monitor *m) {
    pthread_cond_broadcast(&m->work);
    pthread_cond_broadcast(&m->room);
}

struct shim_semaphore *shim_semaphore_create(void) {
    struct shim_semaphore *s = malloc(sizeof *s);
    if (s) sem_init(&s->count, 0, 0);
    return s;
}
void shim_semaphore_destroy(struct shim_semaphore *s) {
    sem_destroy(&s->count);
    free(s);
}
void shim_semaphore_post(struct shim_semaphore *s) { sem_post(&s->count); }
void shim_semaphore_wait(struct shim_semaphore *s) {
    while (sem_wait(&s->count) != 0) {}
}

void shim_flush_standard_output(void) { fflush(stdout); }
void shim_pause(void) {
    for (;;) pause();
}

uint64_t shim_open_files(uint64_t wanted) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_cur;
}
