#include "doorman/ha.h"

#include "doorman/dm_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "ha."
enum { CHAINS = 4096, VERSION = 1 };
enum { SILENT_MS = 3600000, LOOK_MS = 1000 };

struct owner;
struct dm_ha_cluster {
    struct dm_ha_cluster *next, *sibling;              /* of its chain; of its tenant */
    struct dm_ha *ha;
    struct owner *owner;
    uint64_t hash;
    char     key[KL_BUS_KEY_MAX + 1];
    char    *leader; size_t leader_size;               /* NULL: there is none */
    int64_t  seen_ms;                                  /* put or changed, by our monotonic clock */
    uint64_t revision;                                 /* of the key; 0: there is none */
    bool     busy;                                     /* `op` is under way */
    struct kl_bus_kv op;
    struct kl_buf    value;
    char    *want; size_t want_size;                   /* whom the op puts, and */
    int64_t  want_ms;
    struct dm_ticket *waiting, **last;
};
struct owner {                                         /* a tenant with clusters */
    struct owner *next;
    struct dm_ha_cluster *clusters;
    uint32_t count;
    int64_t  looked_ms;                                /* for silent ones */
    size_t   size; char name[];
};
struct dm_ha {
    struct dm_gate *gate;
    struct kl_bus_watch watch;
    bool watching;
    _Atomic bool known;
    struct dm_ha_cluster *clusters[CHAINS];
    struct owner *owners[CHAINS];
};

/* ---- clusters ---- */

static int64_t now_of(const struct dm_ha *ha) { return kl_env_mono_ns(ha->gate->env) / 1000000; }

static struct owner *owner_of(struct dm_ha *ha, struct kl_span tenant, bool make)
{
    struct owner **at = &ha->owners[kl_hash64(tenant.at, tenant.size) % CHAINS], *o;

    for (o = *at; o != NULL; o = o->next)
        if (kl_span_eq(kl_span(o->name, o->size), tenant))
            return o;
    if (!make)
        return NULL;
    o = kl_new(sizeof *o + tenant.size + 1);
    o->size = tenant.size;
    memcpy(o->name, tenant.at, tenant.size);
    o->next = *at;
    *at = o;
    return o;
}

/* Could it not stand between two dots of a key? Each dot there is between two others. */
static bool is_unfit(struct kl_span tenant)
{
    const char *at = tenant.at;

    return tenant.size > 0 && (at[0] == '.' || at[tenant.size - 1] == '.' || memmem(at, tenant.size, "..", 2) != NULL);
}

static void swap(char *at, size_t size, char from, char to)
{
    for (size_t i = 0; i < size; i++)
        if (at[i] == from)
            at[i] = to;
}

static void key_of(struct kl_span tenant, struct kl_span cluster, char *key)
{
    struct kl_fp h = kl_hash128(cluster.at, cluster.size);

    snprintf(key, KL_BUS_KEY_MAX + 1, PREFIX "%.*s.%016llx%016llx", (int)tenant.size,
             (const char *)tenant.at, (unsigned long long)h.hi, (unsigned long long)h.lo);
    if (is_unfit(tenant))                              /* which no tenant's name has */
        swap(key + strlen(PREFIX), tenant.size, '.', '=');
}

static struct dm_ha_cluster *find(struct dm_ha *ha, const char *key)
{
    uint64_t              hash = kl_hash64(key, strlen(key));
    struct dm_ha_cluster *c = ha->clusters[hash % CHAINS];

    while (c != NULL && (c->hash != hash || strcmp(c->key, key) != 0))
        c = c->next;
    return c;
}

static struct dm_ha_cluster *add(struct dm_ha *ha, const char *key, struct kl_span tenant)
{
    struct dm_ha_cluster *c = kl_new(sizeof *c), **chain;

    c->ha = ha;
    c->hash = kl_hash64(key, strlen(key));
    snprintf(c->key, sizeof c->key, "%s", key);
    c->last = &c->waiting;
    c->seen_ms = now_of(ha);
    kl_buf_init(&c->value, KL_BUS_VALUE_MAX);
    chain = &ha->clusters[c->hash % CHAINS];
    c->next = *chain;
    *chain = c;
    c->owner = owner_of(ha, tenant, true);
    c->sibling = c->owner->clusters;
    c->owner->clusters = c;
    c->owner->count++;
    return c;
}

static void cluster_free(struct dm_ha_cluster *c)
{
    free(c->leader);
    free(c->want);
    kl_buf_deinit(&c->value);
    free(c);
}

static void forget(struct dm_ha_cluster *c)
{
    struct dm_ha_cluster **at = &c->ha->clusters[c->hash % CHAINS];

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    for (at = &c->owner->clusters; *at != c; at = &(*at)->sibling) { }
    *at = c->sibling;
    c->owner->count--;
    cluster_free(c);
}

static void set_leader(struct dm_ha_cluster *c, struct kl_span replica, int64_t seen_ms,
                       uint64_t revision)
{
    char *name = replica.at == NULL ? NULL : kl_new(replica.size + 1);

    if (name != NULL)
        memcpy(name, replica.at, replica.size);
    free(c->leader);
    c->leader = name;
    c->leader_size = replica.size;
    c->seen_ms = seen_ms;
    c->revision = revision;
}

/* What the key says; one that cannot be read has no leader, and is written over. */
static void read_value(struct dm_ha_cluster *c, struct kl_span value, uint64_t revision)
{
    struct kl_cur  cur = kl_cur(value.at, value.size);
    uint8_t        version = kl_cur_8(&cur);
    struct kl_span replica;

    kl_cur_span(&cur);
    replica = kl_cur_span(&cur);
    kl_cur_z(&cur);
    if (version != VERSION || cur.bad) {
        kl_logf(c->ha->gate->log, KL_WARN, "%s: not readable, and taken for no leader", c->key);
        set_leader(c, kl_span(NULL, 0), now_of(c->ha), revision);
    } else {
        set_leader(c, replica, now_of(c->ha), revision);
    }
}

/* ---- asking the KV ---- */

/* Those who waited are read again, or fail. */
static void wake(struct dm_ha_cluster *c, const struct kl_err *err)
{
    struct dm_ticket *t = c->waiting, *next;
    struct dm_gate   *g = c->ha->gate;

    c->waiting = NULL;
    c->last = &c->waiting;
    for (; t != NULL; t = next) {
        next = t->next_waiting;
        if (err == NULL) {
            dm_gate_reread(g, t);
        } else {
            dm_ticket_fail(t, 503, 1, "the leader of an HA pair cannot be told: %s", err->text);
            dm_gate_finish(g, t);
        }
    }
}

static void start(struct dm_ha_cluster *c, enum kl_bus_kv_kind kind, void (*done)(struct kl_bus_kv *op))
{
    struct dm_gate *g = c->ha->gate;

    c->busy = true;
    c->op = (struct kl_bus_kv){ .kind = kind, .value = kl_buf_span(&c->value), .expect = c->revision,
                                .loop = g->loop, .done = done };
    memcpy(c->op.key, c->key, sizeof c->key);
    g->bus->kv(g->bus, &c->op);
}

static void on_get(struct kl_bus_kv *op)
{
    struct dm_ha_cluster *c = kl_container_of(op, struct dm_ha_cluster, op);

    c->busy = false;
    if (op->code == KL_OK && op->revision > c->revision)
        read_value(c, kl_span(op->got, op->got_size), op->revision);
    if (op->code == KL_OK)
        free(op->got);
    if (op->code == KL_ENOENT)
        set_leader(c, kl_span(NULL, 0), now_of(c->ha), 0);
    wake(c, op->code == KL_OK || op->code == KL_ENOENT ? NULL : &op->err);
}

static void on_put(struct kl_bus_kv *op)
{
    struct dm_ha_cluster *c = kl_container_of(op, struct dm_ha_cluster, op);

    c->busy = false;
    if (op->code == KL_EEXIST) {                       /* another doorman was faster: with whom? */
        start(c, KL_BUS_KV_GET, on_get);
        return;
    }
    if (op->code == KL_OK && op->revision >= c->revision)
        set_leader(c, kl_span(c->want, c->want_size), c->want_ms, op->revision);
    wake(c, op->code == KL_OK ? NULL : &op->err);
}

static void put(struct dm_ha_cluster *c, struct kl_span cluster, struct kl_span replica)
{
    free(c->want);
    c->want = kl_new(replica.size + 1);
    memcpy(c->want, replica.at, replica.size);
    c->want_size = replica.size;
    c->want_ms = now_of(c->ha);
    kl_buf_reset(&c->value);
    kl_buf_add8(&c->value, VERSION);
    kl_buf_addspan(&c->value, cluster);
    kl_buf_addspan(&c->value, replica);
    kl_buf_addz(&c->value, kl_env_now_ms(c->ha->gate->env));
    start(c, KL_BUS_KV_PUT, on_put);
}

static void on_delete(struct kl_bus_kv *op)
{
    struct dm_ha_cluster *c = kl_container_of(op, struct dm_ha_cluster, op);
    struct dm_gate       *g = c->ha->gate;
    struct dm_ticket     *t = c->waiting, *next;

    c->busy = false;
    if (op->code != KL_OK && op->code != KL_ENOENT && op->code != KL_EEXIST) {
        wake(c, &op->err);
        return;
    }
    /* Its waiters wait for room, not for it. */
    c->waiting = NULL;
    c->last = &c->waiting;
    if (op->code == KL_EEXIST)
        start(c, KL_BUS_KV_GET, on_get);               /* it has come back */
    else
        forget(c);
    for (; t != NULL; t = next) {
        next = t->next_waiting;
        dm_gate_reread(g, t);
    }
}

/* ---- watching it ---- */

static void on_change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct dm_ha         *ha = kl_container_of(w, struct dm_ha, watch);
    struct dm_ha_cluster *c = find(ha, key);
    const char           *dot = strrchr(key, '.');
    char                  tenant[KL_BUS_KEY_MAX + 1];

    if (value.at == NULL) {
        if (c != NULL && revision >= c->revision)
            set_leader(c, kl_span(NULL, 0), now_of(c->ha), 0);
        if (c != NULL && c->revision == 0 && !c->busy && c->waiting == NULL)
            forget(c);
        return;
    }
    if (c == NULL && dot != NULL && dot > key + strlen(PREFIX)) {
        snprintf(tenant, sizeof tenant, "%.*s", (int)(dot - key - (ptrdiff_t)strlen(PREFIX)), key + strlen(PREFIX));
        swap(tenant, strlen(tenant), '=', '.');
        c = add(ha, key, kl_span_str(tenant));
    }
    if (c != NULL && revision > c->revision)
        read_value(c, value, revision);
}

static void on_current(struct kl_bus_watch *w) { kl_container_of(w, struct dm_ha, watch)->known = true; }

/* ---- judging ---- */

/* A cluster that sends no more, to be deleted so that another one has room. Asked for seldom. */
static struct dm_ha_cluster *silent(struct owner *o, int64_t now_ms)
{
    struct dm_ha_cluster *c = o->clusters;

    if (now_ms - o->looked_ms < LOOK_MS)
        return NULL;
    o->looked_ms = now_ms;
    while (c != NULL && (c->busy || now_ms - c->seen_ms < SILENT_MS))
        c = c->sibling;
    return c;
}

static struct dm_ha_cluster *cluster_of(struct dm_ha *ha, const struct dm_policy *policy,
                                        struct kl_span tenant, struct kl_span cluster,
                                        struct dm_ha_cluster **leaving)
{
    char                  key[KL_BUS_KEY_MAX + 1];
    struct dm_ha_cluster *c;
    struct owner         *o;

    *leaving = NULL;
    key_of(tenant, cluster, key);
    c = find(ha, key);
    if (c != NULL)
        return c;
    o = owner_of(ha, tenant, true);
    if (o->count < policy->ha_clusters_max)
        return add(ha, key, tenant);
    *leaving = silent(o, now_of(ha));
    return NULL;
}

enum dm_ha_verdict dm_ha_judge(struct dm_ha *ha, const struct dm_policy *policy, struct kl_span tenant,
                               struct kl_span cluster, struct kl_span replica,
                               struct dm_ha_cluster **on)
{
    struct dm_ha_cluster *leaving, *c = cluster_of(ha, policy, tenant, cluster, &leaving);
    int64_t age_ms;
    bool    leads;

    if (c == NULL && leaving != NULL) {
        *on = leaving;
        start(leaving, KL_BUS_KV_DELETE, on_delete);
        return DM_HA_WAIT;
    }
    if (c == NULL)
        return DM_HA_TOO_MANY;
    *on = c;
    age_ms = now_of(ha) - c->seen_ms;
    leads = c->leader != NULL && kl_span_eq(kl_span(c->leader, c->leader_size), replica);
    if (leads && age_ms < policy->ha_failover_ms) {
        if (!c->busy && age_ms >= policy->ha_failover_ms / 3)
            put(c, cluster, replica);
        return DM_HA_TAKE;
    }
    if (c->leader != NULL && !leads && age_ms <= policy->ha_failover_ms + policy->ha_failover_ms / 3)
        return DM_HA_PASS_OVER;
    if (!c->busy)
        put(c, cluster, replica);
    return DM_HA_WAIT;
}

void dm_ha_wait(struct dm_ha_cluster *on, struct dm_ticket *t)
{
    t->next_waiting = NULL;
    *on->last = t;
    on->last = &t->next_waiting;
}

/* ---- birth and end ---- */

struct dm_ha *dm_ha_new(struct dm_gate *g)
{
    struct dm_ha *ha = kl_new(sizeof *ha);

    ha->gate = g;
    return ha;
}

void dm_ha_begin(struct dm_ha *ha)
{
    struct dm_gate *g = ha->gate;

    ha->watch = (struct kl_bus_watch){ .prefix = PREFIX, .loop = g->loop, .change = on_change,
                                       .current = on_current };
    ha->watching = true;
    g->bus->watch(g->bus, &ha->watch);
}

void dm_ha_end(struct dm_ha *ha)
{
    if (ha->watching)
        ha->gate->bus->unwatch(ha->gate->bus, &ha->watch);
}

bool dm_ha_known(const struct dm_ha *ha) { return ha->known; }

/* Pushes that still wait are those of a killed process: nobody is answered. */
void dm_ha_free(struct dm_ha *ha)
{
    if (ha == NULL)
        return;
    for (unsigned i = 0; i < CHAINS; i++) {
        for (struct dm_ha_cluster *c = ha->clusters[i], *next; c != NULL; c = next) {
            next = c->next;
            for (struct dm_ticket *t = c->waiting, *then; t != NULL; t = then) {
                then = t->next_waiting;
                free(t->push->body);
                if (--t->pending == 0)
                    free(t);
            }
            cluster_free(c);
        }
        for (struct owner *o = ha->owners[i], *next; o != NULL; o = next) {
            next = o->next;
            free(o);
        }
    }
    free(ha);
}
