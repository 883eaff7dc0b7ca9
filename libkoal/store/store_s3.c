/* The S3 store: what each call of a kl_store asks of the service. */
#include "libkoal/store/store_s3_priv.h"

#include "libkoal/base/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PARTS_MAX = 10000, MARK = 33, PROBE_MAX = 64 << 10 };

static enum kl_code check_key(const char *key, struct kl_err *err)
{
    return kl_store_key_fit(key) ? KL_OK
         : kl_fail(err, KL_EINVAL, "\"%.100s\" is no key of an object", key);
}

/* ---- head, get ---- */

/* The answer to a HEAD has no body: that the bucket is gone, or keys are wrong, is asked for apart. */
static enum kl_code bucket_is_there(struct kl_s3 *s, struct kl_err *err)
{
    struct kl_s3_call c = { .method = "GET", .query = "list-type=2&max-keys=1" };
    enum kl_code      code = kl_s3_call(s, &c, err);

    kl_s3_call_end(&c);
    return code == KL_ENOENT ? kl_fail(err, KL_EIO, "there is no bucket \"%s\"", s->o.bucket) : code;
}

/* `mark` may be NULL; else whose put it is. */
static enum kl_code look(struct kl_s3 *s, const char *key, uint64_t *size, char mark[64],
                         struct kl_err *err)
{
    struct kl_s3_call c = { .method = "HEAD", .key = key, .query = "" };
    enum kl_code      code = kl_s3_call(s, &c, err);

    if (code == KL_OK && !c.answer.has_size)
        code = kl_fail(err, KL_EIO, "the store does not say how large it is");
    if (code == KL_OK && size != NULL)
        *size = c.answer.size;
    if (code == KL_OK && mark != NULL)
        memcpy(mark, c.answer.mark, sizeof c.answer.mark);
    kl_s3_call_end(&c);
    return code;
}

static enum kl_code head(struct kl_store *store, const char *key, uint64_t *size_bytes,
                         struct kl_err *err)
{
    struct kl_s3 *s = (struct kl_s3 *)store;
    enum kl_code  code;

    if (check_key(key, err) != KL_OK)
        return err->code;
    code = look(s, key, size_bytes, NULL, err);
    if (code == KL_ENOENT && bucket_is_there(s, err) == KL_OK)
        return kl_fail(err, KL_ENOENT, "there is no object %s", key);
    if (code == KL_EIO) {                              /* refused, without a word why */
        struct kl_err first = *err;

        if (bucket_is_there(s, err) != KL_OK)
            return err->code;
        *err = first;
    }
    return code == KL_OK ? KL_OK : kl_within(err, "object %s", key);
}

static enum kl_code get(struct kl_store *store, const char *key, uint64_t offset, void *bytes,
                        size_t size, struct kl_err *err)
{
    struct kl_s3     *s = (struct kl_s3 *)store;
    char              range[64];
    uint64_t          whole;
    struct kl_s3_call c = { .method = "GET", .key = key, .query = "", .sink = bytes,
                            .sink_size = size,
                            .headers = { { "range", range } }, .header_count = 1 };
    enum kl_code      code;

    if (check_key(key, err) != KL_OK)
        return err->code;
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return kl_fail(err, KL_EIO, "object %s: no object has %" PRIu64 " bytes", key, offset);
    if (size == 0) {                                   /* there is no such range */
        code = head(store, key, &whole, err);
        if (code == KL_OK && offset > whole)
            return kl_fail(err, KL_EIO, "object %s: ends before %" PRIu64, key, offset);
        return code;
    }
    snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, offset, offset + size - 1);
    code = kl_s3_call(s, &c, err);
    /* A server that knows no ranges answers 200 with all of it. */
    if (code == KL_OK && c.answer.status != 206 && (offset != 0 || c.answer.got != size))
        code = kl_fail(err, KL_EIO, "the store answers %ld to a range", c.answer.status);
    if (code == KL_OK && c.answer.got != size)
        code = kl_fail(err, KL_EIO, "%zu bytes at %" PRIu64 ", not %zu: it is shorter", c.answer.got,
                       offset, size);
    if (code == KL_EIO && c.answer.status == 416)
        kl_fail(err, KL_EIO, "ends before %" PRIu64, offset);
    kl_s3_call_end(&c);
    return code == KL_OK ? KL_OK : kl_within(err, "get object %s", key);
}

/* ---- put ---- */

static void draw_mark(struct kl_s3 *s, char mark[MARK])
{
    snprintf(mark, MARK, "%016" PRIx64 "%016" PRIx64, kl_env_draw(s->env), kl_env_draw(s->env));
}

/* What is there: is it ours, put by a try whose answer got lost? */
static enum kl_code whose(struct kl_s3 *s, const char *key, const char *mark, struct kl_err *err)
{
    char         there[64];
    enum kl_code code = look(s, key, NULL, there, err);

    if (code == KL_OK && strcmp(there, mark) != 0)
        return kl_fail(err, KL_EEXIST, "object %s is there already", key);
    return code;
}

static enum kl_code put_once(struct kl_s3 *s, const char *key, const char *mark,
                             struct kl_span bytes, bool conditional, long *status,
                             struct kl_err *err)
{
    struct kl_s3_call c = { .method = "PUT", .key = key, .query = "", .body = bytes,
                            .headers = { { "x-amz-meta-koalemos-put", mark },
                                         { "if-none-match", "*" } },
                            .header_count = conditional ? 2 : 1 };
    enum kl_code      code = kl_s3_call(s, &c, err);

    if (code == KL_EEXIST && c.ambiguous)
        code = whose(s, key, mark, err);
    *status = c.answer.status;
    kl_s3_call_end(&c);
    return code;
}

/* An object that we have just put, put once more: does the service keep it from being replaced? By
 * the same bytes and mark, so nothing changes where it does not. */
static void find_out(struct kl_s3 *s, const char *key, const char *mark, struct kl_span bytes)
{
    struct kl_err unheard;
    long          status;
    enum kl_code  code = put_once(s, key, mark, bytes, true, &status, &unheard);

    if (code == KL_EEXIST || status == 412)
        atomic_store(&s->conditional, KL_STORE_S3_ON);
    else if (code == KL_OK || status == 501 || status == 400)
        atomic_store(&s->conditional, KL_STORE_S3_OFF);
    else
        return;                                        /* the next put will ask again */
    kl_logf(s->o.log, KL_INFO, "store: the S3 service %s",
            code == KL_OK ? "knows no conditional put: keys are looked at before" : "knows conditional puts");
}

static enum kl_code put_whole(struct kl_s3 *s, const char *key, struct kl_span bytes,
                              struct kl_err *err)
{
    char         mark[MARK];
    int          known = atomic_load(&s->conditional);
    long         status;
    enum kl_code code;

    draw_mark(s, mark);
    code = put_once(s, key, mark, bytes, known == KL_STORE_S3_ON, &status, err);
    if (code == KL_OK && known == KL_STORE_S3_AUTO && bytes.size <= PROBE_MAX)
        find_out(s, key, mark, bytes);
    return code;
}

static enum kl_code begin_parts(struct kl_s3 *s, const char *key, const char *mark, struct kl_buf *id,
                                struct kl_err *err)
{
    struct kl_s3_call c = { .method = "POST", .key = key, .query = "uploads=",
                            .headers = { { "x-amz-meta-koalemos-put", mark } }, .header_count = 1 };
    char              text[1024];
    enum kl_code      code = kl_s3_call(s, &c, err);

    if (code == KL_OK && !kl_s3_xml_text(kl_buf_span(&c.answer.body), "UploadId", text, sizeof text))
        code = kl_fail(err, KL_EIO, "the store begins an upload without a name");
    if (code == KL_OK) {
        kl_s3_encode(text, true, id);
        kl_buf_add8(id, '\0');
    }
    kl_s3_call_end(&c);
    return code;
}

static enum kl_code put_part(struct kl_s3 *s, const char *key, const char *id, unsigned number,
                             struct kl_span bytes, struct kl_buf *list, struct kl_err *err)
{
    struct kl_buf     query = { 0 };
    struct kl_s3_call c = { .method = "PUT", .key = key, .body = bytes };
    enum kl_code      code;

    kl_buf_addf(&query, "partNumber=%u&uploadId=%s", number, id);
    kl_buf_add8(&query, '\0');
    c.query = query.at;
    code = kl_s3_call(s, &c, err);
    if (code == KL_OK && c.answer.etag[0] == '\0')
        code = kl_fail(err, KL_EIO, "the store takes a part and gives no ETag");
    if (code == KL_OK)
        kl_buf_addf(list, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", number,
                    c.answer.etag);
    kl_s3_call_end(&c);
    kl_buf_deinit(&query);
    return code == KL_OK ? KL_OK : kl_within(err, "part %u", number);
}

/* 200 may yet be a failure: the service answers before it has put the parts together. */
static enum kl_code end_parts(struct kl_s3 *s, const char *key, const char *id, const char *mark,
                              struct kl_span list, struct kl_err *err)
{
    struct kl_buf     query = { 0 };
    struct kl_s3_call c = { .method = "POST", .key = key, .body = list,
                            .headers = { { "if-none-match", "*" } },
                            .header_count = atomic_load(&s->conditional) == KL_STORE_S3_ON };
    enum kl_code      code;

    kl_buf_addf(&query, "uploadId=%s", id);
    kl_buf_add8(&query, '\0');
    c.query = query.at;
    code = kl_s3_call(s, &c, err);
    if (code == KL_OK && c.code[0] != '\0')
        code = kl_fail(err, KL_EAGAIN, "the store could not put the parts together: %s", c.code);
    if ((code == KL_ENOENT || code == KL_EEXIST) && c.ambiguous) {
        struct kl_err first = *err;                    /* it ended before: with our object? */
        code = whose(s, key, mark, err);
        if (code == KL_ENOENT)
            *err = first;
    }
    if (code == KL_ENOENT)
        code = kl_fail(err, KL_EAGAIN, "the store has forgotten the upload");
    kl_s3_call_end(&c);
    kl_buf_deinit(&query);
    return code;
}

static void abandon_parts(struct kl_s3 *s, const char *key, const char *id)
{
    struct kl_buf     query = { 0 };
    struct kl_s3_call c = { .method = "DELETE", .key = key };
    struct kl_err     unheard;                         /* the first failure is the one to tell */

    kl_buf_addf(&query, "uploadId=%s", id);
    kl_buf_add8(&query, '\0');
    c.query = query.at;
    kl_s3_call(s, &c, &unheard);
    kl_s3_call_end(&c);
    kl_buf_deinit(&query);
}

/* One part after the other, each read when it is its turn. */
static enum kl_code put_in_parts(struct kl_s3 *s, const char *key, const struct kl_store_feed *feed,
                                 struct kl_err *err)
{
    struct kl_buf id = { 0 }, list = { 0 };
    char          mark[MARK];
    size_t        part = s->o.part_bytes;
    unsigned      number = 0;
    void         *bytes;
    enum kl_code  code;

    while (feed->size_bytes / part >= PARTS_MAX)
        part *= 2;
    draw_mark(s, mark);
    code = begin_parts(s, key, mark, &id, err);
    if (code != KL_OK) {
        kl_buf_deinit(&id);
        return code;
    }
    bytes = malloc(part);
    if (bytes == NULL)
        code = kl_fail(err, KL_ELIMIT, "no memory for a part of %zu bytes", part);
    kl_buf_adds(&list, "<CompleteMultipartUpload>");
    for (uint64_t at = 0; at < feed->size_bytes && code == KL_OK; at += part) {
        size_t n = feed->size_bytes - at < part ? (size_t)(feed->size_bytes - at) : part;

        code = feed->read(feed->ctx, at, bytes, n, err);
        if (code == KL_OK)
            code = put_part(s, key, id.at, ++number, kl_span(bytes, n), &list, err);
    }
    free(bytes);
    kl_buf_adds(&list, "</CompleteMultipartUpload>");
    if (code == KL_OK)
        code = end_parts(s, key, id.at, mark, kl_buf_span(&list), err);
    if (code != KL_OK)
        abandon_parts(s, key, id.at);
    kl_buf_deinit(&id);
    kl_buf_deinit(&list);
    return code;
}

static enum kl_code from_memory(void *ctx, uint64_t offset, void *bytes, size_t size, struct kl_err *err)
{
    (void)err;
    memcpy(bytes, (const char *)ctx + offset, size);
    return KL_OK;
}

/* Of what is put whole `bytes` are at hand. */
static enum kl_code put_either(struct kl_s3 *s, const char *key, struct kl_span bytes,
                               const struct kl_store_feed *feed, struct kl_err *err)
{
    bool         parts = feed->size_bytes > s->o.part_bytes;
    enum kl_code code = KL_ENOENT;

    if (check_key(key, err) != KL_OK)
        return err->code;
    if (parts || atomic_load(&s->conditional) != KL_STORE_S3_ON)
        code = look(s, key, NULL, NULL, err);
    if (code == KL_OK)
        return kl_fail(err, KL_EEXIST, "object %s is there already", key);
    if (code == KL_ENOENT)
        code = parts ? put_in_parts(s, key, feed, err) : put_whole(s, key, bytes, err);
    if (code == KL_ENOENT)
        code = kl_fail(err, KL_EIO, "the store answers 404 to a put");
    return code == KL_OK || code == KL_EEXIST ? code : kl_within(err, "put object %s", key);
}

static enum kl_code put(struct kl_store *store, const char *key, struct kl_span bytes,
                        struct kl_err *err)
{
    struct kl_store_feed feed = { .size_bytes = bytes.size, .read = from_memory, .ctx = (void *)bytes.at };

    return put_either((struct kl_s3 *)store, key, bytes, &feed, err);
}

static enum kl_code put_from(struct kl_store *store, const char *key, const struct kl_store_feed *feed,
                             struct kl_err *err)
{
    struct kl_s3 *s = (struct kl_s3 *)store;
    void         *bytes;
    enum kl_code  code;

    if (feed->size_bytes > s->o.part_bytes)
        return put_either(s, key, kl_span(NULL, 0), feed, err);
    bytes = kl_resize(NULL, (size_t)feed->size_bytes + 1);
    code = feed->read(feed->ctx, 0, bytes, (size_t)feed->size_bytes, err);
    if (code == KL_OK)
        code = put_either(s, key, kl_span(bytes, (size_t)feed->size_bytes), feed, err);
    free(bytes);
    return code;
}

/* ---- list, remove ---- */

struct listing {
    struct kl_s3 *s;
    void (*each)(void *ctx, const char *key, uint64_t size_bytes);
    void *ctx;
};

static void found(void *ctx, const char *key, uint64_t size_bytes)
{
    const struct listing *l = ctx;
    size_t                n = strlen(l->s->o.prefix);

    if (strncmp(key, l->s->o.prefix, n) == 0 && kl_store_key_fit(key + n))
        l->each(l->ctx, key + n, size_bytes);
}

static enum kl_code list(struct kl_store *store, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                         struct kl_err *err)
{
    struct kl_s3     *s = (struct kl_s3 *)store;
    struct listing    l = { .s = s, .each = each, .ctx = ctx };
    struct kl_s3_page page = { .more = true };
    struct kl_buf     query = { 0 };
    enum kl_code      code = KL_OK;

    while (code == KL_OK && page.more) {
        struct kl_s3_call c = { .method = "GET", .body_max = KL_S3_LIST_BODY_MAX };
        struct kl_s3_page from = page;

        kl_buf_reset(&query);
        if (page.token[0] != '\0') {
            kl_buf_adds(&query, "continuation-token=");
            kl_s3_encode(page.token, true, &query);
            kl_buf_add8(&query, '&');
        }
        kl_buf_adds(&query, "encoding-type=url&list-type=2");
        if (s->o.list_page > 0)
            kl_buf_addf(&query, "&max-keys=%u", s->o.list_page);
        kl_buf_adds(&query, "&prefix=");
        kl_s3_encode(s->o.prefix, true, &query);
        kl_s3_encode(prefix, true, &query);
        kl_buf_add8(&query, '\0');
        c.query = query.at;
        code = kl_s3_call(s, &c, err);
        if (code == KL_ENOENT)
            code = kl_fail(err, KL_EIO, "the store answers 404 to a list");
        if (code == KL_OK)
            code = kl_s3_xml_list(kl_buf_span(&c.answer.body), found, &l, &page, err);
        if (code == KL_OK && page.more && strcmp(page.token, from.token) == 0)
            code = kl_fail(err, KL_EIO, "the list goes on, but does not move");
        kl_s3_call_end(&c);
    }
    kl_buf_deinit(&query);
    return code == KL_OK ? KL_OK : kl_within(err, "list objects %s", prefix);
}

static enum kl_code remove_object(struct kl_store *store, const char *key, struct kl_err *err)
{
    struct kl_s3_call c = { .method = "DELETE", .key = key, .query = "" };
    enum kl_code      code = check_key(key, err);

    if (code != KL_OK)
        return code;
    code = kl_s3_call((struct kl_s3 *)store, &c, err);
    kl_s3_call_end(&c);
    return code == KL_OK || code == KL_ENOENT ? KL_OK : kl_within(err, "remove object %s", key);
}

/* ---- opening ---- */

static void cancel(struct kl_store *store)
{
    struct kl_s3 *s = (struct kl_s3 *)store;

    pthread_mutex_lock(&s->lock);
    atomic_store(&s->canceled, true);
    pthread_cond_broadcast(&s->stir);
    pthread_mutex_unlock(&s->lock);
}

static void close_store(struct kl_store *store)
{
    struct kl_s3 *s = (struct kl_s3 *)store;

    if (s->http != NULL)
        kl_s3_http_free(s->http);
    pthread_cond_destroy(&s->stir);
    pthread_mutex_destroy(&s->lock);
    kl_arena_deinit(&s->texts);
    explicit_bzero(&s->keys, sizeof s->keys);
    free(s);
}

static char *copy(struct kl_s3 *s, const char *text)
{
    return text != NULL ? kl_arena_copy(&s->texts, text, strlen(text) + 1) : NULL;
}

static bool plain(const char *text, const char *more)
{
    for (; *text != '\0'; text++)
        if (!((*text >= 'a' && *text <= 'z') || (*text >= '0' && *text <= '9') || *text == '-' ||
              strchr(more, *text) != NULL))
            return false;
    return true;
}

/* base, host and root, from endpoint and bucket. */
static enum kl_code place(struct kl_s3 *s, struct kl_err *err)
{
    char        aws[100];
    const char *e = s->o.endpoint, *host;
    size_t      scheme, n;
    char        b[600];

    if (e == NULL) {
        snprintf(aws, sizeof aws, "https://s3.%s.amazonaws.com", s->o.region);
        e = aws;
    }
    scheme = strncmp(e, "https://", 8) == 0 ? 8 : strncmp(e, "http://", 7) == 0 ? 7 : 0;
    host = e + scheme;
    n = strcspn(host, "/");
    if (scheme == 0 || n == 0 || n > 300 || (host[n] == '/' && host[n + 1] != '\0') ||
        strcspn(host, "@?# \t") < n)
        return kl_fail(err, KL_EINVAL, "store.s3.endpoint \"%s\" is not http://host:port or "
                       "https://host", strchr(e, '@') != NULL ? "(with an @)" : e);
    /* As curl writes the header Host: without the port that the scheme implies. */
    if (scheme == 8 && n > 4 && memcmp(host + n - 4, ":443", 4) == 0)
        n -= 4;
    else if (scheme == 7 && n > 3 && memcmp(host + n - 3, ":80", 3) == 0)
        n -= 3;
    snprintf(b, sizeof b, "%s%s%.*s", s->o.path_style ? "" : s->o.bucket,
             s->o.path_style ? "" : ".", (int)n, host);
    s->host = copy(s, b);
    snprintf(b, sizeof b, "%.*s%s", (int)scheme, e, s->host);
    s->base = copy(s, b);
    snprintf(b, sizeof b, "%s%s", s->o.path_style ? "/" : "", s->o.path_style ? s->o.bucket : "");
    s->root = copy(s, b);
    return KL_OK;
}

static enum kl_code check(const struct kl_store_s3_options *o, struct kl_err *err)
{
    size_t n = o->prefix != NULL ? strlen(o->prefix) : 0;

    if (o->bucket == NULL || strlen(o->bucket) < 3 || strlen(o->bucket) > 63 ||
        !plain(o->bucket, ".") || o->bucket[0] == '.' || o->bucket[0] == '-' ||
        strstr(o->bucket, "..") != NULL)
        return kl_fail(err, KL_EINVAL, "\"%.80s\" is no name of a bucket: 3 to 63 of a-z 0-9 - .",
                       o->bucket != NULL ? o->bucket : "");
    if (o->region == NULL || o->region[0] == '\0' || strlen(o->region) > 39 || !plain(o->region, "_"))
        return kl_fail(err, KL_EINVAL, "\"%.60s\" is no name of a region",
                       o->region != NULL ? o->region : "");
    if (n > 0 && (n > KL_STORE_S3_PREFIX_MAX || !kl_store_key_fit(o->prefix)))
        return kl_fail(err, KL_EINVAL, "\"%.100s\" cannot begin keys: letters, digits, _ . = - and /, "
                       "no empty part", o->prefix);
    return KL_OK;
}

static struct kl_metric *counter(struct kl_s3 *s, const char *name, const char *help)
{
    if (s->o.metrics == NULL)
        return kl_arena_copy(&s->texts, &(struct kl_metric){ 0 }, sizeof(struct kl_metric));
    return kl_metrics_add(s->o.metrics, KL_COUNTER, name, "", help);
}

static void set_up(struct kl_s3 *s)
{
    pthread_condattr_t a;

    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&s->stir, &a);
    pthread_condattr_destroy(&a);
    pthread_mutex_init(&s->lock, NULL);
    kl_arena_init(&s->texts, 1 << 20);
}

static void copy_options(struct kl_s3 *s, const struct kl_store_s3_options *o)
{
    char prefix[KL_STORE_S3_PREFIX_MAX + 2] = "";

    s->o = *o;
    if (o->prefix != NULL && o->prefix[0] != '\0')
        snprintf(prefix, sizeof prefix, "%s/", o->prefix);
    s->o.prefix = copy(s, prefix);
    s->o.endpoint = copy(s, o->endpoint);
    s->o.region = copy(s, o->region);
    s->o.bucket = copy(s, o->bucket);
    s->o.access_key_file = copy(s, o->access_key_file);
    s->o.secret_key_file = copy(s, o->secret_key_file);
    s->o.token_file = copy(s, o->token_file);
    s->o.ca_file = copy(s, o->ca_file);
    s->o.proxy = copy(s, o->proxy);
    atomic_init(&s->conditional, o->conditional_put);
    s->o.tries = o->tries > 0 ? o->tries : 5;
    s->o.part_bytes = o->part_bytes > 0 ? o->part_bytes : KL_STORE_S3_PART;
    if (s->o.part_bytes < KL_STORE_S3_PART_MIN)
        s->o.part_bytes = KL_STORE_S3_PART_MIN;
    s->requests = counter(s, "koalemos_store_requests_total", "Requests sent to the object storage.");
    s->retries = counter(s, "koalemos_store_retries_total", "Of these, sent again after a failure.");
    s->failures = counter(s, "koalemos_store_failures_total",
                          "Calls of the object storage that failed, retries and all.");
    s->sent_bytes = counter(s, "koalemos_store_sent_bytes_total", "Bytes put into the object storage.");
    s->got_bytes = counter(s, "koalemos_store_received_bytes_total",
                           "Bytes that the object storage answered with.");
}

enum kl_code kl_store_s3_open(struct kl_env *env, const struct kl_store_s3_options *o,
                              struct kl_store **store, struct kl_err *err)
{
    struct kl_s3 *s;

    if (check(o, err) != KL_OK)
        return err->code;
    s = kl_new(sizeof *s);
    set_up(s);
    s->env = env;
    s->store = (struct kl_store){ .put = put, .put_from = put_from, .get = get, .head = head, .list = list,
                                  .remove = remove_object, .cancel = cancel, .close = close_store };
    copy_options(s, o);
    if (place(s, err) != KL_OK || kl_s3_keys_read(&s->o, &s->keys, err) != KL_OK) {
        close_store(&s->store);
        return err->code;
    }
    s->http = kl_s3_http_new(&(struct kl_s3_http_options){
        .ca_file = s->o.ca_file, .proxy = s->o.proxy, .canceled = &s->canceled,
        .connect_timeout_ms = o->connect_timeout_ms > 0 ? o->connect_timeout_ms : 5000,
        .stall_timeout_ms = o->stall_timeout_ms > 0 ? o->stall_timeout_ms : 15000,
        .timeout_ms = o->timeout_ms > 0 ? o->timeout_ms : 300000 });
    *store = &s->store;
    return KL_OK;
}
