#ifndef KL_GRPC_PRIV_H
#define KL_GRPC_PRIV_H
/*
 * Inside the gRPC server. Connections and calls belong to the server's thread; a call is handed to its
 * handler and comes back, answered, over the one list that a lock guards.
 *
 *   grpc_call     a call: its metadata, its message as it comes, its answer as it goes: no I/O
 *   grpc_nghttp2  a connection's HTTP/2 session
 *   grpc_loop     the thread: sockets, time, answers
 */
#include <pthread.h>
#include <stdatomic.h>

#include "libkoal/base/buf.h"
#include "libkoal/http/grpc.h"

struct nghttp2_session;
enum { KL_GRPC_ROUTES_MAX = 16, KL_GRPC_PREFIX = 5 };

struct kl_grpc_conn;
struct kl_grpc_call {
    struct kl_grpc_server *server;
    struct kl_grpc_conn   *conn;                       /* kept as long as the call is handed out */
    struct kl_grpc_call   *next, **at;                 /* in the connection's list */
    struct kl_grpc_call   *next_answered;
    int32_t  stream;
    unsigned number;
    int64_t  begun_ms;
    const struct kl_grpc_route *route;
    bool     post, grpc_type;                          /* as its headers say */
    bool     packed, closed, handed, answered;         /* closed: the stream is gone */
    int      refused;                                  /* 0, or the status it gets without its handler */
    const char *refused_words;
    char     guard_words[KL_GUARD_WORDS_MAX + 1];
    char     path[256];
    char    *metadata;                                 /* name NUL value NUL ... */
    size_t   metadata_size, header_bytes, header_count;
    uint8_t  prefix[KL_GRPC_PREFIX];
    unsigned prefix_have;
    char    *body;
    size_t   body_size, body_room, body_expected;
    /* The answer. */
    int      status;
    struct kl_buf out;                                 /* prefix and message */
    size_t   out_sent;
    char    *words, *details;                          /* escaped; base64; or NULL */
};

struct kl_grpc_conn {
    struct kl_grpc_server *server;
    struct kl_grpc_conn   *next, **at, *next_touched;
    atomic_uint refs;                                  /* the server's, and of calls that are handed out */
    struct nghttp2_session *session;
    struct kl_grpc_call   *calls;                      /* streams that are open */
    unsigned call_count, in_hand;                      /* in_hand: handed out and not back */
    unsigned number;
    int      fd;
    struct kl_tls_session *tls;                        /* NULL: cleartext */
    bool     shaken, certified;                        /* its handshake is over */
    char     peer[KL_GUARD_PEER_MAX + 1];              /* address, for people */
    int64_t  begun_ms, active_ms, chatter_ms;
    double   chatter;                                  /* what may still be sent of it */
    bool     used, touched, dead;
    uint32_t events;                                   /* what epoll was told */
    uint8_t *pending;                                  /* output that the socket did not take */
    size_t   pending_at, pending_size, pending_room;
    int64_t  blocked_ms;                               /* since when; 0: it is not */
};

struct kl_grpc_server {
    struct kl_grpc_options options;
    char    *listen;
    struct kl_grpc_route routes[KL_GRPC_ROUTES_MAX];
    size_t   route_count;
    struct kl_budget bodies;
    struct kl_metric *answers[KL_GRPC_STATUSES], *connections_gauge, *turned_away, *floods, unseen;
    int      listen_fd, epoll_fd, wake_fd;
    unsigned port, conn_count, numbers;
    size_t   in_hand;                                  /* the thread's count of calls handed out */
    int64_t  now_ms, ticked_ms;
    struct kl_grpc_conn *conns, *touched;              /* touched: to be looked at in this turn */
    bool     started, deaf;                            /* deaf: nobody is accepted until the next tick */
    pthread_t thread;
    atomic_uint refs;                                  /* the owner's, and a call's each that is handed out */

    pthread_mutex_t lock;                              /* of what follows */
    struct kl_grpc_call *answered;
    bool     stopping, stopped;
    int64_t  drain_ms;
};

/* ---- grpc_call.c ---- */
struct kl_grpc_call *kl_grpc_call_new(struct kl_grpc_conn *c, int32_t stream, int64_t now_ms);
void kl_grpc_call_free(struct kl_grpc_call *c);        /* frees its memory, gives its bytes back */
/* False: more than the bounds. */
bool kl_grpc_call_header(struct kl_grpc_call *c, struct kl_span name, struct kl_span value);
/* All headers are there: finds its route, or refuses it. */
void kl_grpc_call_begun(struct kl_grpc_call *c);
void kl_grpc_call_refuse(struct kl_grpc_call *c, int status, const char *words);
void kl_grpc_call_data(struct kl_grpc_call *c, const uint8_t *bytes, size_t size);
void kl_grpc_call_ended(struct kl_grpc_call *c);       /* judges whether the message is whole */
void kl_grpc_call_fill(struct kl_grpc_call *c, int status, const char *words, struct kl_span message,
                       struct kl_span details);
size_t kl_grpc_escape(const char *words, char *out, size_t most);      /* percent-encoding; no NUL */

/* ---- grpc_nghttp2.c ---- */
bool kl_grpc_session_open(struct kl_grpc_conn *c);     /* false: no memory */
void kl_grpc_session_close(struct kl_grpc_conn *c);    /* forgets all calls of the connection */
/* Takes in what was received; false: the connection is to end once its output is sent. */
bool kl_grpc_session_in(struct kl_grpc_conn *c, const uint8_t *bytes, size_t size);
/* The next piece of output, valid until the next call. 0: none; negative: it cannot go on. */
long kl_grpc_session_out(struct kl_grpc_conn *c, const uint8_t **bytes);
bool kl_grpc_session_done(const struct kl_grpc_conn *c);       /* neither reads nor writes any more */
void kl_grpc_session_answer(struct kl_grpc_call *c);   /* its stream is open, its answer filled in */
void kl_grpc_session_reset(struct kl_grpc_call *c);
enum kl_grpc_goaway { KL_GRPC_GOODBYE, KL_GRPC_CALM };
void kl_grpc_session_goaway(struct kl_grpc_conn *c, enum kl_grpc_goaway why);

/* ---- grpc_loop.c ---- */
/* The call's message is whole, or it is refused: hands it out, or answers. */
void kl_grpc_call_ready(struct kl_grpc_call *c);
/* Sends those that were answered since; true: the server is to stop. */
bool kl_grpc_answers_take(struct kl_grpc_server *s, int64_t *drain_ms);
void kl_grpc_conn_unref(struct kl_grpc_conn *c);       /* any thread */
void kl_grpc_chatter(struct kl_grpc_conn *c, unsigned cost);
#endif
