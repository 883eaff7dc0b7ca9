#ifndef KL_HTTP_PRIV_H
#define KL_HTTP_PRIV_H
/* What of HTTP needs no connection: paths, parameters, accepted codings, routes. */
#include <stdatomic.h>
#include <time.h>

#include "libkoal/http/http.h"

enum { KL_HTTP_PARTS_MAX = 32 };

/* Decodes %XX, and + as a space if `plus`, in place. False on a % without two hex digits. */
bool kl_http_decode(char *at, size_t *size, bool plus);

struct kl_http_param { const char *name, *value; size_t value_size; };
struct kl_http_params { size_t count, room; struct kl_http_param *at; };
/* Parses name=value&... in place; `query` has room for a NUL after its `size` bytes, and stays as
 * long as the parameters. KL_EINVAL on a bad escape, KL_ELIMIT past KL_HTTP_PARAMS_MAX. */
enum kl_code kl_http_params_add(struct kl_http_params *p, char *query, size_t size,
                                struct kl_err *err);
const struct kl_http_param *kl_http_params_find(const struct kl_http_params *p, const char *name,
                                                size_t i);

/* A decoded path: the whole, and its parts, each NUL-ended. */
struct kl_http_path { size_t count; char *whole, *parts[KL_HTTP_PARTS_MAX]; };
/* Of a raw path that begins with '/'. KL_EINVAL on a bad escape or a NUL, KL_ENOENT with too many
 * parts for any route. Deinit after either. */
enum kl_code kl_http_path_init(struct kl_http_path *p, const char *raw, size_t size,
                               struct kl_err *err);
void         kl_http_path_deinit(struct kl_http_path *p);
/* Whether the path is the route's; *wild: what its `*` stands for, "" without one. */
bool kl_http_path_match(const struct kl_http_path *p, const char *route, const char **wild);

/* The routes in the order they were added; the first that fits is it. */
enum { KL_HTTP_CLASSES = 5 };                          /* of status: 1xx to 5xx */
struct kl_http_entry {
    struct kl_http_route  is;
    char                 *method, *path;               /* copies */
    struct kl_metric     *answers[KL_HTTP_CLASSES];    /* NULL without a registry */
    struct kl_http_entry *next;
};
struct kl_http_routes { struct kl_http_entry *first, none; };         /* none: counts what fits none */
void kl_http_routes_init(struct kl_http_routes *t, struct kl_metrics *metrics);
void kl_http_routes_deinit(struct kl_http_routes *t);
void kl_http_routes_add(struct kl_http_routes *t, struct kl_metrics *metrics,
                        const struct kl_http_route *route);
/* NULL: 404 where `allow` is empty, else 405 and what is allowed. HEAD is served by GET. */
const struct kl_http_entry *kl_http_routes_find(const struct kl_http_routes *t,
                                                const struct kl_http_path *path,
                                                const char *method, const char **wild,
                                                char *allow, size_t allow_size);
void kl_http_entry_count(const struct kl_http_entry *e, unsigned status);

/* Whether a comma-separated list of tokens, as methods are, holds this one, letter by letter. */
bool kl_http_list_has(const char *list, const char *token);
/* The coding that Accept-Encoding (may be NULL) weighs highest of those we have, zstd before gzip
 * where they weigh the same. RFC 9110, 12.5.3. */
enum kl_http_coding { KL_HTTP_PLAIN, KL_HTTP_GZIP, KL_HTTP_ZSTD };
enum kl_http_coding kl_http_coding_of(const char *accept_encoding);
const char         *kl_http_coding_name(enum kl_http_coding coding);
/* Packed and malloc'ed; false when it would not be smaller. */
bool kl_http_pack(enum kl_http_coding coding, const char *bytes, size_t size, char **out,
                  size_t *out_size);
/* The same piece by piece; `last` ends it. */
struct kl_http_packer;
struct kl_http_packer *kl_http_packer_new(enum kl_http_coding coding);
void kl_http_packer_free(struct kl_http_packer *p);
void kl_http_packer_add(struct kl_http_packer *p, struct kl_span in, bool last, struct kl_buf *out);

/* A stream under way, of one connection: flow.c. `free` calls the stream's `end`. */
struct kl_http_flow;
enum kl_http_flowed { KL_HTTP_FLOWED, KL_HTTP_ENDED, KL_HTTP_BROKEN };
struct kl_http_flow *kl_http_flow_new(const struct kl_http_stream *stream, enum kl_http_coding coding);
void kl_http_flow_free(struct kl_http_flow *f);
enum kl_http_flowed kl_http_flow_read(struct kl_http_flow *f, char *to, size_t most, size_t *size);

/*
 * A request: what of it needs no library is in request.c. Two owners, its connection and whoever
 * answers: see http_mhd_priv.h. What lies under the server's lock says so.
 */
struct MHD_Connection;
struct MHD_Response;
struct sockaddr;
struct kl_http_header { char *name, *value; };

struct kl_http_request {
    struct kl_http_server *server;
    struct kl_budget      *bodies;                     /* the server's */
    struct MHD_Connection *connection;
    const struct kl_http_entry *route;
    atomic_uint            refs;
    unsigned               number;
    enum kl_http_coding    coding;                     /* what the client likes best */
    bool                   local, called;
    bool                   discard, chunked;           /* refused: its body is read and dropped */
    struct timespec        began;
    char                  *raw, *method, *headers_text;
    struct kl_http_header  headers[KL_HTTP_HEADERS_MAX + 1];          /* one more: the guard's */
    size_t                 header_count, discarded;
    struct kl_guard_verdict verdict;                   /* where there is a guard */
    char                   peer[KL_GUARD_PEER_MAX + 1];
    bool                   guarded;                    /* and it let the request through */
    struct kl_http_path    path;
    const char            *wild;
    struct kl_http_params  params;
    char                  *query, *form;               /* what the params lie in; query: in raw */
    size_t                 head_charged;               /* and for the form */
    bool                   starved;                    /* no room even for its target */
    char                  *body;
    size_t                 body_size, body_room, body_announced, body_max;
    struct { size_t count; struct kl_http_header at[8]; } extra;
    char                   id[KL_HTTP_ID_MAX + 1];     /* "" until it is asked for */
    char                   why[200];                   /* of a failure: how its answer begins */
    struct kl_trace        trace;
    uint8_t                trace_parent[8];

    /* Under the server's lock. */
    struct kl_http_request *next, **at;                /* in the server's list of suspended ones */
    bool                   is_suspended, answered, abandoned;
    unsigned               status;
    struct MHD_Response   *response;                   /* the connection's, once there is one */
};

/* Parses the parameters of a form and of the query. KL_EAGAIN: there is no room for the form, decoded. */
enum kl_code kl_http_request_params(struct kl_http_request *r, struct kl_err *err);
/* Counts what is kept of line and headers among the bodies, but for the little that most requests
 * have, so that the latter are answered when bodies fill all there is. False: there is no room. */
enum { KL_HTTP_HEAD_FREE = 2048 };
bool         kl_http_request_charge(struct kl_http_request *r, size_t bytes);
/* Adds to the body; false where all bodies together would be too large. */
bool kl_http_request_grow(struct kl_http_request *r, const char *bytes, size_t size);
void kl_http_request_drop(struct kl_http_request *r);  /* the body */
bool kl_http_is_loopback(const struct sockaddr *a);
bool kl_http_request_is_local(const struct kl_http_request *r, const struct sockaddr *peer);
/* From here on that header, in whatever case and however often it came, is this one, which stays. */
void kl_http_request_put(struct kl_http_request *r, char *name, char *value);
void kl_http_peer_text(const struct sockaddr *a, char out[KL_GUARD_PEER_MAX + 1]);
/* What is asked of the guard; the peer's text is the caller's. */
struct kl_guard_ask kl_http_request_ask(const struct kl_http_request *r, const char *route, const char *peer);
void kl_http_request_deinit(struct kl_http_request *r);

/* ---- told.c: ids, and what is told of a request when its answer goes out ---- */
struct kl_http_teller {
    struct kl_log    *log;
    enum kl_http_logs logs;
    struct kl_tracer *tracer;
    uint64_t          salt;                            /* of ids, so that no two servers make the same */
    atomic_uint_fast64_t made;
    _Atomic int64_t   second;                          /* in which `logged` lines have been written */
    atomic_uint       logged, left_out;
};
void kl_http_teller_init(struct kl_http_teller *t, const struct kl_http_options *o);
/* Its headers are here: its id, and where its span stands. Also without: then the id is made. */
void kl_http_teller_meet(struct kl_http_teller *t, struct kl_http_request *r);
void kl_http_teller_why(struct kl_http_request *r, unsigned status, const char *type, const char *bytes,
                        size_t size);
void kl_http_teller_tell(struct kl_http_teller *t, const struct kl_http_request *r, int64_t now_ns);

/* "host:port", "[v6]:port", ":port" in parts. KL_EINVAL with a sentence. */
enum { KL_HTTP_HOST_MAX = 255 };
struct kl_http_listen { char host[KL_HTTP_HOST_MAX + 1], port[6]; };
enum kl_code kl_http_listen_parse(const char *text, struct kl_http_listen *l, struct kl_err *err);
/* A socket that listens there; an address that cannot be had is named with the reason. */
enum kl_code kl_http_listen_open(const char *text, int *fd, unsigned *port, struct kl_err *err);
#endif
