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

        for (uint32_t k = 0; k < plan->input_count + plan->carried_count && !concerns; k++)
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
    const char *tenant = NULL;                         /* of the plan */

    plan->now_ms = now_ms;
    for (uint32_t i = 0; i < m->fileset_count && plan->input_count < ING_TIDY_OBEY_MAX; i++) {
        const struct blk_info *f = &m->filesets[i];
        bool                   due = false, made;
        uint64_t               thin;
        uint32_t               at;

        if (tenant == NULL || strcmp(tenant, f->tenant) != 0) {
            if (plan->input_count > 0)
                continue;                              /* one tenant at a time */
            ing_tidy_keep_of(r, tenant = f->tenant, plan);
        }
        for (uint32_t k = 0; k < m->deletion_count && !due; k++) {
            const struct blk_deletion *d = m->deletions[k];

            due = (d->number <= r->clean_number || now_ms - d->at_ms >= r->deletion_ms) &&
                  blk_deletion_concerns(d, f);
        }
        if (f->resolution_ms != 0 && (at = ing_tidy_source_of(m, f)) < m->fileset_count) {
            if (!due || !f->carried)                   /* it is made anew with that, */
                continue;
            f = &m->filesets[at];                      /* which may have nothing of what is deleted */
        }
        made = plan->keep == NULL || ing_tidy_made(m, plan, f);
        thin = ing_tidy_thin(plan, f, made);
        due |= thin != 0 && (r->thinned == NULL || !r->thinned(r->ctx, thin));
        if (!due || f->quarantined || same_name(plan, f))
            continue;
        if (plan->inputs == NULL)
            plan->inputs = kl_resize(NULL, ING_TIDY_OBEY_MAX * sizeof *plan->inputs);
        plan->made |= (uint64_t)made << plan->input_count;
        plan->inputs[plan->input_count++] = *f;
    }
    if (plan->input_count == 0)
        return false;
    plan->what = ING_TIDY_OBEY;
    return true;
}

/* ---- on a worker ---- */

/* `input` as the fileset itself has it. */
static bool is_made(const struct ing_tidy_plan *plan, const struct blk_info *input)
{
    for (uint32_t i = 0; i < plan->input_count && plan->what == ING_TIDY_OBEY; i++)
        if (plan->inputs[i].id == input->id && plan->inputs[i].window_start_ms == input->window_start_ms)
            return plan->made >> i & 1;
    return plan->made != 0;
}

uint32_t ing_tidy_hide(void *tidy, const struct blk_info *input, struct kl_labels labels,
                       struct blk_hidden *ranges)
{
    const struct ing_tidy     *t = tidy;
    const int64_t              to_ms = t->plan.outputs[t->at].to_ms;
    const struct blk_deletion *list[BLK_HIDDEN_MAX];
    struct blk_info            part = *input;          /* that lies in the output */
    uint32_t                   count = 0;

    if (t->plan.what == ING_TIDY_COMPACT && t->plan.outputs[t->at].window_ms > 0 && part.max_ms > to_ms)
        part.max_ms = to_ms;

    if (t->plan.keep != NULL && ing_tidy_outlived(&t->plan, &part, labels, is_made(&t->plan, input))) {
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

/* Rows of a series that has samples, as hide lets them go when there are none. */
bool ing_tidy_rows(void *tidy, int64_t resolution_ms, struct kl_labels labels)
{
    const struct ing_tidy        *t = tidy;
    const struct ing_tidy_output *o = &t->plan.outputs[t->at];
    struct blk_info               rows = { .resolution_ms = resolution_ms, .max_ms = INT64_MIN };

    for (uint32_t i = o->first; i < o->first + o->count; i++)
        if (t->plan.inputs[i].max_ms > rows.max_ms)
            rows.max_ms = t->plan.inputs[i].max_ms;
    return !ing_tidy_outlived(&t->plan, &rows, labels, true);
}

/* Is there a series that is not kept any longer? By the index alone; nearly always one of the first. */
static enum kl_code outlived(struct ing_tidy *t, uint32_t input, uint32_t carrier, bool *any, struct kl_err *err)
{
    const struct ing_tidy_plan *plan = &t->plan;
    bool                        made = plan->made >> carrier & 1;
    struct blk_select          *s;
    struct blk_selected         one;
    enum kl_code                code;

    if (ing_tidy_thin(plan, &plan->inputs[carrier], made) == 0)
        return KL_OK;
    if (blk_select_open(t->open[input], NULL, 0, INT64_MIN, INT64_MAX, false, &s, err) != KL_OK)
        return err->code;
    while (!*any && (code = blk_select_next(s, &one, err)) == KL_OK)
        *any = ing_tidy_outlived(plan, &plan->inputs[input], one.labels, made);
    blk_select_close(s);
    return *any || code == KL_ENOENT ? KL_OK : code;
}

enum kl_code ing_tidy_look(struct ing_tidy *t, uint32_t input, struct kl_err *err)
{
    struct ing_tidy_plan  *plan = &t->plan;
    uint32_t               carrier = input < plan->input_count ? input : plan->carrier[input - plan->input_count];
    const struct blk_info *in = &plan->inputs[carrier];
    bool                   any = false;

    for (uint32_t i = 0; i < plan->output_count; i++)
        if (plan->outputs[i].first == carrier)         /* its rollup; it has one for its samples */
            return KL_OK;
    for (uint32_t i = 0; i < plan->deletion_count && !any; i++)
        if (blk_deletion_concerns(plan->deletions[i], &plan->inputs[input]) &&
            means(t->open[input], plan->deletions[i], &any, err) != KL_OK)
            return err->code;
    if (!any && outlived(t, input, carrier, &any, err) != KL_OK)
        return err->code;
    if (!any)
        return KL_OK;
    if (plan->outputs == NULL)
        plan->outputs = kl_resize(NULL, plan->input_count * sizeof *plan->outputs);
    plan->outputs[plan->output_count++] = (struct ing_tidy_output){
        .first = carrier, .count = 1, .window_start_ms = in->window_start_ms, .window_ms = in->window_ms,
        .rolls = in->resolution_ms == 0 ? in->rolled : 0 };
    return KL_OK;
}
