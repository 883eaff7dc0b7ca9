/*
 * S3 services that sign the old way, over libs3 (the one file that knows it). Debian's is of before
 * 2015: Signature Version 2, no parts, no regions, no tokens, no conditional put; a stalled request
 * ends after 15 s, which is its own number. So the key is looked at before a put, and an object goes up
 * in one request, with its MD5.
 */
#include "libkoal/base/log.h"
#include "libkoal/store/store_s3_priv.h"

#include <libs3.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WAIT_FIRST_MS = 100, WAIT_MAX_MS = 10000, SLICE_MS = 50, LIST_PAGE = 1000, MARK = 33 };
static const size_t object_max = (size_t)5 << 30;      /* what one request may carry */

struct v2 {
    struct kl_store store;
    struct kl_env  *env;
    struct kl_store_s3_options o;                      /* only numbers and texts that are copied below */
    struct kl_store_s3_keys keys;
    S3BucketContext bucket;                            /* of the texts here */
    char  name[64], host[256], prefix[KL_STORE_S3_PREFIX_MAX + 2];
    _Atomic bool canceled;
    struct kl_metric own[5], *requests, *retries, *failures, *sent_bytes, *got_bytes;
};

/* One request. */
struct call {
    struct v2 *s;
    S3Status   status;
    char       words[200];
    uint64_t   size;                                   /* of the object, as the headers say */
    char       mark[64];
    struct kl_span body; size_t sent;                  /* put */
    uint64_t   offset; char *sink; size_t sink_size, got;             /* get */
    bool       over;
    void (*each)(void *ctx, const char *key, uint64_t size_bytes); void *ctx;         /* list */
    bool       more, any;                              /* any: the page had keys, ours or not */
    char       last[S3_MAX_KEY_SIZE + 1];
};

/* ---- what libs3 calls ---- */

static S3Status on_properties(const S3ResponseProperties *p, void *data)
{
    struct call *c = data;

    c->size = p->contentLength;
    for (int i = 0; i < p->metaDataCount; i++)
        if (strcmp(p->metaData[i].name, "koalemos-put") == 0)
            snprintf(c->mark, sizeof c->mark, "%s", p->metaData[i].value);
    return S3StatusOK;
}

static void on_complete(S3Status status, const S3ErrorDetails *e, void *data)
{
    struct call *c = data;

    c->status = status;
    c->words[0] = '\0';
    if (e != NULL && e->message != NULL)
        snprintf(c->words, sizeof c->words, "%s", e->message);
    for (char *w = c->words; *w != '\0'; w++)
        *w = *w < ' ' ? ' ' : *w;
}

static int on_put(int size, char *buffer, void *data)
{
    struct call *c = data;
    size_t       n = c->body.size - c->sent;

    if (atomic_load(&c->s->canceled))
        return -1;
    n = n < (size_t)size ? n : (size_t)size;
    if (n > 0)
        memcpy(buffer, (const char *)c->body.at + c->sent, n);
    c->sent += n;
    return (int)n;
}

static S3Status on_get(int size, const char *buffer, void *data)
{
    struct call *c = data;

    if (atomic_load(&c->s->canceled))
        return S3StatusAbortedByCallback;
    if ((size_t)size > c->sink_size - c->got) {
        c->over = true;
        return S3StatusAbortedByCallback;
    }
    memcpy(c->sink + c->got, buffer, (size_t)size);
    c->got += (size_t)size;
    return S3StatusOK;
}

static S3Status on_list(int truncated, const char *next, int count, const S3ListBucketContent *contents,
                        int prefix_count, const char **prefixes, void *data)
{
    struct call *c = data;
    size_t       n = strlen(c->s->prefix);

    (void)prefix_count, (void)prefixes;
    for (int i = 0; i < count; i++) {
        const char *key = contents[i].key;

        if (strncmp(key, c->s->prefix, n) == 0 && kl_store_key_fit(key + n))
            c->each(c->ctx, key + n, contents[i].size);
        snprintf(c->last, sizeof c->last, "%s", key);
        c->any = true;
    }
    if (next != NULL && next[0] != '\0')               /* some give none without a delimiter */
        snprintf(c->last, sizeof c->last, "%s", next);
    c->more = truncated != 0;
    return atomic_load(&c->s->canceled) ? S3StatusAbortedByCallback : S3StatusOK;
}

/* ---- what a status means ---- */

static enum kl_code meaning(struct call *c, const char *key, struct kl_err *err)
{
    struct v2  *s = c->s;
    const char *name = S3_get_status_name(c->status);

    switch (c->status) {
    case S3StatusOK:
        return KL_OK;
    case S3StatusErrorNoSuchKey:
    case S3StatusHttpErrorNotFound:
        return kl_fail(err, KL_ENOENT, "there is no object %s", key);
    case S3StatusErrorNoSuchBucket:
        return kl_fail(err, KL_EIO, "there is no bucket \"%s\" at %s: make it, or correct store.url",
                       s->name, s->host);
    case S3StatusErrorSignatureDoesNotMatch:
        return kl_fail(err, KL_EIO, "the store does not accept our signature: the secret key is not the "
                       "one of the access key, or the store wants store.s3.signature v4");
    case S3StatusErrorInvalidAccessKeyId:
        return kl_fail(err, KL_EIO, "the store does not know our access key");
    case S3StatusErrorRequestTimeTooSkewed:
        return kl_fail(err, KL_EIO, "the store refuses our clock: set this machine's clock");
    case S3StatusErrorInvalidRange:
        return kl_fail(err, KL_EIO, "the object ends before that");
    case S3StatusAbortedByCallback:
        if (c->over)
            return kl_fail(err, KL_EIO, "the answer is larger than what was asked for");
        return kl_fail(err, KL_ECANCELED, "the process is stopping");
    case S3StatusErrorRequestTimeout:
    case S3StatusErrorIncompleteBody:
    case S3StatusErrorBadDigest:
        return kl_fail(err, KL_EAGAIN, "the store answers %s", name);
    default:
        if (S3_status_is_retryable(c->status))
            return kl_fail(err, KL_EAGAIN, "%s%s%s", name, c->words[0] ? ": " : "", c->words);
        return kl_fail(err, KL_EIO, "the store answers %s%s%s", name, c->words[0] ? ": " : "", c->words);
    }
}

/* A wait of random length, twice as long each time; cut short by a cancel. */
static void pause_before(struct v2 *s, unsigned tried)
{
    int64_t most = (int64_t)WAIT_FIRST_MS << (tried < 10 ? tried : 10);

    most = most < WAIT_MAX_MS ? most : WAIT_MAX_MS;
    most = most / 2 + (int64_t)(kl_env_draw(s->env) % (uint64_t)(most / 2 + 1));
    for (; most > 0 && !atomic_load(&s->canceled); most -= SLICE_MS)
        nanosleep(&(struct timespec){ .tv_nsec = SLICE_MS * 1000000 }, NULL);
}

/* `once` sends it; again while there is hope. *ambiguous: a try that failed may have had its effect. */
static enum kl_code again_and_again(struct v2 *s, struct call *c, const char *key,
                                    void (*once)(struct call *c, const char *key), bool *ambiguous,
                                    struct kl_err *err)
{
    enum kl_code code;

    *ambiguous = false;
    for (unsigned tried = 0; ; ) {
        if (atomic_load(&s->canceled))
            return kl_fail(err, KL_ECANCELED, "the process is stopping");
        c->s = s;
        c->status = S3StatusInternalError;
        c->sent = c->got = 0;
        once(c, key);
        kl_count(s->requests, 1);
        kl_count(s->sent_bytes, c->sent);
        kl_count(s->got_bytes, c->got);
        code = meaning(c, key, err);
        if (code != KL_EAGAIN)
            break;
        *ambiguous = true;
        if (++tried >= s->o.tries) {
            kl_within(err, "%u tries", tried);
            break;
        }
        kl_count(s->retries, 1);
        pause_before(s, tried - 1);
    }
    if (code != KL_OK && code != KL_ENOENT)
        kl_count(s->failures, 1);
    return code;
}

static void whole_key(const struct call *c, const char *key, char *out)
{
    snprintf(out, S3_MAX_KEY_SIZE + 1, "%s%s", c->s->prefix, key);
}

/* ---- the requests ---- */

static void once_head(struct call *c, const char *key)
{
    S3ResponseHandler h = { on_properties, on_complete };
    char              k[S3_MAX_KEY_SIZE + 1];

    whole_key(c, key, k);
    S3_head_object(&c->s->bucket, k, NULL, &h, c);
}

static void once_get(struct call *c, const char *key)
{
    S3GetObjectHandler h = { { on_properties, on_complete }, on_get };
    char               k[S3_MAX_KEY_SIZE + 1];

    whole_key(c, key, k);
    S3_get_object(&c->s->bucket, k, NULL, c->offset, c->sink_size, NULL, &h, c);
}

static void once_put(struct call *c, const char *key)
{
    S3PutObjectHandler h = { { on_properties, on_complete }, on_put };
    S3NameValue        mark = { "koalemos-put", c->mark };
    char               md5[KL_S3_MD5], k[S3_MAX_KEY_SIZE + 1];
    S3PutProperties    p = { .contentType = "application/octet-stream", .md5 = md5, .expires = -1,
                             .cannedAcl = S3CannedAclPrivate, .metaDataCount = 1, .metaData = &mark };

    whole_key(c, key, k);
    kl_s3_md5(c->body, md5);
    S3_put_object(&c->s->bucket, k, c->body.size, &p, NULL, &h, c);
}

static void once_remove(struct call *c, const char *key)
{
    S3ResponseHandler h = { on_properties, on_complete };
    char              k[S3_MAX_KEY_SIZE + 1];

    whole_key(c, key, k);
    S3_delete_object(&c->s->bucket, k, NULL, &h, c);
}

/* ---- the store ---- */

static enum kl_code check_key(const char *key, struct kl_err *err)
{
    return kl_store_key_fit(key) ? KL_OK
         : kl_fail(err, KL_EINVAL, "\"%.100s\" is no key of an object", key);
}

static void nothing(void *ctx, const char *key, uint64_t size) { (void)ctx, (void)key, (void)size; }

static void once_look(struct call *c, const char *key)
{
    S3ListBucketHandler h = { { on_properties, on_complete }, on_list };

    (void)key;
    S3_list_bucket(&c->s->bucket, c->s->prefix, NULL, NULL, 1, NULL, &h, c);
}

static enum kl_code look(struct v2 *s, const char *key, uint64_t *size, char *mark, struct kl_err *err)
{
    struct call  c = { 0 }, b = { .each = nothing };
    bool         ambiguous;
    enum kl_code code = again_and_again(s, &c, key, once_head, &ambiguous, err);

    /* A HEAD has no words: that the bucket is gone, or keys are wrong, is asked for apart. */
    if (code == KL_ENOENT || code == KL_EIO) {
        struct kl_err first = *err;

        if (again_and_again(s, &b, "", once_look, &ambiguous, err) != KL_OK)
            return err->code == KL_ENOENT ? kl_fail(err, KL_EIO, "there is no bucket \"%s\"", s->name)
                                          : err->code;
        *err = first;
    }
    if (code == KL_OK && size != NULL)
        *size = c.size;
    if (code == KL_OK && mark != NULL)
        memcpy(mark, c.mark, sizeof c.mark);
    return code;
}

static enum kl_code head(struct kl_store *store, const char *key, uint64_t *size_bytes,
                         struct kl_err *err)
{
    enum kl_code code = check_key(key, err);

    if (code == KL_OK)
        code = look((struct v2 *)store, key, size_bytes, NULL, err);
    return code == KL_OK || code == KL_ENOENT ? code : kl_within(err, "object %s", key);
}

static enum kl_code get(struct kl_store *store, const char *key, uint64_t offset, void *bytes,
                        size_t size, struct kl_err *err)
{
    struct v2   *s = (struct v2 *)store;
    struct call  c = { .offset = offset, .sink = bytes, .sink_size = size };
    uint64_t     whole;
    bool         ambiguous;
    enum kl_code code = check_key(key, err);

    if (code != KL_OK)
        return code;
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return kl_fail(err, KL_EIO, "object %s: no object has %" PRIu64 " bytes", key, offset);
    if (size == 0) {
        code = head(store, key, &whole, err);
        return code == KL_OK && offset > whole ? kl_fail(err, KL_EIO, "object %s: ends before", key) : code;
    }
    for (unsigned tried = 0; ; tried++) {
        code = again_and_again(s, &c, key, once_get, &ambiguous, err);
        if (code != KL_OK || c.got == size || tried + 1 >= s->o.tries)
            break;
        if (look(s, key, &whole, NULL, err) != KL_OK || whole < offset + size)
            break;                                     /* it is shorter; else it came cut short */
    }
    if (code == KL_OK && c.got != size)
        code = kl_fail(err, KL_EIO, "%zu bytes at %" PRIu64 ", not %zu", c.got, offset, size);
    return code == KL_OK ? KL_OK : kl_within(err, "get object %s", key);
}

static enum kl_code put(struct kl_store *store, const char *key, struct kl_span bytes,
                        struct kl_err *err)
{
    struct v2   *s = (struct v2 *)store;
    struct call  c = { .body = bytes };
    char         mark[MARK], there[64];
    bool         ambiguous;
    enum kl_code code = check_key(key, err);

    if (code != KL_OK)
        return code;
    if (bytes.size > object_max)
        return kl_fail(err, KL_ELIMIT, "put object %s: more than 5 GiB, and this store knows no parts", key);
    code = look(s, key, NULL, NULL, err);
    if (code == KL_OK)
        return kl_fail(err, KL_EEXIST, "object %s is there already", key);
    if (code != KL_ENOENT)
        return kl_within(err, "put object %s", key);
    snprintf(mark, sizeof mark, "%016" PRIx64 "%016" PRIx64, kl_env_draw(s->env), kl_env_draw(s->env));
    memcpy(c.mark, mark, sizeof mark);
    code = again_and_again(s, &c, key, once_put, &ambiguous, err);
    if (code == KL_EAGAIN && look(s, key, NULL, there, &(struct kl_err){ 0 }) == KL_OK &&
        strcmp(there, mark) == 0)
        return KL_OK;                                  /* it had come up, and only the answer got lost */
    if (code == KL_ENOENT)
        code = kl_fail(err, KL_EIO, "the store answers 404 to a put");
    return code == KL_OK ? KL_OK : kl_within(err, "put object %s", key);
}

struct from { struct call c; char prefix[S3_MAX_KEY_SIZE + 1], marker[S3_MAX_KEY_SIZE + 1]; };

static void once_list(struct call *c, const char *key)
{
    struct from        *f = kl_container_of(c, struct from, c);
    S3ListBucketHandler h = { { on_properties, on_complete }, on_list };

    (void)key;
    c->more = c->any = false;                          /* of an empty list nobody is told */
    S3_list_bucket(&c->s->bucket, f->prefix, f->marker[0] ? f->marker : NULL, NULL,
                   c->s->o.list_page > 0 ? (int)c->s->o.list_page : LIST_PAGE, NULL, &h, c);
}

/* A page is handed out when it is whole: one that is asked for again would come twice. */
struct page { struct { char *key; uint64_t size; } *at; size_t count, room; };

static void keep(void *ctx, const char *key, uint64_t size)
{
    struct page *p = ctx;

    if (p->count == p->room) {
        p->room = p->room == 0 ? 64 : 2 * p->room;
        p->at = kl_resize(p->at, p->room * sizeof *p->at);
    }
    p->at[p->count].key = kl_strdup(key);
    p->at[p->count++].size = size;
}

static void turn(struct page *p, void (*each)(void *, const char *, uint64_t), void *ctx)
{
    for (size_t i = 0; i < p->count; i++) {
        if (each != NULL)
            each(ctx, p->at[i].key, p->at[i].size);
        free(p->at[i].key);
    }
    p->count = 0;
}

static void once_page(struct call *c, const char *key)
{
    turn(c->ctx, NULL, NULL);
    once_list(c, key);
}

/* To libs3 a list that was cut short is a list, and the last page. So it ends only where a page that begins
 * behind its last key is empty, and an empty one where it is so twice. */
static enum kl_code list(struct kl_store *store, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                         struct kl_err *err)
{
    struct v2   *s = (struct v2 *)store;
    struct page  page = { 0 };
    struct from  f = { .c = { .each = keep, .ctx = &page } };
    bool         ambiguous;
    unsigned     empty = 0;
    enum kl_code code = KL_OK;

    snprintf(f.prefix, sizeof f.prefix, "%s%s", s->prefix, prefix);
    while (code == KL_OK && empty < (f.c.last[0] != '\0' ? 1 : 2)) {
        memcpy(f.marker, f.c.last, sizeof f.marker);
        code = again_and_again(s, &f.c, "", once_page, &ambiguous, err);
        if (code == KL_ENOENT)
            code = kl_fail(err, KL_EIO, "the store answers 404 to a list");
        if (code == KL_OK && (f.c.more || f.c.any) && strcmp(f.c.last, f.marker) <= 0)
            code = kl_fail(err, KL_EIO, "the list goes on, but does not move");
        empty = f.c.more || f.c.any ? 0 : empty + 1;
        turn(&page, code == KL_OK ? each : NULL, ctx);
    }
    free(page.at);
    return code == KL_OK ? KL_OK : kl_within(err, "list objects %s", prefix);
}

static enum kl_code remove_object(struct kl_store *store, const char *key, struct kl_err *err)
{
    struct call  c = { 0 };
    bool         ambiguous;
    enum kl_code code = check_key(key, err);

    if (code != KL_OK)
        return code;
    code = again_and_again((struct v2 *)store, &c, key, once_remove, &ambiguous, err);
    return code == KL_OK || code == KL_ENOENT ? KL_OK : kl_within(err, "remove object %s", key);
}

static void cancel(struct kl_store *store) { atomic_store(&((struct v2 *)store)->canceled, true); }

static void close_store(struct kl_store *store)
{
    struct v2 *s = (struct v2 *)store;

    S3_deinitialize();
    explicit_bzero(&s->keys, sizeof s->keys);
    free(s);
}

/* ---- opening ---- */

static enum kl_code place(struct v2 *s, const struct kl_store_s3_options *o, struct kl_err *err)
{
    const char *e = o->endpoint != NULL ? o->endpoint : "https://" S3_DEFAULT_HOSTNAME;
    size_t      scheme = strncmp(e, "https://", 8) == 0 ? 8 : strncmp(e, "http://", 7) == 0 ? 7 : 0;
    size_t      n = strcspn(e + scheme, "/");

    if (scheme == 0 || n == 0 || n >= sizeof s->host || strcspn(e + scheme, "@?# \t") < n ||
        (e[scheme + n] == '/' && e[scheme + n + 1] != '\0'))
        return kl_fail(err, KL_EINVAL, "store.s3.endpoint is not http://host:port or https://host");
    if (o->bucket == NULL ||
        S3_validate_bucket_name(o->bucket, o->path_style ? S3UriStylePath : S3UriStyleVirtualHost) != S3StatusOK ||
        strlen(o->bucket) >= sizeof s->name)
        return kl_fail(err, KL_EINVAL, "\"%.80s\" is no name of a bucket", o->bucket != NULL ? o->bucket : "");
    if (o->prefix != NULL && o->prefix[0] != '\0' &&
        (strlen(o->prefix) > KL_STORE_S3_PREFIX_MAX || !kl_store_key_fit(o->prefix)))
        return kl_fail(err, KL_EINVAL, "\"%.100s\" cannot begin keys", o->prefix);
    if (o->token_file != NULL || o->ca_file != NULL || o->proxy != NULL)
        return kl_fail(err, KL_EINVAL, "store.s3.signature v2 knows no session token, CA file or proxy");
    memcpy(s->host, e + scheme, n);
    strcpy(s->name, o->bucket);
    if (o->prefix != NULL && o->prefix[0] != '\0')
        snprintf(s->prefix, sizeof s->prefix, "%s/", o->prefix);
    s->bucket = (S3BucketContext){ s->host, s->name, scheme == 8 ? S3ProtocolHTTPS : S3ProtocolHTTP,
                                   o->path_style ? S3UriStylePath : S3UriStyleVirtualHost,
                                   s->keys.access, s->keys.secret };
    return KL_OK;
}

static struct kl_metric *counter(const struct v2 *s, struct kl_metric *own, const char *name,
                                 const char *help)
{
    return s->o.metrics == NULL ? own : kl_metrics_add(s->o.metrics, KL_COUNTER, name, "", help);
}

enum kl_code kl_store_s3v2_open(struct kl_env *env, const struct kl_store_s3_options *o,
                                struct kl_store **store, struct kl_err *err)
{
    struct v2 *s = kl_new(sizeof *s);

    s->env = env;
    s->o = (struct kl_store_s3_options){ .tries = o->tries > 0 ? o->tries : 5, .metrics = o->metrics,
                                         .list_page = o->list_page };
    if (kl_s3_keys_read(o, &s->keys, err) != KL_OK || place(s, o, err) != KL_OK ||
        (S3_initialize("koalemos", S3_INIT_ALL, s->host) != S3StatusOK &&
         kl_fail(err, KL_EIO, "libs3 does not start") != KL_OK)) {
        explicit_bzero(&s->keys, sizeof s->keys);
        free(s);
        return err->code;
    }
    s->requests = counter(s, &s->own[0], "koalemos_store_requests_total",
                          "Requests sent to the object storage.");
    s->retries = counter(s, &s->own[1], "koalemos_store_retries_total", "Of these, sent again after a failure.");
    s->failures = counter(s, &s->own[2], "koalemos_store_failures_total",
                          "Calls of the object storage that failed, retries and all.");
    s->sent_bytes = counter(s, &s->own[3], "koalemos_store_sent_bytes_total",
                            "Bytes put into the object storage.");
    s->got_bytes = counter(s, &s->own[4], "koalemos_store_received_bytes_total",
                           "Bytes that the object storage answered with.");
    s->store = (struct kl_store){ .put = put, .get = get, .head = head, .list = list,
                                  .remove = remove_object, .cancel = cancel, .close = close_store };
    *store = &s->store;
    return KL_OK;
}
