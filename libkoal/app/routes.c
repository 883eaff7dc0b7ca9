#include "libkoal/app/app_priv.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libkoal/base/json.h"

static const char plain[] = "text/plain; charset=utf-8";

static void healthy(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    kl_http_answer(r, 200, plain, kl_span_str("healthy\n"));
}

static void ready(void *ctx, struct kl_http_request *r)
{
    struct app   *a = ctx;
    struct kl_err err = { 0 };
    char          words[KL_ERR_TEXT_MAX + 2];

    if (kl_app_is_ready(a, &err)) {
        kl_http_answer(r, 200, plain, kl_span_str("ready\n"));
        return;
    }
    kl_http_set(r, "Retry-After", "1");
    snprintf(words, sizeof words, "%s\n", err.text);
    kl_http_answer(r, 503, plain, kl_span_str(words));
}

static void metrics(void *ctx, struct kl_http_request *r)
{
    struct app   *a = ctx;
    struct kl_buf out = { 0 };
    struct kl_err err;

    kl_metrics_write(a->app.metrics, &out);
    kl_app_process_metrics(a->app.name, a->started_ms, &out);
    kl_buf_addf(&out, "# HELP koalemos_ready Whether /-/ready says so; it also says why not.\n"
                      "# TYPE koalemos_ready gauge\nkoalemos_ready %d\n", kl_app_is_ready(a, &err));
    kl_http_answer_take(r, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

static void version(void *ctx, struct kl_http_request *r)
{
    struct app   *a = ctx;
    struct kl_buf out = { 0 };

    kl_buf_adds(&out, "{\"name\":");
    kl_json_cstr(&out, a->app.name);
    kl_buf_adds(&out, ",\"version\":\"" KL_APP_VERSION "\"}\n");
    kl_http_answer_take(r, 200, "application/json", &out);
}

static void config(void *ctx, struct kl_http_request *r)
{
    struct kl_buf out = { 0 };

    kl_app_config_say(ctx, &out);
    kl_http_answer_take(r, 200, "application/yaml; charset=utf-8", &out);
}

/* False: answered. */
static bool lifecycle(struct app *a, struct kl_http_request *r)
{
    struct kl_config *c = kl_env_live_get(a->app.live);
    bool              open = kl_config_bool(c, "http.lifecycle");

    kl_config_free(c);
    if (!open)
        kl_http_answer(r, 403, plain, kl_span_str("the lifecycle API is not enabled: http.lifecycle\n"));
    return open;
}

static void reload(void *ctx, struct kl_http_request *r)
{
    struct app  *a = ctx;
    char         words[KL_ERR_TEXT_MAX + 2];
    enum kl_code code;

    if (!lifecycle(a, r))
        return;
    a->app.env->sched->leave(a->app.env->sched);       /* it waits for loops: as a guest, for itself */
    code = kl_app_reload(a, words, sizeof words - 1);
    a->app.env->sched->enter(a->app.env->sched);
    strcat(words, "\n");
    kl_http_answer(r, code == KL_OK ? 200 : code == KL_ELIMIT ? 409 : 500, plain, kl_span_str(words));
}

static void quit(void *ctx, struct kl_http_request *r)
{
    struct app *a = ctx;
    ssize_t     n;

    if (!lifecycle(a, r))
        return;
    if (!kl_http_is_local(r)) {
        kl_http_answer(r, 403, plain, kl_span_str("only this machine may stop the server\n"));
        return;
    }
    kl_http_answer(r, 200, plain, kl_span_str("stopping\n"));
    n = write(a->wake[1], "q", 1);
    (void)n;                                           /* full: somebody asked before */
}

/* Whoever looks at a doorman or an ingestor with a browser shall not believe that nothing is there. */
static void root(void *ctx, struct kl_http_request *r)
{
    struct app   *a = ctx;
    struct kl_buf out = { 0 };

    kl_buf_addf(&out, "koalemos %s " KL_APP_VERSION "\n\n"
                      "/-/ready    whether it can do its work, and what it waits for if not\n"
                      "/metrics    what it counts\n\n"
                      "Agents push to a doorman. Questions, and a page that asks them, are a querier's.\n",
                a->app.name);
    kl_http_answer_take(r, 200, plain, &out);
}

void kl_app_last_routes(struct app *a)
{
    kl_http_route_add(a->app.http, &(struct kl_http_route){ "GET", "/", 0, root, a });
}

void kl_app_routes(struct app *a)
{
    const struct kl_http_route routes[] = {
        { "GET", "/-/healthy", 0, healthy, a }, { "GET", "/-/ready", 0, ready, a },
        { "GET", "/ready", 0, ready, a },       { "GET", "/metrics", 0, metrics, a },
        { "GET", "/version", 0, version, a },   { "POST,PUT", "/-/quit", 1024, quit, a },
        { "GET", "/config", 0, config, a },     { "POST,PUT", "/-/reload", 1024, reload, a },
    };

    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        kl_http_route_add(a->app.http, &routes[i]);
}
