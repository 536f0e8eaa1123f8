// OpenSSL behind macros: contexts, certificates, and a TLS stream over two callbacks.
#ifndef PROXYFS_CSHIM_TLS_H
#define PROXYFS_CSHIM_TLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

// A context is reference counted; a session keeps the one that it began with.
struct shim_tls_context;
struct shim_tls_identity {
    const char *chain;  // PEM: the certificate, then its issuers
    size_t chain_count;
    const char *key;  // PEM
    size_t key_count;
};

enum shim_tls_problem {
    SHIM_TLS_CHAIN = 1,  // the certificate chain can not be read
    SHIM_TLS_KEY,        // the key can not be read
    SHIM_TLS_MISMATCH,   // the key is another certificate's
    SHIM_TLS_TRUST,      // the authorities can not be read
    SHIM_TLS_ALPN,       // a protocol's name is empty or too long
    SHIM_TLS_MEMORY,
};

enum { SHIM_TLS_VERIFY_NONE = 0, SHIM_TLS_VERIFY_IF_GIVEN = 1, SHIM_TLS_VERIFY_REQUIRED = 2 };

// `trust`: authorities in PEM; null with a count of 0: those of the system when `system_trust`, else none.
// `alpn`: names, each behind one byte of length, most wanted first.
struct shim_tls_context *shim_tls_context_create(
    int is_server, const struct shim_tls_identity *identities, size_t identity_count, const char *trust,
    size_t trust_count, int system_trust, int verify, const uint8_t *alpn, size_t alpn_count,
    enum shim_tls_problem *problem);
void shim_tls_context_retain(struct shim_tls_context *context);
void shim_tls_context_release(struct shim_tls_context *context);

// Below the session: `read` answers bytes, 0 at the end, a negative errno; `write` the same.
struct shim_tls_callbacks {
    ssize_t (*read)(void *owner, void *buffer, size_t count);
    ssize_t (*write)(void *owner, const void *buffer, size_t count);
};
struct shim_tls_session;
// `name`: whom a client asks for and checks the certificate against; null for a server.
struct shim_tls_session *shim_tls_session_create(
    struct shim_tls_context *context, const char *name, const struct shim_tls_callbacks *callbacks, void *owner);
void shim_tls_session_destroy(struct shim_tls_session *session);

enum {
    SHIM_TLS_WANT_READ = -1,
    SHIM_TLS_WANT_WRITE = -2,
    SHIM_TLS_CLOSED = -3,     // the peer said that it has finished
    SHIM_TLS_TRUNCATED = -4,  // the stream below ended without that
    SHIM_TLS_FAILED = -5,
};
int shim_tls_handshake(struct shim_tls_session *session);
ssize_t shim_tls_read(struct shim_tls_session *session, void *buffer, size_t count);
ssize_t shim_tls_write(struct shim_tls_session *session, const void *buffer, size_t count);
void shim_tls_finish(struct shim_tls_session *session);
int shim_tls_has_pending(struct shim_tls_session *session);
// After a failure: OpenSSL's code, and the verification result when that was the reason, else 0.
unsigned long shim_tls_error(struct shim_tls_session *session);
long shim_tls_verify_result(struct shim_tls_session *session);
// Text of the session, copied with a terminating zero; answers its length, 0 when there is none.
size_t shim_tls_version(struct shim_tls_session *session, char *out, size_t size);
size_t shim_tls_alpn(struct shim_tls_session *session, char *out, size_t size);
size_t shim_tls_server_name(struct shim_tls_session *session, char *out, size_t size);
size_t shim_tls_subject(struct shim_tls_session *session, char *out, size_t size);

// Makes a P-256 key and a certificate for `names`, comma separated host names and addresses. Both are PEM, to be
// freed by `shim_tls_free`. Answers 0, or -1.
int shim_tls_self_signed(const char *names, int days, char **chain, char **key);
void shim_tls_free(char *text);

#endif
