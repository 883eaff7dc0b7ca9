/*
 * What a Prometheus says of itself. Koalemos takes pushes and evaluates no rules, so targets, rules
 * and alerts are valid and empty; dashboards that look there find nothing and go on.
 */
#include <inttypes.h>
#include <stdio.h>
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

static void flags(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "{}");
}

static void config(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "{\"yaml\":\"\"}");
}

static void walreplay(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    qr_api_data(r, "{\"min\":0,\"max\":0,\"current\":0}");
}

static void stamp(struct kl_buf *b, int64_t ms)
{
    time_t    s = (time_t)(ms / 1000);
    struct tm tm;

    gmtime_r(&s, &tm);
    kl_buf_addf(b, "\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"", tm.tm_year + 1900, tm.tm_mon + 1,
                tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000));
}

static void runtimeinfo(void *ctx, struct kl_http_request *r)
{
    struct qr_http *h = ctx;
    struct kl_buf   b;

    kl_buf_init(&b, 0);                                /* of our own words */
    qr_api_begin(&b);
    kl_buf_adds(&b, "{\"startTime\":");
    stamp(&b, h->q->started_ms);
    kl_buf_adds(&b, ",\"serverTime\":");
    stamp(&b, kl_env_now_ms(h->env));
    kl_buf_adds(&b, ",\"lastConfigTime\":");
    stamp(&b, h->q->started_ms);
    kl_buf_addf(&b, ",\"CWD\":\"\",\"hostname\":\"\",\"reloadConfigSuccess\":true,"
                    "\"corruptionCount\":0,\"goroutineCount\":%u,\"GOMAXPROCS\":%u,"
                    "\"GOMEMLIMIT\":0,\"GOGC\":\"\",\"GODEBUG\":\"\",\"storageRetention\":\"\"}",
                h->q->workers + h->q->shard_count, h->q->workers);
    qr_api_end(&b, NULL, 0, NULL, 0);
    qr_api_send(r, "application/json", &b);
}

void qr_api_status_open(struct qr_http *h)
{
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
