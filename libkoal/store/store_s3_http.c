/*
 * One HTTP request and its answer. The one file that knows libcurl. Handles are kept and used again,
 * each with the connections it has open: as many as there were requests at once.
 */
#include "libkoal/store/store_s3_priv.h"

#include <curl/curl.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { IDLE_MAX = 16, BUFFER = 256 << 10, STALL_BYTES = 1024 };

struct kl_s3_http {
    pthread_mutex_t lock;                              /* idle */
    CURL    *idle[IDLE_MAX];
    unsigned idle_count;
    char    *ca_file, *proxy;
    struct kl_s3_http_options o;
};

struct kl_s3_http *kl_s3_http_new(const struct kl_s3_http_options *o)
{
    struct kl_s3_http *h = kl_new(sizeof *h);

    curl_global_init(CURL_GLOBAL_DEFAULT);             /* counted; safe between threads since 7.84 */
    pthread_mutex_init(&h->lock, NULL);
    h->o = *o;
    h->ca_file = o->ca_file != NULL ? kl_strdup(o->ca_file) : NULL;
    h->proxy = kl_strdup(o->proxy != NULL ? o->proxy : "");
    return h;
}

void kl_s3_http_free(struct kl_s3_http *h)
{
    for (unsigned i = 0; i < h->idle_count; i++)
        curl_easy_cleanup(h->idle[i]);
    curl_global_cleanup();
    pthread_mutex_destroy(&h->lock);
    free(h->ca_file);
    free(h->proxy);
    free(h);
}

static CURL *borrow(struct kl_s3_http *h)
{
    CURL *c = NULL;

    pthread_mutex_lock(&h->lock);
    if (h->idle_count > 0)
        c = h->idle[--h->idle_count];
    pthread_mutex_unlock(&h->lock);
    if (c == NULL)
        c = curl_easy_init();
    return c;
}

static void give_back(struct kl_s3_http *h, CURL *c)
{
    curl_easy_reset(c);                                /* connections stay */
    pthread_mutex_lock(&h->lock);
    if (h->idle_count < IDLE_MAX) {
        h->idle[h->idle_count++] = c;
        c = NULL;
    }
    pthread_mutex_unlock(&h->lock);
    if (c != NULL)
        curl_easy_cleanup(c);
}

/* ---- while it runs ---- */

struct under_way {
    const struct kl_s3_http *h;
    const struct kl_s3_send *s;
    struct kl_s3_answer *a;
    CURL *c;
    bool  over;                                        /* more than there is room for */
};

static size_t take_body(char *bytes, size_t one, size_t n, void *ctx)
{
    struct under_way *u = ctx;
    long              status = 0;

    (void)one;                                         /* always 1 */
    curl_easy_getinfo(u->c, CURLINFO_RESPONSE_CODE, &status);
    if (u->s->sink != NULL && status >= 200 && status < 300) {
        if (n > u->s->sink_size - u->a->got) {
            u->over = true;
            return CURL_WRITEFUNC_ERROR;
        }
        memcpy((char *)u->s->sink + u->a->got, bytes, n);
        u->a->got += n;
    } else if (n > u->s->body_max - u->a->body.size) {
        if (status >= 200 && status < 300) {
            u->over = true;
            return CURL_WRITEFUNC_ERROR;
        }
        kl_buf_add(&u->a->body, bytes, u->s->body_max - u->a->body.size);   /* of an error: enough */
    } else {
        kl_buf_add(&u->a->body, bytes, n);
    }
    return n;
}

static bool is(const char *line, size_t size, const char *name, struct kl_span *value)
{
    size_t n = strlen(name);

    if (size <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
        return false;
    for (line += n + 1, size -= n + 1; size > 0 && (*line == ' ' || *line == '\t'); line++)
        size--;
    while (size > 0 && (line[size - 1] == '\r' || line[size - 1] == '\n' || line[size - 1] == ' '))
        size--;
    *value = kl_span(line, size);
    return true;
}

/* Header values end up in XML and in words to people: nothing but plain characters. */
static void keep(char *to, size_t room, struct kl_span value)
{
    const char *at = value.at;

    to[0] = '\0';
    if (value.size >= room)
        return;
    for (size_t i = 0; i < value.size; i++)
        if (at[i] < ' ' || at[i] > '~' || at[i] == '<' || at[i] == '&')
            return;
    memcpy(to, at, value.size);
    to[value.size] = '\0';
}

static size_t take_header(char *line, size_t one, size_t n, void *ctx)
{
    struct kl_s3_answer *a = ((struct under_way *)ctx)->a;
    struct kl_span       v;

    (void)one;
    if (n > 5 && memcmp(line, "HTTP/", 5) == 0)        /* another answer begins, after a 100 */
        a->etag[0] = a->mark[0] = a->region[0] = a->date[0] = '\0';
    else if (is(line, n, "etag", &v))
        keep(a->etag, sizeof a->etag, v);
    else if (is(line, n, "x-amz-meta-koalemos-put", &v))
        keep(a->mark, sizeof a->mark, v);
    else if (is(line, n, "x-amz-bucket-region", &v))
        keep(a->region, sizeof a->region, v);
    else if (is(line, n, "date", &v))
        keep(a->date, sizeof a->date, v);
    return n;
}

static int watch(void *ctx, curl_off_t down, curl_off_t down_now, curl_off_t up, curl_off_t up_now)
{
    const struct under_way *u = ctx;

    (void)down, (void)down_now, (void)up, (void)up_now;
    return atomic_load_explicit(u->h->o.canceled, memory_order_relaxed);
}

/* ---- */

static bool set_up(struct under_way *u, struct curl_slist **headers)
{
    const struct kl_s3_http *h = u->h;
    const struct kl_s3_send *s = u->s;
    CURL                    *c = u->c;
    struct kl_buf            line = { 0 };
    int64_t                  stall_s = (h->o.stall_timeout_ms + 999) / 1000;
    bool                     ok = true;

    for (unsigned i = 0; i < s->r->header_count && ok; i++) {
        struct curl_slist *more;

        kl_buf_reset(&line);
        kl_buf_addf(&line, "%s: %s", s->r->headers[i].name, s->r->headers[i].value);
        kl_buf_add8(&line, '\0');
        more = curl_slist_append(*headers, line.at);
        ok = more != NULL;
        *headers = ok ? more : *headers;
    }
    kl_buf_reset(&line);
    kl_buf_addf(&line, "Authorization: %s", s->authorization);
    kl_buf_add8(&line, '\0');
    for (int i = 0; i < 3 && ok; i++) {
        const char        *text = i == 0 ? line.at : i == 1 ? "Content-Type:" : "Expect:";
        struct curl_slist *more = curl_slist_append(*headers, text);

        ok = more != NULL;
        *headers = ok ? more : *headers;
    }
    if (line.at != NULL)
        explicit_bzero(line.at, line.size);
    kl_buf_deinit(&line);
    if (strcmp(s->r->method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (strcmp(s->r->method, "GET") != 0) {
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, s->r->method);
        if (strcmp(s->r->method, "DELETE") != 0) {
            curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)s->body.size);
            curl_easy_setopt(c, CURLOPT_POSTFIELDS, s->body.size > 0 ? s->body.at : "");
        }
    }
    return ok && curl_easy_setopt(c, CURLOPT_URL, s->url) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HTTPHEADER, *headers) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)BUFFER) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, (long)BUFFER) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)h->o.connect_timeout_ms) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)h->o.timeout_ms) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)(stall_s > 0 ? stall_s : 1)) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_PROXY, h->proxy) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_WRITEDATA, u) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HEADERDATA, u) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, watch) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFODATA, u) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L) == CURLE_OK &&
           (h->ca_file == NULL || curl_easy_setopt(c, CURLOPT_CAINFO, h->ca_file) == CURLE_OK);
}

static enum kl_code failure(const struct under_way *u, CURLcode code, const char *words, bool *sent,
                            struct kl_err *err)
{
    const char *why = words[0] != '\0' ? words : curl_easy_strerror(code);

    *sent = true;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        *sent = false;
        return kl_fail(err, KL_EAGAIN, "%s", why);
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_URL_MALFORMAT:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        *sent = false;
        return kl_fail(err, KL_EINVAL, "%s", why);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CONNECT_ERROR:
        *sent = false;
        return kl_fail(err, code == CURLE_SSL_CONNECT_ERROR ? KL_EAGAIN : KL_EIO, "TLS: %s", why);
    case CURLE_ABORTED_BY_CALLBACK:
        return kl_fail(err, KL_ECANCELED, "the process is stopping");
    case CURLE_OUT_OF_MEMORY:
        return kl_fail(err, KL_ELIMIT, "no memory");
    default:
        if (u->over)
            return kl_fail(err, KL_EIO, "the answer is larger than what was asked for");
        return kl_fail(err, KL_EAGAIN, "%s", why);     /* resets, timeouts, bodies cut short */
    }
}

enum kl_code kl_s3_http_send(struct kl_s3_http *h, const struct kl_s3_send *s,
                             struct kl_s3_answer *a, bool *sent, struct kl_err *err)
{
    struct under_way   u = { .h = h, .s = s, .a = a, .c = borrow(h) };
    struct curl_slist *headers = NULL;
    char               words[CURL_ERROR_SIZE] = "";
    CURLcode           code = CURLE_OUT_OF_MEMORY;
    curl_off_t         n = 0;

    *a = (struct kl_s3_answer){ .body = a->body };
    kl_buf_reset(&a->body);
    *sent = false;
    if (u.c == NULL)
        return kl_fail(err, KL_ELIMIT, "no memory for a connection");
    curl_easy_setopt(u.c, CURLOPT_ERRORBUFFER, words);
    if (set_up(&u, &headers))
        code = curl_easy_perform(u.c);
    curl_easy_getinfo(u.c, CURLINFO_RESPONSE_CODE, &a->status);
    if (curl_easy_getinfo(u.c, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &n) == CURLE_OK && n >= 0) {
        a->size = (uint64_t)n;
        a->has_size = true;
    }
    n = 0;
    if (curl_easy_getinfo(u.c, CURLINFO_RETRY_AFTER, &n) == CURLE_OK && n > 0 && n < 3600)
        a->retry_after_ms = n * 1000;
    curl_easy_setopt(u.c, CURLOPT_ERRORBUFFER, NULL);
    give_back(h, u.c);
    curl_slist_free_all(headers);
    if (code != CURLE_OK)
        return failure(&u, code, words, sent, err);
    *sent = true;
    return KL_OK;
}
