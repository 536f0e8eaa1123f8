#include "CShimGSS.h"

#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static shim_gss_status status(OM_uint32 major, OM_uint32 minor) {
    shim_gss_status both = {major, minor};
    return both;
}

shim_gss_status shim_gss_acquire(const char *keytab, const char *service, void **credential) {
    gss_key_value_element_desc element = {"keytab", keytab};
    gss_key_value_set_desc store = {1, &element};
    gss_OID_set_desc mechanisms = {1, (gss_OID)gss_mech_krb5};
    gss_cred_id_t found = GSS_C_NO_CREDENTIAL;
    gss_name_t name = GSS_C_NO_NAME;
    OM_uint32 minor = 0, major = GSS_S_COMPLETE, ignored;
    if (service) {
        gss_buffer_desc text = {strlen(service), (void *)service};
        major = gss_import_name(&minor, &text, GSS_C_NT_HOSTBASED_SERVICE, &name);
    }
    if (!GSS_ERROR(major))
        major = gss_acquire_cred_from(&minor, name, GSS_C_INDEFINITE, &mechanisms, GSS_C_ACCEPT,
                                      keytab ? &store : GSS_C_NO_CRED_STORE, &found, NULL, NULL);
    if (name != GSS_C_NO_NAME) gss_release_name(&ignored, &name);
    *credential = found;
    return status(major, minor);
}

void shim_gss_release(void *credential) {
    gss_cred_id_t held = credential;
    OM_uint32 minor;
    if (held != GSS_C_NO_CREDENTIAL) gss_release_cred(&minor, &held);
}

static char *copy(gss_buffer_desc *text) {
    char *made = malloc(text->length + 1);
    if (!made) return NULL;
    memcpy(made, text->value, text->length);
    made[text->length] = 0;
    return made;
}

static void take(gss_buffer_desc *token, shim_gss_accepted *accepted) {
    OM_uint32 minor;
    if (token->length > 0 && (accepted->token = malloc(token->length))) {
        memcpy(accepted->token, token->value, token->length);
        accepted->token_length = token->length;
    }
    gss_release_buffer(&minor, token);
}

void shim_gss_accept(void *credential, void **context, const void *token, size_t length,
                     shim_gss_accepted *accepted) {
    memset(accepted, 0, sizeof *accepted);
    gss_ctx_id_t held = *context;
    gss_buffer_desc input = {length, (void *)token}, output = GSS_C_EMPTY_BUFFER;
    gss_name_t name = GSS_C_NO_NAME;
    gss_OID mechanism = GSS_C_NO_OID;
    OM_uint32 minor = 0, lifetime = 0, ignored;
    OM_uint32 major = gss_accept_sec_context(&minor, &held, credential, &input, GSS_C_NO_CHANNEL_BINDINGS, &name,
                                             &mechanism, &output, NULL, &lifetime, NULL);
    *context = held;
    accepted->status = status(major, minor);
    accepted->lifetime = lifetime;
    take(&output, accepted);
    if (major == GSS_S_COMPLETE) {
        gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
        if (gss_display_name(&ignored, name, &text, NULL) == GSS_S_COMPLETE) {
            accepted->principal = copy(&text);
            gss_release_buffer(&ignored, &text);
        }
        accepted->complete = accepted->principal != NULL;
    }
    if (name != GSS_C_NO_NAME) gss_release_name(&ignored, &name);
}

void shim_gss_initiate(void **context, const char *service, const void *token, size_t length,
                       shim_gss_accepted *accepted) {
    memset(accepted, 0, sizeof *accepted);
    gss_ctx_id_t held = *context;
    gss_buffer_desc text = {strlen(service), (void *)service}, input = {length, (void *)token},
                    output = GSS_C_EMPTY_BUFFER;
    gss_name_t target = GSS_C_NO_NAME;
    OM_uint32 minor = 0, ignored;
    OM_uint32 major = gss_import_name(&minor, &text, GSS_C_NT_HOSTBASED_SERVICE, &target);
    if (!GSS_ERROR(major))
        major = gss_init_sec_context(&minor, GSS_C_NO_CREDENTIAL, &held, target, (gss_OID)gss_mech_krb5,
                                     GSS_C_MUTUAL_FLAG, 0, GSS_C_NO_CHANNEL_BINDINGS, length > 0 ? &input : NULL, NULL,
                                     &output, NULL, NULL);
    *context = held;
    accepted->status = status(major, minor);
    accepted->complete = major == GSS_S_COMPLETE;
    take(&output, accepted);
    if (target != GSS_C_NO_NAME) gss_release_name(&ignored, &target);
}

void shim_gss_accepted_free(shim_gss_accepted *accepted) {
    free(accepted->principal);
    free(accepted->token);
    accepted->principal = NULL;
    accepted->token = NULL;
}

void shim_gss_delete(void *context) {
    gss_ctx_id_t held = context;
    OM_uint32 minor;
    if (held != GSS_C_NO_CONTEXT) gss_delete_sec_context(&minor, &held, GSS_C_NO_BUFFER);
}

int shim_gss_verify(void *context, const void *message, size_t length, const void *mic, size_t mic_length) {
    gss_buffer_desc text = {length, (void *)message}, token = {mic_length, (void *)mic};
    OM_uint32 minor;
    return GSS_ERROR(gss_verify_mic(&minor, context, &text, &token, NULL)) ? -1 : 0;
}

static ptrdiff_t put(gss_buffer_desc *made, void *place, size_t capacity) {
    OM_uint32 minor;
    ptrdiff_t count = made->length <= capacity ? (ptrdiff_t)made->length : -1;
    if (count > 0) memcpy(place, made->value, made->length);
    gss_release_buffer(&minor, made);
    return count;
}

ptrdiff_t shim_gss_sign(void *context, const void *message, size_t length, void *mic, size_t capacity) {
    gss_buffer_desc text = {length, (void *)message}, made = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor;
    if (GSS_ERROR(gss_get_mic(&minor, context, GSS_C_QOP_DEFAULT, &text, &made))) return -1;
    return put(&made, mic, capacity);
}

ptrdiff_t shim_gss_wrap(void *context, const void *message, size_t length, void *wrapped, size_t capacity) {
    gss_buffer_desc text = {length, (void *)message}, made = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor;
    int is_encrypted = 0;
    if (GSS_ERROR(gss_wrap(&minor, context, 1, GSS_C_QOP_DEFAULT, &text, &is_encrypted, &made))) return -1;
    if (!is_encrypted) {
        gss_release_buffer(&minor, &made);
        return -1;
    }
    return put(&made, wrapped, capacity);
}

ptrdiff_t shim_gss_unwrap(void *context, const void *wrapped, size_t length, void **message) {
    gss_buffer_desc text = {length, (void *)wrapped}, made = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor;
    int is_encrypted = 0;
    *message = NULL;
    if (GSS_ERROR(gss_unwrap(&minor, context, &text, &made, &is_encrypted, NULL))) return -1;
    ptrdiff_t count = -1;
    if (is_encrypted && (*message = malloc(made.length > 0 ? made.length : 1))) {
        memcpy(*message, made.value, made.length);
        count = (ptrdiff_t)made.length;
    }
    gss_release_buffer(&minor, &made);
    return count;
}

void shim_gss_free(void *message) { free(message); }

ptrdiff_t shim_gss_session_key(void *context, void *key, size_t capacity) {
    gss_buffer_set_t keys = GSS_C_NO_BUFFER_SET;
    OM_uint32 minor;
    if (GSS_ERROR(gss_inquire_sec_context_by_oid(&minor, context, GSS_C_INQ_SSPI_SESSION_KEY, &keys))) return -1;
    ptrdiff_t count = -1;
    if (keys && keys->count > 0 && keys->elements[0].length <= capacity) {
        count = (ptrdiff_t)keys->elements[0].length;
        memcpy(key, keys->elements[0].value, keys->elements[0].length);
    }
    gss_release_buffer_set(&minor, &keys);
    return count;
}

void shim_gss_message(shim_gss_status code, char *text, size_t capacity) {
    OM_uint32 minor, more = 0;
    gss_buffer_desc first = GSS_C_EMPTY_BUFFER, second = GSS_C_EMPTY_BUFFER;
    gss_display_status(&minor, code.major, GSS_C_GSS_CODE, GSS_C_NO_OID, &more, &first);
    more = 0;
    gss_display_status(&minor, code.minor, GSS_C_MECH_CODE, (gss_OID)gss_mech_krb5, &more, &second);
    snprintf(text, capacity, "%.*s: %.*s", (int)first.length, first.value ? (char *)first.value : "",
             (int)second.length, second.value ? (char *)second.value : "");
    gss_release_buffer(&minor, &first);
    gss_release_buffer(&minor, &second);
}
