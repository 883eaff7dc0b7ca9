#include "doorman/bootstrap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_MS = 1000 };

struct dm_bootstrap {
    struct kl_env *env;
    struct kl_bus *bus;
    struct kl_log *log;
    struct kl_env_loop *loop;
    struct tsp_placement *wanted;
    struct kl_bus_kv op;
    struct kl_buf bytes;
    struct kl_env_task begin;
    struct kl_env_timer again;
    bool complained;
};

/* ---- the configuration's text ---- */

static enum kl_code assign_range(struct tsp_placement *p, const char *name, unsigned long from,
                                 unsigned long to, struct kl_err *err)
{
    const char *already;

    if (to >= tsp_placement_partitions(p))
        return kl_fail(err, KL_EINVAL, "placement.static: there is no partition %lu: they are 0 to %u",
                       to, tsp_placement_partitions(p) - 1);
    for (unsigned long i = from; i <= to; i++) {
        if (tsp_placement_members(p, (uint32_t)i, &already, 1) > 0)
            return kl_fail(err, KL_EINVAL, "placement.static: partition %lu is given twice", i);
        if (tsp_placement_assign(p, (uint32_t)i, &name, 1, err) != KL_OK)
            return kl_within(err, "placement.static");
    }
    return KL_OK;
}

/* One "name=from-to" or "name=number"; `part` is cut up. */
static enum kl_code assign_part(struct tsp_placement *p, char *part, struct kl_err *err)
{
    char         *eq = strchr(part, '='), *end;
    unsigned long from, to;

    if (eq == NULL || eq == part || eq[1] < '0' || eq[1] > '9')
        return kl_fail(err, KL_EINVAL,
                       "placement.static: \"%.60s\" should read NAME=FROM-TO, as ingestor-0=0-7", part);
    *eq = '\0';
    from = to = strtoul(eq + 1, &end, 10);
    if (*end == '-' && end[1] >= '0' && end[1] <= '9')
        to = strtoul(end + 1, &end, 10);
    if (*end != '\0' || to < from)
        return kl_fail(err, KL_EINVAL, "placement.static: \"%.60s\" is no range of partitions", eq + 1);
    return assign_range(p, part, from, to, err);
}

enum kl_code dm_placement_parse(const char *assign, uint32_t partitions, struct tsp_placement **out,
                                struct kl_err *err)
{
    struct tsp_placement *p;
    char        *text, *save = NULL;
    const char  *who;
    enum kl_code code = KL_OK;

    if (partitions == 0 || partitions > TSP_PARTITIONS_MAX || (partitions & (partitions - 1)) != 0)
        return kl_fail(err, KL_EINVAL, "partitions: %u should be a power of two up to %d", partitions,
                       TSP_PARTITIONS_MAX);
    p = tsp_placement_new(partitions);
    if (assign == NULL || assign[0] == '\0')
        code = assign_range(p, "ingestor-0", 0, partitions - 1, err);
    text = kl_strdup(assign == NULL ? "" : assign);
    for (char *part = strtok_r(text, ", ", &save); part != NULL && code == KL_OK;
         part = strtok_r(NULL, ", ", &save))
        code = assign_part(p, part, err);
    free(text);
    for (uint32_t i = 0; i < partitions && code == KL_OK; i++)
        if (tsp_placement_members(p, i, &who, 1) == 0)
            code = kl_fail(err, KL_EINVAL, "placement.static: nobody has partition %u", i);
    if (code != KL_OK)
        tsp_placement_free(p);
    else
        *out = p;
    return code;
}

/* ---- bringing the KV to it ---- */

static bool same_members(const struct tsp_placement *a, const struct tsp_placement *b)
{
    const char *x[TSP_REPLICAS_MAX], *y[TSP_REPLICAS_MAX];

    for (uint32_t i = 0; i < tsp_placement_partitions(a); i++) {
        unsigned n = tsp_placement_members(a, i, x, TSP_REPLICAS_MAX);
        if (n != tsp_placement_members(b, i, y, TSP_REPLICAS_MAX))
            return false;
        for (unsigned k = 0; k < n; k++)
            if (strcmp(x[k], y[k]) != 0)
                return false;
    }
    return true;
}

static void get(struct dm_bootstrap *b);

static void try_again(struct dm_bootstrap *b, const struct kl_err *why)
{
    if (why->code == KL_ECANCELED)
        return;                                        /* the bus is closing: so are we */
    if (!b->complained && why->code != KL_EEXIST)
        kl_logf(b->log, KL_WARN, "placement table not written yet, retrying: %s", why->text);
    b->complained = true;
    b->env->sched->arm(b->loop, &b->again, RETRY_MS);
}

static void again(struct kl_env_timer *t) { get(kl_container_of(t, struct dm_bootstrap, again)); }

static void put_done(struct kl_bus_kv *op)
{
    struct dm_bootstrap *b = kl_container_of(op, struct dm_bootstrap, op);

    if (op->code != KL_OK)
        try_again(b, &op->err);
    else
        kl_logf(b->log, KL_INFO, "placement table written: %u partitions, revision %" PRIu64,
                tsp_placement_partitions(b->wanted), op->revision);
}

/* `there`: the members wanted, in the table that is there, so that its spreads are kept. */
static void put(struct dm_bootstrap *b, struct tsp_placement *there, uint64_t expect)
{
    struct kl_err err = { 0 };
    const char   *who[TSP_REPLICAS_MAX];

    for (uint32_t i = 0; there != b->wanted && i < tsp_placement_partitions(there); i++) {
        unsigned n = tsp_placement_members(b->wanted, i, who, TSP_REPLICAS_MAX);
        if (tsp_placement_assign(there, i, who, n, &err) != KL_OK) {
            kl_logf(b->log, KL_ERROR, "placement table: %s", err.text);
            return;
        }
    }
    tsp_placement_set_revision(there, tsp_placement_revision(there) + 1);
    kl_buf_reset(&b->bytes);
    if (tsp_placement_encode(there, &b->bytes, &err) != KL_OK) {
        kl_logf(b->log, KL_ERROR, "placement table: %s", err.text);
        return;
    }
    b->op = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .key = TSP_PLACEMENT_KEY, .expect = expect,
                                .value = kl_buf_span(&b->bytes), .loop = b->loop, .done = put_done };
    b->bus->kv(b->bus, &b->op);
}

static void got(struct kl_bus_kv *op)
{
    struct dm_bootstrap  *b = kl_container_of(op, struct dm_bootstrap, op);
    struct tsp_placement *there = NULL;
    uint64_t              revision = op->revision;
    struct kl_err         err;
    enum kl_code          code;

    if (op->code == KL_ENOENT) {
        put(b, b->wanted, 0);
        return;
    }
    if (op->code != KL_OK) {
        try_again(b, &op->err);
        return;
    }
    code = tsp_placement_decode(kl_span(op->got, op->got_size), &there, &err);
    free(op->got);
    if (code != KL_OK) {
        kl_logf(b->log, KL_ERROR, "the placement table in the KV is unreadable, and left as it is: %s",
                err.text);
        return;
    }
    if (tsp_placement_partitions(there) != tsp_placement_partitions(b->wanted))
        kl_logf(b->log, KL_ERROR, "this log has %u partitions, the configuration says %u: set partitions "
                "to %u; a cell whose partitions the coordinator gives can be split, this one cannot",
                tsp_placement_partitions(there), tsp_placement_partitions(b->wanted),
                tsp_placement_partitions(there));
    else if (!same_members(there, b->wanted))
        put(b, there, revision);
    tsp_placement_free(there);
}

static void get(struct dm_bootstrap *b)
{
    b->op = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .key = TSP_PLACEMENT_KEY, .loop = b->loop,
                                .done = got };
    b->bus->kv(b->bus, &b->op);
}

static void begin(struct kl_env_task *t) { get(kl_container_of(t, struct dm_bootstrap, begin)); }

struct dm_bootstrap *dm_bootstrap_new(struct kl_env *env, struct kl_bus *bus,
                                      struct tsp_placement *wanted_take, struct kl_log *log)
{
    struct dm_bootstrap *b = kl_new(sizeof *b);

    *b = (struct dm_bootstrap){ .env = env, .bus = bus, .log = log, .wanted = wanted_take,
                                .begin.run = begin, .again.fire = again };
    kl_buf_init(&b->bytes, KL_BUS_VALUE_MAX);
    b->loop = env->sched->loop_new(env->sched, "bootstrap", 16);
    env->sched->post(b->loop, &b->begin);
    return b;
}

void dm_bootstrap_free(struct dm_bootstrap *b)
{
    if (b == NULL)
        return;
    b->env->sched->loop_free(b->loop);
    tsp_placement_free(b->wanted);
    kl_buf_deinit(&b->bytes);
    free(b);
}
