#ifndef KL_HTTP_H
#define KL_HTTP_H
/*
 * An HTTP/1.1 server, in cleartext or TLS, over libmicrohttpd (http_mhd*.c, which alone know it). Routes are
 * registered before start. A handler is called on a server thread with the whole request, its
 * body already read within the route's bound (413 before any of it is buffered when
 * Content-Length says so); it answers now, or later from any thread, exactly once.
 * When the client leaves before the answer, the answer is dropped; `kl_http_gone` tells.
 * What a request hands out lives until it is answered, whatever becomes of its connection.
 *
 * Bounds: request line and headers together KL_HTTP_HEAD_MAX (414 or 431), KL_HTTP_HEADERS_MAX
 * headers (431), KL_HTTP_PARAMS_MAX parameters (400), a body as its route says (413), all bodies and
 * heads of more than 2 KiB as the options say (503, Retry-After). A refused body that is announced as larger than
 * KL_HTTP_DISCARD_MAX is not read: the answer ends the connection. A chunked body is read so far
 * past its bound and then the connection closed. Both Content-Length and Transfer-Encoding, either
 * twice, or a coding other than chunked: 400 and the end of the connection (RFC 9112, 6.3).
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/base/trace.h"
#include "libkoal/http/guard.h"
#include "libkoal/http/tls.h"

enum { KL_HTTP_PARAMS_MAX = 1000, KL_HTTP_HEADERS_MAX = 64, KL_HTTP_HEAD_MAX = 24 * 1024 };
enum { KL_HTTP_DISCARD_MAX = 1024 * 1024 };

struct kl_http_request;                                /* until answered: whoever was handed it */
struct kl_http_server;

const char    *kl_http_method(const struct kl_http_request *r);
const char    *kl_http_path(const struct kl_http_request *r);          /* decoded, without query */
struct kl_span kl_http_body(const struct kl_http_request *r);          /* as sent, maybe encoded */
/* Takes the body (malloc'ed) away from the request: the caller frees it. */
void           kl_http_body_take(struct kl_http_request *r, char **bytes, size_t *size);
const char    *kl_http_header(const struct kl_http_request *r, const char *name);   /* or NULL */
/* Query parameters and, for POST with application/x-www-form-urlencoded, those of the body (body
 * first, as Prometheus). The i-th value of that name, decoded, or NULL. */
const char    *kl_http_param(const struct kl_http_request *r, const char *name, size_t i);
size_t         kl_http_param_size(const struct kl_http_request *r, const char *name, size_t i);
/* The part of the path that the route's `*` matched, decoded; "" without one. */
const char    *kl_http_wild(const struct kl_http_request *r);
/* Whether the client has closed its side. A system call: ask now and then. */
bool           kl_http_gone(const struct kl_http_request *r);
/* A number that the requests of one connection share and no other connection has had lately. */
unsigned       kl_http_connection(const struct kl_http_request *r);
/* What the request is called in our logs and in its answer's X-Request-Id: as its client called it, where
 * that is 1 to KL_HTTP_ID_MAX of [A-Za-z0-9._:/+=@-], else a name made here. */
enum { KL_HTTP_ID_MAX = 64 };
const char    *kl_http_id(const struct kl_http_request *r);
/* Where the request's own span stands: what is done for it is traced below. Often not `on`. */
const struct kl_trace *kl_http_trace(const struct kl_http_request *r);
/* Whether the peer is this machine and says of no one that it forwards for him. */
bool           kl_http_is_local(const struct kl_http_request *r);
/* The key that asks, as the guard named it; "" where there is none. */
const char    *kl_http_key(const struct kl_http_request *r);

/* Before the answer: an extra header, instead of one of that name; name and value are copied. */
void kl_http_set(struct kl_http_request *r, const char *name, const char *value);
/* Answers and lets go of the request. `body` is copied unless taken. */
void kl_http_answer(struct kl_http_request *r, unsigned status, const char *content_type,
                    struct kl_span body);
/* The same, with a buffer that the server takes over and frees. Either is packed, zstd or gzip, when
 * the client takes it and it is larger than 1 KiB. */
void kl_http_answer_take(struct kl_http_request *r, unsigned status, const char *content_type,
                         struct kl_buf *body_take);

/*
 * An answer that is made while it is sent, as fast as the client reads: `more` appends the next piece
 * to `out`, which is empty, on a server thread, and must not block; KL_HTTP_BREAK cuts the
 * connection, so that half an answer is not taken for a whole one. `end` is called once, when the
 * last byte has been handed to the system or the client has left, from whatever thread: only then may
 * what the pieces are made of go. A server that stops cuts streams that outlast its drain.
 */
enum kl_http_more { KL_HTTP_MORE, KL_HTTP_LAST, KL_HTTP_BREAK };
enum { KL_HTTP_PIECE_MAX = 512 << 20 };                /* a larger piece breaks it */
struct kl_http_stream {
    enum kl_http_more (*more)(void *ctx, struct kl_buf *out);
    void (*end)(void *ctx);
    void *ctx;
};
void kl_http_answer_stream(struct kl_http_request *r, unsigned status, const char *content_type,
                           const struct kl_http_stream *stream);

struct kl_http_route {
    const char *method;                                /* "GET", "POST" or "GET,POST" */
    const char *path;                                  /* exact, or with one `*` for one part */
    size_t body_max_bytes;
    void (*handle)(void *ctx, struct kl_http_request *r);
    void *ctx;
    bool raw_body;                                     /* never a form, whatever its Content-Type says */
    bool cors;                                         /* pages of any origin may read the answer; then
                                                          OPTIONS is answered, too */
    const _Atomic size_t *body_max;                    /* not NULL: instead of body_max_bytes, as it is when
                                                          a request comes */
};
/* Which requests get a line in the log: those we failed (5xx), or all. Paths of probes and scrapes, /-/...
 * /ready /metrics /version, only at level debug. At most KL_HTTP_LOGGED_PER_S lines a second of those that
 * failed; how many there were besides, the next line says. */
enum kl_http_logs { KL_HTTP_LOG_NONE, KL_HTTP_LOG_ERRORS, KL_HTTP_LOG_ALL };
enum { KL_HTTP_LOGGED_PER_S = 20 };
struct kl_http_options {
    const char *listen;                                /* "127.0.0.1:4480", "[::1]:0" */
    unsigned threads;                                  /* 0: one a core */
    unsigned connections_max;                          /* 0: 10,000 */
    unsigned idle_timeout_s;                           /* 0: 60 */
    size_t buffered_bytes_max;                         /* bodies, and long heads; past it 503. 0: 128 MiB */
    const struct kl_guard *guard;                      /* asked before any of a body is read; NULL: none.
                                                          Its tenant takes the place of X-Scope-OrgID */
    struct kl_log *log;
    enum kl_http_logs logs;
    struct kl_metrics *metrics;
    struct kl_tracer *tracer;                          /* may be NULL */
};
struct kl_http_server *kl_http_server_new(const struct kl_http_options *options);
/* Before start; what options.guard would be. */
void         kl_http_guard(struct kl_http_server *s, const struct kl_guard *guard);
/* Before start: TLS instead of cleartext. Stays the caller's, and outlives the server. */
void         kl_http_tls(struct kl_http_server *s, struct kl_tls *tls);
/* Whether no other machine reaches what is listened on: loopback in digits, localhost, or no address at all. Pure. */
bool         kl_http_listens_locally(const char *listen);
/* Whether it reads as an address to listen on; the words say what one looks like. Pure. */
enum kl_code kl_http_listen_check(const char *listen, struct kl_err *err);
void         kl_http_route_add(struct kl_http_server *s, const struct kl_http_route *route);
/* Unknown path: 404; known path, other method: 405 with Allow. */
enum kl_code kl_http_server_start(struct kl_http_server *s, struct kl_err *err);
unsigned     kl_http_server_port(const struct kl_http_server *s);      /* after start */
/* Lets nobody connect any more, waits for answers under way up to drain_ms, answers 503 for those who did not
 * (they may still answer into the void, later), then ends. No handler runs when it returns, nor the guard. */
void         kl_http_server_stop(struct kl_http_server *s, int64_t drain_ms);
void         kl_http_server_free(struct kl_http_server *s);
#endif
