/*
 * A member whose state of a partition is not what the owner's is, or that an operator mistrusts, makes it anew: it
 * forgets all that it holds, sets its snapshot aside, and reads the catalogue and the log, as who lost its disk
 * does; but no peer's snapshot, which might be what is wrong. The log says which of two members is right: what
 * differs afterwards as well differs in the owner, and that is said.
 *
 *   by itself    a member that is not the owner, at most `repairs_per_hour` times an hour a partition; not where more
 *                members have what it has than what the owner has
 *   on a wish    "repair.<pppp>.<member>" in the KV (libtsproto/digest.h), of the owner too: it calls itself
 *                not ready while another member is, and so gives its lease back first
 *
 * Nobody lets go of anything unless another member is the owner, alive and ready, as of the last heartbeat;
 * and one partition of an ingestor after another. What is lost if that one dies meanwhile is time: the log and the
 * catalogue are touched by none of this.
 */
#include "ingestor/ing_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CLEAR_AGAIN_MS = 5000 };
static const int64_t HOUR_NS = INT64_C(3600) * 1000000000;

/* ---- on the first shard's loop: who differs from whom ---- */

struct look { struct ing_ingestor *i; uint64_t owner, seq, minority; };

static void look_at(void *ctx, const struct tsp_difference *x)
{
    struct look *l = ctx;
    bool         a_is_me = strcmp(x->a, l->i->name) == 0;
    const char  *other = a_is_me ? x->b : x->a;
    uint32_t     for_a, for_b;

    if ((!a_is_me && strcmp(x->b, l->i->name) != 0) || kl_hash64(other, strlen(other)) != l->owner)
        return;
    tsp_digests_votes(l->i->compared.all, x, &for_a, &for_b);
    if (a_is_me ? for_a > for_b : for_b > for_a)
        l->minority = x->of_a->seq;
    else
        l->seq = x->of_a->seq;
}

void ing_repair_look(struct ing_ingestor *i)
{
    if (i->member == NULL || i->compared.all == NULL)
        return;
    for (uint32_t n = 0; n < i->o.partitions; n++) {
        struct ing_repair *r = &i->partitions[n].repair;
        struct look        l = { .i = i, .owner = ing_member_owner(i->member, n) };

        if (i->compared.differs[n] && l.owner != 0)
            tsp_digests_differ(i->compared.all, n, look_at, &l, NULL);
        atomic_store(&r->differs, l.seq);
        atomic_store(&r->outvoted, l.minority);
    }
}

static void wish_change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct ing_ingestor *i = w->ctx;
    char                 member[TSP_NAME_MAX + 1];
    uint32_t             partition;

    (void)revision;
    if (tsp_repair_of(key, &partition, member) && partition < i->o.partitions && strcmp(member, i->name) == 0)
        atomic_store(&i->partitions[partition].repair.wished, value.at != NULL);
}

static void wishes_current(struct kl_bus_watch *w) { (void)w; }

void ing_repair_watch(struct ing_ingestor *i)
{
    i->repair_watch = (struct kl_bus_watch){ .prefix = TSP_REPAIR_PREFIX, .loop = i->shards[0].loop, .ctx = i,
                                             .change = wish_change, .current = wishes_current };
    i->bus->watch(i->bus, &i->repair_watch);
}

void ing_repair_unwatch(struct ing_ingestor *i) { i->bus->unwatch(i->bus, &i->repair_watch); }

/* ---- on the partition's loop ---- */

static void cleared(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, repair.kv);

    ing_in(p->i);
    p->repair.out = false;
    if (op->code == KL_OK || op->code == KL_ENOENT)
        p->repair.clear = false;
    else
        p->repair.again_ns = kl_env_mono_ns(p->i->env) + CLEAR_AGAIN_MS * INT64_C(1000000);
}

/* The wish is granted, or nobody's. One that comes while it is granted is the same wish. */
static void clear(struct ing_partition *p)
{
    struct ing_repair *r = &p->repair;

    if (!r->clear || r->out || kl_env_mono_ns(p->i->env) < r->again_ns)
        return;
    r->out = true;
    ing_out(p->i);
    r->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_DELETE, .expect = UINT64_MAX, .loop = p->shard->loop,
                                .done = cleared };
    tsp_repair_key(r->kv.key, sizeof r->kv.key, p->number, p->i->name);
    p->i->bus->kv(p->i->bus, &r->kv);
}

static void begin(struct ing_partition *p, uint64_t differs, bool wished)
{
    struct ing_repair *r = &p->repair;

    r->under_way = true;
    if (wished) {
        atomic_store(&r->wished, false);
        r->clear = true;
        r->again_ns = 0;
    } else {
        r->at_ns[r->count++ % ING_REPAIRS_MAX] = kl_env_mono_ns(p->i->env);
    }
    kl_count(p->i->m.repairs, 1);
    if (wished)
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": made anew from the catalogue and the log, as an "
                "operator wished; its snapshot is kept aside in snapshots/%04" PRIu32, p->number, p->number);
    else
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": at cut %" PRIu64 " it was not as its owner's: "
                "made anew from the catalogue and the log; its snapshot is kept aside in snapshots/%04" PRIu32, p->number,
                differs, p->number);
    p->damaged = true;                                 /* with that, jobs and the snapshot go */
    p->bad_serial = 0;
    ing_partition_anew(p, "it is made anew from the catalogue and the log");
}

static void end(struct ing_partition *p, int state)
{
    p->repair.under_way = false;
    atomic_fetch_sub(&p->i->repairing, 1);
    if (state == ING_LIVE)
        kl_logf(p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": it was made anew, from the catalogue and the log "
                "alone, up to record %" PRIu64, p->number, p->applied);
}

/* How many of its own accord within the hour. */
static uint32_t of_late(const struct ing_partition *p)
{
    const struct ing_repair *r = &p->repair;
    int64_t                  now_ns = kl_env_mono_ns(p->i->env);
    uint32_t                 count = 0;

    for (uint32_t k = 0; k < ING_REPAIRS_MAX && k < r->count; k++)
        count += now_ns - r->at_ns[k] < HOUR_NS;
    return count;
}

/* Did this state of it tell that cut? What was told of one before is taken back, but not at once. */
static bool has_told(const struct ing_partition *p, uint64_t seq)
{
    const struct tsp_digest *d = &p->digest.told;
    uint32_t                 k = 0;

    while (k < d->count && d->cuts[k].seq != seq)
        k++;
    return k < d->count;
}

static void say_once(struct ing_partition *p, uint64_t seq, const char *what)
{
    if (p->repair.said == seq)
        return;
    p->repair.said = seq;
    kl_logf(p->i->o.log, KL_ERROR, "ingestor: ALARM: partition %" PRIu32 ", cut %" PRIu64 ": %s", p->number, seq, what);
}

void ing_repair_tick(struct ing_partition *p)
{
    struct ing_repair *r = &p->repair;
    int                state = atomic_load(&p->state);
    uint64_t           differs = atomic_load(&r->differs), outvoted = atomic_load(&r->outvoted);
    bool               wished = atomic_load(&r->wished);
    uint32_t           late, none = 0;

    if (p->i->member == NULL || ing_stopping(p))
        return;
    if (r->under_way && !p->reload && (state == ING_LIVE || state == ING_AWAY || state == ING_BROKEN))
        end(p, state);
    if (wished && !atomic_load(&p->wanted)) {          /* it is no member: nothing is to be done */
        atomic_store(&r->wished, false);
        r->clear = true;
    }
    clear(p);
    differs = has_told(p, differs) ? differs : 0;
    if (!wished && has_told(p, outvoted))
        say_once(p, outvoted, "more members have what this one has than what the owner has: have the owner's made anew "
                 "(koalemos cluster repair)");
    if ((differs == 0 && !wished) || r->under_way || state != ING_LIVE || p->reload || ing_epoch(p) != 0 ||
        ing_member_owner(p->i->member, p->number) == 0)
        return;
    late = of_late(p);
    if (!wished && late > 0)
        say_once(p, differs, "this member was made anew from the catalogue and the log within the hour, and is not as the "
                 "owner's again: so it may be the owner's that is not what the log says. Have that made anew "
                 "(koalemos cluster repair)");
    if (!wished && late >= p->i->o.repairs_per_hour)
        return;
    if (atomic_compare_exchange_strong(&p->i->repairing, &none, 1))
        begin(p, differs, wished);
}
