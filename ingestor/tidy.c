/* Doing what is worth doing in a catalogue: slices of work, each posting its result back. */
#include "ingestor/ing_priv.h"

#include "libkoal/base/config.h"
#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_SAMPLES = 500000, LOOK_MS = 10000, SWEEP_MAX = 64, SEEN_MS = 60000, THINNED_MAX = 4096 };

void ing_tidy_free(struct ing_tidy *t)
{
    struct ing_ingestor *i;

    if (t == NULL)
        return;
    i = t->p->i;
    assert(t->running == NULL);
    for (uint32_t n = 0; t->open != NULL && n < t->plan.input_count; n++)
        blk_fileset_unref(t->open[n]);
    if (t->filesets != NULL)
        t->filesets->leave(t->filesets);
    if (t->compacting)
        atomic_store(&i->compacting, false);
    ing_tidy_plan_deinit(&t->plan);
    free(t->open);
    free(t->done);
    free(t->bad);
    blk_manifest_deinit(&t->known);
    free(t->paths);
    free(t->revisions);
    free(t);
}

/* ---- work: one slice ---- */

static enum kl_code enter(struct ing_tidy *t, struct kl_err *err)
{
    struct kl_env_dir *dir = t->p->i->dir;

    if (t->filesets != NULL)
        return KL_OK;
    if (dir->enter(dir, "filesets", true, &t->filesets, err) != KL_OK) {
        t->filesets = NULL;
        return kl_within(err, "folder of filesets");
    }
    return KL_OK;
}

static enum kl_code open_input(struct ing_tidy *t, struct kl_err *err)
{
    char         path[BLK_PATH_MAX + 1];
    enum kl_code code;

    blk_fileset_path(&t->plan.inputs[t->at], path);
    code = KL_ENOENT;
    if (ing_local_keeps(t->p, t->plan.inputs[t->at].max_ms) && (code = enter(t, err)) == KL_OK)
        code = blk_fileset_open_local(t->filesets, path, &t->open[t->at], err);
    if (code != KL_OK)                                 /* not here, or not well here */
        code = blk_fileset_open_store(t->p->i->store, path, &t->open[t->at], err);
    if (code == KL_ECORRUPT) {
        t->bad[t->at] = true;
        t->bad_count++;
        kl_logf(t->p->i->o.log, KL_ERROR, "ingestor: partition %" PRIu32 ": %s", t->p->number,
                err->text);
        return KL_OK;                                  /* the others are looked at as well */
    }
    if (code != KL_OK || t->plan.what != ING_TIDY_OBEY)
        return code;
    code = ing_tidy_look(t, t->at, err);
    if (code == KL_ECORRUPT) {
        t->bad[t->at] = true;
        t->bad_count++;
        kl_logf(t->p->i->o.log, KL_ERROR, "ingestor: partition %" PRIu32 ": %s", t->p->number, err->text);
        return KL_OK;
    }
    return code;
}

static enum kl_code remove_output(struct ing_tidy *t, const struct blk_info *info,
                                  struct kl_err *err)
{
    char         path[BLK_PATH_MAX + 1];
    enum kl_code code;

    blk_fileset_path(info, path);
    code = blk_fileset_remove_stored(t->p->i->store, path, err);
    if (code == KL_OK) {                               /* last: while it is there, a start finds it */
        code = blk_fileset_remove(t->filesets, path, err);
        code = code == KL_ENOENT ? KL_OK : code;
    }
    return code;
}

static enum kl_code begin_output(struct ing_tidy *t, struct kl_err *err)
{
    const struct ing_tidy_output *o = &t->plan.outputs[t->at];
    const struct blk_info        *last = &t->plan.inputs[o->first + o->count - 1];
    enum kl_code                  code;

    t->named = (struct blk_info){ .partition = t->p->number, .window_start_ms = o->window_start_ms,
                                  .window_ms = o->window_ms, .id = last->id,
                                  .generation = t->generation, .incarnation = last->incarnation,
                                  .resolution_ms = last->resolution_ms,
                                  .first_seq = last->first_seq };
    memcpy(t->named.tenant, last->tenant, sizeof t->named.tenant);
    for (uint32_t i = o->first; i < o->first + o->count; i++)
        if (t->plan.inputs[i].first_seq < t->named.first_seq)
            t->named.first_seq = t->plan.inputs[i].first_seq;
    t->compact = (struct blk_compact){ .inputs = t->open + o->first, .count = o->count,
                                       .root = t->filesets, .info = &t->named,
                                       .hide = t->plan.deletion_count > 0 || t->plan.keep != NULL
                                             ? ing_tidy_hide : NULL,
                                       .ctx = t, .from_ms = o->from_ms, .to_ms = o->to_ms,
                                       .rolls = t->rolls };
    t->roll_count = 0;
    for (unsigned i = 0; i < BLK_ROLLUPS_MAX; i++)
        if (o->rolls >> i & 1) {
            t->rolls[t->roll_count] = t->named;
            t->rolls[t->roll_count++].resolution_ms = blk_rollup_ms[i];
        }
    t->compact.roll_count = t->roll_count;
    code = blk_compaction_begin(&t->compact, &t->running, err);
    if (code == KL_EEXIST) {                           /* of a try before a crash: nobody knows it */
        code = remove_output(t, &t->named, err);
        for (uint32_t i = 0; i < t->roll_count && code == KL_OK; i++)
            code = remove_output(t, &t->rolls[i], err);
        if (code == KL_OK)
            code = blk_compaction_begin(&t->compact, &t->running, err);
    }
    return code;
}

static enum kl_code finish_output(struct ing_tidy *t, struct kl_err *err)
{
    struct blk_compaction *x = t->running;
    struct blk_info        done[1 + BLK_ROLLUPS_MAX];

    t->running = NULL;
    if (blk_compaction_finish(x, done, err) != KL_OK)
        return err->code;
    t->named = done[0];
    t->named.rolled = t->plan.outputs[t->at].rolls;
    memcpy(t->rolls, done + 1, t->roll_count * sizeof *t->rolls);
    return KL_OK;
}

static enum kl_code upload_one(struct ing_tidy *t, const struct blk_info *info, struct kl_err *err)
{
    char         path[BLK_PATH_MAX + 1];
    enum kl_code code;

    if (info->series_count == 0)                       /* nothing of the inputs lay there */
        return remove_output(t, info, err);
    blk_fileset_path(info, path);
    t->done[t->done_count++] = *info;                  /* from now on it may be in the store */
    code = blk_fileset_upload(t->filesets, path, t->p->i->store, err);
    if (code == KL_EEXIST) {
        code = blk_fileset_remove_stored(t->p->i->store, path, err);
        if (code == KL_OK)
            code = blk_fileset_upload(t->filesets, path, t->p->i->store, err);
    }
    return code;
}

static enum kl_code upload_output(struct ing_tidy *t, struct kl_err *err)
{
    enum kl_code code = upload_one(t, &t->named, err);

    for (uint32_t i = 0; i < t->roll_count && code == KL_OK; i++)
        code = upload_one(t, &t->rolls[i], err);
    return code;
}

/* Something in some input is corrupt: which? */
static enum kl_code blame_input(struct ing_tidy *t, struct kl_err *err)
{
    enum kl_code code = KL_OK;

    if (t->open[t->at] != NULL)
        code = blk_fileset_verify(t->open[t->at], err);
    if (code != KL_ECORRUPT)
        return code;
    t->bad[t->at] = true;
    t->bad_count++;
    kl_logf(t->p->i->o.log, KL_ERROR, "ingestor: partition %" PRIu32 ": %s", t->p->number, err->text);
    return KL_OK;
}

/* Was what is marked corrupt put right meanwhile? */
static void check_input(struct ing_tidy *t)
{
    struct kl_err err = { 0 };
    char          path[BLK_PATH_MAX + 1];

    blk_fileset_path(&t->plan.inputs[t->at], path);
    if (blk_fileset_open_store(t->p->i->store, path, &t->open[t->at], &err) == KL_OK &&
        blk_fileset_verify(t->open[t->at], &err) == KL_OK) {
        t->bad[t->at] = true;                          /* here: well */
        t->bad_count++;
        kl_logf(t->p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": fileset %s is well again",
                t->p->number, path);
    } else {
        kl_logf(t->p->i->o.log, KL_ERROR, "ingestor: partition %" PRIu32 ": fileset %s stays in "
                "quarantine: %s", t->p->number, path, err.text);
    }
}

static enum kl_code sweep(struct ing_tidy *t, struct kl_err *err)
{
    struct kl_store *store = t->p->i->store;
    char             key[KL_STORE_KEY_MAX + 1];

    for (uint32_t i = 0; i < t->path_count; i++)
        if (blk_fileset_remove_stored(store, t->paths[i], err) != KL_OK)
            return err->code;
    for (uint32_t i = 0; i < t->revision_count; i++) {
        blk_manifest_key(t->p->number, t->revisions[i], key);
        if (store->remove(store, key, err) != KL_OK)
            return kl_within(err, "remove manifest %s", key);
    }
    return KL_OK;
}

static enum kl_code slice(struct ing_tidy *t, struct kl_err *err)
{
    if (t->plan.what == ING_TIDY_SWEEP)
        return sweep(t, err);
    if (t->plan.what == ING_TIDY_ORPHANS)
        return ing_orphans_find(t, err);
    if (t->step == ING_TIDY_REMOVE || t->step == ING_TIDY_ABANDON) {
        if (t->running != NULL)                        /* nothing shall come of it */
            blk_compaction_abandon(t->running);
        t->running = NULL;
        return ing_tidy_clean(t, err);
    }
    if (enter(t, err) != KL_OK)
        return err->code;
    switch (t->step) {
    case ING_TIDY_OPEN:
        if (t->plan.what != ING_TIDY_CHECK)
            return open_input(t, err);
        check_input(t);
        return KL_OK;
    case ING_TIDY_BEGIN:
        return begin_output(t, err);
    case ING_TIDY_MERGE:
        return blk_compaction_step(t->running, SLICE_SAMPLES, err);
    case ING_TIDY_FINISH:
        return finish_output(t, err);
    case ING_TIDY_UPLOAD:
        return upload_output(t, err);
    default:
        return blame_input(t, err);
    }
}

enum kl_code ing_tidy_clean(struct ing_tidy *t, struct kl_err *err)
{
    char         path[BLK_PATH_MAX + 1];
    enum kl_code code = enter(t, err);

    for (uint32_t i = 0; i < t->done_count && code == KL_OK; i++) {
        /* What the catalogue may name stays in the store: orphans.c looks again, much later. */
        if (!t->committed && !t->perhaps) {
            code = remove_output(t, &t->done[i], err);
            continue;
        }
        if (t->committed && ing_local_keeps(t->p, t->done[i].max_ms))
            continue;
        blk_fileset_path(&t->done[i], path);
        code = blk_fileset_remove(t->filesets, path, err);
        code = code == KL_ENOENT ? KL_OK : code;
    }
    return code;
}

static void work(struct kl_env_task *task)
{
    struct ing_tidy *t = kl_container_of(task, struct ing_tidy, work);

    t->err = (struct kl_err){ 0 };
    t->code = slice(t, &t->err);
    t->p->i->env->sched->post(t->p->shard->loop, &t->back);
}

static void go(struct ing_tidy *t)
{
    ing_out(t->p->i);
    t->p->i->env->sched->errand(t->p->i->env->sched, &t->work);
}

/* ---- on the loop ---- */

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
    go(t);
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
        uint64_t hash = ing_tidy_thin(t->plan.keep, t->plan.retention_ms, t->plan.now_ms, &t->plan.inputs[i]);

        if (hash == 0 || written(&t->plan, i))
            continue;
        if (p->thinned_count == THINNED_MAX)
            p->thinned_count = 0;
        p->thinned = kl_resize(p->thinned, (p->thinned_count + 1) * sizeof *p->thinned);
        p->thinned[p->thinned_count++] = hash;
    }
}

static bool is_thinned(void *ctx, uint64_t hash)
{
    const struct ing_partition *p = ctx;

    for (uint32_t i = 0; i < p->thinned_count; i++)
        if (p->thinned[i] == hash)
            return true;
    return false;
}

/* What follows a slice that went well. */
static void next_slice(struct ing_tidy *t)
{
    struct ing_partition *p = t->p;

    switch (t->step) {
    case ING_TIDY_OPEN:
    case ING_TIDY_BLAME:
        if (++t->at < t->plan.input_count)
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
    go(t);
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
        go(t);
    } else if (t->step == ING_TIDY_MERGE && t->code == KL_ENOENT) {
        t->step = ING_TIDY_FINISH;
        go(t);
    } else if (t->code == KL_ECORRUPT && t->step < ING_TIDY_BLAME) {
        /* The outputs are of no use; then the inputs are read through, each, to find who is bad. */
        t->step = ING_TIDY_REMOVE;
        go(t);
    } else if (t->code == KL_OK && t->step == ING_TIDY_REMOVE) {
        t->done_count = 0;
        t->step = ING_TIDY_BLAME;
        t->at = 0;
        go(t);
    } else if (t->code != KL_OK) {
        give_up(t);
    } else {
        next_slice(t);
    }
}

/* ---- what is worth doing ---- */

/* What is in force for a tenant; *hold is let go by kl_config_free. NULL: nothing but the options is said. */
static const struct kl_config *config_of(const struct ing_options *o, const char *tenant, struct kl_config **hold)
{
    *hold = o->live != NULL ? kl_env_live_get(o->live) : o->config != NULL ? kl_config_ref(o->config) : NULL;
    return *hold != NULL ? kl_config_tenant(*hold, kl_span_str(tenant)) : NULL;
}

static void rules_of(void *ctx, const char *tenant, int64_t *retention_ms, int64_t *window_ms)
{
    const struct ing_options *o = &((struct ing_partition *)ctx)->i->o;
    struct kl_config         *hold;
    const struct kl_config   *c = config_of(o, tenant, &hold);

    *retention_ms = c != NULL ? kl_config_int(c, "retention") : o->retention_ms;
    *window_ms = c != NULL ? kl_config_int(c, "compaction.window") : o->compact_window_ms;
    kl_config_free(hold);
    if (*window_ms < o->window_ms)
        *window_ms = o->window_ms;
    *window_ms = (*window_ms + o->window_ms - 1) / o->window_ms * o->window_ms;
}

static void rollups_of(void *ctx, const char *tenant, int64_t keep_ms[BLK_ROLLUPS_MAX])
{
    const struct ing_options *o = &((struct ing_partition *)ctx)->i->o;
    struct kl_config         *hold;
    const struct kl_config   *c = config_of(o, tenant, &hold);

    keep_ms[0] = c != NULL ? kl_config_int(c, "rollup.5m") : o->rollup_ms[0];
    keep_ms[1] = c != NULL ? kl_config_int(c, "rollup.1h") : o->rollup_ms[1];
    kl_config_free(hold);
}

static struct kl_retention *keep_of(void *ctx, const char *tenant)
{
    const struct ing_options *o = &((struct ing_partition *)ctx)->i->o;
    struct kl_config         *hold;
    const struct kl_config   *c = config_of(o, tenant, &hold);
    const char               *text = c != NULL ? kl_config_text(c, "retention_rules") : o->retention_rules;
    struct kl_retention      *keep = NULL;
    struct kl_err             err;

    if (text != NULL && kl_retention_new(text, &keep, &err) != KL_OK) {
        kl_logf(o->log, KL_ERROR, "ingestor: retention_rules of tenant %s: %s", tenant, err.text);
        keep = NULL;                                   /* checked when it was loaded: never */
    }
    kl_config_free(hold);
    return keep;
}

/* Whatever a manifest says is gone: what it names is not. */
static bool named(const struct blk_manifest *m, uint32_t gone)
{
    struct blk_info info;
    struct kl_err   unfit;

    return blk_fileset_path_parse(m->gone[gone].path, &info, &unfit) != KL_OK ||
           blk_manifest_find(m, &info) < m->fileset_count;
}

/* Old objects and manifests whose time has come. */
static bool plan_sweep(struct ing_partition *p, struct ing_tidy *t)
{
    int64_t now_ms = kl_env_now_ms(p->i->env);

    for (uint32_t i = 0; i < p->manifest.gone_count && t->path_count < SWEEP_MAX; i++) {
        if (p->manifest.gone[i].at_ms > now_ms - ING_OLD_MS || named(&p->manifest, i))
            continue;
        if (t->paths == NULL)
            t->paths = kl_resize(NULL, SWEEP_MAX * sizeof *t->paths);
        strcpy(t->paths[t->path_count++], p->manifest.gone[i].path);
    }
    for (uint32_t i = 0; i < p->old_count && t->revision_count < SWEEP_MAX; i++) {
        if (p->olds[i].at_ms > now_ms)
            continue;
        if (t->revisions == NULL)
            t->revisions = kl_resize(NULL, SWEEP_MAX * sizeof *t->revisions);
        t->revisions[t->revision_count++] = p->olds[i].revision;
    }
    t->plan.what = ING_TIDY_SWEEP;
    return t->path_count > 0 || t->revision_count > 0;
}

/* Those in quarantine, once after each start. */
static bool plan_check(struct ing_partition *p, struct ing_tidy *t)
{
    if (p->checked)
        return false;
    p->checked = true;
    for (uint32_t i = 0; i < p->manifest.fileset_count; i++)
        if (p->manifest.filesets[i].quarantined) {
            t->plan.inputs = kl_resize(t->plan.inputs, (t->plan.input_count + 1) *
                                                           sizeof *t->plan.inputs);
            t->plan.inputs[t->plan.input_count++] = p->manifest.filesets[i];
        }
    t->plan.what = ING_TIDY_CHECK;
    return t->plan.input_count > 0;
}

static bool plan(struct ing_partition *p, struct ing_tidy *t)
{
    const struct ing_options *o = &p->i->o;
    struct ing_tidy_rules     rules = { .block_ms = o->window_ms, .files_min = o->compact_files,
                                        .settle_ms = 2 * o->cut_delay_ms,
                                        .bytes_max = o->compact_bytes_max, .tenant = rules_of, .rollups = rollups_of,
                                        .deletion_ms = o->deletion_ms,
                                        .clean_number = p->clean_number, .keep = keep_of,
                                        .thinned = is_thinned, .ctx = p };

    bool                      busy = atomic_load(&p->i->compacting);
    int64_t                   now_ns = kl_env_mono_ns(p->i->env);

    if (plan_sweep(p, t) || plan_check(p, t))
        return true;
    /* A catalogue of many filesets is not sorted again and again while nothing comes to it. */
    if (p->manifest.revision == p->tidy_seen && now_ns < p->tidy_seen_until_ns)
        return ing_orphans_plan(p, t);
    rules.busy = busy;                                 /* another partition's turn */
    ing_tidy_plan(&p->manifest, &rules, ing_sure_now_ms(p->i), &t->plan);
    if (t->plan.what == ING_TIDY_NOTHING && !busy) {
        p->tidy_seen = p->manifest.revision;
        p->tidy_seen_until_ns = now_ns + INT64_C(1000000) * SEEN_MS;
    }
    if (t->plan.what == ING_TIDY_COMPACT || t->plan.what == ING_TIDY_OBEY) {
        bool free_turn = false;

        t->compacting = atomic_compare_exchange_strong(&p->i->compacting, &free_turn, true);
        return t->compacting;
    }
    return t->plan.what != ING_TIDY_NOTHING || ing_orphans_plan(p, t);
}

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
    t->work.run = work;
    t->back.run = back;
    if (again) {
        to_queue(t);
        return;
    }
    if (!plan(p, t)) {
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
    t->open = kl_new((t->plan.input_count + 1) * sizeof *t->open);
    t->bad = kl_new((t->plan.input_count + 1) * sizeof *t->bad);
    t->done = kl_new((t->plan.output_count + t->plan.input_count + 1) * (size_t)(1 + BLK_ROLLUPS_MAX) *
                     sizeof *t->done);
    p->tidy = t;
    if (t->plan.what == ING_TIDY_DROP || t->plan.what == ING_TIDY_FORGET)
        to_queue(t);
    else
        go(t);
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

    for (uint32_t i = 0; i < plan->input_count; i++)
        if (blk_manifest_find(m, &plan->inputs[i]) == m->fileset_count)
            return false;                              /* somebody else has changed it meanwhile */
    for (uint32_t i = 0; i < plan->input_count; i++) {
        uint32_t at = blk_manifest_find(m, &plan->inputs[i]);

        if (t->bad_count > 0) {
            if (t->bad[i])
                m->filesets[at].quarantined = plan->what != ING_TIDY_CHECK;
        } else if (plan->what == ING_TIDY_OBEY && !written(plan, i)) {
            m->filesets[at].obeyed = plan->obeyed;
            with_rollups(plan, m, i, false, now_ms);
        } else if (plan->what != ING_TIDY_CHECK) {
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
        for (uint32_t i = 0; i < t->plan.input_count; i++) {
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
