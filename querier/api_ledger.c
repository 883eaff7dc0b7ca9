/*
 * /status/active_queries and /status/top_queries, in VictoriaMetrics' form: a tenant sees its own
 * queries, never another's.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/api_priv.h"

enum { TOP_USUAL = 20, TOP_MAX = 1000 };

struct census {
    struct qr_census c;
    struct kl_http_request *r;
    char tenant[BLK_TENANT_MAX + 1];
    bool top;
    unsigned found;
    struct kl_buf out;
    size_t limit;
    int64_t since_ns, lifetime_ms;
    struct qr_ran *ran;                                /* copies; texts are owned */
    size_t ran_count;
};

static void visit_active(struct census *c, struct qr_shard *s)
{
    int64_t now_ns = kl_env_mono_ns(s->q->env);

    for (struct qr_job *j = s->jobs; j != NULL; j = j->older) {
        if (j->text.size == 0 || strcmp(j->tenant, c->tenant) != 0)
            continue;
        kl_buf_addf(&c->out, "%s{\"duration\":\"%.3fs\",\"id\":\"%016" PRIX64 "\",\"state\":\"%s\","
                    "\"query\":", c->found++ > 0 ? "," : "",
                    (double)(now_ns - j->submitted_ns) * 1e-9, (uint64_t)j->submitted_ns,
                    j->running ? "running" : "waiting");
        kl_json_str(&c->out, j->text);
        kl_buf_addf(&c->out, ",\"start\":%" PRId64 ",\"end\":%" PRId64 ",\"step\":%" PRId64 "}",
                    j->range_from_ms, j->range_to_ms, j->step_ms);
    }
}

static void visit_ran(struct census *c, struct qr_shard *s)
{
    for (size_t i = 0; i < s->ran_count; i++) {
        const struct qr_ran *from = &s->ran[i];
        struct qr_ran       *to;

        if (from->last_ns < c->since_ns || strcmp(from->tenant, c->tenant) != 0)
            continue;
        c->ran = kl_resize(c->ran, (c->ran_count + 1) * sizeof *c->ran);
        to = &c->ran[c->ran_count++];
        *to = *from;
        to->text = kl_strdup(from->text);
        to->text_size = strlen(to->text);
    }
}

static void visit(struct qr_census *base, struct qr_shard *s)
{
    struct census *c = kl_container_of(base, struct census, c);

    if (c->top)
        visit_ran(c, s);
    else
        visit_active(c, s);
}

static int by_text(const void *a, const void *b)
{
    const struct qr_ran *x = a, *y = b;
    int                  c = strcmp(x->text, y->text);

    return c != 0 ? c : x->range_s < y->range_s ? -1 : x->range_s > y->range_s;
}

static int by_count(const void *a, const void *b)
{
    const struct qr_ran *x = a, *y = b;

    return x->count < y->count ? 1 : x->count > y->count ? -1 : by_text(a, b);
}

static int by_sum(const void *a, const void *b)
{
    const struct qr_ran *x = a, *y = b;

    return x->total_ns < y->total_ns ? 1 : x->total_ns > y->total_ns ? -1 : by_text(a, b);
}

static double average(const struct qr_ran *r)
{
    return (double)r->total_ns * 1e-9 / (double)r->count;
}

static int by_average(const void *a, const void *b)
{
    double x = average(a), y = average(b);

    return x < y ? 1 : x > y ? -1 : by_text(a, b);
}

/* The same query may have run on several shards. */
static void unite(struct census *c)
{
    size_t n = 0;

    if (c->ran_count > 1)
        qsort(c->ran, c->ran_count, sizeof *c->ran, by_text);
    for (size_t i = 0; i < c->ran_count; i++) {
        if (n > 0 && by_text(&c->ran[n - 1], &c->ran[i]) == 0) {
            c->ran[n - 1].count += c->ran[i].count;
            c->ran[n - 1].total_ns += c->ran[i].total_ns;
            free(c->ran[i].text);
        } else {
            c->ran[n++] = c->ran[i];
        }
    }
    c->ran_count = n;
}

static void list(struct census *c, const char *title, const char *field,
                 int (*order)(const void *a, const void *b))
{
    if (c->ran_count > 1)
        qsort(c->ran, c->ran_count, sizeof *c->ran, order);
    kl_buf_addf(&c->out, ",\"%s\":[", title);
    for (size_t i = 0; i < c->ran_count && i < c->limit; i++) {
        const struct qr_ran *r = &c->ran[i];

        kl_buf_adds(&c->out, i > 0 ? ",{\"query\":" : "{\"query\":");
        kl_json_cstr(&c->out, r->text);
        kl_buf_addf(&c->out, ",\"timeRangeSeconds\":%" PRId64, r->range_s);
        if (field != NULL)
            kl_buf_addf(&c->out, ",\"%s\":%.6f", field,
                        order == by_sum ? (double)r->total_ns * 1e-9 : average(r));
        kl_buf_addf(&c->out, ",\"count\":%" PRIu64 "}", r->count);
    }
    kl_buf_add8(&c->out, ']');
}

static void done(struct qr_census *base)
{
    struct census *c = kl_container_of(base, struct census, c);

    if (c->top) {
        unite(c);
        kl_buf_addf(&c->out, "{\"topN\":\"%zu\",\"maxLifetime\":\"%" PRId64 "s\"", c->limit,
                    c->lifetime_ms / 1000);
        list(c, "topByCount", NULL, by_count);
        list(c, "topByAvgDuration", "avgDurationSeconds", by_average);
        list(c, "topBySumDuration", "sumDurationSeconds", by_sum);
        kl_buf_add8(&c->out, '}');
    } else {
        kl_buf_adds(&c->out, "]}");
    }
    qr_api_send(c->r, "application/json", &c->out);
    for (size_t i = 0; i < c->ran_count; i++)
        free(c->ran[i].text);
    free(c->ran);
    atomic_fetch_sub(&c->c.q->jobs, 1);
    free(c);
}

/* NULL: answered. */
static struct census *census_new(struct qr_http *h, struct kl_http_request *r)
{
    struct census *c;
    const char    *tenant = kl_http_header(r, "X-Scope-OrgID");

    if (tenant == NULL || tenant[0] == '\0')
        tenant = "anonymous";
    if (!qr_tenant_ok(tenant)) {
        qr_api_error(r, PQL_BAD_DATA, "X-Scope-OrgID is no tenant: 1 to %d of A-Z a-z 0-9 _ . -",
                     TSP_TENANT_MAX);
        return NULL;
    }
    c = kl_new(sizeof *c);
    memcpy(c->tenant, tenant, strlen(tenant) + 1);
    c->c = (struct qr_census){ .q = h->q, .visit = visit, .done = done };
    c->r = r;
    kl_buf_init(&c->out, 64 << 20);
    return c;
}

static void active_queries(void *ctx, struct kl_http_request *r)
{
    struct qr_http *h = ctx;
    struct census  *c = census_new(h, r);

    if (c == NULL)
        return;
    kl_buf_adds(&c->out, "{\"status\":\"ok\",\"data\":[");
    atomic_fetch_add(&h->q->jobs, 1);                  /* so that the loops wait for it */
    qr_census_start(&c->c);
}

static void top_queries(void *ctx, struct kl_http_request *r)
{
    struct qr_http *h = ctx;
    const char     *top = kl_http_param(r, "topN", 0), *life = kl_http_param(r, "maxLifetime", 0);
    uint32_t        limit = TOP_USUAL;
    int64_t         lifetime_ms = 10 * 60 * 1000;
    char            err[300];
    struct census  *c;

    if (top != NULL && !qr_parse_limit(top, &limit, err, sizeof err)) {
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"topN\": %s", err);
        return;
    }
    if (life != NULL && !qr_parse_duration(life, &lifetime_ms, err, sizeof err)) {
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"maxLifetime\": %s", err);
        return;
    }
    c = census_new(h, r);
    if (c == NULL)
        return;
    c->top = true;
    c->limit = limit < TOP_MAX ? limit : TOP_MAX;
    c->lifetime_ms = lifetime_ms < 0 ? 0 : lifetime_ms > 86400000 ? 86400000 : lifetime_ms;
    c->since_ns = kl_env_mono_ns(h->env) - c->lifetime_ms * 1000000;
    atomic_fetch_add(&h->q->jobs, 1);
    qr_census_start(&c->c);
}

void qr_api_ledger_open(struct qr_http *h)
{
    qr_api_routes(h, "GET", "/status/active_queries", active_queries);
    qr_api_routes(h, "GET", "/status/top_queries", top_queries);
}
