/* What a tenant may know of itself, in the forms of Grafana Mimir: /user_stats and /user_limits. */
#include "querier/api_priv.h"

enum { STATS_BACK_MS = 5 * 60 * 1000 };

static void render_stats(struct qr_listing *l, struct kl_buf *out)
{
    uint64_t samples = 0;
    double   rate;

    for (size_t i = 0; i < l->names.count; i++)
        samples += l->names.series[i].count;
    rate = (double)samples * 1000 / STATS_BACK_MS;
    kl_buf_addf(out, "{\"ingestionRate\":%.3f,\"numSeries\":%zu,\"APIIngestionRate\":%.3f,"
                "\"RuleIngestionRate\":0}", rate, l->names.count, rate);
}

/* Counted, not guessed: the samples of the last five minutes, and the series that they belong to. */
static void user_stats(void *ctx, struct kl_http_request *r)
{
    struct qr_http    *h = ctx;
    struct qr_listing *l = qr_listing_new(h, r, TSP_SEL_SERIES);

    if (l == NULL)
        return;
    l->render = render_stats;
    l->names.job.partial = false;                      /* a count has no place for a warning */
    l->names.to_ms = kl_env_now_ms(h->env);
    l->names.from_ms = l->names.to_ms - STATS_BACK_MS + 1;
    qr_listing_go(l);
}

/* Every option that may be set for a tenant, as it is for this one. */
static void user_limits(void *ctx, struct kl_http_request *r)
{
    struct qr_http   *h = ctx;
    struct kl_config *c;
    struct qr_job     j = { 0 };
    struct kl_buf     b;

    if (!qr_api_job(h, r, &j))
        return;
    c = qr_config(h->q);
    kl_buf_init(&b, 0);                                /* of our own options */
    if (c != NULL)
        kl_config_json(kl_config_tenant(c, kl_span_str(j.tenant)), true, &b);
    else
        kl_buf_adds(&b, "{}");
    kl_config_free(c);
    qr_api_send(r, "application/json", &b);
}

void qr_api_user_open(struct qr_http *h)
{
    qr_api_routes(h, "GET", "/user_stats", user_stats);
    qr_api_routes(h, "GET", "/user_limits", user_limits);
}
