/*
 * A request to the service: signed, sent, and sent again while there is hope; and what its answer
 * means. Words about failures name the service's own code, never a key or a signature.
 */
#include "libkoal/store/store_s3_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WAIT_FIRST_MS = 100, WAIT_MAX_MS = 10000 };

void kl_s3_call_end(struct kl_s3_call *c)
{
    kl_buf_deinit(&c->answer.body);
}

/* Sleeps, unless the store is canceled meanwhile. */
static void wait_ms(struct kl_s3 *s, int64_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&s->lock);
    while (!atomic_load(&s->canceled))
        if (pthread_cond_timedwait(&s->stir, &s->lock, &until) != 0)
            break;
    pthread_mutex_unlock(&s->lock);
}

static int64_t pause_ms(struct kl_s3 *s, unsigned tried, const struct kl_s3_answer *a)
{
    int64_t most = (int64_t)WAIT_FIRST_MS << (tried < 10 ? tried : 10);

    most = most < WAIT_MAX_MS ? most : WAIT_MAX_MS;
    most = most / 2 + (int64_t)(kl_env_draw(s->env) % (uint64_t)(most / 2 + 1));   /* not all at once */
    if (a->retry_after_ms > most)
        most = a->retry_after_ms < WAIT_MAX_MS ? a->retry_after_ms : WAIT_MAX_MS;
    return most;
}

/* ---- sending once ---- */

static void add(struct kl_s3_request *r, const char *name, const char *value)
{
    r->headers[r->header_count++] = (struct kl_s3_header){ name, value };
}

static enum kl_code send_once(struct kl_s3 *s, struct kl_s3_call *c, const char *path,
                              const char *payload, const struct kl_store_s3_keys *keys, bool *sent,
                              struct kl_err *err)
{
    struct kl_s3_request r = { .method = c->method, .path = path, .query = c->query,
                               .payload = payload };
    struct kl_buf        url = { 0 }, authorization = { 0 };
    struct kl_s3_send    send = { .r = &r, .body = c->body, .sink = c->sink,
                                  .sink_size = c->sink_size, .body_max = c->body_max };
    char                 date[KL_S3_DATE];
    enum kl_code         code;

    if (send.body_max < KL_S3_ERROR_BODY_MAX)
        send.body_max = KL_S3_ERROR_BODY_MAX;
    kl_s3_date(kl_env_now_ms(s->env), date);
    add(&r, "host", s->host);
    add(&r, "x-amz-content-sha256", payload);
    add(&r, "x-amz-date", date);
    if (keys->token[0] != '\0')
        add(&r, "x-amz-security-token", keys->token);
    for (unsigned i = 0; i < c->header_count; i++)
        r.headers[r.header_count++] = c->headers[i];
    kl_s3_sign(&r, keys, s->o.region, date, &authorization);
    kl_buf_add8(&authorization, '\0');
    kl_buf_addf(&url, "%s%s%s%s", s->base, path, c->query[0] != '\0' ? "?" : "", c->query);
    kl_buf_add8(&url, '\0');
    send.url = url.at;
    send.authorization = authorization.at;
    code = kl_s3_http_send(s->http, &send, &c->answer, sent, err);
    kl_buf_deinit(&url);
    kl_buf_deinit(&authorization);
    kl_count(s->requests, 1);
    if (*sent)
        kl_count(s->sent_bytes, c->body.size);
    kl_count(s->got_bytes, c->answer.got + c->answer.body.size);
    return code;
}

/* ---- what an answer means ---- */

static bool code_is(const struct kl_s3_call *c, const char *word) { return strcmp(c->code, word) == 0; }

static void say_clocks(struct kl_s3 *s, const struct kl_s3_call *c, struct kl_err *err)
{
    struct tm    tm = { 0 };
    char         ours[KL_S3_DATE];
    int64_t      now_ms = kl_env_now_ms(s->env);

    kl_s3_date(now_ms, ours);
    if (strptime(c->answer.date, "%a, %d %b %Y %H:%M:%S GMT", &tm) != NULL)
        kl_fail(err, KL_EIO, "the store refuses our clock, which is %" PRId64 " s off from its own "
                "(%s here, %s there): set this machine's clock", now_ms / 1000 - (int64_t)timegm(&tm),
                ours, c->answer.date);
    else
        kl_fail(err, KL_EIO, "the store refuses our clock (%s here): set this machine's clock", ours);
}

/* A service, or a proxy, may repeat what it was sent: our secrets do not come back by its words. */
static void hide(struct kl_buf *body, const char *secret)
{
    size_t size = strlen(secret);

    if (size == 0 || body->at == NULL)
        return;
    for (char *at = body->at, *end = at + body->size; (at = memmem(at, (size_t)(end - at), secret, size)) != NULL;)
        memset(at, '*', size);
}

static void hide_keys(struct kl_s3 *s, struct kl_buf *body)
{
    pthread_mutex_lock(&s->lock);
    hide(body, s->keys.secret);
    hide(body, s->keys.token);
    hide(body, s->keys.access);
    pthread_mutex_unlock(&s->lock);
}

static enum kl_code refusal(struct kl_s3 *s, const struct kl_s3_call *c, struct kl_err *err)
{
    const struct kl_s3_answer *a = &c->answer;
    char                       words[200] = "", region[40] = "";

    hide_keys(s, (struct kl_buf *)(uintptr_t)&a->body);
    kl_s3_xml_text(kl_buf_span(&a->body), "Message", words, sizeof words);
    for (char *w = words; *w != '\0'; w++)             /* the service's words, on one line */
        *w = *w < ' ' ? ' ' : *w;
    if (!kl_s3_xml_text(kl_buf_span(&a->body), "Region", region, sizeof region))
        strcpy(region, a->region);
    if (code_is(c, "NoSuchBucket"))
        return kl_fail(err, KL_EIO, "there is no bucket \"%s\" at %s: make it, or correct store.url",
                       s->o.bucket, s->base);
    if (code_is(c, "RequestTimeTooSkewed")) {
        say_clocks(s, c, err);
        return err->code;
    }
    if (code_is(c, "SignatureDoesNotMatch"))
        return kl_fail(err, KL_EIO, "the store does not accept our signature: the secret key is not the "
                       "one of the access key, or region or address are wrong");
    if (code_is(c, "InvalidAccessKeyId"))
        return kl_fail(err, KL_EIO, "the store does not know our access key");
    if (code_is(c, "ExpiredToken") || code_is(c, "InvalidToken"))
        return kl_fail(err, KL_EIO, "the store says that our session token has expired");
    if (region[0] != '\0' && strcmp(region, s->o.region) != 0 &&
        (a->status == 301 || a->status == 307 || a->status == 400))
        return kl_fail(err, KL_EIO, "the bucket \"%s\" is in region %s, not %s: set store.s3.region",
                       s->o.bucket, region, s->o.region);
    if (a->status == 403)
        return kl_fail(err, KL_EIO, "the store forbids %s of %s to our access key%s%s (%s)", c->method,
                       c->key != NULL ? c->key : "the bucket", words[0] ? ": " : "", words,
                       c->code[0] ? c->code : "403");
    return kl_fail(err, KL_EIO, "the store answers %ld%s%s%s%s", a->status, c->code[0] ? " " : "",
                   c->code, words[0] ? ": " : "", words);
}

/* Is it worth sending again? */
static bool hope(const struct kl_s3_call *c)
{
    switch (c->answer.status) {
    case 429: case 500: case 502: case 503: case 504:
        return true;
    case 409:
        return code_is(c, "OperationAborted") || code_is(c, "ConditionalRequestConflict");
    case 400:
        return code_is(c, "RequestTimeout") || code_is(c, "IncompleteBody") || code_is(c, "BadDigest") ||
               code_is(c, "XAmzContentSHA256Mismatch");
    default:
        return false;
    }
}

/* Keys are replaced now and then: what was refused may be out of date. */
static bool other_keys(struct kl_s3 *s, struct kl_store_s3_keys *keys)
{
    struct kl_store_s3_keys now;
    struct kl_err           unheard;
    bool                    other;

    if (kl_s3_keys_read(&s->o, &now, &unheard) != KL_OK)
        return false;
    other = memcmp(&now, keys, sizeof now) != 0;
    if (other) {
        pthread_mutex_lock(&s->lock);
        s->keys = now;
        pthread_mutex_unlock(&s->lock);
        *keys = now;
    }
    return other;
}

static enum kl_code meaning(struct kl_s3 *s, struct kl_s3_call *c, bool *again, struct kl_err *err)
{
    long status = c->answer.status;

    *again = false;
    c->code[0] = '\0';
    kl_s3_xml_text(kl_buf_span(&c->answer.body), "Code", c->code, sizeof c->code);
    if (status >= 200 && status < 300)
        return KL_OK;
    if (status == 404 && !code_is(c, "NoSuchBucket"))
        return kl_fail(err, KL_ENOENT, "there is no object %s", c->key != NULL ? c->key : "");
    if (status == 412)
        return kl_fail(err, KL_EEXIST, "object %s is there already", c->key != NULL ? c->key : "");
    if (!hope(c))
        return refusal(s, c, err);
    *again = true;
    return kl_fail(err, KL_EAGAIN, "the store answers %ld%s%s", status, c->code[0] ? " " : "", c->code);
}

static void path_of(struct kl_s3 *s, const char *key, struct kl_buf *path)
{
    kl_buf_adds(path, s->root);
    kl_buf_add8(path, '/');
    if (key != NULL) {
        kl_s3_encode(s->o.prefix, false, path);
        kl_s3_encode(key, false, path);
    }
    kl_buf_add8(path, '\0');
}

enum kl_code kl_s3_call(struct kl_s3 *s, struct kl_s3_call *c, struct kl_err *err)
{
    struct kl_store_s3_keys keys;
    struct kl_buf           path = { 0 };
    char                    payload[KL_S3_HEX];
    unsigned                tried = 0;
    bool                    again, sent, renewed = false;
    enum kl_code            code;

    path_of(s, c->key, &path);
    kl_s3_sha256(c->body, payload);
    pthread_mutex_lock(&s->lock);
    keys = s->keys;
    pthread_mutex_unlock(&s->lock);
    for (;;) {
        if (atomic_load(&s->canceled)) {
            code = kl_fail(err, KL_ECANCELED, "the process is stopping");
            break;
        }
        code = send_once(s, c, path.at, payload, &keys, &sent, err);
        again = code == KL_EAGAIN;
        if (code == KL_OK)
            code = meaning(s, c, &again, err);
        if (c->answer.status == 403 && !renewed && code == KL_EIO && other_keys(s, &keys)) {
            renewed = true;
            continue;
        }
        if (!again)
            break;
        c->ambiguous |= sent;
        if (++tried >= s->o.tries) {
            kl_within(err, "%u tries", tried);
            break;
        }
        kl_count(s->retries, 1);
        wait_ms(s, pause_ms(s, tried - 1, &c->answer));
    }
    explicit_bzero(&keys, sizeof keys);
    kl_buf_deinit(&path);
    if (code != KL_OK && code != KL_ENOENT && code != KL_EEXIST)
        kl_count(s->failures, 1);
    return code;
}
