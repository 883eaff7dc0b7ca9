/* The ingestor's side of HTTP: flush on request, and rewriting of what was deleted. */
#include "ingestor/ing_priv.h"

#include "libkoal/base/json.h"
#include "libkoal/base/mem.h"
#include "libkoal/http/http.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum { FLUSHES_MAX = 16 };

struct ing_http {
    struct ing_ingestor *i;
    struct kl_env       *env;
    struct kl_env_loop  *loop;                         /* where flushes end */
    _Atomic unsigned     flushes;
};
struct flush {
    struct ing_flush f;
    struct ing_http *h;
    struct kl_http_request *r;
};

static void answer_error(struct kl_http_request *r, unsigned status, const char *words)
{
    struct kl_buf b = { 0 };

    kl_buf_adds(&b, "{\"status\":\"error\",\"errorType\":\"unavailable\",\"error\":");
    kl_json_cstr(&b, words);
    kl_buf_adds(&b, "}");
    kl_http_answer_take(r, status, "application/json", &b);
}

static void flushed(struct ing_flush *op)
{
    struct flush *f = kl_container_of(op, struct flush, f);

    if (op->code == KL_OK)
        kl_http_answer(f->r, 204, "text/plain; charset=utf-8", kl_span("", 0));
    else
        answer_error(f->r, 503, op->err.text);
    atomic_fetch_sub(&f->h->flushes, 1);
    free(f);
}

static void begin(struct ing_http *h, struct kl_http_request *r, bool clean)
{
    struct flush    *f;

    if (atomic_fetch_add(&h->flushes, 1) >= FLUSHES_MAX) {
        atomic_fetch_sub(&h->flushes, 1);
        kl_http_set(r, "Retry-After", "5");
        answer_error(r, 503, "too many flushes are under way");
        return;
    }
    f = kl_new(sizeof *f);
    f->h = h;
    f->r = r;
    f->f.loop = h->loop;
    f->f.done = flushed;
    f->f.clean = clean;
    ing_flush(h->i, &f->f);
}

static void flush(void *ctx, struct kl_http_request *r) { begin(ctx, r, false); }
static void clean(void *ctx, struct kl_http_request *r) { begin(ctx, r, true); }

struct ing_http *ing_http_new(struct ing_ingestor *i, struct kl_http_server *s, struct kl_env *env)
{
    struct ing_http *h = kl_new(sizeof *h);
    struct kl_http_route route = { .method = "POST", .path = "/api/v1/admin/tsdb/flush",
                                   .body_max_bytes = 4096, .handle = flush, .ctx = h };

    h->i = i;
    h->env = env;
    h->loop = env->sched->loop_new(env->sched, "ingestor-http", FLUSHES_MAX);
    kl_http_route_add(s, &route);
    route.method = "POST,PUT";
    route.path = "/api/v1/admin/tsdb/clean_tombstones";
    route.handle = clean;
    kl_http_route_add(s, &route);
    return h;
}

void ing_http_free(struct ing_http *h)
{
    if (h == NULL)
        return;
    h->env->sched->loop_free(h->loop);
    free(h);
}
