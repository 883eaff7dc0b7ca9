/*
 * What is worth doing in a catalogue. In this order: what is past its retention is dropped; what
 * deletions have hidden for long enough is rewritten; a window that is over is made one fileset; a run
 * of small filesets becomes one.
 *
 * A merge must not change who wins. The result takes the place of its latest input, so a fileset
 * that stays, lies between two inputs in the order of the log and overlaps the earlier one, would
 * lose samples it had won. A window takes all that overlaps it, so there is none; of a run it is
 * looked for. What inputs hold outside of the window stays apart, as filesets of their own.
 */
#include "ingestor/tidy_priv.h"

#include "libkoal/base/mem.h"

#include <stdlib.h>
#include <string.h>

/* The filesets of one tenant and incarnation, in the order of the log. */
struct group { const struct blk_info **at; uint32_t count; };

static int by_log(const void *a, const void *b)
{
    const struct blk_info *x = *(const struct blk_info *const *)a;
    const struct blk_info *y = *(const struct blk_info *const *)b;
    int                    c = strcmp(x->tenant, y->tenant);

    if (c != 0)
        return c;
    if (x->incarnation != y->incarnation)
        return x->incarnation < y->incarnation ? -1 : 1;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    if ((x->window_ms == 0) != (y->window_ms == 0))    /* of one cut, the window before the late */
        return x->window_ms != 0 ? -1 : 1;
    return x->window_start_ms < y->window_start_ms ? -1 : x->window_start_ms > y->window_start_ms;
}

static bool overlap(const struct blk_info *x, const struct blk_info *y)
{
    return x->min_ms <= y->max_ms && y->min_ms <= x->max_ms;
}

static int64_t floor_to(int64_t time_ms, int64_t window_ms)
{
    int64_t into = time_ms % window_ms;

    if (into < 0)
        into += window_ms;
    return time_ms < INT64_MIN + into ? INT64_MIN : time_ms - into;
}

/* The last time of the window that begins at `start`; 0 where it would be past all numbers. */
static bool window_end(int64_t start_ms, int64_t window_ms, int64_t *end_ms)
{
    return !__builtin_add_overflow(start_ms, window_ms - 1, end_ms);
}

/* ---- retention ---- */

/* How long the tenant keeps it, but for rules; -1: it is a rollup that is not wanted any more. */
static int64_t retention_of(const struct ing_tidy_plan *t, const struct blk_info *f)
{
    if (f->resolution_ms == 0)
        return t->retention_ms;
    for (unsigned i = 0; i < BLK_ROLLUPS_MAX; i++)
        if (f->resolution_ms == blk_rollup_ms[i] && t->rows_ms[i] > 0)
            return t->rows_ms[i];
    return -1;
}

static bool drops(const struct blk_manifest *m, const struct ing_tidy_rules *r, const struct ing_tidy_plan *t,
                  const struct blk_info *f)
{
    int64_t retention_ms = retention_of(t, f);

    if (retention_ms < 0)
        return true;
    retention_ms = ing_tidy_longest(t->keep, f, retention_ms);         /* rules may keep some of it longer */
    if (retention_ms == 0 || f->max_ms >= t->now_ms - retention_ms)
        return false;
    return f->resolution_ms != 0 || r->bytes_max == 0 || f->quarantined || ing_tidy_made(m, t, f);
}

static bool plan_drops(const struct blk_manifest *m, const struct ing_tidy_rules *r, int64_t now_ms,
                       struct ing_tidy_plan *plan)
{
    struct ing_tidy_plan of = { .now_ms = now_ms };    /* a tenant */
    const char          *tenant = NULL;

    for (uint32_t i = 0; i < m->fileset_count && plan->input_count < ING_TIDY_DROPS_MAX; i++) {
        const struct blk_info *f = &m->filesets[i];

        if (tenant == NULL || strcmp(tenant, f->tenant) != 0)
            ing_tidy_keep_of(r, tenant = f->tenant, &of);
        if (!drops(m, r, &of, f))
            continue;
        if (plan->inputs == NULL)
            plan->inputs = kl_resize(NULL, ING_TIDY_DROPS_MAX * sizeof *plan->inputs);
        plan->inputs[plan->input_count++] = *f;
    }
    kl_retention_free(of.keep);
    plan->what = plan->input_count > 0 ? ING_TIDY_DROP : ING_TIDY_NOTHING;
    return plan->input_count > 0;
}

/* ---- rollups ---- */

uint8_t ing_tidy_rolls(const struct ing_tidy_rules *r, const char *tenant, int64_t window_ms)
{
    int64_t retention_ms, of_tenant_ms, keep_ms[BLK_ROLLUPS_MAX] = { 0 };
    uint8_t rolls = 0;

    if (r->rollups == NULL)
        return 0;
    r->tenant(r->ctx, tenant, &retention_ms, &of_tenant_ms);
    r->rollups(r->ctx, tenant, keep_ms);
    for (unsigned i = 0; i < BLK_ROLLUPS_MAX; i++)
        if (keep_ms[i] > 0 && window_ms <= of_tenant_ms && window_ms % blk_rollup_ms[i] == 0)
            rolls |= (uint8_t)(1u << i);
    return rolls;
}

uint32_t ing_tidy_rollup_of(const struct blk_manifest *m, const struct blk_info *f, unsigned roll)
{
    struct blk_info named = *f;

    named.resolution_ms = blk_rollup_ms[roll];
    return blk_manifest_find(m, &named);
}

uint32_t ing_tidy_source_of(const struct blk_manifest *m, const struct blk_info *rollup)
{
    struct blk_info named = *rollup;

    named.resolution_ms = 0;
    return blk_manifest_find(m, &named);
}

/* ---- merges ---- */

static void take(struct ing_tidy_plan *plan, const struct blk_info *const *set, uint32_t count)
{
    plan->what = ING_TIDY_COMPACT;
    plan->inputs = kl_resize(NULL, count * sizeof *plan->inputs);
    plan->outputs = kl_resize(NULL, ((size_t)2 * count + 1) * sizeof *plan->outputs);
    for (uint32_t i = 0; i < count; i++)
        plan->inputs[i] = *set[i];
    plan->input_count = count;
}

/* What inputs of one id hold before or after the window: one fileset, since of one cut they do not
 * overlap. */
static void leftover(struct ing_tidy_plan *plan, uint32_t first, uint32_t count, int64_t from_ms,
                     int64_t to_ms)
{
    int64_t start_ms = INT64_MAX;
    bool    any = false;

    for (uint32_t i = first; i < first + count; i++) {
        const struct blk_info *in = &plan->inputs[i];

        any |= in->min_ms <= to_ms && in->max_ms >= from_ms;
        start_ms = in->window_start_ms < start_ms ? in->window_start_ms : start_ms;
    }
    /* No two outputs of one id may have one name: before the window it begins before it, after after. */
    start_ms = start_ms < from_ms ? from_ms : start_ms > to_ms ? to_ms : start_ms;
    if (any)
        plan->outputs[plan->output_count++] = (struct ing_tidy_output){
            .first = first, .count = count, .from_ms = from_ms, .to_ms = to_ms,
            .window_start_ms = start_ms };
}

/* One fileset of the window, and leftovers. The inputs stand in the order of the log. */
static void into_window(struct ing_tidy_plan *plan, int64_t start_ms, int64_t window_ms,
                        int64_t last_ms, uint8_t rolls)
{
    uint32_t n = plan->input_count;

    plan->outputs[plan->output_count++] = (struct ing_tidy_output){
        .count = n, .window_start_ms = start_ms, .window_ms = window_ms, .from_ms = start_ms,
        .to_ms = last_ms, .rolls = rolls };
    for (uint32_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && plan->inputs[to].id == plan->inputs[from].id; to++)
            ;
        if (start_ms > INT64_MIN)
            leftover(plan, from, to - from, INT64_MIN, start_ms - 1);
        if (last_ms < INT64_MAX)
            leftover(plan, from, to - from, last_ms + 1, INT64_MAX);
    }
}

/* Is one fileset of the window worth the writing? */
static bool worthwhile(const struct ing_tidy_rules *r, const struct blk_info *const *set,
                       uint32_t count, int64_t window_ms, uint8_t rolls)
{
    uint64_t all = 0, big = 0;
    bool     made = false;                             /* there is one of this window already */

    for (uint32_t i = 0; i < count; i++) {
        all += set[i]->chunk_bytes;
        if (set[i]->window_ms == window_ms && set[i]->chunk_bytes >= big) {
            made = true;
            big = set[i]->chunk_bytes;
        }
    }
    if (count == 1)                                    /* for its rollups, however large it is */
        return (rolls & ~set[0]->rolled) != 0;
    if (count < 2 || all > r->bytes_max)
        return false;
    return !made || count > r->files_min || (all - big) >= big / 4;
}

/* Is the tenant's window that has `start_ms` over, and more than is merged at once? Then it stays in parts. */
static bool in_parts(const struct group *g, const struct ing_tidy_rules *r, int64_t start_ms, int64_t whole_ms,
                     int64_t now_ms)
{
    int64_t  last_ms;
    uint64_t all = 0;

    start_ms = floor_to(start_ms, whole_ms);
    if (!window_end(start_ms, whole_ms, &last_ms) || last_ms >= now_ms - r->settle_ms)
        return false;
    for (uint32_t i = 0; i < g->count; i++)
        if (g->at[i]->max_ms >= start_ms && g->at[i]->min_ms <= last_ms)
            all += g->at[i]->chunk_bytes;
    return all > r->bytes_max;
}

/* whole_ms: the tenant's window, of which this one may be a part. */
static bool plan_window(const struct group *g, const struct ing_tidy_rules *r, int64_t start_ms,
                        int64_t window_ms, int64_t whole_ms, int64_t now_ms, struct ing_tidy_plan *plan)
{
    const struct blk_info *set[BLK_INPUTS_MAX];
    uint32_t               count = 0;
    int64_t                last_ms;
    uint8_t                rolls = 0;
    bool                   final = window_ms >= whole_ms;

    if (!window_end(start_ms, window_ms, &last_ms) || last_ms >= now_ms - r->settle_ms)
        return false;
    if (!final)
        final = in_parts(g, r, start_ms, whole_ms, now_ms);
    if (!final && window_ms > r->block_ms)             /* it will be merged with the whole */
        return false;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct blk_info *f = g->at[i];

        if (f->max_ms < start_ms || f->min_ms > last_ms)
            continue;
        /* Who wins over it is not known; too many; or a larger one would be taken apart. */
        if (f->quarantined || count == BLK_INPUTS_MAX || f->window_ms > window_ms)
            return false;
        set[count++] = f;
    }
    if (count == 0)
        return false;
    if (final)
        rolls = ing_tidy_rolls(r, set[0]->tenant, window_ms);
    if (!worthwhile(r, set, count, window_ms, rolls))
        return false;
    take(plan, set, count);
    into_window(plan, start_ms, window_ms, last_ms, rolls);
    return true;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* Where two overlap, they do so in a window that one of them begins or ends in. */
static bool plan_windows(const struct group *g, const struct ing_tidy_rules *r, int64_t window_ms,
                         int64_t whole_ms, int64_t now_ms, struct ing_tidy_plan *plan)
{
    int64_t *starts = kl_resize(NULL, ((size_t)2 * g->count + 1) * sizeof *starts);
    uint32_t count = 0;
    bool     found = false;

    for (uint32_t i = 0; i < g->count; i++) {
        starts[count++] = floor_to(g->at[i]->min_ms, window_ms);
        starts[count++] = floor_to(g->at[i]->max_ms, window_ms);
    }
    qsort(starts, count, sizeof *starts, by_time);
    for (uint32_t i = 0; i < count && !found; i++)
        if (i == 0 || starts[i] != starts[i - 1])
            found = plan_window(g, r, starts[i], window_ms, whole_ms, now_ms, plan);
    free(starts);
    return found;
}

/* Would a fileset that stays lose samples, were g->at[from, to) one? */
static bool loses(const struct group *g, uint32_t from, uint32_t to)
{
    for (uint32_t k = 0; k < g->count; k++) {
        const struct blk_info *x = g->at[k];

        if ((k >= from && k < to) || x->id > g->at[to - 1]->id)
            continue;
        for (uint32_t i = from; i < to; i++)
            if (g->at[i]->id <= x->id && overlap(g->at[i], x))
                return true;
    }
    return false;
}

/* Would one of g->at[from, to) reach over a window that is one fileset already, and that none of them reaches
 * into? It would be taken apart there again, and so on for ever. */
static bool strides(const struct group *g, uint32_t from, uint32_t to)
{
    int64_t min_ms = INT64_MAX, max_ms = INT64_MIN;

    for (uint32_t i = from; i < to; i++) {
        min_ms = g->at[i]->min_ms < min_ms ? g->at[i]->min_ms : min_ms;
        max_ms = g->at[i]->max_ms > max_ms ? g->at[i]->max_ms : max_ms;
    }
    for (uint32_t k = 0; k < g->count; k++) {
        const struct blk_info *x = g->at[k];
        int64_t                start_ms = x->window_start_ms, last_ms;
        bool                   into = false;

        if (x->window_ms == 0 || !window_end(start_ms, x->window_ms, &last_ms) || min_ms > last_ms ||
            max_ms < start_ms)
            continue;
        for (uint32_t i = from; i < to; i++)
            into |= g->at[i]->min_ms <= last_ms && g->at[i]->max_ms >= start_ms;
        if (!into)
            return true;
    }
    return false;
}

/* A run of filesets that span windows, as early flushes and late samples make them: as many as are
 * worth it, none of them most of the whole, so that a sample is rewritten but a few times. */
static bool plan_run(const struct group *g, const struct ing_tidy_rules *r,
                     struct ing_tidy_plan *plan)
{
    for (uint32_t from = 0, to; from < g->count; from = to) {
        uint64_t all = 0, big = 0;

        for (to = from; to < g->count && to - from < BLK_INPUTS_MAX; to++) {
            const struct blk_info *f = g->at[to];

            if (f->window_ms != 0 || f->quarantined || all + f->chunk_bytes > r->bytes_max / 2 ||     /* else plan_cut */
                (to > from && strides(g, from, to + 1)))
                break;
            all += f->chunk_bytes;
            big = f->chunk_bytes > big ? f->chunk_bytes : big;
        }
        if (to - from >= r->files_min && to - from >= 2 && big <= all / 2 && !loses(g, from, to)) {
            const struct blk_info *first = g->at[from];

            for (uint32_t i = from + 1; i < to; i++)
                if (g->at[i]->window_start_ms < first->window_start_ms)
                    first = g->at[i];
            take(plan, g->at + from, to - from);
            plan->outputs[plan->output_count++] = (struct ing_tidy_output){
                .count = to - from, .window_start_ms = first->window_start_ms };
            return true;
        }
        if (to == from)
            to++;
    }
    return false;
}

/* One that spans windows and is more than half of what is merged at once would be merged with nothing, and nothing
 * that it reaches over with anything. It is cut where windows end, of a length that makes its pieces small
 * enough. They keep its place in the log. */
static bool plan_cut(const struct group *g, const struct ing_tidy_rules *r, int64_t whole_ms, int64_t now_ms,
                     struct ing_tidy_plan *plan)
{
    for (uint32_t i = 0; i < g->count; i++) {
        const struct blk_info *f = g->at[i];
        int64_t                window_ms = whole_ms, first_ms, last_ms, end_ms;

        if (f->window_ms != 0 || f->quarantined || f->chunk_bytes <= r->bytes_max / 2)
            continue;
        while (window_ms / 2 >= r->block_ms && window_ms / 2 % r->block_ms == 0 &&
               (double)f->chunk_bytes * (double)window_ms > (double)(r->bytes_max / 2) * ((double)f->max_ms - (double)f->min_ms + 1))
            window_ms /= 2;
        while (((double)f->max_ms - (double)f->min_ms) / (double)window_ms > ING_TIDY_PIECES_MAX - 2)
            window_ms *= 2;                            /* and these later */
        first_ms = floor_to(f->min_ms, window_ms);
        last_ms = floor_to(f->max_ms, window_ms);
        if (first_ms == last_ms || !window_end(last_ms, window_ms, &end_ms) || end_ms >= now_ms - r->settle_ms)
            continue;
        plan->what = ING_TIDY_COMPACT;
        plan->inputs = kl_resize(NULL, sizeof *plan->inputs);
        plan->inputs[0] = *f;
        plan->input_count = 1;
        plan->outputs = kl_resize(NULL, ING_TIDY_PIECES_MAX * sizeof *plan->outputs);
        for (int64_t at = first_ms; at <= last_ms; at += window_ms)
            plan->outputs[plan->output_count++] = (struct ing_tidy_output){
                .count = 1, .window_start_ms = at, .from_ms = at, .to_ms = at + window_ms - 1 };
        return true;
    }
    return false;
}

static bool plan_merge(const struct blk_manifest *m, const struct ing_tidy_rules *r, int64_t now_ms,
                       struct ing_tidy_plan *plan)
{
    const struct blk_info **all = kl_resize(NULL, (m->fileset_count + 1) * sizeof *all);
    uint32_t                n = 0;
    bool                    found = false;

    for (uint32_t i = 0; i < m->fileset_count; i++)
        if (m->filesets[i].resolution_ms == 0)
            all[n++] = &m->filesets[i];
    qsort(all, n, sizeof *all, by_log);
    for (uint32_t from = 0, to; from < n && !found; from = to) {
        struct group g = { all + from, 0 };
        int64_t      retention_ms, window_ms;

        for (to = from; to < n && strcmp(all[to]->tenant, all[from]->tenant) == 0 &&
                        all[to]->incarnation == all[from]->incarnation; to++)
            ;
        g.count = to - from;
        r->tenant(r->ctx, all[from]->tenant, &retention_ms, &window_ms);
        if (plan_cut(&g, r, window_ms, now_ms, plan)) {
            found = true;
            continue;
        }
        if (g.count < 2 && ing_tidy_rolls(r, all[from]->tenant, window_ms) == 0)
            continue;
        found = plan_windows(&g, r, window_ms, window_ms, now_ms, plan);
        /* One that is too much at once stays in halves, or in quarters, ... or in windows of cuts. */
        for (int64_t part = window_ms / 2; !found && part > r->block_ms && part % r->block_ms == 0; part /= 2)
            found = plan_windows(&g, r, part, window_ms, now_ms, plan);
        if (!found && window_ms > r->block_ms)
            found = plan_windows(&g, r, r->block_ms, window_ms, now_ms, plan);
        if (!found)
            found = plan_run(&g, r, plan);
    }
    free(all);
    return found;
}

/* More deletions concern the inputs than a merge leaves out at once. Its output would come after some of
 * the others in the log, and they would hide nothing of it any more: inputs obey first, each in its place. */
static void obey_first(const struct blk_manifest *m, const struct ing_tidy_rules *r, int64_t now_ms,
                       struct ing_tidy_plan *plan)
{
    struct ing_tidy_rules now = *r;

    now.clean_number = m->deletions_made;
    ing_tidy_plan_deinit(plan);
    plan->now_ms = now_ms;
    ing_tidy_plan_obey(m, &now, now_ms, plan);
    ing_tidy_carry(m, plan);
    ing_tidy_plan_deletions(m, plan);
}

void ing_tidy_plan(const struct blk_manifest *m, const struct ing_tidy_rules *r, int64_t now_ms,
                   struct ing_tidy_plan *plan)
{
    *plan = (struct ing_tidy_plan){ .what = ING_TIDY_NOTHING };
    if (m->gone_count >= BLK_GONE_MAX - ING_TIDY_DROPS_MAX)
        return;                                        /* what is gone must be removed first */
    if (plan_drops(m, r, now_ms, plan) || r->busy)
        return;
    plan->now_ms = now_ms;
    if (!ing_tidy_plan_obey(m, r, now_ms, plan) && r->bytes_max > 0 && plan_merge(m, r, now_ms, plan)) {
        ing_tidy_keep_of(r, plan->inputs[0].tenant, plan);
        for (uint32_t i = 0; i < plan->input_count; i++)
            plan->made |= ing_tidy_made(m, plan, &plan->inputs[i]);
    }
    ing_tidy_carry(m, plan);
    ing_tidy_plan_deletions(m, plan);
    if (plan->what == ING_TIDY_COMPACT && plan->obeyed < m->deletions_made)
        obey_first(m, r, now_ms, plan);
    for (uint32_t i = 0; i < m->deletion_count && plan->what == ING_TIDY_NOTHING; i++) {
        bool gone;

        if (blk_manifest_disobeying(m, m->deletions[i], &gone) == 0 && !gone)
            plan->what = ING_TIDY_FORGET;              /* whichever commit it is, it forgets */
    }
}

void ing_tidy_plan_deinit(struct ing_tidy_plan *plan)
{
    for (uint32_t i = 0; i < plan->deletion_count; i++)
        blk_deletion_unref(plan->deletions[i]);
    free(plan->deletions);
    kl_retention_free(plan->keep);
    free(plan->carrier);
    free(plan->inputs);
    free(plan->outputs);
    *plan = (struct ing_tidy_plan){ .what = ING_TIDY_NOTHING };
}
