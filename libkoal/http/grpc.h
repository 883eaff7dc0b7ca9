#ifndef KL_GRPC_H
#define KL_GRPC_H
/*
 * A gRPC server for unary calls, over HTTP/2 in cleartext or TLS (grpc/grpc, doc/PROTOCOL-HTTP2.md). One thread
 * and one epoll serve all connections; nghttp2 does the protocol (grpc_nghttp2.c, the one file that
 * knows it). A handler is called on that thread when a call's one message is there, whole, and must not
 * block: it answers, or hands the call on and returns. The answer may come from any thread, exactly
 * once. A call whose client has left or whose server has stopped is answered into the void.
 *
 * What a client can make the server hold is bounded, whatever it sends:
 *   connections            connections_max; one more is closed at once
 *   calls of a connection  KL_GRPC_STREAMS_MAX, those that were reset and are not answered included
 *   metadata of a call     KL_GRPC_METADATA_MAX bytes, KL_GRPC_HEADERS_MAX of them: else the stream is reset
 *   a message              its route's bound, judged by its length prefix before memory is taken; then
 *                          memory grows with what has come; all together buffered_bytes_max:
 *                          RESOURCE_EXHAUSTED
 *   time                   a call is whole within call_timeout_s or reset; an answer that the client does
 *                          not take likewise; a connection without calls is closed after
 *                          idle_timeout_s, and one that never made any after KL_GRPC_FIRST_S
 *   resets and chatter     KL_GRPC_CHATTER of control frames at once, a tenth of it a second; a reset
 *                          counts KL_GRPC_RESET of these: beyond, GOAWAY with ENHANCE_YOUR_CALM
 *   output                 a connection that does not read is not read from
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/log.h"
#include "libkoal/base/mem.h"
#include "libkoal/base/metrics.h"
#include "libkoal/http/guard.h"
#include "libkoal/http/tls.h"

enum { KL_GRPC_STREAMS_MAX = 64, KL_GRPC_METADATA_MAX = 16 * 1024, KL_GRPC_HEADERS_MAX = 64,
       KL_GRPC_FIRST_S = 20, KL_GRPC_CHATTER = 10000, KL_GRPC_RESET = 50, KL_GRPC_WORDS_MAX = 1024,
       KL_GRPC_DETAILS_MAX = 4096 };
enum { KL_GRPC_OK = 0, KL_GRPC_INVALID = 3, KL_GRPC_DENIED = 7, KL_GRPC_EXHAUSTED = 8, KL_GRPC_UNIMPLEMENTED = 12,
       KL_GRPC_INTERNAL = 13, KL_GRPC_UNAVAILABLE = 14, KL_GRPC_UNAUTHENTICATED = 16, KL_GRPC_STATUSES = 17 };

struct kl_grpc_server;
struct kl_grpc_call;                                   /* until answered: whoever was handed it */

/* What came with it, by lower-case name; NULL: did not. */
const char *kl_grpc_metadata(const struct kl_grpc_call *c, const char *name);
bool        kl_grpc_is_packed(const struct kl_grpc_call *c);
/* The message as sent, malloc'ed: the caller's to free, and no longer counted here. *coding: what it is
 * packed in, "gzip" or "identity". Once, from any thread. */
void        kl_grpc_message_take(struct kl_grpc_call *c, char **bytes, size_t *size, const char **coding);
/* A number that the calls of one connection share. */
unsigned    kl_grpc_connection(const struct kl_grpc_call *c);
/* With KL_GRPC_OK, `message`; else `words` (cut at KL_GRPC_WORDS_MAX) and a google.rpc.Status, which may
 * be empty and is left out past KL_GRPC_DETAILS_MAX. All are copied. */
void        kl_grpc_answer(struct kl_grpc_call *c, int status, const char *words, struct kl_span message,
                           struct kl_span details);

struct kl_grpc_route {
    const char *path;                                  /* "/package.Service/Method"; stays the caller's */
    size_t message_max_bytes;                          /* as sent; past it RESOURCE_EXHAUSTED */
    void (*handle)(void *ctx, struct kl_grpc_call *c);
    void *ctx;
};
struct kl_grpc_options {
    const char *listen;                                /* "127.0.0.1:4317" */
    unsigned connections_max;                          /* 0: 1,000 */
    unsigned idle_timeout_s, call_timeout_s;           /* 0: 300, 30 */
    size_t   buffered_bytes_max;                       /* of all messages in memory. 0: 256 MiB */
    const struct kl_guard *guard;                      /* asked when a call's metadata is there; NULL: none.
                                                          Its tenant takes the place of x-scope-orgid */
    struct kl_tls *tls;                                /* NULL: cleartext */
    struct kl_log *log;
    struct kl_metrics *metrics;
};
struct kl_grpc_server *kl_grpc_server_new(const struct kl_grpc_options *options);
void         kl_grpc_route_add(struct kl_grpc_server *s, const struct kl_grpc_route *route);
enum kl_code kl_grpc_server_start(struct kl_grpc_server *s, struct kl_err *err);
unsigned     kl_grpc_server_port(const struct kl_grpc_server *s);      /* after start */
/* Takes no new connections and calls, waits for answers up to drain_ms, then ends. No handler runs when
 * it returns; calls handed out may still be answered, into the void. */
void         kl_grpc_server_stop(struct kl_grpc_server *s, int64_t drain_ms);
void         kl_grpc_server_free(struct kl_grpc_server *s);
#endif
