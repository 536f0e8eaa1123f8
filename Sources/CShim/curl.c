#include "CShim.h"

#include <curl/curl.h>
#include <stdlib.h>

enum { receive_bytes = 256 << 10, send_bytes = 512 << 10 };

struct transfer {
    CURL *easy;
    struct curl_slist *headers;
    char *error;
    shim_curl_calls calls;
    void *context;
};

int shim_curl_begin(void) { return curl_global_init(CURL_GLOBAL_DEFAULT); }

const char *shim_curl_version(void) { return curl_version_info(CURLVERSION_NOW)->version; }

void *shim_curl_pool_create(long connections_max) {
    CURLM *multi = curl_multi_init();
    if (!multi) return NULL;
    curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections_max);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, connections_max);
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    return multi;
}

void shim_curl_pool_destroy(void *pool) { curl_multi_cleanup(pool); }

int shim_curl_pool_perform(void *pool, int milliseconds) {
    int running = 0;
    CURLMcode code = curl_multi_poll(pool, NULL, 0, milliseconds, NULL);
    if (code == CURLM_OK) code = curl_multi_perform(pool, &running);
    return code;
}

void shim_curl_pool_wake(void *pool) { curl_multi_wakeup(pool); }

static enum shim_curl_failure failure_of(CURLcode code) {
    switch (code) {
    case CURLE_OK:
        return SHIM_CURL_FINE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return SHIM_CURL_RESOLVE;
    case CURLE_COULDNT_CONNECT:
        return SHIM_CURL_CONNECT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return SHIM_CURL_TLS;
    case CURLE_OPERATION_TIMEDOUT:
        return SHIM_CURL_TIMEOUT;
    case CURLE_ABORTED_BY_CALLBACK:
    case CURLE_WRITE_ERROR:
        return SHIM_CURL_ABORTED;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return SHIM_CURL_REQUEST;
    default:
        return SHIM_CURL_BROKEN;
    }
}

void *shim_curl_pool_ended(void *pool, enum shim_curl_failure *failure) {
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(pool, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        struct transfer *transfer = NULL;
        *failure = failure_of(message->data.result);
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        return transfer;
    }
    return NULL;
}

static size_t header(char *bytes, size_t one, size_t count, void *context) {
    struct transfer *transfer = context;
    return transfer->calls.header(transfer->context, bytes, one * count);
}

static size_t received(char *bytes, size_t one, size_t count, void *context) {
    struct transfer *transfer = context;
    return transfer->calls.received(transfer->context, bytes, one * count);
}

static size_t wanted(char *bytes, size_t one, size_t count, void *context) {
    struct transfer *transfer = context;
    return transfer->calls.wanted(transfer->context, bytes, one * count);
}

void *shim_curl_transfer_create(char *error) {
    _Static_assert(CURL_READFUNC_PAUSE == SHIM_CURL_PAUSE && CURL_READFUNC_ABORT == SHIM_CURL_ABORT, "as libcurl has it");
    _Static_assert(CURL_ERROR_SIZE == 256, "as libcurl has it");
    struct transfer *transfer = calloc(1, sizeof *transfer);
    if (!transfer) return NULL;
    transfer->easy = curl_easy_init();
    transfer->error = error;
    if (transfer->easy) return transfer;
    free(transfer);
    return NULL;
}

void shim_curl_transfer_destroy(void *pointer) {
    struct transfer *transfer = pointer;
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->headers);
    free(transfer);
}

static int set_headers(struct transfer *transfer, const shim_curl_request *request) {
    for (size_t index = 0; index < request->header_count; index++) {
        struct curl_slist *longer = curl_slist_append(transfer->headers, request->headers[index]);
        if (!longer) return 1;
        transfer->headers = longer;
    }
    return curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers) != CURLE_OK;
}

int shim_curl_transfer_start(
    void *pool, void *pointer, const shim_curl_request *request, const shim_curl_calls *calls, void *context) {
    struct transfer *transfer = pointer;
    CURL *easy = transfer->easy;
    curl_easy_reset(easy);
    curl_slist_free_all(transfer->headers);
    transfer->headers = NULL;
    transfer->error[0] = 0;
    transfer->calls = *calls;
    transfer->context = context;
    int bad = 0;
#define SET(option, value) bad |= curl_easy_setopt(easy, option, value) != CURLE_OK
    SET(CURLOPT_PRIVATE, transfer);
    SET(CURLOPT_ERRORBUFFER, transfer->error);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROTOCOLS_STR, request->refuses_plain ? "https" : "http,https");
    SET(CURLOPT_URL, request->url);
    SET(CURLOPT_PATH_AS_IS, 1L);
    // Requests in parallel have a connection each: over one of HTTP/2 a lost packet would hold up all of them.
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_CUSTOMREQUEST, request->method);
    // Neither this nor what goes without it is the environment's to say.
    SET(CURLOPT_PROXY, request->proxy ? request->proxy : "");
    SET(CURLOPT_NOPROXY, "");
    // A resolver that hangs keeps its own thread, and not the one of all transfers, when its transfer is taken out.
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    // Refused while the handle has a buffer of the same size from its last transfer.
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)receive_bytes);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)send_bytes);
    SET(CURLOPT_CONNECTTIMEOUT_MS, request->connect_milliseconds);
    SET(CURLOPT_TIMEOUT_MS, request->total_milliseconds);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, request->silent_seconds);
    if (request->authorities_file || request->authorities_directory) {
        // In place of the system's: NULL leaves those out.
        SET(CURLOPT_CAINFO, request->authorities_file);
        SET(CURLOPT_CAPATH, request->authorities_directory);
    }
    SET(CURLOPT_HEADERFUNCTION, header);
    SET(CURLOPT_HEADERDATA, transfer);
    SET(CURLOPT_WRITEFUNCTION, received);
    SET(CURLOPT_WRITEDATA, transfer);
    if (request->method[0] == 'H') SET(CURLOPT_NOBODY, 1L);
    if (request->body_bytes >= 0) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_bytes);
        SET(CURLOPT_READFUNCTION, wanted);
        SET(CURLOPT_READDATA, transfer);
        // No way to begin the body again: libcurl would send a request twice behind our back when a connection breaks
        // before its answer, and the second one of a conditional PUT would be told that the first one's object is there.
    }
#undef SET
    bad |= set_headers(transfer, request);
    return bad || curl_multi_add_handle(pool, easy) != CURLM_OK;
}

void shim_curl_transfer_resume(void *pointer) {
    struct transfer *transfer = pointer;
    curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
}

void shim_curl_transfer_remove(void *pool, void *pointer) {
    struct transfer *transfer = pointer;
    curl_multi_remove_handle(pool, transfer->easy);
}

long shim_curl_transfer_status(void *pointer) {
    struct transfer *transfer = pointer;
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

long shim_curl_transfer_connections(void *pointer) {
    struct transfer *transfer = pointer;
    long count = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_NUM_CONNECTS, &count);
    return count;
}
