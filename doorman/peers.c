#include "doorman/peers.h"

#include "doorman/dm_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "doorman."
enum { VERSION = 1, PEERS_MAX = 1024, BEATS_SILENT = 3, GONE_MS = 600000 };
enum { TENANTS_TOLD_MAX = 10000 };

struct told { struct dm_share *share; int64_t active; };
struct peer {
    struct peer *next;
    char     key[KL_BUS_KEY_MAX + 1];
    int64_t  seen_ms;                                  /* its key change, by our monotonic clock */
    uint64_t revision;
    struct told *told; size_t told_count;
};
struct dm_peers {
    struct dm_doorman  *doorman;
    struct kl_env_loop *loop;
    struct kl_bus_watch watch;
    struct kl_env_timer timer;
    struct kl_bus_kv    put, sweep;
    bool     putting, sweeping, full_told;
    struct kl_buf value;
    uint64_t beat;
    struct peer *peers;
    size_t   count;
    char     key[KL_BUS_KEY_MAX + 1];
};

static int64_t now_of(const struct dm_peers *p) { return kl_env_mono_ns(p->doorman->env) / 1000000; }

/* ---- the others ---- */

static bool lives(const struct dm_peers *p, const struct peer *x)
{
    return now_of(p) - x->seen_ms < BEATS_SILENT * p->doorman->options.heartbeat_ms;
}

static void forget_elsewhere(void *ctx, struct dm_share *s) { (void)ctx; s->adding = 0; }
static void set_elsewhere(void *ctx, struct dm_share *s)
{
    (void)ctx;
    atomic_store_explicit(&s->elsewhere, s->adding, memory_order_relaxed);
}

static void reckon(struct dm_peers *p)
{
    unsigned live = 1;

    dm_shares_each(p->doorman->shares, forget_elsewhere, NULL);
    for (const struct peer *x = p->peers; x != NULL; x = x->next) {
        if (!lives(p, x))
            continue;
        live++;
        for (size_t i = 0; i < x->told_count; i++)
            x->told[i].share->adding += x->told[i].active;
    }
    dm_shares_each(p->doorman->shares, set_elsewhere, NULL);
    atomic_store(&p->doorman->doormen, live);
    kl_gauge_set(p->doorman->counters.doormen, live);
}

static struct peer **find(struct dm_peers *p, const char *key)
{
    struct peer **at = &p->peers;

    while (*at != NULL && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    return at;
}

static void read_told(struct dm_peers *p, struct peer *x, struct kl_span value)
{
    struct kl_cur c = kl_cur(value.at, value.size);

    x->told_count = 0;
    if (kl_cur_8(&c) != VERSION)
        return;
    kl_cur_v(&c);
    while (kl_cur_left(&c) > 0 && x->told_count < TENANTS_TOLD_MAX) {
        struct kl_span name = kl_cur_span(&c);
        uint64_t       active = kl_cur_v(&c);
        if (c.bad || !kl_tenant_ok(name) || active > INT32_MAX)
            return;
        x->told = kl_resize(x->told, (x->told_count + 1) * sizeof *x->told);
        x->told[x->told_count++] = (struct told){
            dm_share_of(p->doorman->shares, name, kl_hash64(name.at, name.size)), (int64_t)active };
    }
}

static void peer_free(struct dm_peers *p, struct peer **at)
{
    struct peer *x = *at;

    *at = x->next;
    free(x->told);
    free(x);
    p->count--;
}

static void on_change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct dm_peers *p = kl_container_of(w, struct dm_peers, watch);
    struct peer    **at = find(p, key);

    if (strcmp(key, p->key) == 0)
        return;
    if (value.at == NULL) {
        if (*at != NULL)
            peer_free(p, at);
    } else if (*at == NULL && p->count == PEERS_MAX) {
        if (!p->full_told)
            kl_logf(p->doorman->options.log, KL_WARN, "more than %d doormen: the others are not counted",
                    PEERS_MAX);
        p->full_told = true;
    } else {
        if (*at == NULL) {
            *at = kl_new(sizeof **at);
            snprintf((*at)->key, sizeof (*at)->key, "%s", key);
            p->count++;
        }
        if (revision != (*at)->revision) {             /* states repeat after a reconnection */
            (*at)->revision = revision;
            (*at)->seen_ms = now_of(p);
            read_told(p, *at, value);
        }
    }
    reckon(p);
}

static void on_current(struct kl_bus_watch *w) { (void)w; }

/* ---- oneself ---- */

static void tell(void *ctx, struct dm_share *s)
{
    struct dm_peers *p = ctx;
    int64_t          active = atomic_load_explicit(&s->active, memory_order_relaxed);
    struct kl_span   name = kl_span(s->name, s->size);

    /* Past what a key holds the rest is not told: then a bound is a doorman's own. */
    if (active <= 0 || p->value.size + s->size + 20 > KL_BUS_VALUE_MAX ||
        dm_limits_of(p->doorman, name).series_max == 0)
        return;
    kl_buf_addspan(&p->value, name);
    kl_buf_addv(&p->value, (uint64_t)active);
}

static void on_put(struct kl_bus_kv *op) { kl_container_of(op, struct dm_peers, put)->putting = false; }
static void on_swept(struct kl_bus_kv *op) { kl_container_of(op, struct dm_peers, sweep)->sweeping = false; }

static void beat(struct dm_peers *p)
{
    struct kl_bus *bus = p->doorman->bus;

    if (p->putting)
        return;
    kl_buf_reset(&p->value);
    kl_buf_add8(&p->value, VERSION);
    kl_buf_addv(&p->value, ++p->beat);
    dm_shares_each(p->doorman->shares, tell, p);
    p->put = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&p->value),
                                 .expect = UINT64_MAX, .loop = p->loop, .done = on_put };
    memcpy(p->put.key, p->key, sizeof p->key);
    p->putting = true;
    bus->kv(bus, &p->put);
}

static void sweep(struct dm_peers *p)
{
    struct kl_bus *bus = p->doorman->bus;

    for (const struct peer *x = p->peers; x != NULL && !p->sweeping; x = x->next)
        if (now_of(p) - x->seen_ms > GONE_MS) {
            p->sweep = (struct kl_bus_kv){ .kind = KL_BUS_KV_DELETE, .expect = x->revision,
                                           .loop = p->loop, .done = on_swept };
            memcpy(p->sweep.key, x->key, sizeof x->key);
            p->sweeping = true;
            bus->kv(bus, &p->sweep);
        }
}

static void on_timer(struct kl_env_timer *timer)
{
    struct dm_peers *p = kl_container_of(timer, struct dm_peers, timer);

    beat(p);
    reckon(p);
    sweep(p);
    p->doorman->env->sched->arm(p->loop, &p->timer, p->doorman->options.heartbeat_ms);
}

/* ---- birth and end ---- */

struct dm_peers *dm_peers_new(struct dm_doorman *d, struct kl_env_loop *loop, const char *who_hex)
{
    struct dm_peers *p = kl_new(sizeof *p);

    p->doorman = d;
    p->loop = loop;
    p->timer.fire = on_timer;
    kl_buf_init(&p->value, KL_BUS_VALUE_MAX);
    snprintf(p->key, sizeof p->key, PREFIX "%s", who_hex);
    return p;
}

void dm_peers_begin(struct dm_peers *p)
{
    p->watch = (struct kl_bus_watch){ .prefix = PREFIX, .loop = p->loop, .change = on_change,
                                      .current = on_current };
    p->doorman->bus->watch(p->doorman->bus, &p->watch);
    on_timer(&p->timer);
}

void dm_peers_end(struct dm_peers *p)
{
    p->doorman->bus->unwatch(p->doorman->bus, &p->watch);
    p->doorman->env->sched->disarm(p->loop, &p->timer);
}

void dm_peers_free(struct dm_peers *p)
{
    if (p == NULL)
        return;
    while (p->peers != NULL)
        peer_free(p, &p->peers);
    kl_buf_deinit(&p->value);
    free(p);
}
