#include "libtsproto/rebalance.h"

#include "libkoal/base/sorted.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* One of PAIRS_TRIED fullest nodes gives to one of as many emptiest, or nobody does. */
enum { PAIRS_TRIED = 8, NOBODY = -1 };

struct member { int at[TSP_REPLICAS_MAX * 2]; unsigned count; };        /* numbers into `nodes` */
struct plan {
    const struct tsp_present *nodes;                   /* by name */
    unsigned       node_count;
    struct tsp_placement *table;
    const struct tsp_rebalance *want;
    uint32_t       partitions;
    struct member *is, *should;                        /* one a partition */
    uint32_t      *load, *owns;                        /* one a node: of `should` */
    unsigned      *zone;                               /* a number a zone */
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tsp_present *)a)->node->name,
                  ((const struct tsp_present *)b)->node->name);
}

static int to_name(const void *name, const void *present)
{
    return strcmp(name, ((const struct tsp_present *)present)->node->name);
}

static int find(const struct plan *p, const char *name)
{
    bool   there;
    size_t at = kl_sorted_place(name, p->nodes, p->node_count, sizeof p->nodes[0], to_name, &there);

    return there ? (int)at : NOBODY;
}

static bool has(const struct member *m, int n)
{
    for (unsigned k = 0; k < m->count; k++)
        if (m->at[k] == n)
            return true;
    return false;
}

static void drop(struct member *m, unsigned k)
{
    memmove(&m->at[k], &m->at[k + 1], (m->count - k - 1) * sizeof m->at[0]);
    m->count--;
}

static bool alive(const struct plan *p, int n)
{
    return n != NOBODY && p->nodes[n].presence == TSP_ALIVE;
}

static bool may_stay(const struct plan *p, int n)
{
    return n != NOBODY && p->nodes[n].presence != TSP_GONE &&
           p->nodes[n].node->state == TSP_NODE_UP;
}

static bool may_join(const struct plan *p, int n)
{
    return alive(p, n) && p->nodes[n].node->state == TSP_NODE_UP;
}

static bool ready(const struct plan *p, int n, uint32_t partition)
{
    const struct tsp_holding *h;

    if (!alive(p, n))
        return false;
    h = tsp_node_holding(p->nodes[n].node, partition);
    return h != NULL && h->state == TSP_HOLDING_READY;
}

/* a's share is larger than b's: loads by capacity, without a division. */
static bool fuller(const struct plan *p, const uint32_t *load, int a, uint32_t more_a, int b,
                   uint32_t more_b)
{
    return (uint64_t)(load[a] + more_a) * p->nodes[b].node->capacity >
           (uint64_t)(load[b] + more_b) * p->nodes[a].node->capacity;
}

static unsigned in_zone(const struct plan *p, const struct member *m, unsigned zone)
{
    unsigned n = 0;

    for (unsigned k = 0; k < m->count; k++)
        n += p->zone[m->at[k]] == zone;
    return n;
}

/* ---- who should be where ---- */

/* Of too many, first one whose zone is doubled, then the one on the fullest node. */
static void shed(struct plan *p, struct member *m)
{
    while (m->count > p->want->replicas) {
        unsigned worst = 0;
        bool     doubled = false;

        for (unsigned k = 0; k < m->count; k++) {
            bool d = in_zone(p, m, p->zone[m->at[k]]) > 1;

            if (k == 0 || d > doubled ||
                (d == doubled && !fuller(p, p->load, m->at[worst], 0, m->at[k], 0))) {
                worst = k;
                doubled = d;
            }
        }
        p->load[m->at[worst]]--;
        drop(m, worst);
    }
}

/* The emptiest node that may join; of another zone than those that are there if `apart`. */
static int newcomer(const struct plan *p, const struct member *m, bool apart)
{
    int best = NOBODY;

    for (int n = 0; n < (int)p->node_count; n++)
        if (may_join(p, n) && !has(m, n) && (!apart || in_zone(p, m, p->zone[n]) == 0) &&
            (best == NOBODY || fuller(p, p->load, best, 1, n, 1)))
            best = n;
    return best;
}

static void fill(struct plan *p, struct member *m)
{
    while (m->count < p->want->replicas) {
        int n = newcomer(p, m, true);

        if (n == NOBODY)
            n = newcomer(p, m, false);
        if (n == NOBODY)
            return;
        m->at[m->count++] = n;
        p->load[n]++;
    }
}

static void part_zones(struct plan *p, struct member *m)
{
    for (unsigned k = m->count; k-- > 0;) {
        int n;

        if (in_zone(p, m, p->zone[m->at[k]]) < 2 || (n = newcomer(p, m, true)) == NOBODY)
            continue;
        p->load[m->at[k]]--;
        p->load[n]++;
        m->at[k] = n;
    }
}

/* Could `from` give this partition to `to` without doubling a zone? */
static bool may_give(const struct plan *p, const struct member *m, int from, int to)
{
    return has(m, from) && !has(m, to) &&
           (p->zone[from] == p->zone[to] || in_zone(p, m, p->zone[to]) == 0);
}

/* The cheapest to move: one that `from` has not loaded yet, then one that it does not own. */
static bool give(struct plan *p, int from, int to)
{
    uint32_t best = p->partitions;
    int      best_cost = 3;

    for (uint32_t i = 0; i < p->partitions && best_cost > 0; i++) {
        int cost = !ready(p, from, i) ? 0 : p->should[i].at[0] != from ? 1 : 2;

        if (cost < best_cost && may_give(p, &p->should[i], from, to)) {
            best = i;
            best_cost = cost;
        }
    }
    if (best == p->partitions)
        return false;
    for (unsigned k = 0; k < p->should[best].count; k++)
        if (p->should[best].at[k] == from)
            p->should[best].at[k] = to;
    p->load[from]--;
    p->load[to]++;
    return true;
}

/* The fullest nodes that hold something, or the emptiest that may join: up to PAIRS_TRIED. */
static unsigned extremes(const struct plan *p, bool fullest, int *out)
{
    unsigned count = 0;

    for (int n = 0; n < (int)p->node_count; n++) {
        unsigned k = count;

        if (fullest ? p->load[n] == 0 : !may_join(p, n))
            continue;
        while (k > 0 && (fullest ? fuller(p, p->load, n, 0, out[k - 1], 0)
                                 : fuller(p, p->load, out[k - 1], 1, n, 1)))
            k--;
        if (k == PAIRS_TRIED)
            continue;
        if (count < PAIRS_TRIED)
            count++;
        memmove(&out[k + 1], &out[k], (count - k - 1) * sizeof *out);
        out[k] = n;
    }
    return count;
}

static bool balance_once(struct plan *p)
{
    int      full[PAIRS_TRIED], empty[PAIRS_TRIED];
    unsigned fulls = extremes(p, true, full), empties = extremes(p, false, empty);

    for (unsigned f = 0; f < fulls; f++)
        for (unsigned e = 0; e < empties; e++)
            if (fuller(p, p->load, full[f], 0, empty[e], 1) && give(p, full[f], empty[e]))
                return true;
    return false;
}

/* ---- who should own ---- */

static void lead(struct member *m, unsigned k)
{
    int n = m->at[k];

    memmove(&m->at[1], &m->at[0], k * sizeof m->at[0]);
    m->at[0] = n;
}

/* The owner that is, if it should stay and is alive; else the first that is READY, else alive. */
static void keep_owner(struct plan *p, uint32_t i)
{
    struct member *m = &p->should[i];
    int            score, best = -1;
    unsigned       first = 0;

    for (unsigned k = 0; k < m->count; k++) {
        int n = m->at[k];

        score = !alive(p, n) ? 0 : !ready(p, n, i) ? 1 : 2;
        if (score > 0 && p->is[i].count > 0 && p->is[i].at[0] == n)
            score = 3;
        if (score > best) {
            best = score;
            first = k;
        }
    }
    if (m->count > 0) {
        lead(m, first);
        p->owns[m->at[0]]++;
    }
}

static bool balance_owners_once(struct plan *p)
{
    for (uint32_t i = 0; i < p->partitions; i++) {
        struct member *m = &p->should[i];

        for (unsigned k = 1; k < m->count; k++) {
            int from = m->at[0], to = m->at[k];

            if (!alive(p, to) || !fuller(p, p->owns, from, 0, to, 1))
                continue;
            p->owns[from]--;
            p->owns[to]++;
            lead(m, k);
            return true;
        }
    }
    return false;
}

static void decide(struct plan *p)
{
    for (uint32_t i = 0; i < p->partitions; i++)
        for (unsigned k = 0; k < p->is[i].count; k++)
            if (may_stay(p, p->is[i].at[k])) {
                p->should[i].at[p->should[i].count++] = p->is[i].at[k];
                p->load[p->is[i].at[k]]++;
            }
    for (uint32_t i = 0; i < p->partitions; i++)
        shed(p, &p->should[i]);
    for (uint32_t i = 0; i < p->partitions; i++)
        fill(p, &p->should[i]);
    for (uint32_t i = 0; i < p->partitions; i++)
        part_zones(p, &p->should[i]);
    for (uint32_t n = 0; n < p->partitions * p->want->replicas && balance_once(p); n++) {}
    for (uint32_t i = 0; i < p->partitions; i++)
        keep_owner(p, i);
    for (uint32_t n = 0; n < p->partitions && balance_owners_once(p); n++) {}
}

/* ---- one safe step towards it ---- */

static bool any(const struct plan *p, const struct member *m,
                bool (*is)(const struct plan *p, int n))
{
    for (unsigned k = 0; k < m->count; k++)
        if (is(p, m->at[k]))
            return true;
    return false;
}

static unsigned joining(const struct plan *p, uint32_t i)
{
    unsigned n = 0;

    for (unsigned k = 0; k < p->is[i].count; k++)
        n += alive(p, p->is[i].at[k]) && !ready(p, p->is[i].at[k], i);
    return n;
}

/* Whoever is gone leaves first: its place may be needed. Somebody may join, or we were not here. */
static void bury(struct plan *p, uint32_t i, struct tsp_rebalanced *done)
{
    struct member *is = &p->is[i];

    for (unsigned k = is->count; k-- > 0;) {
        int n = is->at[k];

        if (n != NOBODY && p->nodes[n].presence != TSP_GONE)
            continue;
        drop(is, k);
        done->leaves++;
    }
}

static void join(struct plan *p, uint32_t i, unsigned *under_way, struct tsp_rebalanced *done)
{
    struct member *is = &p->is[i], *should = &p->should[i];
    bool           urgent = !any(p, is, alive);

    for (unsigned k = 0; k < should->count && is->count < TSP_REPLICAS_MAX; k++) {
        if (has(is, should->at[k]))
            continue;
        if (!urgent && p->want->joins_at_once > 0 && *under_way >= p->want->joins_at_once)
            return;
        is->at[is->count++] = should->at[k];
        (*under_way)++;
        done->joins++;
    }
}

static void part(struct plan *p, uint32_t i, struct tsp_rebalanced *done)
{
    struct member *is = &p->is[i], *should = &p->should[i];

    for (unsigned k = 0; k < should->count; k++)
        if (!has(is, should->at[k]) || !ready(p, should->at[k], i))
            return;
    if (should->count == 0)
        return;
    for (unsigned k = is->count; k-- > 0;)
        if (!has(should, is->at[k])) {
            drop(is, k);
            done->leaves++;
        }
}

static void own(struct plan *p, uint32_t i, struct tsp_rebalanced *done)
{
    struct member *is = &p->is[i];
    unsigned       to = 0;

    if (is->count == 0)
        return;
    for (unsigned k = 0; k < is->count; k++)
        if (p->should[i].count > 0 && is->at[k] == p->should[i].at[0] && ready(p, is->at[k], i))
            to = k;
    if (to == 0 && !alive(p, is->at[0]))
        for (unsigned k = is->count; k-- > 1;)
            if (ready(p, is->at[k], i))
                to = k;
    if (to == 0)
        return;
    lead(is, to);
    done->owners++;
}

static void tell(const struct plan *p, struct tsp_rebalanced *done)
{
    for (uint32_t i = 0; i < p->partitions; i++) {
        const struct member *is = &p->is[i];
        unsigned             living = 0;
        bool                 doubled = false;

        for (unsigned k = 0; k < is->count; k++) {
            living += alive(p, is->at[k]);
            doubled |= in_zone(p, is, p->zone[is->at[k]]) > 1;
        }
        done->joining += joining(p, i);
        done->short_of += living < p->want->replicas;
        done->same_zone += doubled;
        done->orphans += living == 0;
    }
}

/* ---- the whole ---- */

static void read_table(struct plan *p)
{
    const char *names[TSP_REPLICAS_MAX];

    for (uint32_t i = 0; i < p->partitions; i++) {
        unsigned count = tsp_placement_members(p->table, i, names, TSP_REPLICAS_MAX);

        for (unsigned k = 0; k < count; k++)
            p->is[i].at[p->is[i].count++] = find(p, names[k]);
    }
}

static enum kl_code write_table(struct plan *p, struct kl_err *err)
{
    const char *names[TSP_REPLICAS_MAX];

    for (uint32_t i = 0; i < p->partitions; i++) {
        for (unsigned k = 0; k < p->is[i].count; k++)
            names[k] = p->nodes[p->is[i].at[k]].node->name;
        if (tsp_placement_assign(p->table, i, names, p->is[i].count, err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

static void number_zones(struct plan *p)
{
    for (unsigned n = 0; n < p->node_count; n++) {
        p->zone[n] = n;
        for (unsigned m = 0; m < n; m++)
            if (strcmp(p->nodes[m].node->zone, p->nodes[n].node->zone) == 0) {
                p->zone[n] = p->zone[m];
                break;
            }
    }
}

static enum kl_code step(struct plan *p, struct tsp_rebalanced *done, struct kl_err *err)
{
    unsigned under_way = 0;

    number_zones(p);
    read_table(p);
    for (uint32_t i = 0; i < p->partitions; i++)
        bury(p, i, done);                              /* from here on no member is NOBODY */
    for (uint32_t i = 0; i < p->partitions; i++)
        under_way += joining(p, i);
    decide(p);
    for (uint32_t i = 0; i < p->partitions; i++) {
        join(p, i, &under_way, done);
        part(p, i, done);
        own(p, i, done);
    }
    tell(p, done);
    return done->joins + done->leaves + done->owners == 0 ? KL_OK : write_table(p, err);
}

enum kl_code tsp_rebalance_step(struct tsp_placement *table, const struct tsp_present *nodes,
                                unsigned count, const struct tsp_rebalance *want,
                                struct tsp_rebalanced *done, struct kl_err *err)
{
    struct tsp_present *sorted;
    struct plan         p = { .node_count = count, .table = table, .want = want,
                              .partitions = tsp_placement_partitions(table) };
    unsigned            able = 0;
    enum kl_code        code;

    assert(want->replicas > 0 && want->replicas < TSP_REPLICAS_MAX);
    *done = (struct tsp_rebalanced){ 0 };
    if (count > TSP_NODES_MAX)
        return kl_fail(err, KL_ELIMIT, "%u nodes: a cell has at most %d", count, TSP_NODES_MAX);
    sorted = kl_new((count + 1) * sizeof *sorted);
    memcpy(sorted, nodes, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_name);
    p.nodes = sorted;
    for (unsigned n = 0; n < count; n++)
        able += may_join(&p, (int)n);
    if (able == 0) {
        free(sorted);
        return kl_fail(err, KL_EINVAL, "no ingestor is alive that could hold a partition: the "
                       "placement table is left as it is");
    }
    p.is = kl_new(p.partitions * sizeof *p.is);
    p.should = kl_new(p.partitions * sizeof *p.should);
    p.load = kl_new((count + 1) * sizeof *p.load);
    p.owns = kl_new((count + 1) * sizeof *p.owns);
    p.zone = kl_new((count + 1) * sizeof *p.zone);
    code = step(&p, done, err);
    free(p.is);
    free(p.should);
    free(p.load);
    free(p.owns);
    free(p.zone);
    free(sorted);
    return code;
}
