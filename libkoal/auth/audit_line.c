#include "libkoal/auth/audit_priv.h"
#include "libkoal/base/hex.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libkoal/base/json.h"

enum { PATH_MOST = 300 };

static void add_text(struct kl_buf *out, const char *name, const char *value, size_t most)
{
    if (value == NULL)
        value = "";
    kl_buf_addf(out, "\"%s\":", name);
    kl_json_str(out, kl_span(value, strnlen(value, most)));
    kl_buf_add8(out, ',');
}

static void seal(struct kl_span bytes, struct kl_span key, char hash[KL_AUDIT_HASH + 1])
{
    uint8_t digest[KL_SHA256];

    if (key.size > 0)
        kl_hmac_sha256(key, bytes, digest);
    else
        kl_sha256(bytes, digest);
    kl_hex(digest, sizeof digest, hash);
}

void kl_audit_line(const struct kl_audit_record *r, struct kl_span key, char hash[KL_AUDIT_HASH + 1],
                   struct kl_buf *out)
{
    size_t    from = out->size;
    time_t    seconds = (time_t)(r->time_ms / 1000);
    struct tm t;
    char      when[40];

    gmtime_r(&seconds, &t);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &t);
    kl_buf_addf(out, "{\"n\":%" PRIu64 ",\"time\":\"%s.%03dZ\",", r->n, when, (int)(r->time_ms % 1000));
    add_text(out, "event", r->event, 20);
    add_text(out, "key", r->key, KL_GUARD_KEY_MAX);
    add_text(out, "peer", r->peer, KL_GUARD_PEER_MAX);
    add_text(out, "method", r->method, 20);
    add_text(out, "path", r->path, PATH_MOST);
    add_text(out, "tenant", r->tenant, KL_GUARD_TENANT_MAX);
    kl_buf_addf(out, "\"status\":%u,", r->status);
    add_text(out, "words", r->words, KL_GUARD_WORDS_MAX);
    kl_buf_addf(out, "\"prev\":\"%s\"", hash);
    seal(kl_span(out->at + from, out->size - from), key, hash);
    kl_buf_addf(out, ",\"hash\":\"%s\"}\n", hash);
}

bool kl_audit_line_read(struct kl_span line, struct kl_span key, const char *prev, uint64_t *n,
                        char hash[KL_AUDIT_HASH + 1], char prev_out[KL_AUDIT_HASH + 1])
{
    static const char begin[] = "{\"n\":", before_prev[] = ",\"prev\":\"", before_hash[] = "\",\"hash\":\"";
    enum { BEGIN = sizeof begin - 1, PREV = sizeof before_prev - 1, HASH = sizeof before_hash - 1 };
    enum { TAIL = PREV + KL_AUDIT_HASH + HASH + KL_AUDIT_HASH + 2 };
    const char *at = line.at, *tail;
    char        sealed[KL_AUDIT_HASH + 1], number[24] = "", *end;

    if (line.size < BEGIN + TAIL || line.size > KL_AUDIT_LINE_MAX || memcmp(at, begin, BEGIN) != 0)
        return false;
    tail = at + line.size - TAIL;
    if (memcmp(tail, before_prev, PREV) != 0 || memcmp(tail + PREV + KL_AUDIT_HASH, before_hash, HASH) != 0 ||
        memcmp(at + line.size - 2, "\"}", 2) != 0)
        return false;
    if (prev != NULL && memcmp(tail + PREV, prev, KL_AUDIT_HASH) != 0)
        return false;
    seal(kl_span(at, line.size - 2 - KL_AUDIT_HASH - HASH + 1), key, sealed);
    if (!kl_equal(sealed, at + line.size - 2 - KL_AUDIT_HASH, KL_AUDIT_HASH))
        return false;
    memcpy(number, at + BEGIN, sizeof number - 1);
    *n = strtoull(number, &end, 10);
    if (end == number || *end != ',')
        return false;
    memcpy(prev_out, tail + PREV, KL_AUDIT_HASH);
    prev_out[KL_AUDIT_HASH] = '\0';
    strcpy(hash, sealed);
    return true;
}
