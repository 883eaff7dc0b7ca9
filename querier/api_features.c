/*
 * /features: what is there, in Prometheus' categories and names. All that Prometheus keeps behind flags
 * is on; what it does and we do not, since nothing is scraped and no rule evaluated here, is absent.
 */
#include "querier/api_priv.h"

struct feature { const char *name; bool on; };

static const struct feature api[] = {
    { "admin", true }, { "exclude_alerts", true }, { "label_values_match", true },
    { "openapi_3.1", true }, { "openapi_3.2", false }, { "otlp_write_receiver", true },
    { "query_stats", true }, { "query_warnings", true }, { "remote_write_receiver", true },
    { "search", true }, { "search_fuzz_alg_jarowinkler", true },
    { "search_fuzz_alg_subsequence", true }, { "time_range_labels", true },
    { "time_range_series", true },
};

static const struct feature prometheus[] = {
    { "agent_mode", false }, { "auto_reload_config", false }, { "server_mode", true },
};

static const struct feature promql[] = {
    { "anchored", true }, { "at_modifier", true }, { "bool", true }, { "by", true },
    { "delayed_name_removal", true }, { "duration_expr", true }, { "fill", true },
    { "fill_left", true }, { "fill_right", true }, { "group_left", true }, { "group_right", true },
    { "ignoring", true }, { "negative_offset", true }, { "offset", true }, { "on", true },
    { "per_query_lookback_delta", true }, { "per_step_stats", true }, { "smoothed", true },
    { "subqueries", true }, { "type_and_unit_labels", true }, { "use_start_timestamps", true },
    { "without", true },
};

static const struct feature operators[] = {
    { "!=", true }, { "!~", true }, { "%", true }, { "*", true }, { "+", true }, { "-", true },
    { "/", true }, { "<", true }, { "<=", true }, { "==", true }, { "=~", true }, { ">", true },
    { ">=", true }, { "@", true }, { "^", true }, { "and", true }, { "atan2", true },
    { "avg", true }, { "bottomk", true }, { "count", true }, { "count_values", true },
    { "group", true }, { "limit_ratio", true }, { "limitk", true }, { "max", true },
    { "min", true }, { "or", true }, { "quantile", true }, { "stddev", true }, { "stdvar", true },
    { "sum", true }, { "topk", true }, { "unless", true },
};

static const struct feature tsdb[] = {
    { "exemplar_storage", true }, { "native_histograms", true }, { "st_storage", true },
};

#define LIST(name, of) category(&b, name, of, sizeof of / sizeof of[0])

static void category(struct kl_buf *b, const char *name, const struct feature *f, size_t count)
{
    kl_buf_addf(b, "\"%s\":{", name);
    for (size_t i = 0; i < count; i++)
        kl_buf_addf(b, "%s\"%s\":%s", i > 0 ? "," : "", f[i].name, f[i].on ? "true" : "false");
    kl_buf_adds(b, "},");
}

static void features(void *ctx, struct kl_http_request *r)
{
    struct qr_http   *h = ctx;
    struct kl_buf     b;
    const char       *name;
    struct kl_config *c = qr_config(h->q);
    bool              lifecycle = c != NULL && kl_config_bool(c, "http.lifecycle");

    kl_config_free(c);
    kl_buf_init(&b, 0);                                /* of our own words */
    qr_api_begin(&b);
    kl_buf_add8(&b, '{');
    LIST("api", api);
    b.size -= 2;
    kl_buf_addf(&b, ",\"lifecycle\":%s},", lifecycle ? "true" : "false");
    LIST("prometheus", prometheus);
    LIST("promql", promql);
    kl_buf_adds(&b, "\"promql_functions\":{");
    for (size_t i = 0; (name = pql_function_name(i)) != NULL; i++)
        kl_buf_addf(&b, "%s\"%s\":true", i > 0 ? "," : "", name);
    kl_buf_adds(&b, "},");
    LIST("promql_operators", operators);
    LIST("tsdb", tsdb);
    b.size--;
    kl_buf_add8(&b, '}');
    qr_api_end(&b, NULL, 0, NULL, 0);
    qr_api_send(r, "application/json", &b);
}

void qr_api_features_open(struct qr_http *h)
{
    qr_api_routes(h, "GET", "/features", features);
}
