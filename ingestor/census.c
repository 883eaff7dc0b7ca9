/*
 * Which metrics outgrow a partition: counted by its owner now and then, told in the KV (census.h of
 * libtsproto). What has no sample within the window does not count: it is no longer there, or elsewhere.
 */
#include "ingestor/ing_priv.h"

#include <inttypes.h>
#include <stdlib.h>

#include "libtsproto/census.h"

struct ing_census {
    struct ing_partition *p;
    struct tsp_census  found;
    struct kl_buf      value;
    struct kl_bus_kv   kv;
    bool out, told, complained;
};

struct count { const struct ing_head *head; int64_t since_ms; uint64_t recent; };

static bool see(void *ctx, uint32_t id)
{
    struct count *c = ctx;

    c->recent += ing_series_at(c->head, id)->last_ms >= c->since_ms;
    return true;
}

/* The largest stay, should there be more than can be told. */
static void keep(struct tsp_census *c, const struct tsp_census_metric *m)
{
    uint32_t at = c->count;

    if (at == TSP_CENSUS_METRICS_MAX) {
        if (c->metrics[at - 1].series >= m->series)
            return;
        at--;
    } else {
        c->count++;
    }
    for (; at > 0 && c->metrics[at - 1].series < m->series; at--)
        c->metrics[at] = c->metrics[at - 1];
    c->metrics[at] = *m;
}

static void look(const struct ing_head *h, uint64_t bound, struct tsp_census *c)
{
    static const char name[] = "__name__";
    uint32_t          number = ing_pairs_name((struct ing_pairs *)&h->pairs,
                                              kl_span(name, sizeof name - 1), false);
    const struct ing_name *n;

    if (h->count <= bound || number == ING_NONE)
        return;
    n = ing_name_at(h->pairs.name_pages, number);
    for (uint32_t i = 0; i < n->count; i++) {
        const struct ing_pair *pair = ing_pair_at(h->pairs.pair_pages, n->values[i]);
        struct count           count = { h, c->since_ms, 0 };
        if (pair->series.count <= bound)
            continue;
        ing_set_each(&pair->series, see, &count);
        if (count.recent > bound)
            keep(c, &(struct tsp_census_metric){ h->tenant, ing_text(pair->text), count.recent });
    }
}

static void told(struct kl_bus_kv *kv)
{
    struct ing_census   *c = kl_container_of(kv, struct ing_census, kv);
    struct ing_ingestor *i = c->p->i;

    c->out = false;
    if (kv->code != KL_OK && kv->code != KL_ENOENT && kv->code != KL_ECANCELED && !c->complained)
        kl_logf(i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": its largest metrics could not be told, "
                "and are not spread: %s", c->p->number, kv->err.text);
    c->complained = kv->code != KL_OK && kv->code != KL_ENOENT;
    ing_in(i);
}

static void tell(struct ing_census *c)
{
    struct ing_ingestor *i = c->p->i;
    struct kl_err        err;

    c->kv = (struct kl_bus_kv){ .kind = c->found.count > 0 ? KL_BUS_KV_PUT : KL_BUS_KV_DELETE,
                                .expect = UINT64_MAX, .loop = c->p->shard->loop, .done = told };
    tsp_census_key(c->p->number, c->kv.key, sizeof c->kv.key);
    kl_buf_reset(&c->value);
    if (tsp_census_encode(&c->found, &c->value, &err) != KL_OK) {
        kl_logf(i->o.log, KL_ERROR, "ingestor: partition %" PRIu32 ": %s", c->p->number, err.text);
        return;
    }
    c->kv.value = kl_buf_span(&c->value);
    c->told = c->found.count > 0;
    c->out = true;
    ing_out(i);
    i->bus->kv(i->bus, &c->kv);
}

void ing_census_tick(struct ing_partition *p, int64_t now_ns)
{
    struct ing_ingestor *i = p->i;
    struct ing_census   *c = p->census;
    uint64_t             bound = i->o.spread_series;
    bool                 large = false;

    if (bound == 0 || now_ns < p->census_again_ns || ing_stopping(p) || (c != NULL && c->out))
        return;
    p->census_again_ns = now_ns + i->o.census_ms * 1000000;
    for (uint32_t t = 0; t < p->tenant_count; t++)
        large = large || p->tenants[t].head->count > bound;
    if (!large && (c == NULL || !c->told))
        return;
    if (c == NULL) {
        c = p->census = kl_new(sizeof *c);
        c->p = p;
        kl_buf_init(&c->value, KL_BUS_VALUE_MAX);
    }
    c->found = (struct tsp_census){ .partition = p->number,
                                    .since_ms = kl_env_now_ms(i->env) - i->o.spread_window_ms };
    for (uint32_t t = 0; t < p->tenant_count; t++)
        look(p->tenants[t].head, bound, &c->found);
    if (c->found.count > 0 || c->told)
        tell(c);
}

void ing_census_free(struct ing_partition *p)
{
    if (p->census != NULL)
        kl_buf_deinit(&p->census->value);
    free(p->census);
    p->census = NULL;
}
