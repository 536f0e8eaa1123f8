// libcurl's multi interface: its options and results are variadic, which Swift can not call.
#ifndef PROXYFS_CSHIM_CURL_H
#define PROXYFS_CSHIM_CURL_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *method;
    const char *url;
    // `Name: value`, `header_count` of them.
    const char *const *headers;
    size_t header_count;
    // Bytes of the body that is sent; negative: there is none.
    int64_t body_bytes;
    long connect_milliseconds;
    long total_milliseconds;
    // Ends a transfer in which nothing moves for this long.
    long silent_seconds;
    // NULL: the system's.
    const char *authorities_file;
    const char *authorities_directory;
    // NULL: none, whatever the environment says.
    const char *proxy;
    int refuses_plain;
} shim_curl_request;

// What a transfer calls, on the thread that performs it, with its context.
typedef struct {
    // Bytes taken; anything but `count` ends the transfer.
    size_t (*header)(void *context, const char *bytes, size_t count);
    size_t (*received)(void *context, const char *bytes, size_t count);
    // Bytes written to `bytes`, 0 at the end, or one of the two below.
    size_t (*wanted)(void *context, char *bytes, size_t room);
} shim_curl_calls;

enum { SHIM_CURL_PAUSE = 0x10000001, SHIM_CURL_ABORT = 0x10000000 };

enum shim_curl_failure {
    SHIM_CURL_FINE = 0,
    SHIM_CURL_RESOLVE,
    SHIM_CURL_CONNECT,
    SHIM_CURL_TLS,
    SHIM_CURL_TIMEOUT,
    SHIM_CURL_ABORTED,
    SHIM_CURL_REQUEST,
    SHIM_CURL_BROKEN,
};

// Once, before any thread uses the rest; 0 when all is well.
int shim_curl_begin(void);
const char *shim_curl_version(void);

// A set of transfers and the connections that they share: one thread's.
void *shim_curl_pool_create(long connections_max);
void shim_curl_pool_destroy(void *pool);
// Moves what can be moved, and waits for more at most so long. 0, or a code of libcurl.
int shim_curl_pool_perform(void *pool, int milliseconds);
// Ends a wait. Callable from any thread.
void shim_curl_pool_wake(void *pool);
// The next transfer that has ended, NULL when there is none; `failure` says how.
void *shim_curl_pool_ended(void *pool, enum shim_curl_failure *failure);

// One transfer at a time; used again, it keeps its buffers. `error` has 256 bytes and lives as long.
void *shim_curl_transfer_create(char *error);
void shim_curl_transfer_destroy(void *transfer);
// Adds it to the pool. What `request` points to is needed during the call only. 0, or not when libcurl refuses it.
int shim_curl_transfer_start(
    void *pool, void *transfer, const shim_curl_request *request, const shim_curl_calls *calls, void *context);
// A body that had paused goes on.
void shim_curl_transfer_resume(void *transfer);
// Takes it out of the pool, ended or not.
void shim_curl_transfer_remove(void *pool, void *transfer);
long shim_curl_transfer_status(void *transfer);
// Connections that it had to make.
long shim_curl_transfer_connections(void *transfer);

#endif
