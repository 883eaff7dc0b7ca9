#include "libkoal/auth/keys.h"
#include "libkoal/base/hex.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *name; unsigned role; } roles[] = {
    { "read", KL_ROLE_READ }, { "write", KL_ROLE_WRITE }, { "rules", KL_ROLE_RULES }, { "admin", KL_ROLE_ADMIN },
};
enum { ROLES = sizeof roles / sizeof roles[0], FIELDS_MAX = 5 };

static bool is_name(const char *at, size_t size, const char *more, size_t most)
{
    if (size == 0 || size > most)
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = at[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) &&
            (c == '\0' || strchr(more, c) == NULL))
            return false;
    }
    return true;
}

bool kl_auth_tenant_fit(const char *name, size_t size)
{
    return is_name(name, size, "._-", KL_GUARD_TENANT_MAX) && !(size == 1 && name[0] == '.') &&
           !(size == 2 && memcmp(name, "..", 2) == 0);
}

enum kl_code kl_auth_roles_parse(const char *text, unsigned *out, struct kl_err *err)
{
    unsigned found = 0;

    for (const char *at = text;; at++) {
        size_t   size = strcspn(at, ",");
        unsigned before = found;

        for (size_t i = 0; i < ROLES; i++)
            if (strlen(roles[i].name) == size && memcmp(roles[i].name, at, size) == 0)
                found |= roles[i].role;
        if (found == before)
            return kl_fail(err, KL_EINVAL, "\"%.40s\": roles are read, write, rules and admin, each once", text);
        at += size;
        if (*at == '\0')
            break;
    }
    *out = found;
    return KL_OK;
}

void kl_auth_roles_print(unsigned all, struct kl_buf *out)
{
    bool first = true;

    for (size_t i = 0; i < ROLES; i++)
        if (all & roles[i].role) {
            kl_buf_addf(out, "%s%s", first ? "" : ",", roles[i].name);
            first = false;
        }
}

static enum kl_code parse_tenants(char *text, struct kl_auth_key *k, struct kl_err *err)
{
    if (strcmp(text, "*") == 0) {
        k->everywhere = true;
        return KL_OK;
    }
    for (char *at = text, *next; at != NULL; at = next) {
        next = strchr(at, ',');
        if (next != NULL)
            *next++ = '\0';
        if (!kl_auth_tenant_fit(at, strlen(at)))
            return kl_fail(err, KL_EINVAL, "\"%.40s\" is no tenant: 1 to %d letters, digits, '.', '_' and '-', "
                           "or * alone", at, KL_GUARD_TENANT_MAX);
        if (k->tenant_count == KL_AUTH_TENANTS_MAX)
            return kl_fail(err, KL_ELIMIT, "more than %d tenants", KL_AUTH_TENANTS_MAX);
        k->tenants = kl_resize(k->tenants, (k->tenant_count + 1) * sizeof *k->tenants);
        k->tenants[k->tenant_count++] = kl_strdup(at);
    }
    return KL_OK;
}

/* `line` is cut to pieces. */
static enum kl_code parse_line(char *line, struct kl_auth_key *k, struct kl_err *err)
{
    char    *field[FIELDS_MAX + 1], *rest = NULL;
    unsigned n = 0;

    for (char *at = strtok_r(line, " \t\r", &rest); at != NULL && n <= FIELDS_MAX; at = strtok_r(NULL, " \t\r", &rest))
        field[n++] = at;
    if (n < 4 || n > FIELDS_MAX)
        return kl_fail(err, KL_EINVAL, "a key is ID SHA256 ROLES TENANTS [rate=N]");
    if (!is_name(field[0], strlen(field[0]), "_-", KL_GUARD_KEY_MAX))
        return kl_fail(err, KL_EINVAL, "the id should be 1 to %d letters, digits, '_' and '-'", KL_GUARD_KEY_MAX);
    strcpy(k->id, field[0]);
    if (!kl_unhex(field[1], strlen(field[1]), k->digest, KL_SHA256))
        return kl_fail(err, KL_EINVAL, "key %s: after the id comes the secret's SHA-256, 64 hex digits", k->id);
    if (kl_auth_roles_parse(field[2], &k->roles, err) != KL_OK || parse_tenants(field[3], k, err) != KL_OK)
        return kl_within(err, "key %s", k->id);
    if (n == FIELDS_MAX) {
        char    *end = NULL;
        uint64_t rate = strncmp(field[4], "rate=", 5) == 0 && field[4][5] >= '0' && field[4][5] <= '9'
                      ? strtoull(field[4] + 5, &end, 10) : 0;

        if (rate == 0 || *end != '\0' || rate > KL_AUTH_RATE_MAX)
            return kl_fail(err, KL_EINVAL, "key %s: \"%.40s\" should be rate= and 1 to %d", k->id, field[4],
                           KL_AUTH_RATE_MAX);
        k->rate = (uint32_t)rate;
    }
    return KL_OK;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct kl_auth_key *)a)->id, ((const struct kl_auth_key *)b)->id);
}

enum kl_code kl_auth_keys_parse(struct kl_span text, struct kl_auth_keys *out, struct kl_err *err)
{
    struct kl_auth_keys keys = { 0 };
    const char *at = text.size > 0 ? text.at : "", *end = at + text.size;
    size_t      room = 0;
    char       *line = kl_new(KL_AUTH_LINE_MAX + 1);

    err->code = KL_OK;
    for (unsigned number = 1; at < end; number++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t      size = (size_t)((stop != NULL ? stop : end) - at);

        if (size > KL_AUTH_LINE_MAX || memchr(at, '\0', size) != NULL) {
            kl_fail(err, KL_EINVAL, "line %u is longer than %d bytes, or no text", number, KL_AUTH_LINE_MAX);
            break;
        }
        memcpy(line, at, size);
        line[size] = '\0';
        at += size + (stop != NULL);
        line[strcspn(line, "#")] = '\0';
        if (line[strspn(line, " \t\r")] == '\0')
            continue;
        if (keys.count == KL_AUTH_KEYS_MAX) {
            kl_fail(err, KL_ELIMIT, "more than %d keys", KL_AUTH_KEYS_MAX);
            break;
        }
        if (keys.count == room) {
            room = room > 0 ? 2 * room : 16;
            keys.at = kl_resize(keys.at, room * sizeof *keys.at);
        }
        keys.at[keys.count] = (struct kl_auth_key){ 0 };
        if (parse_line(line, &keys.at[keys.count++], err) != KL_OK) {
            kl_within(err, "line %u", number);
            break;
        }
    }
    kl_wipe(line, KL_AUTH_LINE_MAX);
    free(line);
    if (keys.count > 0)
        qsort(keys.at, keys.count, sizeof *keys.at, by_id);
    for (size_t i = 1; err->code == KL_OK && i < keys.count; i++)
        if (strcmp(keys.at[i - 1].id, keys.at[i].id) == 0)
            kl_fail(err, KL_EINVAL, "there are two keys %s", keys.at[i].id);
    if (err->code != KL_OK)
        kl_auth_keys_free(&keys);
    else
        *out = keys;
    return err->code;
}

void kl_auth_keys_free(struct kl_auth_keys *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        for (size_t k = 0; k < keys->at[i].tenant_count; k++)
            free(keys->at[i].tenants[k]);
        free(keys->at[i].tenants);
    }
    free(keys->at);
    *keys = (struct kl_auth_keys){ 0 };
}

const struct kl_auth_key *kl_auth_keys_find(const struct kl_auth_keys *keys, const char *id, size_t id_size)
{
    struct kl_auth_key wanted = { 0 };

    if (id_size > KL_GUARD_KEY_MAX || keys->count == 0)
        return NULL;
    memcpy(wanted.id, id, id_size);
    return bsearch(&wanted, keys->at, keys->count, sizeof *keys->at, by_id);
}

bool kl_auth_key_has(const struct kl_auth_key *k, const char *tenant)
{
    if (k->everywhere)
        return true;
    for (size_t i = 0; i < k->tenant_count; i++)
        if (strcmp(k->tenants[i], tenant) == 0)
            return true;
    return false;
}

enum kl_code kl_auth_key_new(const char *role_list, const char *tenants, uint32_t rate, struct kl_buf *line,
                             char shown[KL_AUTH_SHOWN_MAX], struct kl_err *err)
{
    uint8_t  id[8], secret[32], digest[KL_SHA256];
    char     id_hex[17], secret_hex[65], digest_hex[65];
    unsigned wanted;
    struct kl_auth_keys keys;
    struct kl_buf       text = { 0 };

    if (kl_auth_roles_parse(role_list, &wanted, err) != KL_OK)
        return err->code;
    kl_random(id, sizeof id);
    kl_random(secret, sizeof secret);
    kl_hex(id, sizeof id, id_hex);
    kl_hex(secret, sizeof secret, secret_hex);
    kl_sha256(kl_span(secret_hex, 64), digest);
    kl_hex(digest, sizeof digest, digest_hex);
    kl_buf_addf(&text, "%s %s ", id_hex, digest_hex);
    kl_auth_roles_print(wanted, &text);
    kl_buf_addf(&text, " %s", tenants);
    if (rate > 0)
        kl_buf_addf(&text, " rate=%" PRIu32, rate);
    /* What cannot be read back is not written. */
    if (strpbrk(tenants, " \t\r\n#") != NULL) {
        kl_fail(err, KL_EINVAL, "tenants are a list without spaces: team-a,team-b");
    } else if (kl_auth_keys_parse(kl_buf_span(&text), &keys, err) == KL_OK) {
        kl_auth_keys_free(&keys);
        kl_buf_add(line, text.at, text.size);
        snprintf(shown, KL_AUTH_SHOWN_MAX, "%s.%s", id_hex, secret_hex);
    }
    kl_buf_deinit(&text);
    kl_wipe(secret, sizeof secret);
    kl_wipe(secret_hex, sizeof secret_hex);
    return err->code;
}
