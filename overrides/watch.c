/* The keys as the KV tells them, kept by key, and put into force a moment after the first of several came. */
#include "overrides/ov_priv.h"

#include "libkoal/base/sorted.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOON_MS = 20, QUEUE_MAX = 4 * OV_CHANGES_MAX };

/* ---- entries ---- */

static int by_key(const void *key, const void *e) { return strcmp(key, ((const struct ov_entry *)e)->key); }

/* Where it is, or would be. */
static size_t slot_of(const struct ov *o, const char *key, bool *there)
{
    return kl_sorted_place(key, o->entries, o->count, sizeof *o->entries, by_key, there);
}

struct ov_entry *ov_find(struct ov *o, const char *key)
{
    bool   there;
    size_t at = slot_of(o, key, &there);

    return there ? &o->entries[at] : NULL;
}

static size_t weight(const struct ov_entry *e) { return sizeof *e + e->tenant_size + e->by_size + e->all_size; }

static void empty(struct ov *o, struct ov_entry *e)
{
    o->bytes -= weight(e);
    free(e->tenant);
    free(e->by);
    free(e->all);
}

static void forget(struct ov *o, const char *key)
{
    bool   there;
    size_t at = slot_of(o, key, &there);

    if (!there)
        return;
    o->dirty = o->dirty || o->entries[at].says;
    empty(o, &o->entries[at]);
    kl_sorted_close(o->entries, &o->count, sizeof *o->entries, at);
}

static char *copy(struct kl_span s)
{
    char *text = kl_new(s.size + 1);

    if (s.size > 0)
        memcpy(text, s.at, s.size);
    return text;
}

/* False: they are too many, or too large. */
static bool keep(struct ov *o, const char *key, const struct tsp_override *v, uint64_t revision)
{
    const struct tsp_override_version *now = &v->versions[0];
    struct ov_entry e = { .revision = revision, .version = now->number, .time_ms = now->time_ms,
                          .tenant_size = v->tenant.size, .by_size = now->by.size, .all_size = now->all.size };
    bool   there;
    size_t at = slot_of(o, key, &there), was = there ? weight(&o->entries[at]) : 0;

    if (o->bytes - was + weight(&e) > OV_BYTES_MAX || (!there && o->count == OV_TENANTS_MAX))
        return false;
    snprintf(e.key, sizeof e.key, "%s", key);
    e.tenant = copy(v->tenant);
    e.by = copy(now->by);
    e.all = copy(now->all);
    e.says = now->all.size > 2;
    if (there)
        empty(o, &o->entries[at]);
    else
        o->entries = kl_sorted_grow(o->entries, &o->count, &o->room, sizeof *o->entries, at);
    o->entries[at] = e;
    o->bytes += weight(&e);
    o->dirty = true;
    return true;
}

/* ---- what the KV says ---- */

static void passed_over(void *ctx, const struct kl_err *err)
{
    struct ov *o = ctx;

    kl_count(o->refused, 1);
    kl_logf(o->options.log, KL_ERROR, "overrides: %s; passed over", err->text);
}

void ov_see(struct ov *o, const char *key, struct kl_span value, uint64_t revision)
{
    struct ov_entry    *known = ov_find(o, key);
    struct tsp_override v;
    struct kl_err       err = { .code = KL_OK };
    char                right[KL_BUS_KEY_MAX + 1];

    if (known != NULL && known->revision >= revision)
        return;
    if (o->revision < revision)
        o->revision = revision;
    if (value.at == NULL) {
        forget(o, key);
        return;
    }
    if (tsp_override_read(value, &v, &err) == KL_OK) {
        tsp_override_key(v.tenant, right, sizeof right);
        if (strcmp(right, key) != 0)
            kl_fail(&err, KL_ECORRUPT, "it is that of tenant %.*s", (int)v.tenant.size, (const char *)v.tenant.at);
        else if (!keep(o, key, &v, revision))
            kl_fail(&err, KL_ELIMIT, "there are more than %d tenants, or %d MiB, of overrides", OV_TENANTS_MAX,
                    OV_BYTES_MAX >> 20);
    }
    if (err.code != KL_OK) {
        kl_within(&err, "%s, revision %" PRIu64, key, revision);
        passed_over(o, &err);
    }
}

void ov_apply(struct ov *o)
{
    struct kl_config_said *said;
    size_t n = 0;

    kl_gauge_set(o->revision_gauge, (double)o->revision);
    if (!o->dirty)
        return;
    o->dirty = false;
    said = kl_new((o->count + 1) * sizeof *said);
    for (size_t i = 0; i < o->count; i++)
        if (o->entries[i].says)
            said[n++] = (struct kl_config_said){ kl_span(o->entries[i].tenant, o->entries[i].tenant_size),
                                                 kl_span(o->entries[i].all, o->entries[i].all_size) };
    kl_env_live_over(o->options.live, said, n, passed_over, o);
    kl_gauge_set(o->tenants_gauge, (double)n);
    free(said);
}

static void on_change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct ov *o = kl_container_of(w, struct ov, watch);

    o->deletions += value.at == NULL;
    ov_see(o, key, value, revision);
    if (atomic_load(&o->known) && !o->soon.armed)
        o->env->sched->arm(o->loop, &o->soon, SOON_MS);
}

static void on_current(struct kl_bus_watch *w)
{
    struct ov *o = kl_container_of(w, struct ov, watch);

    ov_apply(o);
    atomic_store(&o->known, true);
}

static void on_soon(struct kl_env_timer *t) { ov_apply(kl_container_of(t, struct ov, soon)); }

/* ---- birth and end ---- */

static void begin(struct kl_env_task *task)
{
    struct ov *o = kl_container_of(task, struct ov, begin);

    o->watch = (struct kl_bus_watch){ .prefix = TSP_OVERRIDE_PREFIX, .loop = o->loop, .change = on_change,
                                      .current = on_current };
    o->watching = true;
    o->bus->watch(o->bus, &o->watch);
}

static void end(struct kl_env_task *task)
{
    struct ov *o = kl_container_of(task, struct ov, end);

    if (o->watching)
        o->bus->unwatch(o->bus, &o->watch);
    o->env->sched->disarm(o->loop, &o->soon);
}

struct ov *ov_new(struct kl_env *env, struct kl_bus *bus, const struct ov_options *options)
{
    struct ov         *o = kl_new(sizeof *o);
    struct kl_metrics *m = options->metrics;

    o->env = env;
    o->bus = bus;
    o->options = *options;
    o->tenants_gauge = m == NULL ? &o->unseen : kl_metrics_add(m, KL_GAUGE, "koalemos_overrides_tenants", "",
        "Tenants of whom something is said over the file.");
    o->revision_gauge = m == NULL ? &o->unseen : kl_metrics_add(m, KL_GAUGE, "koalemos_overrides_revision", "",
        "The latest revision of overrides in force here: equal in all services of a cell.");
    o->refused = m == NULL ? &o->unseen : kl_metrics_add(m, KL_COUNTER, "koalemos_overrides_passed_over_total", "",
        "Overrides, or options of one, that could not be read and were passed over.");
    o->begin.run = begin;
    o->end.run = end;
    o->soon.fire = on_soon;
    o->loop = env->sched->loop_new(env->sched, "overrides", QUEUE_MAX);
    env->sched->post(o->loop, &o->begin);
    return o;
}

void ov_free(struct ov *o)
{
    if (o == NULL)
        return;
    o->env->sched->post(o->loop, &o->end);
    o->env->sched->loop_free(o->loop);
    for (size_t i = 0; i < o->count; i++)
        empty(o, &o->entries[i]);
    free(o->entries);
    free(o);
}

bool ov_known(struct ov *o, struct kl_err *err)
{
    if (atomic_load(&o->known))
        return true;
    kl_fail(err, KL_EAGAIN, "what is said of tenants in the KV is not known yet");
    return false;
}
