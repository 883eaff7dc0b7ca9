/* libkoal/auth: the file of keys, what a client shows, and a record of the audit log. */
#include <stdlib.h>
#include <string.h>

#include "libkoal/auth/audit_priv.h"
#include "libkoal/auth/keys.h"

/* What is taken as a file of keys is found again by each of its ids, and holds only what may be in it. */
static void as_keys(struct kl_span text)
{
    struct kl_auth_keys keys;
    struct kl_err       err;

    if (kl_auth_keys_parse(text, &keys, &err) != KL_OK) {
        if (err.text[0] == '\0')
            abort();
        return;
    }
    for (size_t i = 0; i < keys.count; i++) {
        const struct kl_auth_key *k = &keys.at[i];

        if (kl_auth_keys_find(&keys, k->id, strlen(k->id)) != k || k->roles == 0 || k->roles > KL_ROLES_ALL ||
            k->everywhere == (k->tenant_count > 0))
            abort();
        for (size_t t = 0; t < k->tenant_count; t++)
            if (!kl_auth_tenant_fit(k->tenants[t], strlen(k->tenants[t])) || !kl_auth_key_has(k, k->tenants[t]))
                abort();
    }
    kl_auth_keys_free(&keys);
}

static void as_header(const char *text)
{
    char                 room[KL_AUTH_HEADER_MAX];
    struct kl_auth_shown s;

    if (kl_auth_shown(text, room, &s) &&
        (s.id_size == 0 || s.id_size > KL_GUARD_KEY_MAX || s.secret_size == 0 || s.secret_size > KL_AUTH_SECRET_MAX ||
         memchr(s.id, '.', s.id_size) != NULL || memchr(s.id, '\0', s.id_size) != NULL))
        abort();
}

/* No bytes but those that were sealed are a record; and what is made of the input is read back. */
static void as_record(struct kl_span line, const char *text)
{
    struct kl_audit_record r = { .n = 7, .event = "refused", .path = text, .words = text, .tenant = text, .key = text };
    char          hash[KL_AUDIT_HASH + 1] = KL_AUDIT_ZERO, again[KL_AUDIT_HASH + 1], prev[KL_AUDIT_HASH + 1];
    struct kl_buf out = { 0 };
    uint64_t      n;

    (void)kl_audit_line_read(line, kl_span_str("key"), NULL, &n, again, prev);
    kl_audit_line(&r, kl_span_str("key"), hash, &out);
    if (!kl_audit_line_read(kl_span(out.at, out.size - 1), kl_span_str("key"), KL_AUDIT_ZERO, &n, again, prev) ||
        n != 7 || strcmp(hash, again) != 0 || memchr(out.at, '\n', out.size) != out.at + out.size - 1)
        abort();
    kl_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    char *text = malloc(size + 1);

    memcpy(text, in, size);
    text[size] = '\0';
    as_keys(kl_span(text, size));
    as_header(text);
    as_record(kl_span(text, size), text);
    free(text);
    return 0;
}
