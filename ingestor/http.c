/* The ingestor's side of HTTP: flush on request, rewriting of what was deleted, what its logs are, a record
 * skipped. */
#include "ingestor/ing_priv.h"

#include "libkoal/base/json.h"
#include "libkoal/base/mem.h"
#include "libkoal/http/http.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

    kl_buf_addf(&b, "{\"status\":\"error\",\"errorType\":\"%s\",\"error\":",
                status == 400 ? "bad_data" : "unavailable");
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
/* ---- what the logs are: GET; one record of one to be skipped: POST ?partition=N&skip=SEQ ---- */

struct look { struct ing_log_ask a; struct ing_http *h; struct kl_http_request *r; uint32_t next; };

static void look_end(struct look *k)
{
    kl_buf_deinit(&k->a.json);
    atomic_fetch_sub(&k->h->flushes, 1);
    free(k);
}

static void shown(struct kl_env_task *task)
{
    struct look  *k = kl_container_of(task, struct look, a.task);
    struct kl_buf b = { 0 };

    if (++k->next < k->h->i->o.partitions) {
        ing_log_ask(k->h->i, &k->a, k->next);
        return;
    }
    kl_buf_adds(&b, "{\"status\":\"success\",\"data\":{\"partitions\":[");
    if (k->a.json.size > 0)
        kl_buf_add(&b, k->a.json.at, k->a.json.size);
    kl_buf_adds(&b, "]}}");
    kl_http_answer_take(k->r, 200, "application/json", &b);
    look_end(k);
}

static void skipped(struct kl_env_task *task)
{
    struct look *k = kl_container_of(task, struct look, a.task);

    if (k->a.err.code == KL_OK)
        kl_http_answer(k->r, 200, "application/json", kl_span_str("{\"status\":\"success\"}"));
    else
        answer_error(k->r, k->a.err.code == KL_EINVAL || k->a.err.code == KL_ELIMIT ? 400 : 503,
                     k->a.err.text);
    look_end(k);
}

static struct look *look_new(struct ing_http *h, struct kl_http_request *r)
{
    struct look *k;

    if (atomic_fetch_add(&h->flushes, 1) >= FLUSHES_MAX) {
        atomic_fetch_sub(&h->flushes, 1);
        kl_http_set(r, "Retry-After", "5");
        answer_error(r, 503, "too many requests of this kind are under way");
        return NULL;
    }
    k = kl_new(sizeof *k);
    k->h = h;
    k->r = r;
    k->a.loop = h->loop;
    kl_buf_init(&k->a.json, 8 << 20);
    return k;
}

static void show_log(void *ctx, struct kl_http_request *r)
{
    struct look *k = look_new(ctx, r);

    if (k == NULL)
        return;
    k->a.back = shown;
    ing_log_ask(k->h->i, &k->a, 0);
}

static bool number(struct kl_http_request *r, const char *name, uint64_t *out)
{
    const char *text = kl_http_param(r, name, 0);
    char       *end;

    if (text == NULL || text[0] < '0' || text[0] > '9' || strlen(text) > 19)
        return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

static void skip_record(void *ctx, struct kl_http_request *r)
{
    struct ing_http *h = ctx;
    uint64_t         partition, seq;
    struct look     *k;

    if (!number(r, "partition", &partition) || partition >= h->i->o.partitions ||
        !number(r, "skip", &seq) || seq == 0) {
        answer_error(r, 400, "say which record: ?partition=NUMBER&skip=SEQUENCE, as GET shows them");
        return;
    }
    if ((k = look_new(h, r)) == NULL)
        return;
    k->a.back = skipped;
    k->a.seq = seq;
    ing_log_ask(h->i, &k->a, (uint32_t)partition);
}

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
    route = (struct kl_http_route){ .method = "GET", .path = "/api/v1/koalemos/log", .handle = show_log,
                                    .ctx = h };
    kl_http_route_add(s, &route);
    route = (struct kl_http_route){ .method = "POST", .path = "/api/v1/koalemos/log",
                                    .body_max_bytes = 4096, .handle = skip_record, .ctx = h };
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
