#include "ingestor/member_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAVE_TICK_MS = 50 };

static bool same(const struct tsp_incarnation *a, const struct tsp_incarnation *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* Says a thing once, when it begins to be so. */
static void words(struct ing_member *m, enum ing_member_words w, const char *what)
{
    if (atomic_exchange(&m->words, (int)w) == (int)w)
        return;
    if (w == ING_MEMBER_OK)
        kl_logf(m->o.log, KL_INFO, "ingestor: member %s of the cell (zone \"%s\", capacity %" PRIu32 ")",
                m->node.name, m->node.zone, m->node.capacity);
    else
        kl_logf(m->o.log, KL_WARN, "ingestor: member %s: %s", m->node.name, what);
}

uint64_t ing_member_epoch(const struct ing_member *m, uint32_t partition)
{
    return ing_member_in_time(m) ? atomic_load(&m->leases[partition].epoch) : 0;
}

bool ing_member_ready(const struct ing_member *m, struct kl_err *err)
{
    switch ((enum ing_member_words)atomic_load(&m->words)) {
    case ING_MEMBER_OK:
        return true;
    case ING_MEMBER_NAME_TAKEN:
        kl_fail(err, KL_EEXIST, "another ingestor runs under the name %s: give this one a name of its own "
                "(ingestor.name)", m->node.name);
        return false;
    case ING_MEMBER_REMOVED:
        kl_fail(err, KL_EAGAIN, "%s was removed from the cell: register it again, or stop it",
                m->node.name);
        return false;
    case ING_MEMBER_UNREACHED:
        break;
    }
    kl_fail(err, KL_EAGAIN, "%s has not registered in the KV yet", m->node.name);
    return false;
}

/* Somebody else's words stand under our name. May we take it? */
static bool may_claim(struct ing_member *m, const struct tsp_node *there)
{
    int64_t now_ns = kl_env_mono_ns(m->env);

    if (same(&there->instance, &m->node.instance) || same(&there->disk, &m->node.disk))
        return true;
    if (!same(&there->instance, &m->other) || there->beat != m->other_beat) {
        m->other = there->instance;
        m->other_beat = there->beat;
        m->other_since_ns = now_ns;
    }
    return now_ns - m->other_since_ns >= m->o.silent_ms * 1000000;
}

/* ---- the name ---- */

static void lose(struct ing_member *m)
{
    m->mine = false;
    atomic_store(&m->until_ns, 0);
    ing_leases_drop(m);
}

/* A heartbeat was refused. What stands there may be older than what a watch has told (member_lease.c). */
static void looked(struct kl_bus_kv *op)
{
    struct ing_member *m = kl_container_of(op, struct ing_member, op);
    struct tsp_node    is = { 0 };
    struct kl_err      err;

    m->out = false;
    if (op->code == KL_OK && tsp_node_decode(kl_span(op->got, op->got_size), &is, &err) == KL_OK) {
        if (m->mine && !same(&is.instance, &m->node.instance))
            lose(m);
        if (may_claim(m, &is))
            m->found = op->revision;
        tsp_node_deinit(&is);
    } else if (op->code == KL_ENOENT) {
        m->found = 0;
    }
    free(op->got);
}

static void look(struct ing_member *m)
{
    m->out = true;
    m->op = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = m->loop, .done = looked };
    tsp_node_key(m->node.name, m->op.key, sizeof m->op.key);
    m->bus->kv(m->bus, &m->op);
}

static void put_done(struct kl_bus_kv *op)
{
    struct ing_member *m = kl_container_of(op, struct ing_member, op);

    m->out = false;
    if (op->code == KL_OK) {
        m->mine = true;
        m->revision = op->revision;
        m->told = m->told || (m->leaving && m->node.holding_count == 0);
        atomic_store(&m->until_ns, m->sent_ns + m->o.silent_ms * 1000000 / 4 * 3);
        kl_count(m->heartbeats, 1);
        words(m, tsp_roster_mark(m->roster, m->node.name) == TSP_MARK_REMOVED ? ING_MEMBER_REMOVED
                                                                              : ING_MEMBER_OK,
              "removed from the cell by an operator");
    } else if (op->code != KL_ECANCELED) {
        kl_count(m->failures, 1);
        if (op->code == KL_EEXIST)
            look(m);
    }
}

static void put(struct ing_member *m, uint64_t expect)
{
    struct kl_err err;

    m->node.beat++;
    m->node.now_ms = kl_env_now_ms(m->env);
    m->node.holding_count = m->leaving ? 0 : m->o.holdings(m->o.ctx, m->node.holdings);
    kl_buf_reset(&m->bytes);
    if (tsp_node_encode(&m->node, &m->bytes, &err) != KL_OK) {
        kl_logf(m->o.log, KL_ERROR, "ingestor: member %s: %s", m->node.name, err.text);
        return;
    }
    m->sent_ns = kl_env_mono_ns(m->env);
    m->out = true;
    m->found = UINT64_MAX;
    m->op = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&m->bytes),
                                .expect = expect, .loop = m->loop, .done = put_done };
    tsp_node_key(m->node.name, m->op.key, sizeof m->op.key);
    m->bus->kv(m->bus, &m->op);
}

static void name_tick(struct ing_member *m)
{
    uint64_t               revision = 0;
    const struct tsp_node *there = tsp_roster_node(m->roster, m->node.name, &revision);
    char                   text[400];

    if (m->out || !m->nodes_current)
        return;
    if (m->mine && there != NULL && revision > m->revision) {
        if (same(&there->instance, &m->node.instance))
            m->revision = revision;                    /* a heartbeat whose answer was lost */
        else
            lose(m);
    }
    if (m->found != UINT64_MAX) {
        put(m, m->found);
    } else if (m->mine) {
        /* A key that was wiped is made anew; whoever took it meanwhile will be seen. */
        put(m, there == NULL ? 0 : m->revision);
    } else if (there == NULL || may_claim(m, there)) {
        put(m, there == NULL ? 0 : revision);
    } else {
        snprintf(text, sizeof text, "another ingestor runs under this name, at %s; waiting until it is "
                 "silent", there->address[0] == '\0' ? "an address it does not tell" : there->address);
        words(m, ING_MEMBER_NAME_TAKEN, text);
    }
}

static void tick(struct kl_env_timer *t)
{
    struct ing_member *m = kl_container_of(t, struct ing_member, tick);

    if (!m->told)
        name_tick(m);
    if (m->mine && ing_member_in_time(m) && tsp_roster_mark(m->roster, m->node.name) != TSP_MARK_REMOVED)
        ing_leases_tick(m);
    else
        ing_leases_drop(m);
    if (m->leaving && m->left != NULL && (!m->mine || (m->told && !m->out && ing_leases_quiet(m)))) {
        void (*left)(void *) = m->left;

        m->left = NULL;
        left(m->left_ctx);
    }
    m->env->sched->arm(m->loop, &m->tick, m->leaving ? LEAVE_TICK_MS : m->o.heartbeat_ms);
}

/* ---- what the watches bring ---- */

static void node_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                        uint64_t revision)
{
    struct ing_member *m = w->ctx;
    struct kl_err      err;

    if (tsp_roster_see(m->roster, key, value, revision, kl_env_mono_ns(m->env), &err) != KL_OK)
        kl_logf(m->o.log, KL_WARN, "ingestor: %s", err.text);
}

static void nodes_current(struct kl_bus_watch *w)
{
    struct ing_member *m = w->ctx;

    m->nodes_current = true;
    name_tick(m);
}

static bool is_our_mark(const struct ing_member *m, const char *key)
{
    size_t prefix = strlen(TSP_MARK_PREFIX);

    return strncmp(key, TSP_MARK_PREFIX, prefix) == 0 && strcmp(key + prefix, m->node.name) == 0;
}

static void mark_change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct ing_member *m = w->ctx;

    if (!m->marks_current && is_our_mark(m, key))
        m->old_mark = value.at != NULL && tsp_mark_until_start(value) ? revision : 0;
    node_change(w, key, value, revision);
}

/* A failure leaves the mark: the operator sees it in the status, and may take it back. */
static void mark_taken(struct kl_bus_kv *op)
{
    struct ing_member *m = kl_container_of(op, struct ing_member, mark_op);

    if (op->code != KL_OK && op->code != KL_ECANCELED)
        kl_logf(m->o.log, KL_WARN, "ingestor: member %s: the mark that says it leaves could not be taken back: %s",
                m->node.name, op->err.text);
}

/* We left, and have come back: others may count on us again. */
static void marks_current(struct kl_bus_watch *w)
{
    struct ing_member *m = w->ctx;

    if (m->marks_current)
        return;
    m->marks_current = true;
    if (m->old_mark == 0)
        return;
    m->mark_op = (struct kl_bus_kv){ .kind = KL_BUS_KV_DELETE, .expect = m->old_mark, .loop = m->loop,
                                     .done = mark_taken };
    snprintf(m->mark_op.key, sizeof m->mark_op.key, TSP_MARK_PREFIX "%s", m->node.name);
    m->bus->kv(m->bus, &m->mark_op);
}

/* ---- coming and going ---- */

static void begin(struct kl_env_task *task)
{
    struct ing_member *m = kl_container_of(task, struct ing_member, begin);

    m->found = UINT64_MAX;
    m->node_watch = (struct kl_bus_watch){ .prefix = TSP_NODE_PREFIX, .loop = m->loop,
                                           .change = node_change, .current = nodes_current, .ctx = m };
    m->mark_watch = (struct kl_bus_watch){ .prefix = TSP_MARK_PREFIX, .loop = m->loop,
                                           .change = mark_change, .current = marks_current, .ctx = m };
    m->bus->watch(m->bus, &m->mark_watch);
    m->bus->watch(m->bus, &m->node_watch);
    ing_leases_watch(m);
    m->env->sched->arm(m->loop, &m->tick, m->o.heartbeat_ms);
}

static void end(struct kl_env_task *task)
{
    struct ing_member *m = kl_container_of(task, struct ing_member, end);

    m->bus->unwatch(m->bus, &m->node_watch);
    m->bus->unwatch(m->bus, &m->mark_watch);
    m->bus->unwatch(m->bus, &m->lease_watch);
    m->bus->unwatch(m->bus, &m->table_watch);
}

static void leave(struct kl_env_task *task)
{
    struct ing_member *m = kl_container_of(task, struct ing_member, leave);

    m->leaving = true;
    m->env->sched->arm(m->loop, &m->tick, 0);
}

void ing_member_leave(struct ing_member *m, void (*done)(void *ctx), void *ctx)
{
    m->left = done;
    m->left_ctx = ctx;
    m->leave.run = leave;
    m->env->sched->post(m->loop, &m->leave);
}

static void metrics_init(struct ing_member *m)
{
    static struct kl_metric unseen;                    /* where no registry was given: never read */
    struct kl_metrics *r = m->o.metrics;

    m->owned = m->taken = m->given = m->heartbeats = m->failures = &unseen;
    if (r == NULL)
        return;
    m->owned = kl_metrics_add(r, KL_GAUGE, "koalemos_ingestor_leases", "",
                              "Partitions whose lease this ingestor holds");
    m->taken = kl_metrics_add(r, KL_COUNTER, "koalemos_ingestor_leases_taken_total", "",
                              "Leases of partitions taken");
    m->given = kl_metrics_add(r, KL_COUNTER, "koalemos_ingestor_leases_given_back_total", "",
                              "Leases of partitions given back to who should have them");
    m->heartbeats = kl_metrics_add(r, KL_COUNTER, "koalemos_ingestor_heartbeats_total", "",
                                   "Heartbeats that the KV took");
    m->failures = kl_metrics_add(r, KL_COUNTER, "koalemos_ingestor_heartbeat_failures_total", "",
                                 "Heartbeats that the KV did not take");
}

enum kl_code ing_member_new(struct kl_env *env, struct kl_bus *bus,
                            const struct ing_member_options *options, struct ing_member **out,
                            struct kl_err *err)
{
    struct ing_member *m;
    struct tsp_node    n = { .capacity = options->capacity, .partitions = options->partitions,
                             .instance = options->instance,
                             .disk = options->disk, .started_ms = kl_env_now_ms(env) };

    if (strlen(options->name) > TSP_NAME_MAX || strlen(options->zone) > TSP_ZONE_MAX)
        return kl_fail(err, KL_EINVAL, "ingestor.name has at most %d letters, ingestor.zone %d",
                       TSP_NAME_MAX, TSP_ZONE_MAX);
    snprintf(n.name, sizeof n.name, "%s", options->name);
    snprintf(n.zone, sizeof n.zone, "%s", options->zone);
    snprintf(n.address, sizeof n.address, "%s", options->address);
    snprintf(n.version, sizeof n.version, "%s", options->version);
    if (tsp_node_check(&n, err) != KL_OK)
        return err->code;
    m = kl_new(sizeof *m);
    n.holdings = kl_new(options->partitions * sizeof *n.holdings);
    *m = (struct ing_member){ .env = env, .bus = bus, .o = *options, .node = n, .begin.run = begin,
                              .end.run = end, .tick.fire = tick };
    atomic_store(&m->words, ING_MEMBER_UNREACHED);
    m->roster = tsp_roster_new(options->silent_ms, options->gone_ms);
    kl_buf_init(&m->bytes, KL_BUS_VALUE_MAX);
    metrics_init(m);
    ing_leases_init(m);
    m->loop = env->sched->loop_new(env->sched, "member", 64);
    env->sched->post(m->loop, &m->begin);
    *out = m;
    return KL_OK;
}

void ing_member_end(struct ing_member *m)
{
    if (m == NULL || m->loop == NULL)
        return;
    m->env->sched->post(m->loop, &m->end);
    m->env->sched->loop_free(m->loop);
    m->loop = NULL;
}

void ing_member_free(struct ing_member *m)
{
    if (m == NULL)
        return;
    ing_member_end(m);
    ing_leases_deinit(m);
    tsp_roster_free(m->roster);
    tsp_node_deinit(&m->node);
    kl_buf_deinit(&m->bytes);
    free(m);
}
