/* What becomes of a request: an answer, whole or made while it is sent, a refusal, or nothing. */
#include "libkoal/http/http_mhd_priv.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

enum { PACKED_LEAST = 1024, STREAM_BLOCK = 32 * 1024 };

bool kl_http_gone(const struct kl_http_request *r)
{
    struct kl_http_server *s = r->server;
    bool                   gone;
    char                   byte;

    /* Suspended connections stay open, and only stopping resumes one without its answer: under
     * the lock the socket is its own. */
    pthread_mutex_lock(&s->lock);
    gone = r->abandoned;
    if (!gone) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (s->tls != NULL) {                          /* the goodbye of TLS is bytes, too */
            struct pollfd p = { .fd = info->connect_fd, .events = POLLRDHUP };
            gone = poll(&p, 1, 0) > 0;
        } else {
            ssize_t n = recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
            gone = n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return gone;
}

void kl_http_request_unref(struct kl_http_request *r)
{
    struct kl_http_server *s = r->server;

    if (atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    if (r->response != NULL)
        MHD_destroy_response(r->response);
    kl_http_request_deinit(r);
    free(r);
    kl_http_server_unref(s);
}

static struct MHD_Response *response_new(char *bytes_take, size_t size, const char *type)
{
    struct MHD_Response *m;

    if (size == 0) {
        free(bytes_take);
        m = MHD_create_response_from_buffer(0, (void *)(uintptr_t)"", MHD_RESPMEM_PERSISTENT);
    } else {
        m = MHD_create_response_from_buffer(size, bytes_take, MHD_RESPMEM_MUST_FREE);
    }
    if (m == NULL)
        abort();                                       /* without memory, as kl_new */
    if (type != NULL)
        MHD_add_response_header(m, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    return m;
}

void kl_http_add_cors(struct MHD_Response *m)
{
    MHD_add_response_header(m, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    MHD_add_response_header(m, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS");
    MHD_add_response_header(m, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS,
                            "Accept, Authorization, Content-Type, Origin, X-Scope-OrgID");
    MHD_add_response_header(m, MHD_HTTP_HEADER_ACCESS_CONTROL_EXPOSE_HEADERS, "Date");
}

/* Under the lock, which it lets go meanwhile: tells the guard what became of what it let through, before
 * the client hears of it. Not of what was abandoned: the server has stopped, and the guard may be gone. */
static void tell_guard(const struct kl_http_request *r, unsigned status)
{
    struct kl_http_server *s = r->server;
    const struct kl_guard *g = s->options.guard;
    struct kl_guard_ask    ask;

    if (!r->guarded || r->abandoned)
        return;
    s->telling++;                                      /* a server that stops waits for it */
    pthread_mutex_unlock(&s->lock);
    if (g->done != NULL) {
        ask = kl_http_request_ask(r, r->route->path, r->peer);
        g->done(g->ctx, &ask, r->verdict.key, status);
    }
    pthread_mutex_lock(&s->lock);
    s->telling--;
}

/* The answer: counted, and given to whoever has the connection now. */
static void answer(struct kl_http_request *r, unsigned status, struct MHD_Response *m)
{
    struct kl_http_server *s = r->server;
    struct timespec        now;

    for (size_t i = 0; i < r->extra.count; i++)
        MHD_add_response_header(m, r->extra.at[i].name, r->extra.at[i].value);
    if (r->route->is.cors && kl_http_header(r, MHD_HTTP_HEADER_ORIGIN) != NULL)
        kl_http_add_cors(m);
    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&s->lock);
    assert(!r->answered);
    tell_guard(r, status);
    r->answered = true;
    if (r->abandoned) {
        pthread_mutex_unlock(&s->lock);
        MHD_destroy_response(m);
        kl_http_request_unref(r);
        return;
    }
    r->status = status;
    r->response = m;
    if (r->is_suspended) {
        r->is_suspended = false;
        *r->at = r->next;
        if (r->next != NULL)
            r->next->at = r->at;
        MHD_resume_connection(r->connection);
    }
    /* While the server lives, as its metrics do: where it was abandoned they may be gone. */
    if (s->seconds != NULL)
        kl_metric_observe(s->seconds, (double)(now.tv_sec - r->began.tv_sec)
                                          + 1e-9 * (double)(now.tv_nsec - r->began.tv_nsec));
    pthread_mutex_unlock(&s->lock);
    kl_http_request_unref(r);
}

/* Has the handler packed it already? Packed twice, and said once, nobody could read it. */
static bool is_encoded(const struct kl_http_request *r)
{
    for (size_t i = 0; i < r->extra.count; i++)
        if (strcasecmp(r->extra.at[i].name, MHD_HTTP_HEADER_CONTENT_ENCODING) == 0)
            return true;
    return false;
}

static void answer_bytes(struct kl_http_request *r, unsigned status, const char *type,
                         char *bytes_take, size_t size)
{
    struct MHD_Response *m;
    char                *small;
    size_t               small_size;

    pthread_mutex_lock(&r->server->lock);
    if (!r->abandoned)                                 /* else the connection's thread may be telling it */
        kl_http_teller_why(r, status, type, bytes_take, size);
    pthread_mutex_unlock(&r->server->lock);
    if (size > PACKED_LEAST && !is_encoded(r) &&
        kl_http_pack(r->coding, bytes_take, size, &small, &small_size)) {
        free(bytes_take);
        m = response_new(small, small_size, type);
        MHD_add_response_header(m, MHD_HTTP_HEADER_CONTENT_ENCODING,
                                kl_http_coding_name(r->coding));
    } else {
        m = response_new(bytes_take, size, type);
    }
    if (size > PACKED_LEAST)
        MHD_add_response_header(m, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT_ENCODING);
    answer(r, status, m);
}

static ssize_t on_read(void *cls, uint64_t at, char *to, size_t most)
{
    size_t size;

    (void)at;
    switch (kl_http_flow_read(cls, to, most, &size)) {
    case KL_HTTP_FLOWED: return (ssize_t)size;
    case KL_HTTP_ENDED:  return MHD_CONTENT_READER_END_OF_STREAM;
    default:             return MHD_CONTENT_READER_END_WITH_ERROR;
    }
}

static void on_read_end(void *cls)
{
    kl_http_flow_free(cls);
}

void kl_http_answer_stream(struct kl_http_request *r, unsigned status, const char *content_type,
                           const struct kl_http_stream *stream)
{
    enum kl_http_coding  coding = is_encoded(r) ? KL_HTTP_PLAIN : r->coding;
    struct MHD_Response *m = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_read, kl_http_flow_new(stream, coding), on_read_end);

    if (m == NULL)
        abort();                                       /* without memory, as kl_new */
    MHD_add_response_header(m, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    MHD_add_response_header(m, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT_ENCODING);
    if (coding != KL_HTTP_PLAIN)
        MHD_add_response_header(m, MHD_HTTP_HEADER_CONTENT_ENCODING, kl_http_coding_name(coding));
    answer(r, status, m);
}

void kl_http_answer(struct kl_http_request *r, unsigned status, const char *content_type,
                    struct kl_span body)
{
    char *copy = kl_new(body.size > 0 ? body.size : 1);

    if (body.size > 0)
        memcpy(copy, body.at, body.size);
    answer_bytes(r, status, content_type, copy, body.size);
}

void kl_http_answer_take(struct kl_http_request *r, unsigned status, const char *content_type,
                         struct kl_buf *body_take)
{
    char  *bytes = body_take->at;
    size_t size = body_take->size;

    *body_take = (struct kl_buf){ .cap = body_take->cap };
    answer_bytes(r, status, content_type, bytes, size);
}

enum MHD_Result kl_http_queue(struct kl_http_request *r)
{
    struct kl_http_server *s = r->server;
    struct timespec        now;
    bool                   draining;

    if (r->id[0] == '\0')                              /* refused before its headers were looked at */
        kl_http_teller_meet(&s->teller, r);
    MHD_add_response_header(r->response, "X-Request-Id", r->id);
    clock_gettime(CLOCK_MONOTONIC, &now);
    kl_http_teller_tell(&s->teller, r, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    pthread_mutex_lock(&s->lock);
    draining = s->draining;
    pthread_mutex_unlock(&s->lock);
    if (draining)
        MHD_add_response_header(r->response, MHD_HTTP_HEADER_CONNECTION, "close");
    kl_http_entry_count(r->route, r->status);
    return MHD_queue_response(r->connection, r->status, r->response);
}

enum MHD_Result kl_http_refuse(struct kl_http_request *r, unsigned status, bool at_once,
                               const char *words)
{
    size_t size = words != NULL ? strlen(words) : 0;
    char  *text = kl_new(size + 2);

    if (size > 0)
        memcpy(text, words, size);
    kl_http_teller_why(r, status, "text/plain", text, size);
    text[size] = '\n';
    r->status = status;
    r->response = response_new(text, size > 0 ? size + 1 : 0,
                               size > 0 ? "text/plain; charset=utf-8" : NULL);
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE || status == MHD_HTTP_TOO_MANY_REQUESTS)
        MHD_add_response_header(r->response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(r->response, MHD_HTTP_HEADER_WWW_AUTHENTICATE,
                                "Basic realm=\"koalemos\", Bearer realm=\"koalemos\"");
    r->discard = true;
    if (!at_once)
        return MHD_YES;
    MHD_add_response_header(r->response, MHD_HTTP_HEADER_CONNECTION, "close");
    return kl_http_queue(r);
}

void kl_http_abandon(struct kl_http_request *r)
{
    static const char words[] = "the server is stopping\n";

    r->abandoned = true;
    r->status = MHD_HTTP_SERVICE_UNAVAILABLE;
    r->response = MHD_create_response_from_buffer(sizeof words - 1, (void *)(uintptr_t)words,
                                                  MHD_RESPMEM_PERSISTENT);
    if (r->response == NULL)
        abort();
    MHD_add_response_header(r->response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
}
