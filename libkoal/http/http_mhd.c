/*
 * The server, over libmicrohttpd: an epoll thread a core, each with its own connections.
 *
 * A request has two owners, and is freed by the last: the library's connection, until it says
 * that the request is over, and the handler, from the call until the answer. The handler is called
 * on the connection's thread; where it has not answered when it returns, the connection is
 * suspended, and the answer, from whatever thread, resumes it. One lock of the server orders the
 * two: which happens first decides who queues the response. It is held for a few instructions,
 * and taken before any lock of the library's.
 */
#include "libkoal/http/around.h"
#include "libkoal/http/http_priv.h"
#include "libkoal/http/tls_priv.h"

#include <microhttpd.h>

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_DEFAULT = 10000, IDLE_DEFAULT_S = 60, PATH_MAX_BYTES = 8192 };
enum { PACKED_LEAST = 1024, ANSWERS_LEAVE_MS = 1000, STREAM_BLOCK = 32 * 1024 };
#define BUFFERED_DEFAULT ((size_t)128 << 20)

struct kl_http_server {
    struct kl_http_options options;
    char               *listen;
    struct kl_tls      *tls;                           /* NULL: cleartext */
    struct kl_http_routes routes;
    struct MHD_Daemon  *daemon;
    int                 fd;
    unsigned            port;
    atomic_uint         connections, refs;             /* refs: the owner's and each request's */
    atomic_uint         live;                          /* requests the library has not let go */
    struct kl_budget    bodies;
    struct kl_metric_hist *seconds;
    struct kl_http_teller teller;
    struct kl_http_around around;

    pthread_mutex_t     lock;                          /* of what follows, and states of requests */
    struct kl_http_request *suspended;
    bool                draining, stopping;
};

/* What we keep of a connection: the library carries it along. */
struct connection { struct kl_http_server *server; unsigned number; bool looked, certified; };

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

/* ------------------------------------------------------------------------------- its two ends */

static void server_unref(struct kl_http_server *s);

static void unref(struct kl_http_request *r)
{
    struct kl_http_server *s = r->server;

    if (atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    if (r->response != NULL)
        MHD_destroy_response(r->response);
    kl_http_request_deinit(r);
    free(r);
    server_unref(s);
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

/* For pages of other origins, as Prometheus does it. */
static void add_cors(struct MHD_Response *m)
{
    MHD_add_response_header(m, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    MHD_add_response_header(m, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS");
    MHD_add_response_header(m, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS,
                            "Accept, Authorization, Content-Type, Origin, X-Scope-OrgID");
    MHD_add_response_header(m, MHD_HTTP_HEADER_ACCESS_CONTROL_EXPOSE_HEADERS, "Date");
}

/* Tells the guard, while the server lives, what became of what it let through. */
static void tell_guard(const struct kl_http_request *r, unsigned status)
{
    const struct kl_guard *g = r->server->options.guard;
    struct kl_guard_ask    ask;

    if (!r->guarded || g->done == NULL)
        return;
    ask = kl_http_request_ask(r, r->route->path, r->peer);
    g->done(g->ctx, &ask, r->verdict.key, status);
}

/* The answer: counted, and given to whoever has the connection now. */
static void answer(struct kl_http_request *r, unsigned status, struct MHD_Response *m)
{
    struct kl_http_server *s = r->server;
    struct timespec        now;

    for (size_t i = 0; i < r->extra.count; i++)
        MHD_add_response_header(m, r->extra.at[i].name, r->extra.at[i].value);
    if (r->route->is.cors && kl_http_header(r, MHD_HTTP_HEADER_ORIGIN) != NULL)
        add_cors(m);
    clock_gettime(CLOCK_MONOTONIC, &now);
    tell_guard(r, status);
    pthread_mutex_lock(&s->lock);
    assert(!r->answered);
    r->answered = true;
    if (r->abandoned) {
        pthread_mutex_unlock(&s->lock);
        MHD_destroy_response(m);
        unref(r);
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
    unref(r);
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

    kl_http_teller_why(r, status, type, bytes_take, size);
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

/* -------------------------------------------------------------------------- the library's side */

/* The first word of a request: its raw target, which the library is about to decode. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    struct kl_http_server  *s = cls;
    struct kl_http_request *r = kl_new(sizeof *r);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    r->server = s;
    r->connection = connection;
    r->route = &s->routes.none;
    r->wild = "";
    r->number = ((const struct connection *)info->socket_context)->number;
    r->bodies = &s->bodies;
    r->starved = !kl_http_request_charge(r, strlen(target) + 1);
    r->raw = kl_strdup(r->starved ? "/" : target);
    /* The library would parse the query, too, into its own memory, and end the connection where
     * that is short: it is the connection's buffer, not yet looked at, so the query may be cut. */
    char *query = strchr((char *)(uintptr_t)target, '?');
    if (query != NULL)
        query[1] = '\0';
    atomic_store(&r->refs, 1);
    clock_gettime(CLOCK_MONOTONIC, &r->began);
    atomic_fetch_add(&s->refs, 1);
    atomic_fetch_add(&s->live, 1);
    return r;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
    struct kl_http_request *r = *con_cls;

    (void)cls;
    (void)connection;
    (void)why;
    if (r == NULL)
        return;
    *con_cls = NULL;
    atomic_fetch_sub(&r->server->live, 1);
    unref(r);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct kl_http_server *s = cls;
    struct connection     *c;

    (void)connection;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        c = kl_new(sizeof *c);
        c->server = s;
        c->number = atomic_fetch_add(&s->connections, 1) + 1;
        *socket_context = c;
    } else if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        free(*socket_context);
        *socket_context = NULL;
    }
}

/* Nobody any more, once the server stops. The library's own way, MHD_quiesce_daemon, takes the socket out of the
 * threads' sets while they may do so themselves, and the second to come ends the process. */
static enum MHD_Result may_connect(void *cls, const struct sockaddr *peer, socklen_t size)
{
    struct kl_http_server *s = cls;
    bool                   draining;

    (void)peer;
    (void)size;
    pthread_mutex_lock(&s->lock);
    draining = s->draining;
    pthread_mutex_unlock(&s->lock);
    return draining ? MHD_NO : MHD_YES;
}

/* In a handshake: the library lets a session carry its connection. */
struct kl_tls *kl_tls_of_connection(void *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return ((const struct connection *)info->socket_context)->server->tls;
}

/* Whether a client that is to show a certificate has not. Asked once a connection. */
static bool is_uncertified(struct kl_http_request *r)
{
    struct kl_tls     *tls = r->server->tls;
    const union MHD_ConnectionInfo *info;
    struct connection *c;

    if (tls == NULL || !kl_tls_asks(tls))
        return false;
    info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    c = info->socket_context;
    if (!c->looked) {
        info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        c->certified = info != NULL && kl_tls_certified_raw(tls, info->tls_session);
        c->looked = true;
    }
    return !c->certified;
}

__attribute__((format(printf, 2, 0)))
static void on_words(void *cls, const char *fmt, va_list ap)
{
    struct kl_http_server *s = cls;
    char                   line[300];

    vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    kl_logf(s->options.log, KL_DEBUG, "http: %s", line);
}

/* Puts the response of a request on its connection. */
static enum MHD_Result queue(struct kl_http_request *r)
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

/*
 * Says no, before a handler was called. With a body under way that is too much to read for
 * nothing, at once, and the connection ends with it; else once the body has been dropped.
 */
static enum MHD_Result refuse(struct kl_http_request *r, unsigned status, bool at_once,
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
    return queue(r);
}

struct header_sum { size_t count, bytes, lengths, codings; };
static enum MHD_Result sum_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct header_sum *sum = cls;

    (void)kind;
    sum->count++;
    sum->bytes += strlen(name) + (value != NULL ? strlen(value) : 0) + 2;
    sum->lengths += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
    sum->codings += strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
    return MHD_YES;
}

static enum MHD_Result copy_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    struct kl_http_request *r = cls;
    struct kl_http_header  *h = &r->headers[r->header_count++];

    (void)kind;
    /* headers_text was made to hold them all: the end of one is the place of the next. */
    h->name = r->header_count == 1 ? r->headers_text : h[-1].value + strlen(h[-1].value) + 1;
    strcpy(h->name, name);
    h->value = h->name + strlen(name) + 1;
    strcpy(h->value, value != NULL ? value : "");
    return MHD_YES;
}

/* Whether the guard lets it through; else it is refused, and *done what is to be returned. */
static bool pass_guard(struct kl_http_request *r, const struct kl_http_entry *route, bool much,
                       enum MHD_Result *done)
{
    const struct kl_guard *g = r->server->options.guard;
    struct kl_guard_ask    ask;

    if (g == NULL)
        return true;
    ask = kl_http_request_ask(r, route != NULL ? route->path : NULL, r->peer);
    ask.uncertified = is_uncertified(r);
    g->judge(g->ctx, &ask, &r->verdict);
    if (r->verdict.status != 0) {
        *done = refuse(r, r->verdict.status, much, r->verdict.words);
        return false;
    }
    if (r->verdict.tenant[0] != '\0')
        kl_http_request_put(r, (char *)(uintptr_t)"X-Scope-OrgID", r->verdict.tenant);
    r->guarded = route != NULL;
    return true;
}

/* Line and headers are here, the body is not. */
static enum MHD_Result begin(struct kl_http_request *r, const char *method)
{
    struct MHD_Connection *c = r->connection;
    struct header_sum      sum = { 0 };
    const union MHD_ConnectionInfo *info;
    struct kl_err          err;
    const char            *length, *coding;
    size_t                 path_size = strcspn(r->raw, "?");
    char                   allow[64];
    bool                   much;
    enum MHD_Result        passed;
    const struct kl_http_entry *route;

    r->called = true;
    r->method = kl_strdup(method);
    MHD_get_connection_values(c, MHD_HEADER_KIND, sum_header, &sum);
    length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    coding = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    r->chunked = coding != NULL;
    r->body_announced = length != NULL ? strtoull(length, NULL, 10) : 0;
    if (sum.lengths + sum.codings > 1 || (coding != NULL && strcasecmp(coding, "chunked") != 0))
        return refuse(r, MHD_HTTP_BAD_REQUEST, true, "it is unclear where the body ends");
    /* A client that waits to be told to go on is told at once. */
    much = r->body_announced > KL_HTTP_DISCARD_MAX
           || MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT) != NULL;
    if (sum.count > KL_HTTP_HEADERS_MAX)
        return refuse(r, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, much, "too many headers");
    if (path_size > PATH_MAX_BYTES)
        return refuse(r, MHD_HTTP_URI_TOO_LONG, much, "the path is too long");
    if (r->starved || !kl_http_request_charge(r, sum.bytes + 2 * path_size))
        return refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, much, "too many requests at once");
    r->headers_text = kl_new(sum.bytes + 1);
    MHD_get_connection_values(c, MHD_HEADER_KIND, copy_header, r);
    info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    r->local = kl_http_request_is_local(r, info->client_addr);
    kl_http_peer_text(info->client_addr, r->peer);
    r->coding = kl_http_coding_of(kl_http_header(r, MHD_HTTP_HEADER_ACCEPT_ENCODING));
    kl_http_teller_meet(&r->server->teller, r);

    if (kl_http_path_init(&r->path, r->raw, path_size, &err) != KL_OK && err.code == KL_EINVAL)
        return refuse(r, MHD_HTTP_BAD_REQUEST, much, err.text);
    route = kl_http_routes_find(&r->server->routes, &r->path, r->method, &r->wild, allow, sizeof allow);
    if (route == NULL && strcmp(r->method, MHD_HTTP_METHOD_OPTIONS) == 0 && allow[0] != '\0') {
        char again[sizeof allow];

        route = kl_http_routes_find(&r->server->routes, &r->path,
                                    strstr(allow, "GET") != NULL ? "GET" : "POST", &r->wild, again,
                                    sizeof again);
        if (route != NULL && route->is.cors) {
            enum MHD_Result done = refuse(r, MHD_HTTP_NO_CONTENT, false, NULL);

            add_cors(r->response);
            return done;
        }
        route = NULL;
    }
    if (!pass_guard(r, route, much, &passed))
        return passed;
    if (route == NULL) {
        enum MHD_Result done = refuse(r, allow[0] != '\0' ? MHD_HTTP_METHOD_NOT_ALLOWED
                                                          : MHD_HTTP_NOT_FOUND,
                                      false, allow[0] != '\0' ? "method not allowed"
                                                              : "no such path");
        if (allow[0] != '\0')
            MHD_add_response_header(r->response, MHD_HTTP_HEADER_ALLOW, allow);
        if (!much)
            return done;
        MHD_add_response_header(r->response, MHD_HTTP_HEADER_CONNECTION, "close");
        return queue(r);
    }
    r->route = route;
    if (r->raw[path_size] == '?')
        r->query = r->raw + path_size + 1;
    r->body_max = r->route->is.body_max == NULL ? r->route->is.body_max_bytes : atomic_load(r->route->is.body_max);
    if (r->body_announced > r->body_max) {
        char words[100];
        snprintf(words, sizeof words, "the body has %zu bytes; at most %zu are taken",
                 r->body_announced, r->body_max);
        return refuse(r, MHD_HTTP_CONTENT_TOO_LARGE, much, words);
    }
    if (r->body_announced > 0
        && atomic_load(&r->server->bodies.used_bytes) + r->body_announced
               > r->server->bodies.cap_bytes)
        return refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, much, "too many requests at once");
    return MHD_YES;
}

/* Some of the body. MHD_NO closes the connection. */
static enum MHD_Result collect(struct kl_http_request *r, const char *bytes, size_t size)
{
    size_t most = r->body_max;

    if (r->discard) {
        r->discarded += size;
        return r->discarded > KL_HTTP_DISCARD_MAX && r->chunked ? MHD_NO : MHD_YES;
    }
    if (size > most - r->body_size) {                  /* chunked: else refused by its length */
        kl_http_request_drop(r);
        return refuse(r, MHD_HTTP_CONTENT_TOO_LARGE, false, "the body is larger than is taken");
    }
    if (!kl_http_request_grow(r, bytes, size)) {
        kl_http_request_drop(r);
        return refuse(r, MHD_HTTP_SERVICE_UNAVAILABLE, false, "too many requests at once");
    }
    return MHD_YES;
}

/* Under the lock: the connection gets a 503 in the place of an answer that did not come. */
static void abandon(struct kl_http_request *r)
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

/* All of the request is here: calls the handler, and the connection waits for its answer. */
static enum MHD_Result handle(struct kl_http_request *r)
{
    struct kl_http_server *s = r->server;
    struct kl_err          err;
    bool                   suspended = false;

    if (kl_http_request_params(r, &err) != KL_OK) {
        refuse(r, MHD_HTTP_BAD_REQUEST, false, err.text);
        return queue(r);
    }
    atomic_fetch_add(&r->refs, 1);                     /* the handler's, until it answers */
    if (s->around.before != NULL)
        s->around.before(s->around.ctx);
    r->route->is.handle(r->route->is.ctx, r);
    if (s->around.before != NULL)
        s->around.after(s->around.ctx);

    pthread_mutex_lock(&s->lock);
    if (!r->answered && s->stopping) {
        abandon(r);
    } else if (!r->answered) {
        MHD_suspend_connection(r->connection);
        r->is_suspended = suspended = true;
        r->next = s->suspended;
        r->at = &s->suspended;
        if (r->next != NULL)
            r->next->at = &r->next;
        s->suspended = r;
    }
    pthread_mutex_unlock(&s->lock);
    return suspended ? MHD_YES : queue(r);
}

/* The library's steps: headers; then runs of the body; then, with none left, the end. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version,
                                  const char *upload_data, size_t *upload_data_size,
                                  void **con_cls)
{
    struct kl_http_request *r = *con_cls;

    (void)cls;
    (void)connection;
    (void)url;
    (void)version;
    if (!r->called)
        return begin(r, method);
    if (*upload_data_size > 0) {
        size_t size = *upload_data_size;
        *upload_data_size = 0;
        return collect(r, upload_data, size);
    }
    return r->response != NULL ? queue(r) : handle(r);
}

/* --------------------------------------------------------------------------------- the server */

struct kl_http_server *kl_http_server_new(const struct kl_http_options *o)
{
    static const double bounds[] = { 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60 };
    struct kl_http_server *s = kl_new(sizeof *s);

    s->options = *o;
    s->listen = kl_strdup(o->listen);
    s->options.listen = s->listen;
    if (s->options.connections_max == 0)
        s->options.connections_max = CONNECTIONS_DEFAULT;
    if (s->options.idle_timeout_s == 0)
        s->options.idle_timeout_s = IDLE_DEFAULT_S;
    s->bodies.cap_bytes = o->buffered_bytes_max > 0 ? o->buffered_bytes_max : BUFFERED_DEFAULT;
    s->fd = -1;
    atomic_store(&s->refs, 1);
    pthread_mutex_init(&s->lock, NULL);
    kl_http_routes_init(&s->routes, o->metrics);
    kl_http_teller_init(&s->teller, o);
    if (o->metrics != NULL)
        s->seconds = kl_metrics_hist(o->metrics, "koalemos_http_request_duration_seconds", "",
                                     "From the request line to the answer, waiting included.",
                                     bounds, sizeof bounds / sizeof bounds[0]);
    return s;
}

static void server_unref(struct kl_http_server *s)
{
    if (atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    kl_http_routes_deinit(&s->routes);
    pthread_mutex_destroy(&s->lock);
    free(s->listen);
    free(s);
}

void kl_http_server_free(struct kl_http_server *s)
{
    if (s == NULL)
        return;
    kl_http_server_stop(s, 0);
    server_unref(s);
}

void kl_http_guard(struct kl_http_server *s, const struct kl_guard *guard)
{
    assert(s->daemon == NULL);
    s->options.guard = guard;
}

void kl_http_tls(struct kl_http_server *s, struct kl_tls *tls)
{
    assert(s->daemon == NULL);
    s->tls = tls;
}

void kl_http_around(struct kl_http_server *s, const struct kl_http_around *around)
{
    assert(s->daemon == NULL);
    s->around = *around;
}

void kl_http_route_add(struct kl_http_server *s, const struct kl_http_route *route)
{
    assert(s->daemon == NULL);
    kl_http_routes_add(&s->routes, s->options.metrics, route);
}

enum kl_code kl_http_server_start(struct kl_http_server *s, struct kl_err *err)
{
    unsigned threads = s->options.threads;
    char    *ca = s->tls != NULL ? kl_tls_client_ca(s->tls) : NULL;
    sigset_t all, before;

    struct MHD_OptionItem plain[] = { { MHD_OPTION_END, 0, NULL } };
    struct MHD_OptionItem secure[] = {
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)kl_tls_priorities() },
        { MHD_OPTION_HTTPS_CERT_CALLBACK, 0, kl_tls_retrieve() },
        { ca != NULL ? MHD_OPTION_HTTPS_MEM_TRUST : MHD_OPTION_END, 0, ca },
        { MHD_OPTION_END, 0, NULL },
    };

    assert(s->daemon == NULL);
    if (kl_http_listen_open(s->listen, &s->fd, &s->port, err) != KL_OK)
        return err->code;
    if (threads == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads = cores > 0 ? (unsigned)cores : 1;
    }
    if (threads > s->options.connections_max)
        threads = s->options.connections_max;          /* each needs one to keep */

    /* Its threads take no signals: main waits for them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG
            | (s->tls != NULL ? MHD_USE_TLS : 0), 0, may_connect,
        s, on_request, s,
        MHD_OPTION_ARRAY, s->tls != NULL ? secure : plain,
        MHD_OPTION_EXTERNAL_LOGGER, on_words, (void *)s,
        MHD_OPTION_LISTEN_SOCKET, s->fd,
        MHD_OPTION_CONNECTION_LIMIT, s->options.connections_max,
        MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0,
        MHD_OPTION_CONNECTION_TIMEOUT, s->options.idle_timeout_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)KL_HTTP_HEAD_MAX,
        MHD_OPTION_URI_LOG_CALLBACK, on_target, (void *)s,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, (void *)s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, (void *)s,
        MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (s->daemon == NULL) {
        close(s->fd);
        s->fd = -1;
        return kl_fail(err, KL_EIO, "cannot serve on %s: %s", s->listen, strerror(errno));
    }
    return KL_OK;
}

unsigned kl_http_server_port(const struct kl_http_server *s) { return s->port; }

/* Waits until the library has let go of all requests; not longer than that. */
static void wait_for_answers(struct kl_http_server *s, int64_t for_ms)
{
    struct timespec pause = { .tv_nsec = 1000000 };

    for (int64_t i = 0; i < for_ms && atomic_load(&s->live) > 0; i++)
        nanosleep(&pause, NULL);
}

void kl_http_server_stop(struct kl_http_server *s, int64_t drain_ms)
{
    if (s->daemon == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    pthread_mutex_unlock(&s->lock);
    wait_for_answers(s, drain_ms);

    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    while (s->suspended != NULL) {
        struct kl_http_request *r = s->suspended;

        s->suspended = r->next;
        r->is_suspended = false;
        abandon(r);
        MHD_resume_connection(r->connection);
    }
    pthread_mutex_unlock(&s->lock);
    wait_for_answers(s, ANSWERS_LEAVE_MS);
    MHD_stop_daemon(s->daemon);
    s->daemon = NULL;                                  /* and it has closed the socket */
    s->fd = -1;
}
