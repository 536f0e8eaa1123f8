// Sockets, readiness, threads and clocks. Calls that can fail answer a negative errno, so that nobody reads errno
// after something else may have changed it.
#ifndef PROXYFS_CSHIM_NET_H
#define PROXYFS_CSHIM_NET_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { SHIM_FAMILY_IPV4 = 1, SHIM_FAMILY_IPV6 = 2, SHIM_FAMILY_UNIX = 3 };

// An address in one plain form: `ip_high` and `ip_low` are in wire order, an IPv4 address is the first four bytes.
struct shim_address {
    uint16_t family;
    uint16_t port;
    uint32_t scope;
    uint64_t ip_high;
    uint64_t ip_low;
    char path[108];
};

int shim_address_parse(const char *text, struct shim_address *out);
int shim_address_format(const struct shim_address *address, char *out, size_t size);

// A listening socket, not blocking, closed on exec. An old Unix socket's name is removed when nobody listens there.
int shim_listen(const struct shim_address *address, int backlog, uint32_t unix_mode);
int shim_accept(int listener, struct shim_address *remote);
// Begins to connect: *in_progress says whether readiness to write will tell how it went.
int shim_connect(const struct shim_address *address, int privileged_port, int *in_progress);
int shim_socket_error(int fd);
int shim_local_address(int fd, struct shim_address *out);
int shim_peer_credentials(int fd, int32_t *process, uint32_t *user, uint32_t *group);
// Bytes that were sent and that the other end's system does not have yet.
int shim_unread(int fd);
void shim_tune_tcp(int fd);

ssize_t shim_receive(int fd, void *buffer, size_t count);
ssize_t shim_send(int fd, const void *buffer, size_t count);
ssize_t shim_send_vectors(int fd, const struct iovec *vectors, int count);
int shim_shutdown_write(int fd);
void shim_close(int fd);
void shim_unlink(const char *path);

// Datagrams in batches. `local` of a received one is the address that it was sent to, with the port left zero.
struct shim_datagram {
    void *bytes;
    uint32_t count;
    uint32_t truncated;
    struct shim_address remote;
    struct shim_address local;
};
enum { SHIM_DATAGRAMS_MAX = 16 };
int shim_datagram_socket(const struct shim_address *address);
int shim_receive_datagrams(int fd, struct shim_datagram *datagrams, uint32_t count, uint32_t capacity);
int shim_send_datagrams(int fd, const struct shim_datagram *datagrams, uint32_t count);

enum { SHIM_READABLE = 1, SHIM_WRITABLE = 2, SHIM_BROKEN = 4 };
struct shim_event {
    uint64_t tag;
    uint32_t ready;
};
enum { SHIM_EVENTS_MAX = 256 };
int shim_epoll_create(void);
int shim_epoll_add(int epoll, int fd, uint32_t interest, uint64_t tag);
int shim_epoll_change(int epoll, int fd, uint32_t interest, uint64_t tag);
int shim_epoll_remove(int epoll, int fd);
// Waits at most `milliseconds`, for ever when negative. An interrupted wait answers 0.
int shim_epoll_wait(int epoll, struct shim_event *events, int milliseconds);

int shim_eventfd(void);
void shim_eventfd_signal(int fd);
void shim_eventfd_clear(int fd);

uint64_t shim_clock_monotonic(void);
int64_t shim_clock_wall(void);
int shim_random(void *buffer, size_t count);

// Starts a thread whose name shows in the system's tools. All signals are blocked in it.
int shim_thread_start(const char *name, void (*body)(void *), void *context, uint64_t *thread);
void shim_thread_join(uint64_t thread);
void shim_thread_yield(void);
// What the calling thread was marked with; null by default.
void *shim_thread_mark(void);
void shim_thread_set_mark(void *mark);

// A lock with two conditions: work has come, room has come.
struct shim_monitor;
struct shim_monitor *shim_monitor_create(void);
void shim_monitor_destroy(struct shim_monitor *monitor);
void shim_monitor_enter(struct shim_monitor *monitor);
void shim_monitor_exit(struct shim_monitor *monitor);
void shim_monitor_wait_work(struct shim_monitor *monitor);
void shim_monitor_wait_room(struct shim_monitor *monitor);
void shim_monitor_signal_work(struct shim_monitor *monitor);
void shim_monitor_signal_room(struct shim_monitor *monitor);
void shim_monitor_broadcast(struct shim_monitor *monitor);

// Counts what there is to do. Unlike signalling a condition, posting never waits for those who are waking up.
struct shim_semaphore;
struct shim_semaphore *shim_semaphore_create(void);
void shim_semaphore_destroy(struct shim_semaphore *semaphore);
void shim_semaphore_post(struct shim_semaphore *semaphore);
void shim_semaphore_wait(struct shim_semaphore *semaphore);

void shim_flush_standard_output(void);
// Waits until a signal ends the process.
void shim_pause(void);

// Raises the limit of open files as far as the system lets us, up to `wanted`; answers the limit that holds now.
uint64_t shim_open_files(uint64_t wanted);

#endif
