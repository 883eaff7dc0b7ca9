/* A change, as one compare-and-set of a key: read, made anew, put; and again when another was faster. */
#include "overrides/ov_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES_MAX = 8 };

static void finish(struct ov_change *c, enum kl_code code)
{
    c->code = code;
    kl_buf_deinit(&c->value);
    c->done(c);
}

static void get(struct ov_change *c);

/* ---- what it comes to ---- */

static enum kl_code read_now(const struct ov_change *c, struct tsp_override *v, struct kl_err *err)
{
    *v = (struct tsp_override){ .tenant = kl_span_str(c->tenant) };
    if (c->kv.code == KL_ENOENT)
        return KL_OK;
    if (tsp_override_read(kl_span(c->kv.got, c->kv.got_size), v, err) != KL_OK)
        return kl_within(err, "what is said of tenant %s now", c->tenant);
    if (!kl_span_eq(v->tenant, kl_span_str(c->tenant)))
        return kl_fail(err, KL_ECORRUPT, "the key of tenant %s holds that of %.*s", c->tenant,
                       (int)v->tenant.size, (const char *)v->tenant.at);
    return KL_OK;
}

static enum kl_code what_is_to_be_said(const struct ov_change *c, const struct tsp_override *v,
                                       struct kl_buf *all, struct kl_err *err)
{
    static const char *const none[] = { NULL };
    const struct kl_option  *table = c->o->options.table;
    struct kl_span           now = v->count > 0 ? v->versions[0].all : kl_span("", 0);

    switch (c->kind) {
    case OV_SET:
        return kl_config_said_read(table, "the body", c->yaml, all, err);
    case OV_MERGE:
        return kl_config_said_merge(table, now, "the body", c->yaml, c->unset != NULL ? c->unset : none, all, err);
    case OV_ROLLBACK:
        for (uint32_t i = 0; i < v->count; i++)
            if (v->versions[i].number == c->to)
                return kl_config_said_read(table, "that version", v->versions[i].all, all, err);
        return kl_fail(err, KL_ENOENT, "of tenant %s there is no version %" PRIu64 " any more", c->tenant, c->to);
    case OV_FORGET:
        break;
    }
    return KL_OK;
}

/* Over the file as it is now; another's may differ, so where it is only read nothing is refused. */
static enum kl_code check(const struct ov_change *c, struct kl_span all, struct kl_err *err)
{
    const struct ov_options *o = &c->o->options;
    struct kl_config        *file, *with;
    enum kl_code             code;

    if (o->check == NULL)
        return KL_OK;
    file = kl_env_live_below(o->live);
    with = kl_config_over(file, &(struct kl_config_said){ kl_span_str(c->tenant), all }, 1, NULL, NULL);
    code = o->check(with, c->tenant, err);
    kl_config_free(with);
    kl_config_free(file);
    return code;
}

/* `all` before what there was; its last version makes room where they are too many. */
static enum kl_code make_value(struct ov_change *c, struct tsp_override *v, struct kl_span all, struct kl_err *err)
{
    uint32_t kept = v->count < TSP_OVERRIDE_VERSIONS_MAX ? v->count : TSP_OVERRIDE_VERSIONS_MAX - 1;

    c->version = v->count > 0 ? v->versions[0].number + 1 : 1;
    memmove(&v->versions[1], &v->versions[0], kept * sizeof v->versions[0]);
    v->versions[0] = (struct tsp_override_version){
        .number = c->version, .of = c->kind == OV_ROLLBACK ? c->to : 0, .time_ms = kl_env_now_ms(c->o->env),
        .by = kl_span_str(c->by), .note = kl_span_str(c->note), .all = all };
    v->count = kept + 1;
    kl_buf_reset(&c->value);
    return tsp_override_write(v, &c->value, err);
}

/* What this service holds of all of them is what every service would have to hold. */
static enum kl_code room_for(struct ov_change *c, bool is_new, struct kl_err *err)
{
    const struct ov *o = c->o;

    if ((is_new && o->count >= OV_TENANTS_MAX) || o->bytes + TSP_OVERRIDE_ALL_MAX > OV_BYTES_MAX)
        return kl_fail(err, KL_ELIMIT, "there are %zu tenants and %zu KiB of overrides already; at most %d "
                       "and %d are kept", o->count, o->bytes >> 10, OV_TENANTS_MAX, OV_BYTES_MAX >> 10);
    return KL_OK;
}

/* ---- to the KV ---- */

/* What was put or deleted, before the watch tells it. It may have told more already: what another did after that stands,
 * and where it cannot be known whether there was such a thing, the watch is waited for. */
static void see_own(struct ov_change *c)
{
    const struct kl_bus_kv *op = &c->kv;
    const struct ov_entry  *e = ov_find(c->o, op->key);

    if (op->kind == KL_BUS_KV_PUT && (e != NULL || c->deletions == c->o->deletions))
        ov_see(c->o, op->key, kl_buf_span(&c->value), op->revision);
    else if (op->kind == KL_BUS_KV_DELETE && e != NULL && e->revision <= op->expect)
        ov_see(c->o, op->key, kl_span(NULL, 0), e->revision + 1);
    ov_apply(c->o);
}

static void on_put(struct kl_bus_kv *op)
{
    struct ov_change *c = kl_container_of(op, struct ov_change, kv);

    if (op->code == KL_EEXIST && ++c->tries < TRIES_MAX) {
        get(c);
        return;
    }
    c->err = op->err;
    if (op->code == KL_OK)                             /* in force here at once; elsewhere by the watch */
        see_own(c);
    finish(c, op->code);
}

static void put(struct ov_change *c, uint64_t revision)
{
    char key[KL_BUS_KEY_MAX + 1];

    memcpy(key, c->kv.key, sizeof key);
    c->kv = (struct kl_bus_kv){ .kind = c->kind == OV_FORGET ? KL_BUS_KV_DELETE : KL_BUS_KV_PUT,
                                .value = kl_buf_span(&c->value), .expect = revision, .loop = c->o->loop,
                                .done = on_put };
    memcpy(c->kv.key, key, sizeof key);
    c->deletions = c->o->deletions;
    c->o->bus->kv(c->o->bus, &c->kv);
}

static void on_got(struct kl_bus_kv *op)
{
    struct ov_change   *c = kl_container_of(op, struct ov_change, kv);
    uint64_t            revision = op->code == KL_ENOENT ? 0 : op->revision;
    struct tsp_override v;
    struct kl_buf       all;
    enum kl_code        code = op->code == KL_ENOENT ? KL_OK : op->code;

    kl_buf_init(&all, TSP_OVERRIDE_ALL_MAX);
    c->err = op->err;
    if (code == KL_OK)
        code = read_now(c, &v, &c->err);
    if (code == KL_OK && c->expect != UINT64_MAX && c->expect != (v.count > 0 ? v.versions[0].number : 0))
        code = kl_fail(&c->err, KL_EEXIST, "of tenant %s there is version %" PRIu64 ", and not %" PRIu64, c->tenant,
                       v.count > 0 ? v.versions[0].number : 0, c->expect);
    if (code == KL_OK && c->kind == OV_FORGET && revision == 0)
        code = kl_fail(&c->err, KL_ENOENT, "of tenant %s nothing is said", c->tenant);
    if (code == KL_OK)
        code = what_is_to_be_said(c, &v, &all, &c->err);
    if (code == KL_OK && c->kind != OV_FORGET)
        code = check(c, kl_buf_span(&all), &c->err);
    if (code == KL_OK && c->kind != OV_FORGET)
        code = room_for(c, revision == 0, &c->err);
    if (code == KL_OK && c->kind != OV_FORGET)
        code = make_value(c, &v, kl_buf_span(&all), &c->err);
    free(op->got);
    kl_buf_deinit(&all);
    if (code == KL_OK)
        put(c, revision);
    else
        finish(c, code);
}

static void get(struct ov_change *c)
{
    c->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = c->o->loop, .done = on_got };
    tsp_override_key(kl_span_str(c->tenant), c->kv.key, sizeof c->kv.key);
    c->o->bus->kv(c->o->bus, &c->kv);
}

static void begin(struct kl_env_task *task)
{
    struct ov_change *c = kl_container_of(task, struct ov_change, task);

    if (!kl_tenant_ok(kl_span_str(c->tenant))) {
        kl_fail(&c->err, KL_EINVAL, "a tenant is 1 to %d letters, digits, '.', '_' and '-'", KL_TENANT_MAX);
        finish(c, KL_EINVAL);
        return;
    }
    get(c);
}

void ov_change(struct ov *o, struct ov_change *c)
{
    c->o = o;
    c->tries = 0;
    c->version = 0;
    kl_buf_init(&c->value, TSP_OVERRIDE_VALUE_MAX);
    c->task = (struct kl_env_task){ .run = begin };
    o->env->sched->post(o->loop, &c->task);
}
