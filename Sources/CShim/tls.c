#include "CShimTLS.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shim_tls_context {
    atomic_uint references;
    int is_server;
    size_t count;
    SSL_CTX **contexts;  // one for each certificate; at least one
    uint8_t *alpn;
    size_t alpn_count;
};

struct shim_tls_session {
    SSL *ssl;
    struct shim_tls_context *context;
    struct shim_tls_callbacks callbacks;
    void *owner;
    int at_end;
    unsigned long error;
};

static BIO_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

static int bio_read(BIO *bio, char *buffer, int count) {
    struct shim_tls_session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = s->callbacks.read(s->owner, buffer, (size_t)count);
    if (n > 0) return (int)n;
    if (n == 0) {
        s->at_end = 1;
        return 0;
    }
    if (n == -EAGAIN) BIO_set_retry_read(bio);
    return -1;
}

static int bio_write(BIO *bio, const char *buffer, int count) {
    struct shim_tls_session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = s->callbacks.write(s->owner, buffer, (size_t)count);
    if (n >= 0) return (int)n;
    if (n == -EAGAIN) BIO_set_retry_write(bio);
    return -1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)number;
    (void)pointer;
    struct shim_tls_session *s = BIO_get_data(bio);
    switch (command) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_EOF: return s ? s->at_end : 0;
    default: return 0;
    }
}

static void make_method(void) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    if (!method) return;
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
}

static BIO *text(const char *bytes, size_t count) { return count > INT32_MAX ? NULL : BIO_new_mem_buf(bytes, (int)count); }

// A password can not be asked for: the server may start with nobody there.
static int no_password(char *out, int size, int writing, void *context) {
    (void)out, (void)size, (void)writing, (void)context;
    return -1;
}

static int use_identity(SSL_CTX *ctx, const struct shim_tls_identity *identity, enum shim_tls_problem *problem) {
    int ok = 0;
    BIO *chain = text(identity->chain, identity->chain_count), *key = text(identity->key, identity->key_count);
    X509 *leaf = NULL, *issuer;
    EVP_PKEY *private = NULL;
    *problem = SHIM_TLS_MEMORY;
    if (!chain || !key) goto done;
    *problem = SHIM_TLS_CHAIN;
    leaf = PEM_read_bio_X509(chain, NULL, no_password, NULL);
    if (!leaf || SSL_CTX_use_certificate(ctx, leaf) != 1) goto done;
    while ((issuer = PEM_read_bio_X509(chain, NULL, no_password, NULL)))
        if (SSL_CTX_add0_chain_cert(ctx, issuer) != 1) {
            X509_free(issuer);
            goto done;
        }
    // The end of the text also shows as an error: only that one is right.
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) goto done;
    *problem = SHIM_TLS_KEY;
    private = PEM_read_bio_PrivateKey(key, NULL, no_password, NULL);
    if (!private) goto done;
    *problem = SHIM_TLS_MISMATCH;
    ok = SSL_CTX_use_PrivateKey(ctx, private) == 1 && SSL_CTX_check_private_key(ctx) == 1;
done:
    EVP_PKEY_free(private);
    X509_free(leaf);
    BIO_free(chain);
    BIO_free(key);
    ERR_clear_error();
    return ok;
}

static int use_trust(SSL_CTX *ctx, int is_server, const char *trust, size_t count) {
    BIO *bio = text(trust, count);
    X509 *authority;
    int found = 0;
    if (!bio) return 0;
    while ((authority = PEM_read_bio_X509(bio, NULL, no_password, NULL))) {
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), authority) == 1) found++;
        // The names are sent to the client, which may have several certificates to choose from.
        if (is_server) SSL_CTX_add_client_CA(ctx, authority);
        X509_free(authority);
    }
    int at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    BIO_free(bio);
    ERR_clear_error();
    return found > 0 && at_end;
}

static int choose_alpn(
    SSL *ssl, const unsigned char **out, unsigned char *out_count, const unsigned char *in, unsigned in_count,
    void *argument) {
    (void)ssl;
    struct shim_tls_context *c = argument;
    unsigned char *chosen;
    int result = SSL_select_next_proto(&chosen, out_count, c->alpn, (unsigned)c->alpn_count, in, in_count);
    if (result != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int choose_identity(SSL *ssl, int *alert, void *argument) {
    (void)alert;
    struct shim_tls_context *c = argument;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!name) return SSL_TLSEXT_ERR_NOACK;
    for (size_t i = 0; i < c->count; i++) {
        X509 *leaf = SSL_CTX_get0_certificate(c->contexts[i]);
        if (leaf && X509_check_host(leaf, name, 0, 0, NULL) == 1) {
            SSL_set_SSL_CTX(ssl, c->contexts[i]);
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static SSL_CTX *make_context(struct shim_tls_context *c) {
    SSL_CTX *ctx = SSL_CTX_new(c->is_server ? TLS_server_method() : TLS_client_method());
    if (!ctx) return NULL;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(
        ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    // No resumption: a session made under an old certificate or client authority must not outlive a reload.
    SSL_CTX_set_options(
        ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ctx, 1);
    if (c->is_server) {
        SSL_CTX_set_tlsext_servername_callback(ctx, choose_identity);
        SSL_CTX_set_tlsext_servername_arg(ctx, c);
        if (c->alpn_count > 0) SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, c);
    }
    return ctx;
}

struct shim_tls_context *shim_tls_context_create(
    int is_server, const struct shim_tls_identity *identities, size_t identity_count, const char *trust,
    size_t trust_count, int system_trust, int verify, const uint8_t *alpn, size_t alpn_count,
    enum shim_tls_problem *problem) {
    struct shim_tls_context *c = calloc(1, sizeof *c);
    *problem = SHIM_TLS_MEMORY;
    if (!c) return NULL;
    atomic_init(&c->references, 1);
    c->is_server = is_server;
    size_t count = identity_count > 0 ? identity_count : 1;
    c->contexts = calloc(count, sizeof *c->contexts);
    if (!c->contexts) goto failed;
    c->alpn = malloc(alpn_count + 1);
    if (!c->alpn) goto failed;
    if (alpn_count > 0) memcpy(c->alpn, alpn, alpn_count);
    c->alpn_count = alpn_count;
    for (; c->count < count; c->count++) {
        *problem = SHIM_TLS_MEMORY;
        SSL_CTX *ctx = c->contexts[c->count] = make_context(c);
        if (!ctx) goto failed;
        if (identity_count > 0 && !use_identity(ctx, &identities[c->count], problem)) {
            SSL_CTX_free(ctx);
            goto failed;
        }
        *problem = SHIM_TLS_TRUST;
        if ((trust_count > 0 || verify != SHIM_TLS_VERIFY_NONE) && !system_trust &&
            !use_trust(ctx, is_server, trust, trust_count)) {
            SSL_CTX_free(ctx);
            goto failed;
        }
        if (system_trust) SSL_CTX_set_default_verify_paths(ctx);
        SSL_CTX_set_verify(
            ctx,
            verify == SHIM_TLS_VERIFY_NONE ? SSL_VERIFY_NONE
            : verify == SHIM_TLS_VERIFY_REQUIRED ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                                                 : SSL_VERIFY_PEER,
            NULL);
        *problem = SHIM_TLS_ALPN;
        if (!is_server && alpn_count > 0 && SSL_CTX_set_alpn_protos(ctx, c->alpn, (unsigned)alpn_count) != 0) {
            SSL_CTX_free(ctx);
            goto failed;
        }
    }
    return c;
failed:
    shim_tls_context_release(c);
    ERR_clear_error();
    return NULL;
}

void shim_tls_context_retain(struct shim_tls_context *c) { atomic_fetch_add(&c->references, 1); }

void shim_tls_context_release(struct shim_tls_context *c) {
    if (atomic_fetch_sub(&c->references, 1) != 1) return;
    for (size_t i = 0; i < c->count; i++) SSL_CTX_free(c->contexts[i]);
    free(c->contexts);
    free(c->alpn);
    free(c);
}

struct shim_tls_session *shim_tls_session_create(
    struct shim_tls_context *context, const char *name, const struct shim_tls_callbacks *callbacks, void *owner) {
    pthread_once(&method_once, make_method);
    struct shim_tls_session *s = calloc(1, sizeof *s);
    if (!s || !method) {
        free(s);
        return NULL;
    }
    s->callbacks = *callbacks;
    s->owner = owner;
    s->ssl = SSL_new(context->contexts[0]);
    BIO *bio = s->ssl ? BIO_new(method) : NULL;
    if (!bio) goto failed;
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(s->ssl, bio, bio);
    if (context->is_server) {
        SSL_set_accept_state(s->ssl);
    } else {
        SSL_set_connect_state(s->ssl);
        unsigned char address[16];
        if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1) {
            if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(s->ssl), name) != 1) goto failed;
        } else if (SSL_set_tlsext_host_name(s->ssl, name) != 1 || SSL_set1_host(s->ssl, name) != 1) {
            goto failed;
        }
    }
    shim_tls_context_retain(context);
    s->context = context;
    return s;
failed:
    SSL_free(s->ssl);
    free(s);
    ERR_clear_error();
    return NULL;
}

void shim_tls_session_destroy(struct shim_tls_session *s) {
    SSL_free(s->ssl);
    shim_tls_context_release(s->context);
    free(s);
}

static int outcome(struct shim_tls_session *s, int result) {
    switch (SSL_get_error(s->ssl, result)) {
    case SSL_ERROR_WANT_READ: return SHIM_TLS_WANT_READ;
    case SSL_ERROR_WANT_WRITE: return SHIM_TLS_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN: return SHIM_TLS_CLOSED;
    default: break;
    }
    s->error = ERR_peek_error();
    ERR_clear_error();
    return s->at_end ? SHIM_TLS_TRUNCATED : SHIM_TLS_FAILED;
}

int shim_tls_handshake(struct shim_tls_session *s) {
    ERR_clear_error();
    int result = SSL_do_handshake(s->ssl);
    return result == 1 ? 0 : outcome(s, result);
}

ssize_t shim_tls_read(struct shim_tls_session *s, void *buffer, size_t count) {
    ERR_clear_error();
    int result = SSL_read(s->ssl, buffer, count > INT32_MAX ? INT32_MAX : (int)count);
    return result > 0 ? result : outcome(s, result);
}

ssize_t shim_tls_write(struct shim_tls_session *s, const void *buffer, size_t count) {
    ERR_clear_error();
    int result = SSL_write(s->ssl, buffer, count > INT32_MAX ? INT32_MAX : (int)count);
    return result > 0 ? result : outcome(s, result);
}

void shim_tls_finish(struct shim_tls_session *s) {
    ERR_clear_error();
    SSL_shutdown(s->ssl);
    ERR_clear_error();
}

int shim_tls_has_pending(struct shim_tls_session *s) { return SSL_has_pending(s->ssl); }
unsigned long shim_tls_error(struct shim_tls_session *s) { return s->error; }
long shim_tls_verify_result(struct shim_tls_session *s) { return SSL_get_verify_result(s->ssl); }

static size_t copy_text(const char *from, size_t count, char *out, size_t size) {
    if (!from || size == 0 || count >= size) return 0;
    memcpy(out, from, count);
    out[count] = 0;
    return count;
}

size_t shim_tls_version(struct shim_tls_session *s, char *out, size_t size) {
    const char *name = SSL_get_version(s->ssl);
    return copy_text(name, strlen(name), out, size);
}
size_t shim_tls_alpn(struct shim_tls_session *s, char *out, size_t size) {
    const unsigned char *name = NULL;
    unsigned count = 0;
    SSL_get0_alpn_selected(s->ssl, &name, &count);
    return copy_text((const char *)name, count, out, size);
}
size_t shim_tls_server_name(struct shim_tls_session *s, char *out, size_t size) {
    const char *name = SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);
    return name ? copy_text(name, strlen(name), out, size) : 0;
}
size_t shim_tls_subject(struct shim_tls_session *s, char *out, size_t size) {
    X509 *peer = SSL_get0_peer_certificate(s->ssl);
    if (!peer) return 0;
    BIO *bio = BIO_new(BIO_s_mem());
    char *bytes;
    size_t count = 0;
    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(peer), 0, XN_FLAG_RFC2253) > 0) {
        long length = BIO_get_mem_data(bio, &bytes);
        if (length > 0) count = copy_text(bytes, (size_t)length, out, size);
    }
    BIO_free(bio);
    return count;
}

static char *take_text(BIO *bio) {
    char *bytes, *out;
    long count = BIO_get_mem_data(bio, &bytes);
    if (count <= 0 || !(out = malloc((size_t)count + 1))) return NULL;
    memcpy(out, bytes, (size_t)count);
    out[count] = 0;
    return out;
}

// `DNS:a,IP:b` from `a,b`; null without memory.
static char *alternative_names(const char *names) {
    size_t count = 1;
    for (const char *c = names; *c; c++) count += *c == ',';
    char *out = malloc(strlen(names) + count * 5 + 1), *copy = strdup(names), *rest = NULL, *end = out;
    if (!out || !copy) {
        free(out);
        free(copy);
        return NULL;
    }
    *out = 0;
    for (char *name = strtok_r(copy, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        unsigned char address[16];
        int numeric = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
        end += sprintf(end, "%s%s:%s", end == out ? "" : ",", numeric ? "IP" : "DNS", name);
    }
    free(copy);
    return out;
}

static int add_extension(X509 *certificate, int kind, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    int ok = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

int shim_tls_self_signed(const char *names, int days, char **chain, char **key) {
    int ok = 0;
    char *alternatives = alternative_names(names);
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    BIO *chain_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());
    BIGNUM *serial = BN_new();
    *chain = *key = NULL;
    if (!alternatives || !pair || !certificate || !chain_bio || !key_bio || !serial) goto done;
    size_t first = strcspn(names, ",");
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_set_version(certificate, X509_VERSION_3);
    ok = BN_rand(serial, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate)) != NULL &&
         // An hour back: the clocks of clients differ.
         X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL &&
         X509_time_adj_ex(X509_getm_notAfter(certificate), days, 0, NULL) != NULL &&
         X509_NAME_add_entry_by_txt(
             subject, "CN", MBSTRING_UTF8, (const unsigned char *)names, (int)(first < 64 ? first : 64), -1, 0) == 1 &&
         X509_set_issuer_name(certificate, subject) == 1 && X509_set_pubkey(certificate, pair) == 1 &&
         add_extension(certificate, NID_subject_alt_name, alternatives) &&
         add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE") &&
         X509_sign(certificate, pair, EVP_sha256()) > 0 && PEM_write_bio_X509(chain_bio, certificate) == 1 &&
         PEM_write_bio_PKCS8PrivateKey(key_bio, pair, NULL, NULL, 0, NULL, NULL) == 1;
    if (ok) {
        *chain = take_text(chain_bio);
        *key = take_text(key_bio);
        ok = *chain && *key;
    }
done:
    if (!ok) {
        shim_tls_free(*chain);
        shim_tls_free(*key);
    }
    BN_free(serial);
    BIO_free(chain_bio);
    BIO_free(key_bio);
    X509_free(certificate);
    EVP_PKEY_free(pair);
    free(alternatives);
    ERR_clear_error();
    return ok ? 0 : -1;
}

void shim_tls_free(char *text) {
    if (!text) return;
    OPENSSL_cleanse(text, strlen(text));
    free(text);
}
