/* Reads samples from standard input: a type's name, bytes that our encoder made, and of some what their fields are. Each is decoded and
 * encoded again by libtirpc's XDR with what rpcgen makes of Protocols/*.x: all bytes must be taken, the same must come out, and each
 * field must be what the sample says under its name. */
#include <gssapi/gssapi.h>
#include <rpc/rpc.h>
#include <rpc/auth_gss.h>
#include <rpc/auth_unix.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mount.h"
#include "nfs3.h"
#include "nfsacl.h"
#include "nlm.h"
#include "nsm.h"
#include "rquota.h"
#include "fields.h"

struct type {
    const char *name;
    xdrproc_t routine;
    size_t size;
    unsigned count;
};

#define TYPE(name) {#name, (xdrproc_t)xdr_##name, sizeof(name), 0}

/* A string of C ends at a zero byte, so libtirpc can not hold a name that has one; ours can. Such samples are skipped. */
static int has_zero;
#undef xdr_string
bool_t checked_string(XDR *x, char **text, u_int max) {
    u_int length = 0;
    if (x->x_op == XDR_DECODE) {
        u_int position = xdr_getpos(x);
        if (!xdr_u_int(x, &length) || !xdr_setpos(x, position)) return FALSE;
    }
    if (!xdr_string(x, text, max)) return FALSE;
    if (x->x_op == XDR_DECODE && strlen(*text) != length) has_zero = 1;
    return TRUE;
}

/* libtirpc's own, which rpcgen does not make. */
static bool_t reply(XDR *x, struct rpc_msg *message) {
    /* The results are not part of the header. */
    message->acpted_rply.ar_results.proc = (xdrproc_t)xdr_void;
    return xdr_replymsg(x, message);
}

static bool_t authunix(XDR *x, struct authunix_parms *parameters) {
    u_int stamp = 0, length = 0;
    if (x->x_op == XDR_DECODE) {
        u_int position = xdr_getpos(x);
        if (!xdr_u_int(x, &stamp) || !xdr_u_int(x, &length) || !xdr_setpos(x, position)) return FALSE;
    }
    if (!xdr_authunix_parms(x, parameters)) return FALSE;
    if (x->x_op == XDR_DECODE && strlen(parameters->aup_machname) != length) has_zero = 1;
    return TRUE;
}

static struct type types[] = {
    TYPE(nfs_fh3),
    TYPE(SETATTR3args),
    TYPE(diropargs3),
    TYPE(ACCESS3args),
    TYPE(READ3args),
    TYPE(WRITE3args),
    TYPE(CREATE3args),
    TYPE(MKDIR3args),
    TYPE(SYMLINK3args),
    TYPE(MKNOD3args),
    TYPE(RENAME3args),
    TYPE(LINK3args),
    TYPE(READDIR3args),
    TYPE(READDIRPLUS3args),
    TYPE(COMMIT3args),
    TYPE(GETATTR3res),
    TYPE(SETATTR3res),
    TYPE(LOOKUP3res),
    TYPE(ACCESS3res),
    TYPE(READLINK3res),
    TYPE(READ3res),
    TYPE(WRITE3res),
    TYPE(CREATE3res),
    TYPE(REMOVE3res),
    TYPE(RENAME3res),
    TYPE(LINK3res),
    TYPE(READDIR3res),
    TYPE(READDIRPLUS3res),
    TYPE(FSSTAT3res),
    TYPE(FSINFO3res),
    TYPE(PATHCONF3res),
    TYPE(COMMIT3res),
    TYPE(dirpath),
    TYPE(mountres3),
    TYPE(fhstatus),
    TYPE(mountlist),
    TYPE(exports),
    TYPE(nlm4_testargs),
    TYPE(nlm_testargs),
    TYPE(nlm4_lockargs),
    TYPE(nlm_lockargs),
    TYPE(nlm4_cancargs),
    TYPE(nlm_cancargs),
    TYPE(nlm4_unlockargs),
    TYPE(nlm_unlockargs),
    TYPE(nlm4_res),
    TYPE(nlm4_testres),
    TYPE(nlm_testres),
    TYPE(nlm4_shareargs),
    TYPE(nlm4_shareres),
    TYPE(nlm4_notify),
    TYPE(sm_name),
    TYPE(sm_stat_res),
    TYPE(sm_stat),
    TYPE(mon_id),
    TYPE(mon),
    TYPE(my_id),
    TYPE(stat_chge),
    TYPE(sm_status),
    TYPE(secattr),
    TYPE(GETACL3args),
    TYPE(GETACL3res),
    TYPE(SETACL3args),
    TYPE(SETACL3res),
    TYPE(getquota_args),
    TYPE(ext_getquota_args),
    TYPE(getquota_rslt),
    {"authunix_parms", (xdrproc_t)authunix, sizeof(struct authunix_parms), 0},
    {"rpc_msg_reply", (xdrproc_t)reply, sizeof(struct rpc_msg), 0},
    {"opaque_auth", (xdrproc_t)xdr_opaque_auth, sizeof(struct opaque_auth), 0},
    {"rpc_msg_call", (xdrproc_t)xdr_callmsg, sizeof(struct rpc_msg), 0},
    {"rpc_gss_cred", (xdrproc_t)xdr_rpc_gss_cred, sizeof(struct rpc_gss_cred), 0},
    {"rpc_gss_init_res", (xdrproc_t)xdr_rpc_gss_init_res, sizeof(struct rpc_gss_init_res), 0},
};
enum { TYPES = sizeof types / sizeof *types };

static void fail(const char *name, const char *why, const unsigned char *bytes, unsigned length) {
    fprintf(stderr, "%s: %s:", name, why);
    for (unsigned i = 0; i < length; i++) fprintf(stderr, "%s%02x", i % 4 ? "" : " ", bytes[i]);
    fputc('\n', stderr);
    exit(1);
}

static void hex(char *to, const unsigned char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) to += sprintf(to, "%02x", bytes[i]);
    *to = 0;
}

/* What the structure at `value` has in the field, as samples say it. */
static void show(const struct field *field, const char *value, char *to) {
    const char *place = value + field->offset;
    if (field->inner >= 0) {
        place = *(char *const *)place;
        if (!place) { strcpy(to, "nothing"); return; }
        place += field->inner;
    }
    switch (field->kind) {
    case NUMBER:
        sprintf(to, "%llu", field->size == 8 ? (unsigned long long)*(const uint64_t *)place : (unsigned long long)*(const uint32_t *)place);
        break;
    case OPAQUE: {
        const struct { u_int length; unsigned char *bytes; } *data = (const void *)place;
        hex(to, data->bytes, data->length);
        break;
    }
    case STRING: hex(to, *(unsigned char *const *)place, strlen(*(char *const *)place)); break;
    case FIXED: hex(to, (const unsigned char *)place, field->size); break;
    case BUFFER: hex(to, ((const gss_buffer_desc *)place)->value, ((const gss_buffer_desc *)place)->length); break;
    case AUTHENTICATOR: {
        const struct opaque_auth *auth = (const void *)(place - offsetof(struct opaque_auth, oa_base));
        hex(to, (const unsigned char *)auth->oa_base, auth->oa_length);
        break;
    }
    }
}

/* Each line is `FIELD=VALUE`. */
static unsigned long compare(const char *type, const char *value, char *text) {
    unsigned long compared = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char *said = strchr(line, '='), there[4096];
        if (!said) fail(type, "a field without a value", NULL, 0);
        *said++ = 0;
        struct field *field = fields;
        while (field < fields + FIELDS && (strcmp(field->type, type) || strcmp(field->name, line))) field++;
        if (field == fields + FIELDS) fail(type, line, NULL, 0);
        show(field, value, there);
        if (strcmp(there, said)) {
            fprintf(stderr, "%s: %s is %s here, not %s\n", type, line, there, said);
            exit(1);
        }
        field->count++;
        compared++;
    }
    return compared;
}

static int read_all(void *to, size_t count) { return fread(to, 1, count, stdin) == count; }

int main(void) {
    unsigned long total = 0, skipped = 0, compared = 0;
    unsigned head[3];
    while (read_all(head, sizeof head)) {
        char name[64] = "";
        /* libtirpc leaves the filling behind a credential as it finds it. */
        unsigned char *bytes = malloc(head[1] + 4), *again = calloc(1, head[1] + 64);
        char *text = calloc(1, head[2] + 1);
        if (head[0] >= sizeof name || !read_all(name, head[0]) || !read_all(bytes, head[1]) || !read_all(text, head[2])) {
            fprintf(stderr, "samples are cut short\n");
            return 1;
        }
        struct type *type = types;
        while (type < types + TYPES && strcmp(type->name, name)) type++;
        if (type == types + TYPES) fail(name, "unknown type", bytes, 0);
        void *value = calloc(1, type->size + 512);
        char verifier[512];
        if (!strcmp(name, "rpc_msg_reply")) {
            /* The caller brings the memory of a reply's verifier. */
            ((struct rpc_msg *)value)->acpted_rply.ar_verf.oa_base = verifier;
        }
        XDR in, out;
        xdrmem_create(&in, (char *)bytes, head[1], XDR_DECODE);
        if (!type->routine(&in, value)) fail(name, "not decoded", bytes, head[1]);
        if (xdr_getpos(&in) != head[1]) fail(name, "bytes left over", bytes, head[1]);
        if (!has_zero) compared += compare(name, value, text);
        free(text);
        xdrmem_create(&out, (char *)again, head[1] + 64, XDR_ENCODE);
        if (!type->routine(&out, value)) fail(name, "not encoded", bytes, head[1]);
        if (has_zero) {
            skipped++;
        } else if (xdr_getpos(&out) != head[1] || memcmp(bytes, again, head[1])) fail(name, "another encoding", bytes, head[1]);
        if (strcmp(name, "rpc_msg_reply")) xdr_free(type->routine, value);
        free(value);
        free(bytes);
        free(again);
        if (!has_zero) {
            type->count++;
            total++;
        }
        has_zero = 0;
    }
    for (struct type *type = types; type < types + TYPES; type++) {
        if (type->count == 0) {
            fprintf(stderr, "%s: no sample\n", type->name);
            return 1;
        }
    }
    for (struct field *field = fields; field < fields + FIELDS; field++) {
        if (field->count == 0) {
            fprintf(stderr, "%s: no sample says %s\n", field->type, field->name);
            return 1;
        }
    }
    printf("%lu fields of %d names: what their names say\n", compared, FIELDS);
    printf("%lu messages of %d types: the same bytes from both (%lu with a zero in a string skipped)\n", total,
           TYPES, skipped);
    return 0;
}
