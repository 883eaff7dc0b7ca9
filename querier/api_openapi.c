/*
 * /openapi.yaml: this API as an OpenAPI 3.1 document, written from the tables below. A test holds them
 * against the routes that are registered, so that it says neither more nor less than there is.
 */
#include "querier/api_priv.h"

static const struct { const char *name, *schema, *words; } params[] = {
    { "query", "string", "A PromQL expression." },
    { "time", "string", "When to evaluate: Unix seconds or RFC 3339. Now without." },
    { "start", "string", "Begin of the range: Unix seconds or RFC 3339." },
    { "end", "string", "End of the range, inclusive: Unix seconds or RFC 3339." },
    { "step", "string", "Resolution: a duration, or seconds." },
    { "timeout", "string", "A duration; at most the server's." },
    { "limit", "integer", "At most so many results; 0 is no limit." },
    { "lookback_delta", "string", "How far back an instant selector looks, for this query." },
    { "max_source_resolution", "string",
      "Rollups up to this duration may be read also where the answer is only near; `0`: none, `auto`: a fifth of step." },
    { "stats", "string", "`true` for timings and samples, `all` for samples per step too." },
    { "consistency", "string", "strong: all that the log holds when asked is in the answer. Or default." },
    { "partial_response", "boolean", "Whether an answer may lack what cannot be read; it then warns." },
    { "match[]", "array", "A series selector; may be repeated." },
    { "metric", "string", "Only this metric." },
    { "stale", "boolean", "1: stale markers as the text StaleNaN, told from NaN." },
    { "part", "boolean", "1: lines alone, without TYPE and EOF, to be put together." },
    { "limit_per_metric", "integer", "At most so many entries a metric." },
    { "search[]", "array", "What to look for; may be repeated, and any may fit." },
    { "fuzz_threshold", "integer", "0 to 100: how well it must fit." },
    { "fuzz_alg", "string", "`subsequence` or `jarowinkler`." },
    { "case_sensitive", "boolean", "True without." },
    { "sort_by", "string", "`alpha` or `score`." },
    { "sort_dir", "string", "`asc` or `dsc`, of alpha." },
    { "include_score", "boolean", "Whether to tell how well it fits." },
    { "include_metadata", "boolean", "Whether to tell type, help and unit." },
    { "label", "string", "The name of a label." },
    { "batch_size", "integer", "Results a line." },
    { "type", "string", "`alert` or `record`." },
    { "topN", "integer", "How many of each list." },
    { "maxLifetime", "string", "How long ago at most." },
    { "date", "string", "A day, YYYY-MM-DD." },
    { "focusLabel", "string", "Whose values to list." },
    { "format", "string", "`text`, of query_explain; the columns, of export/csv." },
    { "selector", "string", "A series selector." },
    { "label_names[]", "array", "The name of a label; may be repeated." },
    { "name", "string", "The name of a label; `U__` escapes it." },
};

#define RANGE "start end step "
#define BOUNDS "timeout limit lookback_delta stats partial_response consistency max_source_resolution"
#define LISTED "match[] start end limit timeout partial_response"
#define SEARCH "match[] start end search[] fuzz_threshold fuzz_alg case_sensitive sort_by sort_dir " \
               "include_score limit batch_size"

const struct qr_operation qr_operations[] = {
    { "/query", "GET,POST", "An instant query.", "query time " BOUNDS, NULL },
    { "/query_range", "GET,POST", "A query over a range.", "query " RANGE BOUNDS, NULL },
    { "/query_explain", "GET,POST", "What a query reads and does.",
      "query time " RANGE BOUNDS " format", NULL },
    { "/query_exemplars", "GET,POST", "Exemplars of the series that a query selects.",
      "query start end timeout", NULL },
    { "/format_query", "GET,POST", "A query, formatted.", "query", NULL },
    { "/parse_query", "GET,POST", "A query's syntax tree.", "query", NULL },
    { "/labels", "GET,POST", "Names of labels.", LISTED, NULL },
    { "/label/{name}/values", "GET", "Values of a label.", "name " LISTED, NULL },
    { "/series", "GET,POST", "Series, by their labels.", LISTED, NULL },
    { "/series/count", "GET,POST", "How many series there are.", "match[] start end timeout", NULL },
    { "/metadata", "GET", "Type, help and unit of metrics.", "metric limit limit_per_metric timeout",
      NULL },
    { "/search/metric_names", "GET,POST", "Metrics by likeness.", SEARCH " include_metadata",
      "application/x-ndjson" },
    { "/search/label_names", "GET,POST", "Labels by likeness.", SEARCH, "application/x-ndjson" },
    { "/search/label_values", "GET,POST", "Values by likeness.", "label " SEARCH,
      "application/x-ndjson" },
    { "/read", "POST", "Remote read, samples or streamed chunks.", "", "application/x-protobuf" },
    { "/export", "GET,POST", "Samples as lines of JSON.", "match[] start end metric stale timeout",
      "application/stream+json" },
    { "/export/csv", "GET,POST", "Samples as CSV.", "format match[] start end metric timeout", "text/csv" },
    { "/export/openmetrics", "GET,POST", "Samples as OpenMetrics.", "match[] start end metric part timeout",
      "application/openmetrics-text" },
    { "/rules", "GET", "Valid, and empty: no rules are evaluated here.", "type", NULL },
    { "/alerts", "GET", "Valid, and empty.", "", NULL },
    { "/targets", "GET", "Valid, and empty: nothing is scraped.", "", NULL },
    { "/targets/metadata", "GET", "Valid, and empty.", "", NULL },
    { "/scrape_pools", "GET", "Valid, and empty.", "", NULL },
    { "/alertmanagers", "GET", "Valid, and empty.", "", NULL },
    { "/notifications", "GET", "Valid, and empty.", "", NULL },
    { "/features", "GET", "What is there.", "", NULL },
    { "/status/buildinfo", "GET", "What this is.", "", NULL },
    { "/status/runtimeinfo", "GET", "How it runs.", "", NULL },
    { "/status/flags", "GET", "Its options.", "", NULL },
    { "/status/config", "GET", "Its options, as a file.", "", NULL },
    { "/status/walreplay", "GET", "Nothing is replayed by who answers this.", "", NULL },
    { "/status/tsdb", "GET", "What series there are, and of what they are made.",
      "limit topN date focusLabel match[] timeout", NULL },
    { "/admin/tsdb/delete_series", "POST,PUT",
      "Deletes what was written of these series before. Answered when no querier shows it any more.",
      "match[] start end timeout", NULL },
    { "/admin/tsdb/deletions", "GET", "Deletions whose bytes are not yet all gone.", "timeout", NULL },
    { "/status/tsdb/blocks", "GET", "The tenant's filesets.", "timeout", NULL },
    { "/status/active_queries", "GET", "The tenant's queries that run.", "", NULL },
    { "/status/top_queries", "GET", "The tenant's queries that took most.", "topN maxLifetime", NULL },
    { "/cardinality/label_names", "GET,POST", "Labels with the most values.", "selector limit timeout",
      NULL },
    { "/cardinality/label_values", "GET,POST", "Values with the most series.",
      "label_names[] selector limit timeout", NULL },
    { "/cardinality/active_series", "GET,POST", "Series of the last two hours.",
      "selector limit timeout", NULL },
    { "/user_stats", "GET", "Samples and series of the tenant.", "timeout", NULL },
    { "/user_limits", "GET", "What the tenant may do.", "", NULL },
    { "/openapi.yaml", "GET", "This document.", "", "application/yaml" },
    { 0 },
};

static void parameter(struct kl_buf *b, struct kl_span name)
{
    for (size_t i = 0; i < sizeof params / sizeof params[0]; i++) {
        bool in_path = strcmp(params[i].name, "name") == 0;

        if (!kl_span_eq(name, kl_span_str(params[i].name)))
            continue;
        kl_buf_addf(b, "        - name: \"%s\"\n          in: %s\n%s          description: \"%s\"\n",
                    params[i].name, in_path ? "path" : "query",
                    in_path ? "          required: true\n" : "", params[i].words);
        kl_buf_addf(b, strcmp(params[i].schema, "array") == 0
                           ? "          schema: {type: %s, items: {type: string}}\n"
                           : "          schema: {type: %s}\n", params[i].schema);
        return;
    }
}

static void operation(struct kl_buf *b, const struct qr_operation *o, const char *method,
                      const char *prefix)
{
    kl_buf_addf(b, "    %s:\n      operationId: \"%s%s\"\n      summary: \"%s\"\n", method, prefix,
                o->path, o->summary);
    kl_buf_adds(b, "      parameters:\n        - $ref: \"#/components/parameters/tenant\"\n");
    for (const char *at = o->params; *at != '\0';) {
        size_t size = strcspn(at, " ");

        parameter(b, kl_span(at, size));
        at += size;
        at += *at == ' ';
    }
    kl_buf_addf(b, "      responses:\n        \"200\":\n          description: \"The answer.\"\n"
                "          content:\n            \"%s\": {}\n        default:\n"
                "          $ref: \"#/components/responses/error\"\n",
                o->type != NULL ? o->type : "application/json");
}

static void openapi(void *ctx, struct kl_http_request *r)
{
    struct kl_buf b;

    (void)ctx;
    kl_buf_init(&b, 0);                                /* of our own words */
    kl_buf_adds(&b, "openapi: 3.1.0\ninfo:\n  title: Koalemos\n  version: \"1\"\n"
                    "  description: \"Prometheus' query API, and what rivals have besides.\"\n"
                    "servers:\n  - url: /api/v1\n  - url: /prometheus/api/v1\npaths:\n");
    for (const struct qr_operation *o = qr_operations; o->path != NULL; o++) {
        kl_buf_addf(&b, "  \"%s\":\n", o->path);
        if (strstr(o->methods, "GET") != NULL)
            operation(&b, o, "get", "get");
        if (strstr(o->methods, "POST") != NULL)
            operation(&b, o, "post", "post");
    }
    kl_buf_adds(&b, "components:\n  parameters:\n    tenant:\n      name: X-Scope-OrgID\n      in: header\n"
                    "      description: \"Whose data; `anonymous` without.\"\n"
                    "      schema: {type: string, maxLength: 150, pattern: \"^[A-Za-z0-9_.-]+$\"}\n"
                    "  responses:\n    error:\n      description: \"What went wrong.\"\n      content:\n"
                    "        application/json:\n          schema:\n            type: object\n"
                    "            properties:\n              status: {const: error}\n"
                    "              errorType: {enum: [bad_data, execution, timeout, canceled, unavailable, internal]}\n"
                    "              error: {type: string}\n");
    qr_api_send(r, "application/yaml; charset=utf-8", &b);
}

void qr_api_openapi_open(struct qr_http *h)
{
    qr_api_routes(h, "GET", "/openapi.yaml", openapi);
}
