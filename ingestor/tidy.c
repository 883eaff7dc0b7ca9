/* Doing what is worth doing in a catalogue, step by step on the loop: slices of work, then a commit. */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 10000, THINNED_MAX = 4096 };

void ing_tidy_free(struct ing_tidy *t)
{
    struct ing_ingestor *i;

    if (t == NULL)
        return;
    i = t->p->i;
    assert(t->running == NULL);
    for (uint32_t n = 0; t->open != NULL && n < t->plan.input_count + t->plan.carried_count; n++)
        blk_fileset_unref(t->open[n]);
    if (t->filesets != NULL)
        t->filesets->leave(t->filesets);
    if (t->compacting)
        atomic_store(&i->compacting, false);
    ing_tidy_plan_deinit(&t->plan);
    free(t->open);
    free(t->carried);
    free(t->done);
    free(t->bad);
    blk_manifest_deinit(&t->known);
    free(t->paths);
    free(t->revisions);
    free(t);
}

/* ---- steps ---- */

static bool written(const struct ing_tidy_plan *plan, uint32_t input)
{
    for (uint32_t i = 0; i < plan->output_count; i++)
        if (plan->outputs[i].first == input)
            return true;
    return false;
}

static void later(struct ing_partition *p, unsigned failures)
{
    p->tidy_again_ns = kl_env_mono_ns(p->i->env) +
                       (failures > 0 ? ing_backoff_ms(p->i, failures) * 4 : LOOK_MS) * 1000000;
}

static void end(struct ing_tidy *t, bool failed)
{
    struct ing_partition *p = t->p;

    p->tidy = NULL;
    p->tidy_failures = failed ? p->tidy_failures + 1 : 0;
    later(p, p->tidy_failures);
    ing_tidy_free(t);
}

static void give_up(struct ing_tidy *t)
{
    if (!ing_stopping(t->p)) {
        kl_count(t->p->i->m.tidy_failures, 1);
        kl_logf(t->p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": housekeeping failed, "
                "nothing has changed, trying again: %s", t->p->number, t->err.text);
    }
    t->step = ING_TIDY_ABANDON;
    ing_tidy_go(t);
}

static void to_queue(struct ing_tidy *t)
{
    struct ing_partition *p = t->p;
    struct ing_job       *j = kl_new(sizeof *j);

    p->tidy = NULL;
    p->tidy_failures = 0;
    p->tidy_again_ns = 0;
    t->step = ING_TIDY_DONE;
    j->p = p;
    j->step = ING_PUT;
    j->tidy = t;
    j->seq = j->first_seq = UINT64_MAX;                /* nothing in the log waits for it */
    ing_job_queue(j);
}

static void swept(struct ing_tidy *t)
{
    struct ing_partition *p = t->p;
    struct blk_manifest  *m = &p->manifest;
    uint32_t              kept = 0;

    /* The next commit lists them no more; until then a restart would remove them once more. */
    for (uint32_t i = 0; i < m->gone_count; i++) {
        bool removed = false;

        for (uint32_t k = 0; k < t->path_count && !removed; k++)
            removed = strcmp(m->gone[i].path, t->paths[k]) == 0;
        if (!removed)
            m->gone[kept++] = m->gone[i];
    }
    m->gone_count = kept;
    kept = 0;
    for (uint32_t i = 0; i < p->old_count; i++) {
        bool removed = false;

        for (uint32_t k = 0; k < t->revision_count && !removed; k++)
            removed = p->olds[i].revision == t->revisions[k];
        if (!removed)
            p->olds[kept++] = p->olds[i];
    }
    p->old_count = kept;
    kl_count(p->i->m.swept, t->path_count);
    end(t, false);
}

/* What rules leave as it is need not be looked at again, until other rules' time comes. */
static void note_thinned(struct ing_tidy *t)
{
    struct ing_partition *p = t->p;

    for (uint32_t i = 0; i < t->plan.input_count; i++) {
        uint64_t hash = ing_tidy_thin(&t->plan, &t->plan.inputs[i], t->plan.made >> i & 1);

        if (hash == 0 || written(&t->plan, i))
            continue;
        if (p->thinned_count == THINNED_MAX)
            p->thinned_count = 0;
        p->thinned = kl_resize(p->thinned, (p->thinned_count + 1) * sizeof *p->thinned);
        p->thinned[p->thinned_count++] = hash;
    }
}

/* What follows a slice that went well. */
static void next_slice(struct ing_tidy *t)
{
    struct ing_partition *p = t->p;

    switch (t->step) {
    case ING_TIDY_OPEN:
    case ING_TIDY_BLAME:
        if (++t->at < t->plan.input_count + t->plan.carried_count)
            break;
        t->at = 0;
        if (t->bad_count > 0 || t->plan.what == ING_TIDY_CHECK) {
            if (t->bad_count > 0)
                to_queue(t);
            else
                end(t, false);
            return;
        }
        if (t->step == ING_TIDY_BLAME) {               /* all are well: it was something else */
            give_up(t);
            return;
        }
        if (t->plan.output_count == 0) {               /* no series is meant: that is all there is to note */
            if (t->plan.what == ING_TIDY_OBEY)
                note_thinned(t);
            if (t->plan.deletion_count > 0) {
                to_queue(t);
            } else {
                end(t, false);
                p->tidy_again_ns = 0;
            }
            return;
        }
        t->step = ING_TIDY_BEGIN;
        break;
    case ING_TIDY_BEGIN:
        t->step = ING_TIDY_MERGE;
        break;
    case ING_TIDY_MERGE:                               /* the step said that there is more */
        break;
    case ING_TIDY_FINISH:
        t->step = ING_TIDY_UPLOAD;
        break;
    case ING_TIDY_UPLOAD:
        if (++t->at < t->plan.output_count) {
            t->step = ING_TIDY_BEGIN;
            break;
        }
        to_queue(t);
        return;
    default:
        assert(!"a step of work");
    }
    ing_tidy_go(t);
}

static bool wanted(const struct ing_partition *p)
{
    return atomic_load(&p->state) == ING_LIVE && !p->reload && !ing_stopping(p) && ing_epoch(p) != 0;
}

static void back(struct kl_env_task *task)
{
    struct ing_tidy      *t = kl_container_of(task, struct ing_tidy, back);
    struct ing_partition *p = t->p;

    ing_in(p->i);
    if (t->plan.what == ING_TIDY_SWEEP) {
        if (t->code == KL_OK) {
            swept(t);
        } else {
            if (!ing_stopping(p))
                kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": what is gone cannot "
                        "be removed, trying again: %s", p->number, t->err.text);
            end(t, true);
        }
    } else if (t->plan.what == ING_TIDY_ORPHANS) {
        if (t->code == KL_OK && t->path_count > 0 && wanted(p)) {
            to_queue(t);
        } else {
            if (t->code != KL_OK && !ing_stopping(p))
                kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": %s", p->number, t->err.text);
            end(t, t->code != KL_OK);
        }
    } else if (t->step == ING_TIDY_ABANDON) {
        if (t->code != KL_OK && !ing_stopping(p))
            kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": what is left of "
                    "housekeeping stays until the next start: %s", p->number, t->err.text);
        end(t, true);
    } else if (!wanted(p)) {
        t->step = ING_TIDY_ABANDON;
        ing_tidy_go(t);
    } else if (t->step == ING_TIDY_MERGE && t->code == KL_ENOENT) {
        t->step = ING_TIDY_FINISH;
        ing_tidy_go(t);
    } else if (t->code == KL_ECORRUPT && t->step < ING_TIDY_BLAME) {
        /* The outputs are of no use; then the inputs are read through, each, to find who is bad. */
        t->step = ING_TIDY_REMOVE;
        ing_tidy_go(t);
    } else if (t->code == KL_OK && t->step == ING_TIDY_REMOVE) {
        t->done_count = 0;
        t->step = ING_TIDY_BLAME;
        t->at = 0;
        ing_tidy_go(t);
    } else if (t->code != KL_OK) {
        give_up(t);
    } else {
        next_slice(t);
    }
}

/* ---- the beginning ---- */

static bool committing(const struct ing_partition *p)
{
    for (const struct ing_job *j = p->jobs; j != NULL; j = j->next)
        if (j->tidy != NULL || j->adopt != 0)
            return true;
    return false;
}

/* Somebody deleted the catalogue's pointer, and its owner is there: a commit that changes nothing. */
static bool point_again(struct ing_partition *p)
{
    if (!atomic_load(&p->pointer_gone) || p->manifest.revision == 0)
        return false;
    atomic_store(&p->pointer_gone, false);
    kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": the catalogue's pointer was deleted from "
            "the KV: it is put again", p->number);
    return true;
}

void ing_tidy_tick(struct ing_partition *p)
{
    struct ing_tidy *t;
    bool             again;

    if (!wanted(p) || p->tidy != NULL || committing(p))
        return;
    again = point_again(p);
    if (!again && kl_env_mono_ns(p->i->env) < p->tidy_again_ns)
        return;
    t = kl_new(sizeof *t);
    t->p = p;
    t->work.run = ing_tidy_work;
    t->back.run = back;
    if (again) {
        to_queue(t);
        return;
    }
    if (!ing_tidy_next(p, t)) {
        later(p, 0);
        if (p->cleans != NULL)                         /* somebody waits for its turn */
            p->tidy_again_ns = 0;
        ing_tidy_free(t);
        return;
    }
    /* No two owners give one name to two things, nor does one owner twice: who finds that his commit did not
     * come about removes what he wrote, and an earlier one of his, that had no answer, may have come about. */
    p->tidy_number = p->manifest.revision > p->tidy_number ? p->manifest.revision + 1 : p->tidy_number + 1;
    t->generation = p->tidy_number << 16 | (ing_epoch(p) & 0xffff);
    t->open = kl_new((t->plan.input_count + t->plan.carried_count + 1) * sizeof *t->open);
    t->carried = kl_new((t->plan.carried_count + 1) * sizeof *t->carried);
    t->bad = kl_new((t->plan.input_count + t->plan.carried_count + 1) * sizeof *t->bad);
    t->done = kl_new((t->plan.output_count + t->plan.input_count + 1) * (size_t)(1 + BLK_ROLLUPS_MAX) *
                     sizeof *t->done);
    p->tidy = t;
    if (t->plan.what == ING_TIDY_DROP || t->plan.what == ING_TIDY_FORGET)
        to_queue(t);
    else
        ing_tidy_go(t);
}

/* ---- the commit ---- */

/* The rollups of a fileset that stays have obeyed what it has; those of one that is replaced go with it. */
static void with_rollups(const struct ing_tidy_plan *plan, struct blk_manifest *m, uint32_t input,
                         bool replaced, int64_t now_ms)
{
    for (unsigned i = 0; i < BLK_ROLLUPS_MAX && plan->inputs[input].resolution_ms == 0; i++) {
        uint32_t at = ing_tidy_rollup_of(m, &plan->inputs[input], i);

        if (at < m->fileset_count && replaced)
            blk_manifest_drop(m, at, now_ms);
        else if (at < m->fileset_count)
            m->filesets[at].obeyed = plan->obeyed;
    }
}

bool ing_tidy_apply(struct ing_tidy *t, struct blk_manifest *m, int64_t now_ms)
{
    const struct ing_tidy_plan *plan = &t->plan;
    uint32_t                    read = plan->input_count + plan->carried_count;

    for (uint32_t i = 0; i < read; i++)
        if (blk_manifest_find(m, &plan->inputs[i]) == m->fileset_count)
            return false;                              /* somebody else has changed it meanwhile */
    for (uint32_t i = 0; i < read && t->bad_count > 0; i++)
        if (t->bad[i])
            m->filesets[blk_manifest_find(m, &plan->inputs[i])].quarantined = plan->what != ING_TIDY_CHECK;
    for (uint32_t i = 0; i < plan->input_count && t->bad_count == 0 && plan->what != ING_TIDY_CHECK; i++) {
        uint32_t at = blk_manifest_find(m, &plan->inputs[i]);

        if (plan->what == ING_TIDY_OBEY && !written(plan, i)) {
            m->filesets[at].obeyed = plan->obeyed;
            with_rollups(plan, m, i, false, now_ms);
        } else {
            blk_manifest_drop(m, at, now_ms);
            if (plan->what != ING_TIDY_DROP)
                with_rollups(plan, m, i, true, now_ms);
        }
    }
    for (uint32_t i = 0; i < t->done_count && t->bad_count == 0; i++) {
        struct blk_info info = t->done[i];

        info.obeyed = plan->obeyed;
        blk_manifest_add(m, &info);
    }
    if (plan->what == ING_TIDY_ORPHANS)
        ing_orphans_apply(t, m, now_ms);
    /* After a restart numbers go on from the revision: it is no less than any that was given a name by. */
    if (m->revision + 1 < t->generation >> 16)
        m->revision = (t->generation >> 16) - 1;
    return true;
}

void ing_tidy_committed(struct ing_tidy *t)
{
    struct ing_partition *p = t->p;
    struct ing_counters  *m = &p->i->m;
    uint64_t              samples = 0;

    t->committed = true;
    for (uint32_t i = 0; i < t->done_count; i++)
        samples += t->done[i].sample_count;
    if (t->bad_count > 0 && t->plan.what != ING_TIDY_CHECK) {
        kl_count(m->quarantined, t->bad_count);
        for (uint32_t i = 0; i < t->plan.input_count + t->plan.carried_count; i++) {
            char path[BLK_PATH_MAX + 1];

            if (!t->bad[i])
                continue;
            blk_fileset_path(&t->plan.inputs[i], path);
            kl_logf(p->i->o.log, KL_ERROR, "ingestor: partition %" PRIu32 ": fileset %s is corrupt "
                    "and in quarantine: answers say so; put it right and start anew, or let its "
                    "retention take it", p->number, path);
        }
    } else if (t->plan.what == ING_TIDY_COMPACT) {
        kl_count(m->compactions, 1);
        kl_count(m->compacted, t->plan.input_count);
        kl_count(m->compacted_samples, samples);
        kl_logf(p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": %" PRIu32 " filesets became "
                "%" PRIu32 ", %" PRIu64 " samples", p->number, t->plan.input_count, t->done_count,
                samples);
    } else if (t->plan.what == ING_TIDY_OBEY) {
        note_thinned(t);
        kl_count(m->rewritten, t->plan.output_count);
        kl_logf(p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": of %" PRIu32 " filesets that "
                "deletions or rules of retention concern %" PRIu32 " had what goes, and were rewritten", p->number,
                t->plan.input_count, t->plan.output_count);
    } else if (t->plan.what == ING_TIDY_ORPHANS) {
        kl_count(m->orphan_filesets, t->path_count);
        kl_logf(p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": %" PRIu32 " filesets in the store "
                "that nothing names, the first %s: to be removed", p->number, t->path_count, t->paths[0]);
    } else if (t->plan.what == ING_TIDY_DROP) {
        kl_count(m->expired, t->plan.input_count);
        kl_logf(p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": %" PRIu32 " filesets are past "
                "their retention", p->number, t->plan.input_count);
    }
}
