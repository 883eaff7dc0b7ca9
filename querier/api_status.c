/*
 * What a Prometheus says of itself. Koalemos takes pushes and evaluates no rules, so targets, rules
 * and alerts are valid and empty; dashboards that look there find nothing and go on.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "querier/api_priv.h"

static void empty_list(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "[]");
}

static void rules(void *ctx, struct kl_http_request *r)
{
    const char *type = kl_http_param(r, "type", 0);

    (void)ctx;
    if (type != NULL && type[0] != '\0' && strcmp(type, "alert") != 0 &&
        strcmp(type, "record") != 0)
        qr_api_error(r, PQL_BAD_DATA, "invalid parameter \"type\": not supported value \"%.100s\"",
                     type);
    else
        qr_api_data(r, "{\"groups\":[]}");
}

static void alerts(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "{\"alerts\":[]}");
}

static void targets(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}");
}

static void scrape_pools(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "{\"scrapePools\":[]}");
}

static void alertmanagers(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}");
}

/* Clients read `version` to learn which API they talk to, so it is that of the Prometheus whose
 * API and language this is. */
static void buildinfo(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "{\"application\":\"Koalemos\",\"version\":\"3.14.0\",\"revision\":\"\","
                   "\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}");
}

/* Every option that is set, by name; addresses without what stands before their @. */
static void flags(void *ctx, struct kl_http_request *r)
{
    struct qr_http   *h = ctx;
    struct kl_config *c = qr_config(h->q);
    struct kl_buf     b;

    kl_buf_init(&b, 0);                                /* of our own options */
    qr_api_begin(&b);
    if (c != NULL)
        kl_config_json(c, false, &b);
    else
        kl_buf_adds(&b, "{}");
    kl_config_free(c);
    qr_api_end(&b, NULL, 0, NULL, 0);
    qr_api_send(r, "application/json", &b);
}

/* What --print-config prints, but for what is said of single tenants: a querier serves many, and none is told
 * of another. */
static void config(void *ctx, struct kl_http_request *r)
{
    struct qr_http   *h = ctx;
    struct kl_config *c = qr_config(h->q);
    struct kl_buf     b, yaml;

    kl_buf_init(&b, 0);
    kl_buf_init(&yaml, 0);
    if (c != NULL)
        kl_config_print_common(c, &yaml);
    kl_config_free(c);
    qr_api_begin(&b);
    kl_buf_adds(&b, "{\"yaml\":");
    kl_json_str(&b, kl_buf_span(&yaml));
    kl_buf_add8(&b, '}');
    qr_api_end(&b, NULL, 0, NULL, 0);
    kl_buf_deinit(&yaml);
    qr_api_send(r, "application/json", &b);
}

/* A querier replays nothing: it is ready or it is not. */
static void walreplay(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "{\"min\":0,\"max\":0,\"current\":0}");
}

/* "2006-01-02T15:04:05.000Z", without quotes. */
void qr_api_stamp(struct kl_buf *b, int64_t ms)
{
    int64_t   whole = ms / 1000 - (ms % 1000 < 0);
    time_t    s = (time_t)whole;
    struct tm tm;

    if (gmtime_r(&s, &tm) == NULL) {                   /* further away than years count */
        kl_buf_addf(b, "%" PRId64, ms);
        return;
    }
    kl_buf_addf(b, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms - whole * 1000));
}

static void stamp(struct kl_buf *b, int64_t ms)
{
    kl_buf_add8(b, '"');
    qr_api_stamp(b, ms);
    kl_buf_add8(b, '"');
}

static void text_field(struct kl_buf *b, const char *name, const char *text)
{
    kl_buf_addf(b, ",\"%s\":", name);
    kl_json_cstr(b, text != NULL ? text : "");
}

static void runtimeinfo(void *ctx, struct kl_http_request *r)
{
    struct qr_http          *h = ctx;
    const struct qr_options *o = &h->q->o;
    struct kl_config        *c = qr_config(h->q);
    struct kl_buf            b;
    bool                     well = true;
    int64_t                  taken_ms = h->q->started_ms;

    if (o->reloaded != NULL)
        o->reloaded(o->reloaded_ctx, &well, &taken_ms);
    kl_buf_init(&b, 0);                                /* of our own words */
    qr_api_begin(&b);
    kl_buf_adds(&b, "{\"startTime\":");
    stamp(&b, h->q->started_ms);
    text_field(&b, "CWD", o->folder);
    text_field(&b, "hostname", o->hostname);
    kl_buf_adds(&b, ",\"serverTime\":");
    stamp(&b, kl_env_now_ms(h->env));
    kl_buf_addf(&b, ",\"reloadConfigSuccess\":%s,\"lastConfigTime\":", well ? "true" : "false");
    stamp(&b, taken_ms);
    /* Ours are threads: those that answer queries. */
    kl_buf_addf(&b, ",\"corruptionCount\":0,\"goroutineCount\":%u,\"GOMAXPROCS\":%u,"
                    "\"GOMEMLIMIT\":%" PRIu64 ",\"GOGC\":\"\",\"GODEBUG\":\"\"",
                h->q->workers + h->q->shard_count, h->q->workers, (uint64_t)o->query_memory_max_bytes);
    text_field(&b, "storageRetention", c != NULL ? kl_config_text(c, "retention") : "");
    kl_config_free(c);
    kl_buf_add8(&b, '}');
    qr_api_end(&b, NULL, 0, NULL, 0);
    qr_api_send(r, "application/json", &b);
}

void qr_api_status_open(struct qr_http *h)
{
    qr_api_routes(h, "GET", "/notifications", empty_list);
    qr_api_routes(h, "GET", "/rules", rules);
    qr_api_routes(h, "GET", "/alerts", alerts);
    qr_api_routes(h, "GET", "/targets", targets);
    qr_api_routes(h, "GET", "/targets/metadata", empty_list);
    qr_api_routes(h, "GET", "/scrape_pools", scrape_pools);
    qr_api_routes(h, "GET", "/alertmanagers", alertmanagers);
    qr_api_routes(h, "GET", "/status/buildinfo", buildinfo);
    qr_api_routes(h, "GET", "/status/runtimeinfo", runtimeinfo);
    qr_api_routes(h, "GET", "/status/flags", flags);
    qr_api_routes(h, "GET", "/status/config", config);
    qr_api_routes(h, "GET", "/status/walreplay", walreplay);
}
