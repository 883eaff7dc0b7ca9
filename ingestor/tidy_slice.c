/* What housekeeping does away from the loop: a slice at a time, each posting its result back. */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <string.h>

enum { SLICE_SAMPLES = 500000 };

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
    uint32_t                      carried = 0;

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
                                       .rows = t->plan.keep != NULL ? ing_tidy_rows : NULL,
                                       .ctx = t, .from_ms = o->from_ms, .to_ms = o->to_ms,
                                       .rolls = t->rolls };
    t->roll_count = 0;
    for (unsigned i = 0; i < BLK_ROLLUPS_MAX; i++)
        if (o->rolls >> i & 1) {
            t->compact.carried[t->roll_count] = t->carried + carried;
            for (uint32_t k = 0; k < t->plan.carried_count; k++)
                if (t->plan.carrier[k] >= o->first && t->plan.carrier[k] < o->first + o->count &&
                    t->plan.inputs[t->plan.input_count + k].resolution_ms == blk_rollup_ms[i]) {
                    t->carried[carried++] = (struct blk_carried){ t->open[t->plan.input_count + k], t->plan.carrier[k] - o->first };
                    t->compact.carried_count[t->roll_count]++;
                }
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

void ing_tidy_work(struct kl_env_task *task)
{
    struct ing_tidy *t = kl_container_of(task, struct ing_tidy, work);

    t->err = (struct kl_err){ 0 };
    t->code = slice(t, &t->err);
    t->p->i->env->sched->post(t->p->shard->loop, &t->back);
}

void ing_tidy_go(struct ing_tidy *t)
{
    ing_out(t->p->i);
    t->p->i->env->sched->errand(t->p->i->env->sched, &t->work);
}
