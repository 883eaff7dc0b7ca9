/*
 * How long what is kept: `retention` and `rollup.*` of a tenant, and rules for some of its series, which may let
 * rows live longer than their samples, or shorter.
 *
 * Rows are made of samples, when a window of the tenant is made one fileset. So where a rule keeps rows for longer,
 * samples stay until that is done, whatever their own time; that a window is never done has an end too (PATIENCE).
 * When a fileset is made anew after its samples of a series went, there is nothing to make rows of: those that there
 * are are carried over (libblock/compact.h). What comes late, after its samples' time, makes no rows any more.
 */
#include "ingestor/tidy_priv.h"

#include "libkoal/base/hash.h"
#include "libkoal/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { PATIENCE = 8 };                                 /* windows that samples stay for rows that were not made */

static enum kl_retention_what what(const struct blk_info *f)
{
    for (unsigned i = 0; i < BLK_ROLLUPS_MAX; i++)
        if (f->resolution_ms == blk_rollup_ms[i])
            return (enum kl_retention_what)i;
    return KL_RETENTION_SAMPLES;
}

static bool passed(int64_t keep_ms, int64_t now_ms, const struct blk_info *f)
{
    return keep_ms > 0 && f->max_ms < now_ms - keep_ms;
}

static int64_t otherwise(const struct ing_tidy_plan *plan, enum kl_retention_what w)
{
    return w == KL_RETENTION_SAMPLES ? plan->retention_ms : plan->rows_ms[w];
}

/* Rows of that rollup are made for the tenant, and the rule keeps them for a time of their own. */
static bool says(const struct ing_tidy_plan *plan, size_t rule, unsigned roll)
{
    return plan->rows_ms[roll] > 0 && kl_retention_says(plan->keep, rule, (enum kl_retention_what)roll);
}

static bool any_says(const struct ing_tidy_plan *plan, unsigned roll)
{
    for (size_t i = 0; plan->keep != NULL && i < kl_retention_count(plan->keep); i++)
        if (says(plan, i, roll))
            return true;
    return false;
}

/* Do samples that the rule lets go stay until there are the rows that it keeps? */
static bool waits(const struct ing_tidy_plan *plan, size_t rule, const struct blk_info *f)
{
    for (unsigned i = 0; i < BLK_ROLLUPS_MAX; i++)
        if (says(plan, rule, i) &&
            !passed(kl_retention_keep(plan->keep, rule, (enum kl_retention_what)i, plan->rows_ms[i]), plan->now_ms, f))
            return true;
    return false;
}

void ing_tidy_keep_of(const struct ing_tidy_rules *r, const char *tenant, struct ing_tidy_plan *plan)
{
    kl_retention_free(plan->keep);
    plan->keep = r->keep == NULL ? NULL : r->keep(r->ctx, tenant);
    r->tenant(r->ctx, tenant, &plan->retention_ms, &plan->window_ms);
    memset(plan->rows_ms, 0, sizeof plan->rows_ms);
    if (r->rollups != NULL)
        r->rollups(r->ctx, tenant, plan->rows_ms);
}

int64_t ing_tidy_longest(const struct kl_retention *keep, const struct blk_info *f, int64_t otherwise_ms)
{
    int64_t longest_ms = otherwise_ms;

    for (size_t i = 0; keep != NULL && i < kl_retention_count(keep) && longest_ms != 0; i++) {
        int64_t keep_ms = kl_retention_keep(keep, i, what(f), otherwise_ms);

        if (keep_ms == 0 || keep_ms > longest_ms)
            longest_ms = keep_ms;
    }
    return longest_ms;
}

bool ing_tidy_made(const struct blk_manifest *m, const struct ing_tidy_plan *plan, const struct blk_info *f)
{
    int64_t longest_ms = ing_tidy_longest(plan->keep, f, plan->retention_ms);
    uint8_t lacks = 0;

    for (unsigned i = 0; i < BLK_ROLLUPS_MAX; i++)
        if (plan->rows_ms[i] > 0 && (f->rolled >> i & 1) == 0)
            lacks |= (uint8_t)(1u << i);
    if (lacks == 0 || f->resolution_ms != 0 ||
        (longest_ms > 0 && passed(longest_ms + PATIENCE * plan->window_ms, plan->now_ms, f)))
        return true;
    /* It came upon a window that was made, and may be gone but for its rows. */
    for (uint32_t i = 0; i < m->fileset_count; i++) {
        const struct blk_info *x = &m->filesets[i];

        if ((x->rolled != 0 || x->resolution_ms != 0) && x->min_ms <= f->max_ms && f->min_ms <= x->max_ms &&
            strcmp(x->tenant, f->tenant) == 0)
            return true;
    }
    return false;
}

static uint64_t due_of(const struct ing_tidy_plan *plan, const struct blk_info *f, enum kl_retention_what w, bool made)
{
    uint64_t due = 0;

    for (size_t i = 0; i < kl_retention_count(plan->keep); i++)
        if (passed(kl_retention_keep(plan->keep, i, w, otherwise(plan, w)), plan->now_ms, f) &&
            (w != KL_RETENTION_SAMPLES || made || !waits(plan, i, f)))
            due |= UINT64_C(1) << i;
    return due;
}

uint64_t ing_tidy_thin(const struct ing_tidy_plan *plan, const struct blk_info *f, bool made)
{
    char     path[BLK_PATH_MAX + 1];
    uint64_t due[2 + 2 * BLK_ROLLUPS_MAX + 1] = { 0 };
    bool     any = false;

    if (plan->keep == NULL)
        return 0;
    due[0] = passed(otherwise(plan, what(f)), plan->now_ms, f);
    due[1] = due_of(plan, f, what(f), made);
    for (unsigned i = 0; i < BLK_ROLLUPS_MAX && f->resolution_ms == 0; i++)    /* rows that are made anew with it */
        if ((f->rolled >> i & 1) && any_says(plan, i)) {
            due[2 + 2 * i] = passed(plan->rows_ms[i], plan->now_ms, f);
            due[3 + 2 * i] = due_of(plan, f, (enum kl_retention_what)i, made);
        }
    for (size_t i = 0; i < sizeof due / sizeof due[0]; i++)
        any |= due[i] != 0;
    if (!any)
        return 0;
    due[2 + 2 * BLK_ROLLUPS_MAX] = made;
    blk_fileset_path(f, path);
    return kl_hash64_seed(path, strlen(path), kl_hash64_seed(due, sizeof due, kl_retention_hash(plan->keep))) | 1;
}

bool ing_tidy_outlived(const struct ing_tidy_plan *plan, const struct blk_info *f, struct kl_labels labels, bool made)
{
    enum kl_retention_what w = what(f);
    size_t                 rule;

    if (plan->keep == NULL)
        return false;
    rule = kl_retention_find(plan->keep, labels);
    if (rule == kl_retention_count(plan->keep))
        return passed(otherwise(plan, w), plan->now_ms, f);
    return passed(kl_retention_keep(plan->keep, rule, w, otherwise(plan, w)), plan->now_ms, f) &&
           (w != KL_RETENTION_SAMPLES || made || !waits(plan, rule, f));
}

void ing_tidy_carry(const struct blk_manifest *m, struct ing_tidy_plan *plan)
{
    uint32_t n = plan->input_count;

    if (plan->what != ING_TIDY_COMPACT && plan->what != ING_TIDY_OBEY)
        return;
    plan->inputs = kl_resize(plan->inputs, (size_t)n * (1 + BLK_ROLLUPS_MAX) * sizeof *plan->inputs);
    plan->carrier = kl_resize(NULL, (size_t)n * BLK_ROLLUPS_MAX * sizeof *plan->carrier);
    for (uint32_t i = 0; i < n; i++)
        for (unsigned k = 0; k < BLK_ROLLUPS_MAX && plan->inputs[i].resolution_ms == 0; k++) {
            uint32_t at = plan->inputs[i].rolled >> k & 1 ? ing_tidy_rollup_of(m, &plan->inputs[i], k) : m->fileset_count;

            if (at == m->fileset_count || m->filesets[at].quarantined || (!any_says(plan, k) && !m->filesets[at].carried))
                continue;
            plan->carrier[plan->carried_count] = i;
            plan->inputs[n + plan->carried_count++] = m->filesets[at];
            /* What lies outside of the window has nothing to be made of, too. */
            for (uint32_t o = 0; o < plan->output_count && m->filesets[at].carried; o++)
                if (plan->outputs[o].window_ms == 0 && i >= plan->outputs[o].first &&
                    i < plan->outputs[o].first + plan->outputs[o].count)
                    plan->outputs[o].rolls |= (uint8_t)(1u << k);
        }
}
