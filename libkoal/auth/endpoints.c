#include "libkoal/auth/endpoints.h"

#include <string.h>

#define OPEN(method, path)  { method, path, 0, false }
#define READ(method, path)  { method, path, KL_ROLE_READ, false }
#define WRITE(method, path) { method, path, KL_ROLE_WRITE, false }
/* What evaluates rules needs: answers to expressions, and a way for what comes of them. No lists, no exports. */
#define READ_OR_RULES(method, path)  { method, path, KL_ROLE_READ | KL_ROLE_RULES, false }
#define WRITE_OR_RULES(method, path) { method, path, KL_ROLE_WRITE | KL_ROLE_RULES, false }
#define ADMIN(method, path) { method, path, KL_ROLE_ADMIN, false }
#define CELL_READ(method, path)  { method, path, KL_ROLE_READ, true }
#define CELL_ADMIN(method, path) { method, path, KL_ROLE_ADMIN, true }

static const struct kl_auth_endpoint table[] = {
    /* For whoever keeps the process running: they say nothing of data, and take nothing. */
    OPEN("GET", "/-/healthy"),
    OPEN("GET", "/-/ready"),
    OPEN("GET", "/ready"),
    /* The page: the same bytes for everybody. It asks as whoever it is given a key of. */
    OPEN("GET", "/"),
    OPEN("GET", "/page.js"),
    OPEN("GET", "/page.css"),

    /* Pushes. */
    WRITE_OR_RULES(NULL, "/api/v1/write"),
    WRITE_OR_RULES(NULL, "/api/v1/push"),
    WRITE(NULL, "/api/v1/otlp/v1/metrics"),
    WRITE(NULL, "/otlp/v1/metrics"),
    WRITE("POST", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"),      /* gRPC */
    WRITE("MESSAGE", "ingest"),                        /* over NATS */
    WRITE(NULL, "/api/v1/import"),
    WRITE(NULL, "/api/v1/import/prometheus"),
    WRITE(NULL, "/api/v1/import/csv"),
    WRITE(NULL, "/write"),
    WRITE(NULL, "/api/v2/write"),
    WRITE(NULL, "/ping"),
    WRITE(NULL, "/query"),                             /* what Influx clients ask before they write */

    /* Questions. */
    READ_OR_RULES(NULL, "/api/v1/query"),
    READ_OR_RULES(NULL, "/api/v1/query_range"),
    READ(NULL, "/api/v1/query_explain"),
    READ(NULL, "/api/v1/query_exemplars"),
    READ(NULL, "/api/v1/format_query"),
    READ(NULL, "/api/v1/parse_query"),
    READ(NULL, "/api/v1/read"),
    READ(NULL, "/api/v1/series"),
    READ(NULL, "/api/v1/series/count"),
    READ(NULL, "/api/v1/labels"),
    READ(NULL, "/api/v1/label/*/values"),
    READ(NULL, "/api/v1/metadata"),
    READ(NULL, "/api/v1/search/metric_names"),
    READ(NULL, "/api/v1/search/label_names"),
    READ(NULL, "/api/v1/search/label_values"),
    READ(NULL, "/api/v1/cardinality/label_names"),
    READ(NULL, "/api/v1/cardinality/label_values"),
    READ(NULL, "/api/v1/cardinality/active_series"),
    READ(NULL, "/api/v1/export"),
    READ(NULL, "/api/v1/export/csv"),
    READ(NULL, "/api/v1/export/openmetrics"),
    READ(NULL, "/federate"),
    READ("GET", "/api/v1/notifications"),
    READ_OR_RULES("GET", "/api/v1/rules"),
    READ_OR_RULES("GET", "/api/v1/alerts"),
    READ("GET", "/api/v1/targets"),
    READ("GET", "/api/v1/targets/metadata"),
    READ("GET", "/api/v1/scrape_pools"),
    READ("GET", "/api/v1/alertmanagers"),
    READ_OR_RULES("GET", "/api/v1/status/buildinfo"),
    READ("GET", "/api/v1/status/walreplay"),
    READ("GET", "/api/v1/status/tsdb"),
    READ("GET", "/api/v1/status/tsdb/blocks"),
    READ("GET", "/api/v1/status/active_queries"),
    READ("GET", "/api/v1/status/top_queries"),
    READ("GET", "/api/v1/features"),
    READ("GET", "/api/v1/openapi.yaml"),
    READ("GET", "/api/v1/user_stats"),
    READ("GET", "/api/v1/user_limits"),
    READ("GET", "/version"),

    /* What tells of the process and the cell, not of a tenant. */
    CELL_READ("GET", "/metrics"),
    CELL_READ("GET", "/config"),
    CELL_READ("GET", "/api/v1/status/config"),
    CELL_READ("GET", "/api/v1/status/flags"),
    CELL_READ("GET", "/api/v1/status/runtimeinfo"),
    CELL_READ("GET", "/api/v1/koalemos/placement"),
    CELL_READ("GET", "/api/v1/koalemos/shard-map"),
    CELL_READ("GET", "/api/v1/koalemos/leader"),
    CELL_READ("GET", "/api/v1/koalemos/nodes"),
    CELL_READ("GET", "/api/v1/koalemos/lag"),
    CELL_READ("GET", "/api/v1/koalemos/health"),
    CELL_READ("GET", "/api/v1/koalemos/log"),
    CELL_READ("GET", "/api/v1/koalemos/overrides"),
    CELL_READ("GET", "/api/v1/koalemos/overrides/history"),

    /* Orders. */
    CELL_ADMIN(NULL, "/-/quit"),
    CELL_ADMIN(NULL, "/-/reload"),
    CELL_ADMIN("POST", "/api/v1/koalemos/nodes"),
    CELL_ADMIN("POST", "/api/v1/koalemos/drain"),
    CELL_ADMIN("POST", "/api/v1/koalemos/log"),
    CELL_ADMIN("POST", "/api/v1/koalemos/split"),
    CELL_ADMIN("POST", "/api/v1/koalemos/election"),
    CELL_ADMIN("POST", "/api/v1/koalemos/repair"),
    CELL_ADMIN("POST", "/api/v1/koalemos/overrides"),
    CELL_ADMIN("DELETE", "/api/v1/koalemos/overrides"),
    CELL_ADMIN("POST", "/api/v1/koalemos/overrides/rollback"),
    CELL_ADMIN("POST", "/api/v1/koalemos/catalogue"),
    CELL_ADMIN(NULL, "/api/v1/admin/tsdb/flush"),
    ADMIN(NULL, "/api/v1/admin/tsdb/delete_series"),
    ADMIN(NULL, "/api/v1/admin/tsdb/deletions"),
    ADMIN(NULL, "/api/v1/admin/tsdb/clean_tombstones"),
};

const struct kl_auth_endpoint *kl_auth_endpoint_of(const char *method, const char *route)
{
    static const char prefix[] = "/prometheus";

    if (strncmp(route, prefix, sizeof prefix - 1) == 0 && route[sizeof prefix - 1] == '/')
        route += sizeof prefix - 1;
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].route, route) == 0 &&
            (table[i].methods == NULL || strcmp(table[i].methods, method) == 0))
            return &table[i];
    return NULL;
}
