/*
 * Deletions, obeyed: what they hide leaves the filesets, by the merges that are made anyway, and when a
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
    for (uint32_t i = 0; i < m->fileset_count && plan->input_count < ING_TIDY_OBEY_MAX; i++) {
        const struct blk_info *f = &m->filesets[i];
        bool                   due = false;

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
    if (plan->input_count > 0)
        plan->what = ING_TIDY_OBEY;
    return plan->input_count > 0;
}

/* ---- on a worker ---- */

uint32_t ing_tidy_hide(void *tidy, const struct blk_info *input, struct kl_labels labels,
                       struct blk_hidden *ranges)
{
    const struct ing_tidy     *t = tidy;
    const struct blk_deletion *list[BLK_HIDDEN_MAX];
    uint32_t                   count = 0;

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
    enum kl_code        code;

    if (blk_select_open(f, d->matchers, d->matcher_count, d->from_ms, d->to_ms, false, &s, err) != KL_OK)
        return err->code;
    code = blk_select_next(s, &one, err);
    blk_select_close(s);
    *any |= code == KL_OK;
    return code == KL_ENOENT ? KL_OK : code;
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
    if (!any)
        return KL_OK;
    if (plan->outputs == NULL)
        plan->outputs = kl_resize(NULL, plan->input_count * sizeof *plan->outputs);
    plan->outputs[plan->output_count++] = (struct ing_tidy_output){
        .first = input, .count = 1, .window_start_ms = in->window_start_ms, .window_ms = in->window_ms,
        .rolls = in->resolution_ms == 0 ? in->rolled : 0 };
    return KL_OK;
}
