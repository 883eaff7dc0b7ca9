/* Reading the configuration again while the service runs: whole or not at all. */
#include "libkoal/app/app_priv.h"

#include "libkoal/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SETTLE_MS = 5000 };

static uint64_t hash_of(const struct kl_config *c)
{
    struct kl_buf b = { 0 };
    uint64_t      h;

    kl_config_print(c, &b);
    h = kl_hash64(b.at, b.size);
    kl_buf_deinit(&b);
    return h;
}

static void in_force(struct app *a, const struct kl_config *c)
{
    struct kl_app_reloads *r = &a->reloads;

    r->hash = hash_of(c);
    r->good_ms = kl_env_now_ms(a->app.env);
    r->refused[0] = '\0';
    r->well = true;
    kl_gauge_set(r->successful, 1);
    kl_gauge_set(r->good_s, (double)r->good_ms / 1000);
    /* What a double holds exactly. */
    kl_gauge_set(r->hash_gauge, (double)(r->hash >> 12));
}

void kl_app_reloads_begin(struct app *a)
{
    struct kl_app_reloads *r = &a->reloads;
    struct kl_metrics     *m = a->app.metrics;

    pthread_mutex_init(&r->lock, NULL);
    r->successful = kl_metrics_add(m, KL_GAUGE, "koalemos_config_last_reload_successful", "",
                                   "Whether the last attempt to reload the configuration was one: 1 or 0.");
    r->good_s = kl_metrics_add(m, KL_GAUGE, "koalemos_config_last_reload_success_timestamp_seconds", "",
                               "When the configuration in force was taken.");
    r->hash_gauge = kl_metrics_add(m, KL_GAUGE, "koalemos_config_hash", "",
                                   "A hash of the configuration in force: equal where it is equal.");
    in_force(a, a->config);
}

/* Before anything is taken. */
static enum kl_code only_live(const struct app *a, const struct kl_config *c, struct kl_err *err)
{
    struct kl_buf others = { 0 };
    enum kl_code  code = KL_OK;

    if (kl_config_changes(a->config, c, false, &others) > 0)
        code = kl_fail(err, KL_ELIMIT, "changed, and takes a restart: %.*s; nothing was taken", (int)others.size,
                       others.at);
    kl_buf_deinit(&others);
    return code;
}

/* What is said of tenants elsewhere was checked over another file than this: it stays, and is told of. */
static void tell_of_tenants(struct app *a)
{
    struct kl_config *c = kl_env_live_get(a->app.live);
    const char       *tenant;
    struct kl_err     err;

    for (size_t i = 0; kl_config_tenant_at(c, i, &tenant) != NULL; i++)
        if (kl_app_check_tenant(c, tenant, &err) != KL_OK)
            kl_logf(a->app.log, KL_WARN, "configuration reloaded, and what is said over it has no effect any more: %s", err.text);
    kl_config_free(c);
}

static void take(struct app *a, struct kl_config *c, struct kl_buf *changed)
{
    if (kl_config_changes(a->config, c, true, changed) == 0)
        return;
    kl_env_live_file(a->app.live, c);
    if (!kl_env_live_settle(a->app.live, SETTLE_MS))
        kl_logf(a->app.log, KL_WARN, "configuration reloaded, but not all goes by it yet, after %d s: it is busy", SETTLE_MS / 1000);
    tell_of_tenants(a);
    kl_app_log_configure(&a->log, c);
    kl_config_free(a->config);
    a->config = kl_config_ref(c);
}

enum kl_code kl_app_reload(struct app *a, char *words, size_t size)
{
    struct kl_app_reloads *r = &a->reloads;
    struct kl_config      *c = NULL;
    struct kl_buf          changed = { 0 };
    struct kl_err          err;
    enum kl_code           code;

    pthread_mutex_lock(&r->lock);
    code = kl_app_load(a->argc, a->argv, a->first, &c, &err);
    if (code == KL_OK)
        code = only_live(a, c, &err);
    if (code == KL_OK)
        code = kl_app_secure_reload(a, &err);
    if (code == KL_OK) {
        take(a, c, &changed);
        in_force(a, a->config);
        snprintf(words, size, "%s%.*s", changed.size > 0 ? "taken: " : "unchanged", (int)changed.size,
                 changed.size > 0 ? changed.at : "");
        kl_logf(a->app.log, KL_INFO, "configuration reloaded, %s", words);
    } else {
        r->refused_ms = kl_env_now_ms(a->app.env);
        r->well = false;
        snprintf(r->refused, sizeof r->refused, "%s", err.text);
        kl_gauge_set(r->successful, 0);
        snprintf(words, size, "%s", err.text);
        kl_logf(a->app.log, KL_ERROR, "configuration not reloaded: %s", words);
    }
    kl_config_free(c);
    kl_buf_deinit(&changed);
    pthread_mutex_unlock(&r->lock);
    return code;
}

static void add_time(struct kl_buf *out, int64_t ms)
{
    time_t    s = (time_t)(ms / 1000);
    struct tm utc;
    char      text[40];

    gmtime_r(&s, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    kl_buf_adds(out, text);
}

void kl_app_config_say(struct app *a, struct kl_buf *out)
{
    struct kl_app_reloads *r = &a->reloads;
    struct kl_config      *c;

    pthread_mutex_lock(&r->lock);
    kl_buf_adds(out, "# Read at ");
    add_time(out, r->good_ms);
    kl_buf_addf(out, ", hash %016" PRIx64 ", out of ", r->hash);
    kl_buf_adds(out, a->file != NULL ? a->file : "flags and the environment alone");
    kl_buf_adds(out, "\n");
    if (r->refused[0] != '\0') {
        kl_buf_adds(out, "# A reload at ");
        add_time(out, r->refused_ms);
        kl_buf_adds(out, " was refused: ");
        for (const char *at = r->refused; *at != '\0'; at++)
            kl_buf_add8(out, (unsigned char)*at < 0x20 ? ' ' : (uint8_t)*at);
        kl_buf_adds(out, "\n");
    }
    pthread_mutex_unlock(&r->lock);
    c = kl_env_live_get(a->app.live);
    kl_config_print_common(c, out);
    kl_config_free(c);
}

void kl_app_reloaded(void *app, bool *well, int64_t *taken_ms)
{
    const struct app *a = kl_container_of((struct kl_app *)app, struct app, app);

    *well = a->reloads.well;
    *taken_ms = a->reloads.good_ms;
}

void kl_app_reloads_end(struct app *a) { pthread_mutex_destroy(&a->reloads.lock); }
