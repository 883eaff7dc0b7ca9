/*
 * AWS Signature Version 4 ("Authenticating Requests: Using the Authorization Header", Amazon S3 API
 * reference). Our own, not curl's: session tokens, the canonical form and the very bytes that are
 * signed can be tested against the vectors that AWS published.
 */
#include "libkoal/store/store_s3_priv.h"

#include "libkoal/base/base64.h"
#include "libkoal/base/md5.h"
#include "libkoal/base/hex.h"
#include "libkoal/crypt/crypt.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void kl_s3_sha256(struct kl_span bytes, char out[KL_S3_HEX])
{
    uint8_t digest[KL_SHA256];

    kl_sha256(bytes, digest);
    kl_hex(digest, sizeof digest, out);
}

void kl_s3_md5(struct kl_span bytes, char base64[KL_S3_MD5])
{
    struct kl_buf text = { 0 };
    uint8_t       digest[16];

    kl_md5(bytes, digest);
    kl_base64(&text, kl_span(digest, sizeof digest), true);
    assert(text.size == KL_S3_MD5 - 1);
    memcpy(base64, text.at, text.size);
    base64[text.size] = '\0';
    kl_buf_deinit(&text);
}

/* Each key is made of the one before. */
static void next_key(uint8_t key[KL_SHA256], struct kl_span of)
{
    uint8_t made[KL_SHA256];

    kl_hmac_sha256(kl_span(key, KL_SHA256), of, made);
    memcpy(key, made, sizeof made);
    kl_wipe(made, sizeof made);
}

void kl_s3_date(int64_t time_ms, char date[KL_S3_DATE])
{
    time_t    t = (time_t)(time_ms / 1000);
    struct tm tm;

    gmtime_r(&t, &tm);
    if (tm.tm_year < 0 || tm.tm_year > 9999 - 1900)    /* a clock like that is refused anyhow */
        gmtime_r(&(time_t){ 0 }, &tm);
    strftime(date, KL_S3_DATE, "%Y%m%dT%H%M%SZ", &tm);
}

void kl_s3_encode(const char *text, bool slash, struct kl_buf *out)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
            c == '.' || c == '_' || c == '~' || (c == '/' && !slash))
            kl_buf_add8(out, c);
        else
            kl_buf_addf(out, "%%%02X", c);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct kl_s3_header *)a)->name, ((const struct kl_s3_header *)b)->name);
}

/* Surrounding blanks gone, runs of blanks one. */
static void add_value(struct kl_buf *out, const char *value)
{
    bool gap = false, any = false;

    for (; *value != '\0'; value++) {
        if (*value == ' ' || *value == '\t') {
            gap = true;
            continue;
        }
        if (gap && any)
            kl_buf_add8(out, ' ');
        kl_buf_add8(out, (uint8_t)*value);
        gap = false;
        any = true;
    }
}

static void add_names(struct kl_buf *out, const struct kl_s3_header *headers, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        kl_buf_addf(out, "%s%s", i > 0 ? ";" : "", headers[i].name);
}

void kl_s3_sign(const struct kl_s3_request *r, const struct kl_store_s3_keys *keys,
                const char *region, const char *date, struct kl_buf *out)
{
    struct kl_s3_header headers[KL_S3_HEADERS_MAX];
    struct kl_buf       b = { 0 };
    uint8_t             key[KL_SHA256];
    char                digest[KL_S3_HEX], day[9], first[4 + sizeof keys->secret];

    assert(r->header_count <= KL_S3_HEADERS_MAX && strlen(date) == KL_S3_DATE - 1);
    memcpy(headers, r->headers, r->header_count * sizeof *headers);
    qsort(headers, r->header_count, sizeof *headers, by_name);
    memcpy(day, date, 8);
    day[8] = '\0';

    kl_buf_addf(&b, "%s\n%s\n%s\n", r->method, r->path, r->query);
    for (unsigned i = 0; i < r->header_count; i++) {
        kl_buf_addf(&b, "%s:", headers[i].name);
        add_value(&b, headers[i].value);
        kl_buf_add8(&b, '\n');
    }
    kl_buf_add8(&b, '\n');
    add_names(&b, headers, r->header_count);
    kl_buf_addf(&b, "\n%s", r->payload);
    kl_s3_sha256(kl_buf_span(&b), digest);

    kl_buf_reset(&b);
    kl_buf_addf(&b, "AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s", date, day, region, digest);
    snprintf(first, sizeof first, "AWS4%s", keys->secret);
    kl_hmac_sha256(kl_span_str(first), kl_span_str(day), key);
    next_key(key, kl_span_str(region));
    next_key(key, kl_span_str("s3"));
    next_key(key, kl_span_str("aws4_request"));
    next_key(key, kl_buf_span(&b));
    kl_hex(key, sizeof key, digest);
    kl_wipe(first, sizeof first);

    kl_buf_addf(out, "AWS4-HMAC-SHA256 Credential=%s/%s/%s/s3/aws4_request,SignedHeaders=",
                keys->access, day, region);
    add_names(out, headers, r->header_count);
    kl_buf_addf(out, ",Signature=%s", digest);
    kl_buf_deinit(&b);
}
