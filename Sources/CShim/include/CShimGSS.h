#ifndef CSHIM_GSS_H
#define CSHIM_GSS_H

#include <stddef.h>
#include <stdint.h>

/* Kerberos through GSSAPI, as an acceptor. Credentials and contexts are opaque; a context is used by one thread at a
 * time. Errors are GSSAPI's major status, with the mechanism's own in `minor`. */
typedef struct {
    uint32_t major;
    uint32_t minor;
} shim_gss_status;

/* The keys of a service on whatever host, or of all services (NULL), in a keytab; NULL: the system's keytab. Blocks. */
shim_gss_status shim_gss_acquire(const char *keytab, const char *service, void **credential);
void shim_gss_release(void *credential);

/* What one token of a client brought. `principal` is its name when `complete`; both buffers are freed by
 * `shim_gss_accepted_free`. */
typedef struct {
    shim_gss_status status;
    int complete;
    uint32_t lifetime;
    char *principal;
    void *token;
    size_t token_length;
} shim_gss_accepted;

/* Blocks: the mechanism may look into its replay cache. `context` begins as NULL. */
void shim_gss_accept(void *credential, void **context, const void *token, size_t length, shim_gss_accepted *accepted);
void shim_gss_accepted_free(shim_gss_accepted *accepted);
void shim_gss_delete(void *context);

/* 0, or -1. */
int shim_gss_verify(void *context, const void *message, size_t length, const void *mic, size_t mic_length);
/* The bytes written, or -1: it failed, or they would be more than `capacity`. */
ptrdiff_t shim_gss_sign(void *context, const void *message, size_t length, void *mic, size_t capacity);
ptrdiff_t shim_gss_wrap(void *context, const void *message, size_t length, void *wrapped, size_t capacity);
/* The plain message, to be freed by `shim_gss_free`; -1: it is not what the other side wrapped, or is not encrypted. */
ptrdiff_t shim_gss_unwrap(void *context, const void *wrapped, size_t length, void **message);
void shim_gss_free(void *message);

/* The key that both sides share, for protocols that derive their own from it; answers its length, or -1. */
ptrdiff_t shim_gss_session_key(void *context, void *key, size_t capacity);

/* A client's side, for tests: makes and continues a context for "service@host" with the credentials cache of the
 * environment. */
void shim_gss_initiate(void **context, const char *service, const void *token, size_t length,
                       shim_gss_accepted *accepted);

/* What a status says, in words. */
void shim_gss_message(shim_gss_status status, char *text, size_t capacity);

#endif
