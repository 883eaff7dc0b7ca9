/* The ingestor as a member of its cell: what its partitions tell the member, and what that tells them. */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char catalogue_prefix[] = "catalogue.";

uint64_t ing_epoch(const struct ing_partition *p)
{
    uint64_t epoch;

    if (p->i->member == NULL)
        return p->epoch_seen > ING_EPOCH_STATIC ? p->epoch_seen : ING_EPOCH_STATIC;
    epoch = ing_member_epoch(p->i->member, p->number);
    return epoch >= p->fenced ? epoch : 0;
}

/* ---- the time ---- */

enum { CLOCK_AHEAD_MS = 5 * 60 * 1000 };

void ing_log_time(struct ing_ingestor *i, int64_t time_ms)
{
    int64_t ahead_ms = time_ms - kl_env_mono_ns(i->env) / 1000000, known = atomic_load(&i->log_ahead_ms);

    while (ahead_ms > known && !atomic_compare_exchange_weak(&i->log_ahead_ms, &known, ahead_ms))
        ;
}

int64_t ing_sure_now_ms(struct ing_ingestor *i)
{
    int64_t now_ms = kl_env_now_ms(i->env), ahead_ms = atomic_load(&i->log_ahead_ms), most_ms;

    if (i->member == NULL)
        return now_ms;
    if (ahead_ms == INT64_MIN)
        return 0;
    most_ms = kl_env_mono_ns(i->env) / 1000000 + ahead_ms + CLOCK_AHEAD_MS;
    return now_ms < most_ms ? now_ms : most_ms;
}

/* ---- on the member's loop: only what is atomic is touched ---- */

static enum tsp_holding_state state_of(const struct ing_partition *p)
{
    switch ((enum ing_state)atomic_load(&p->state)) {
    case ING_LIVE:
        /* An owner that is to be made anew hands over first (repair.c). */
        if (atomic_load(&p->repair.wished) && p->i->member != NULL && ing_member_other_ready(p->i->member, p->number))
            return TSP_HOLDING_JOINING;
        return atomic_load(&p->m_behind) <= ING_BEHIND_READY && ing_log_stale_ms(p) <= ING_UNREADY_MS
             ? TSP_HOLDING_READY : TSP_HOLDING_JOINING;
    case ING_BROKEN:
        return TSP_HOLDING_BROKEN;
    default:
        /* Somebody must own it, to seal what was of the log before and to go over to the new one. */
        return atomic_load(&p->going_over) ? TSP_HOLDING_READY : TSP_HOLDING_JOINING;
    }
}

static uint32_t holdings(void *ctx, struct tsp_holding *out)
{
    struct ing_ingestor *i = ctx;
    uint32_t             count = 0;

    for (uint32_t n = 0; n < i->o.partitions; n++) {
        const struct ing_partition *p = &i->partitions[n];

        if (!atomic_load(&p->wanted) || atomic_load(&p->state) == ING_AWAY)
            continue;
        out[count++] = (struct tsp_holding){ .partition = n, .state = state_of(p),
                                             .applied = atomic_load(&p->m_applied),
                                             .behind = atomic_load(&p->m_behind) };
    }
    return count;
}

static uint64_t epoch_seen(void *ctx, uint32_t partition)
{
    struct ing_ingestor *i = ctx;

    return atomic_load(&i->partitions[partition].m_epoch_seen);
}

/* ---- the name of the disk ---- */

/* Drawn once a data folder, kept in NODE: who comes back on it may take its name again at once. */
static enum kl_code disk_id(struct ing_ingestor *i, struct tsp_incarnation *id, struct kl_err *err)
{
    static const char   name[] = "NODE", aside[] = "NODE.tmp";
    struct kl_env_dir  *dir = i->dir;
    struct kl_env_file *f;
    void               *bytes = NULL;
    size_t              got = 0;
    enum kl_code        code = dir->read(dir, name, 4096, &bytes, &got, err);

    if (code == KL_OK && got == sizeof id->bytes)
        memcpy(id->bytes, bytes, sizeof id->bytes);
    free(bytes);
    if (code == KL_OK && got == sizeof id->bytes)
        return KL_OK;
    if (code == KL_OK)
        return kl_fail(err, KL_ECORRUPT, "%s in the data folder has %zu bytes in place of %zu: remove "
                       "it, and it is made anew", name, got, sizeof id->bytes);
    if (code != KL_ENOENT)
        return kl_within(err, "read %s", name);
    i->env->random->fill(i->env->random, id->bytes, sizeof id->bytes);
    dir->remove(dir, aside, &(struct kl_err){ 0 });    /* a crash may have left it */
    if (dir->create(dir, aside, &f, err) != KL_OK)
        return kl_within(err, "make %s", name);
    code = dir->append(f, id->bytes, sizeof id->bytes, err);
    if (code == KL_OK)
        code = dir->sync(f, err);
    if (code == KL_OK)
        code = dir->publish(f, name, err);
    dir->close(f);
    return code == KL_OK ? KL_OK : kl_within(err, "make %s", name);
}

enum kl_code ing_join(struct ing_ingestor *i, const struct ing_cluster_options *options,
                      struct kl_err *err)
{
    struct ing_member_options o = {
        .name = i->name, .zone = options->zone, .address = options->address,
        .version = options->version, .capacity = options->capacity,
        .partitions = i->o.partitions, .instance = i->who, .heartbeat_ms = options->heartbeat_ms,
        .silent_ms = options->silent_ms, .gone_ms = options->gone_ms, .holdings = holdings,
        .epoch_seen = epoch_seen, .ctx = i, .log = i->o.log, .metrics = i->o.metrics,
    };
    struct ing_member *m;

    if (disk_id(i, &o.disk, err) != KL_OK)
        return err->code;
    if (ing_member_new(i->env, i->bus, &o, &m, err) != KL_OK)
        return err->code;
    i->member = m;                                     /* whole: loops look at it already */
    return KL_OK;
}

void ing_leave(struct ing_ingestor *i, void (*done)(void *ctx), void *ctx)
{
    if (i->member != NULL)
        ing_member_leave(i->member, done, ctx);
    else
        done(ctx);
}

/* ---- the catalogue's pointers, of all partitions ---- */

static void pointer_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                           uint64_t revision)
{
    struct ing_ingestor *i = w->ctx;
    char                 expect[KL_BUS_KEY_MAX + 1], *rest;
    unsigned long        n = strtoul(key + sizeof catalogue_prefix - 1, &rest, 10);

    if (*rest != '\0' || n >= i->o.partitions)
        return;
    blk_pointer_key((uint32_t)n, expect, sizeof expect);
    if (strcmp(key, expect) != 0)
        return;
    atomic_store(&i->partitions[n].pointer_gone, value.at == NULL);
    if (value.at != NULL)
        atomic_store(&i->partitions[n].catalogue_seen, revision);
}

static void pointers_current(struct kl_bus_watch *w) { (void)w; }

void ing_cluster_watch(struct ing_ingestor *i)
{
    i->catalogue_watch = (struct kl_bus_watch){ .loop = i->shards[0].loop, .change = pointer_change,
                                                .current = pointers_current, .ctx = i };
    memcpy(i->catalogue_watch.prefix, catalogue_prefix, sizeof catalogue_prefix);
    i->bus->watch(i->bus, &i->catalogue_watch);
    ing_digest_watch(i);
    ing_repair_watch(i);
}

void ing_cluster_unwatch(struct ing_ingestor *i)
{
    i->bus->unwatch(i->bus, &i->catalogue_watch);
    ing_digest_unwatch(i);
    ing_repair_unwatch(i);
}
