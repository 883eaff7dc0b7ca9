#ifndef KL_HTTP_MHD_PRIV_H
#define KL_HTTP_MHD_PRIV_H
/*
 * Inside the server, over libmicrohttpd: an epoll thread a core, each with its own connections.
 *
 *   http_mhd          the server: its connections, start and stop
 *   http_mhd_request  a request as it comes: line and headers, body, its handler
 *   http_mhd_answer   what becomes of it: an answer, a refusal, nothing
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

#include <microhttpd.h>

#include <pthread.h>

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
    unsigned            telling;                       /* who is in the guard with an answer */
    bool                draining, stopping;
};

/* What we keep of a connection: the library carries it along. */
struct connection { struct kl_http_server *server; unsigned number; bool looked, certified; };

/* ---- http_mhd.c ---- */
void kl_http_server_unref(struct kl_http_server *s);

/* ---- http_mhd_request.c: the library's callbacks ---- */
void *kl_http_on_target(void *cls, const char *target, struct MHD_Connection *connection);
void  kl_http_on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                           enum MHD_RequestTerminationCode why);
enum MHD_Result kl_http_on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                   const char *method, const char *version,
                                   const char *upload_data, size_t *upload_data_size,
                                   void **con_cls);

/* ---- http_mhd_answer.c ---- */
void kl_http_request_unref(struct kl_http_request *r);
/* For pages of other origins, as Prometheus does it. */
void kl_http_add_cors(struct MHD_Response *m);
/* Puts the response of a request on its connection. */
enum MHD_Result kl_http_queue(struct kl_http_request *r);
/*
 * Says no, before a handler was called. With a body under way that is too much to read for
 * nothing, at once, and the connection ends with it; else once the body has been dropped.
 */
enum MHD_Result kl_http_refuse(struct kl_http_request *r, unsigned status, bool at_once,
                               const char *words);
/* Under the lock: the connection gets a 503 in the place of an answer that did not come. */
void kl_http_abandon(struct kl_http_request *r);
#endif
