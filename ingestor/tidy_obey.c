/*
 * Deletions, obeyed, and rules of retention that are for some series only: what they hide leaves the filesets, by the merges that are made anyway, and when a
 * deletion has waited long enough by rewriting each fileset alone. A fileset where no series is meant
 * is not rewritten, only noted; that costs its index, not its data.
 *
 * A rollup is made anew with its fileset. Where that is past its retention, rows whose bucket reaches
 * into the deleted span go whole: what is left of such a bucket nobody knows any more.
 *
 * A rewritten fileset keeps its place in the log (id, window, first sequence), so it wins over nothing
 * and loses to nothing that it did not before; only its generation is new.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void ing_tidy_plan_deletions(const struct blk_manifest *m, struct ing_tidy_plan *plan)
{
    plan->obeyed = m->deletions_made;
    for (uint32_t i = 0; i < m->deletion_count; i++) {
        bool concerns = false;

        for (uint32_t k = 0; k < plan->input_count && !concerns; k++)
            concerns = blk_deletion_concerns(m->deletions[i], &plan->inputs[k]);
        if (!concerns)
            continue;
        if (plan->deletion_count == BLK_HIDDEN_MAX) {  /* the others another time */
            plan->obeyed = plan->deletions[plan->deletion_count - 1]->number;
            return;
        }
        if (plan->deletions == NULL)
            plan->deletions = kl_resize(NULL, BLK_HIDDEN_MAX * sizeof(struct blk_deletion *));
        plan->deletions[plan->deletion_count++] = blk_deletion_ref(m->deletions[i]);
    }
}

static bool passed(int64_t keep_ms, int64_t now_ms, const struct blk_info *f)
{
    return keep_ms > 0 && f->max_ms < now_ms - keep_ms;
}

/* What no rule fits: of rollups it stays as long as these do. */
static int64_t otherwise(int64_t retention_ms, const struct blk_info *f)
{
    return f->resolution_ms == 0 ? retention_ms : 0;
}

uint64_t ing_tidy_thin(const struct kl_retention *keep, int64_t retention_ms, int64_t now_ms,
                       const struct blk_info *f)
{
    char     path[BLK_PATH_MAX + 1];
    uint64_t due[2] = { passed(otherwise(retention_ms, f), now_ms, f), 0 };
    bool     any = due[0] != 0;

    if (keep == NULL)
        return 0;
    for (size_t i = 0; i < kl_retention_count(keep); i++) {
        const struct kl_matcher *m;
        int64_t                  keep_ms;

        kl_retention_rule(keep, i, &m, &keep_ms);
        if (passed(keep_ms, now_ms, f)) {
            due[1] |= UINT64_C(1) << i;
            any = true;
        }
    }
    if (!any)
        return 0;
    blk_fileset_path(f, path);
    return kl_hash64_seed(path, strlen(path), kl_hash64_seed(due, sizeof due, kl_retention_hash(keep))) | 1;
}

/* Two outputs of one plan may not have one name. */
static bool same_name(const struct ing_tidy_plan *plan, const struct blk_info *f)
{
    for (uint32_t i = 0; i < plan->input_count; i++)
        if (plan->inputs[i].id == f->id && plan->inputs[i].window_start_ms == f->window_start_ms &&
            plan->inputs[i].resolution_ms == f->resolution_ms && strcmp(plan->inputs[i].tenant, f->tenant) == 0)
            return true;
    return false;
}

bool ing_tidy_plan_obey(const struct blk_manifest *m, const struct ing_tidy_rules *r, int64_t now_ms,
                        struct ing_tidy_plan *plan)
{
    struct kl_retention *keep = NULL;
    const char          *tenant = NULL;                /* of keep; then of the plan */
    int64_t              retention_ms = 0, window_ms;

    for (uint32_t i = 0; i < m->fileset_count && plan->input_count < ING_TIDY_OBEY_MAX; i++) {
        const struct blk_info *f = &m->filesets[i];
        bool                   due = false;
        uint64_t               thin;

        if (tenant == NULL || strcmp(tenant, f->tenant) != 0) {
            if (plan->input_count > 0)
                continue;                              /* one tenant at a time */
            kl_retention_free(keep);
            tenant = f->tenant;
            keep = r->keep == NULL ? NULL : r->keep(r->ctx, tenant);
            r->tenant(r->ctx, tenant, &retention_ms, &window_ms);
        }
        thin = ing_tidy_thin(keep, retention_ms, now_ms, f);
        due = thin != 0 && (r->thinned == NULL || !r->thinned(r->ctx, thin));

        for (uint32_t k = 0; k < m->deletion_count && !due; k++) {
            const struct blk_deletion *d = m->deletions[k];

            due = (d->number <= r->clean_number || now_ms - d->at_ms >= r->deletion_ms) &&
                  blk_deletion_concerns(d, f);
        }
        if (!due || f->quarantined || same_name(plan, f) ||
            (f->resolution_ms != 0 && ing_tidy_has_source(m, f)))      /* it is made anew with that */
            continue;
        if (plan->inputs == NULL)
            plan->inputs = kl_resize(NULL, ING_TIDY_OBEY_MAX * sizeof *plan->inputs);
        plan->inputs[plan->input_count++] = *f;
    }
    if (plan->input_count == 0) {
        kl_retention_free(keep);
        return false;
    }
    plan->what = ING_TIDY_OBEY;
    plan->keep = keep;
    plan->retention_ms = retention_ms;
    return true;
}

/* ---- on a worker ---- */

uint32_t ing_tidy_hide(void *tidy, const struct blk_info *input, struct kl_labels labels,
                       struct blk_hidden *ranges)
{
    const struct ing_tidy     *t = tidy;
    const struct blk_deletion *list[BLK_HIDDEN_MAX];
    uint32_t                   count = 0;

    if (t->plan.keep != NULL &&
        passed(kl_retention_of(t->plan.keep, labels, otherwise(t->plan.retention_ms, input)), t->plan.now_ms,
               input)) {
        ranges[0] = (struct blk_hidden){ INT64_MIN, INT64_MAX };
        return 1;
    }

    for (uint32_t i = 0; i < t->plan.deletion_count; i++)
        if (blk_deletion_concerns(t->plan.deletions[i], input))
            list[count++] = t->plan.deletions[i];
    count = blk_deletions_hide(list, count, labels, ranges);
    blk_hidden_widen(ranges, count, input->resolution_ms);
    return count;
}

static enum kl_code means(struct blk_fileset *f, const struct blk_deletion *d, bool *any,
                          struct kl_err *err)
{
    struct blk_select  *s;
    struct blk_selected one;
    struct blk_hidden   span = { d->from_ms, d->to_ms };
    enum kl_code        code;

    blk_hidden_widen(&span, 1, blk_fileset_info(f)->resolution_ms);
    if (blk_select_open(f, d->matchers, d->matcher_count, span.from_ms, span.to_ms, false, &s, err) != KL_OK)
        return err->code;
    code = blk_select_next(s, &one, err);
    blk_select_close(s);
    *any |= code == KL_OK;
    return code == KL_ENOENT ? KL_OK : code;
}

/* Is there a series that is not kept any longer? By the index alone; nearly always one of the first. */
static enum kl_code outlived(struct ing_tidy *t, uint32_t input, bool *any, struct kl_err *err)
{
    const struct ing_tidy_plan *plan = &t->plan;
    struct blk_select          *s;
    struct blk_selected         one;
    enum kl_code                code;

    if (ing_tidy_thin(plan->keep, plan->retention_ms, plan->now_ms, &plan->inputs[input]) == 0)
        return KL_OK;
    if (blk_select_open(t->open[input], NULL, 0, INT64_MIN, INT64_MAX, false, &s, err) != KL_OK)
        return err->code;
    while (!*any && (code = blk_select_next(s, &one, err)) == KL_OK)
        *any = passed(kl_retention_of(plan->keep, one.labels,
                                      otherwise(plan->retention_ms, &plan->inputs[input])),
                      plan->now_ms, &plan->inputs[input]);
    blk_select_close(s);
    return *any || code == KL_ENOENT ? KL_OK : code;
}

enum kl_code ing_tidy_look(struct ing_tidy *t, uint32_t input, struct kl_err *err)
{
    struct ing_tidy_plan  *plan = &t->plan;
    const struct blk_info *in = &plan->inputs[input];
    bool                   any = false;

    for (uint32_t i = 0; i < plan->deletion_count && !any; i++)
        if (blk_deletion_concerns(plan->deletions[i], in) &&
            means(t->open[input], plan->deletions[i], &any, err) != KL_OK)
            return err->code;
    if (!any && outlived(t, input, &any, err) != KL_OK)
        return err->code;
    if (!any)
        return KL_OK;
    if (plan->outputs == NULL)
        plan->outputs = kl_resize(NULL, plan->input_count * sizeof *plan->outputs);
    plan->outputs[plan->output_count++] = (struct ing_tidy_output){
        .first = input, .count = 1, .window_start_ms = in->window_start_ms, .window_ms = in->window_ms,
        .rolls = in->resolution_ms == 0 ? in->rolled : 0 };
    return KL_OK;
}
