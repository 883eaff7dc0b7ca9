#ifndef QR_API_PRIV_H
#define QR_API_PRIV_H
/*
 * The HTTP side of the querier: parameters as Prometheus parses them, the envelope
 * {status,data,errorType,error,warnings,infos}, one file a family of routes. Handlers run on server
 * threads and make a job; its answer is rendered on the loop, or on a worker when it is large.
 */
#include "libkoal/http/http.h"
#include "libkoal/base/json.h"
#include "querier/qr_priv.h"

enum { QR_BODY_MAX = 16 << 20, QR_RENDER_HERE = 1500,    /* points rendered on the loop */
       QR_RENDER_WHOLE = 20 * 1000 };                  /* and on a worker; more are poured */
#define QR_POURS_MANY "too many large answers are being read already: try again later"

struct qr_http {
    struct qr_querier *q;
    struct kl_env *env;
    struct kl_http_server *server;
    char **paths;
    size_t path_count;
};

/* ---- api_params.c: pure ---- */
/* Unix seconds with a fraction, or RFC 3339. Refuses NaN, infinities and what no int64 holds. */
bool qr_parse_time(const char *text, int64_t *ms);
/* Float seconds or a duration. `err`: Prometheus' sentence. */
bool qr_parse_duration(const char *text, int64_t *ms, char *err, size_t err_size);
/* As Go's Atoi, and not negative. */
bool qr_parse_limit(const char *text, uint32_t *limit, char *err, size_t err_size);
/* `U__` names: underscores doubled, other runes as _hex_. Returns the size; `out` holds strlen. */
size_t qr_unescape_name(const char *name, char *out);
bool qr_tenant_ok(const char *tenant);

/* ---- api.c ---- */
void qr_api_error(struct kl_http_request *r, enum pql_error kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void qr_api_begin(struct kl_buf *b);                   /* {"status":"success","data": */
void qr_api_end(struct kl_buf *b, const char *const *warnings, size_t warning_count,
                const char *const *infos, size_t info_count);
void qr_api_data(struct kl_http_request *r, const char *json);         /* a whole, fixed answer */
void qr_api_send(struct kl_http_request *r, const char *type, struct kl_buf *body_take);
void qr_json_labels(struct kl_buf *b, struct kl_labels l);
/* Tenant, timeout, partial_response into the job; false: answered with an error. */
bool qr_api_job(struct qr_http *h, struct kl_http_request *r, struct qr_job *j);
/* An optional parameter, as Prometheus' parseTimeParam; false: answered. */
bool qr_api_time(struct kl_http_request *r, const char *name, int64_t fallback_ms, int64_t *ms);
bool qr_api_limit(struct kl_http_request *r, uint32_t *limit);
void qr_api_route(struct qr_http *h, const char *method, const char *path,
                  void (*handle)(void *ctx, struct kl_http_request *r));
/* The same below both prefixes. */
void qr_api_routes(struct qr_http *h, const char *method, const char *suffix,
                   void (*handle)(void *ctx, struct kl_http_request *r));

/*
 * api_pour.c: an answer made while it is read. `part` appends the next piece, of about
 * QR_POUR_PIECE, on a server thread, from what has been immutable since the job ended; false: that
 * was the last. A client that takes longer than a query may is cut off.
 */
enum { QR_POUR_PIECE = 128 << 10 };
struct qr_pour {
    struct qr_http *h;
    struct qr_job *job;
    bool (*part)(struct qr_pour *p, struct kl_buf *out);
    int64_t deadline_ns;
    struct kl_env_task task;
};
/* In a job's finish. False: too many are being read; nothing has been answered. */
bool qr_pour_start(struct qr_pour *p, struct qr_http *h, struct qr_job *j,
                   struct kl_http_request *r, const char *type);

/* Label-like requests: a qr_names, and how its answer looks. */
struct qr_listing {
    struct qr_names names;
    struct qr_http *h;
    struct kl_http_request *r;
    const char *content_type;
    void (*decide)(struct qr_listing *l);              /* on the form, once all is known; or NULL */
    /* The whole answer; or, where `item` is set, what comes before and after the items. */
    void (*render)(struct qr_listing *l, struct kl_buf *out);
    void (*item)(struct qr_listing *l, size_t i, struct kl_buf *out);
    void (*tail)(struct qr_listing *l, struct kl_buf *out);        /* NULL: nothing */
    size_t next_item;
    struct qr_pour pour;
    char *label;
    char metric[1024];                                 /* or a label's name */
    bool has_metric;
    int64_t limit, per_metric;
    bool samples, streamed;                            /* remote read: what the client takes; exports: which form */
    const char *content_encoding;                      /* or NULL */
    void *extra;                                       /* a family's own; freed with it */
    void (*extra_free)(void *extra);
    bool over_budget;                                  /* set by render: an error instead */
    char *body;                                        /* what the selectors lie in */
    struct kl_env_task task;
};
struct qr_listing *qr_listing_new(struct qr_http *h, struct kl_http_request *r,
                                  enum tsp_select_what what);
/* match[] of the request; false: answered, and the listing freed. */
bool qr_listing_select(struct qr_listing *l, const char *name);    /* the same of another name */
bool qr_listing_match(struct qr_listing *l, bool required);
bool qr_listing_metric(struct qr_listing *l);          /* metric, after match[]: of that name only */
bool qr_listing_range(struct qr_listing *l);           /* start, end; false: the same */
void qr_listing_go(struct qr_listing *l);
void qr_listing_free(struct qr_listing *l);            /* not started */

/* ---- api_pairs.c: every label of every series of a listing of label sets, sorted ---- */
enum { QR_RECENT_MS = 2 * 60 * 60 * 1000 };            /* what such counts look back over */
/* NULL past the job's budget: over_budget is set. */
struct kl_label *qr_pairs(struct qr_listing *l, size_t *count);
void qr_pairs_free(struct qr_listing *l, struct kl_label *pairs, size_t count);
int  qr_pair_cmp(const struct kl_label *a, const struct kl_label *b);
/* The entries with the largest counts, largest first; of equal ones the first to come. */
struct qr_entry { struct kl_span name, value; uint64_t count; };
struct qr_top { struct qr_entry *entries; size_t count, most; };
void qr_top_init(struct qr_top *t, size_t most);
void qr_top_deinit(struct qr_top *t);
void qr_top_add(struct qr_top *t, struct kl_span name, struct kl_span value, uint64_t count);

void qr_api_stamp(struct kl_buf *b, int64_t ms);        /* RFC 3339, in UTC */
/* Says in a header how many histograms an export leaves out. */
void qr_api_left_out(struct qr_listing *l);
/* The form of a listing that has nothing before its items. */
void qr_api_nothing(struct qr_listing *l, struct kl_buf *out);
const char *qr_type_name(uint8_t type);               /* of metadata: "counter" */

/* ---- api_openapi.c: every route below /api/v1, as the document tells of it; ends with path NULL ---- */
struct qr_operation { const char *path, *methods, *summary, *params, *type; };
extern const struct qr_operation qr_operations[];

/* ---- api_explain.c: what a finished query read and did ---- */
void qr_explain_json(const struct qr_query *x, struct kl_buf *out);
void qr_explain_text(const struct qr_query *x, struct kl_buf *out);

void qr_api_query_open(struct qr_http *h);             /* each registers its routes */
void qr_api_labels_open(struct qr_http *h);
void qr_api_exemplars_open(struct qr_http *h);
void qr_api_openapi_open(struct qr_http *h);
void qr_api_search_open(struct qr_http *h);
void qr_api_features_open(struct qr_http *h);
void qr_api_user_open(struct qr_http *h);
void qr_api_blocks_open(struct qr_http *h);
void qr_api_delete_open(struct qr_http *h);
void qr_api_csv_open(struct qr_http *h);
void qr_api_export_open(struct qr_http *h);
void qr_api_read_open(struct qr_http *h);
void qr_api_status_open(struct qr_http *h);
void qr_api_tsdb_open(struct qr_http *h);
void qr_api_cardinality_open(struct qr_http *h);
void qr_api_ledger_open(struct qr_http *h);
void qr_api_page_open(struct qr_http *h);
#endif
