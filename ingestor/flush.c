/*
 * A cut's way into the catalogue. Jobs of a partition run one at a time, in order; each step may be
 * tried again: filesets are found whole, uploads found done, a manifest under a free revision is put
 * anew, and a compare-and-set that was lost is looked at: perhaps it was ours that won.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { REVISION_TRIES_MAX = 1000 };

void ing_job_free(struct ing_job *j)
{
    for (uint32_t i = 0; i < j->part_count; i++) {
        struct ing_part *part = &j->parts[i];

        ing_view_drop(&part->view);
        kl_arena_deinit(&part->texts);
        free(part->series);
        free(part->chunks);
        free(part->metas);
        free(part->exemplars);
    }
    free(j->parts);
    ing_erased_free(j);
    ing_deletions_drop(j->deletions, j->deletion_count);
    ing_tidy_free(j->tidy);
    free(j->evict);
    blk_manifest_deinit(&j->manifest);
    kl_buf_deinit(&j->bytes);
    free(j);
}

void ing_job_queue(struct ing_job *j)
{
    struct ing_partition *p = j->p;

    if (p->jobs == NULL)
        p->jobs = j;
    else
        p->jobs_last->next = j;
    p->jobs_last = j;
    p->job_count++;
    ing_job_start(p);
}

static void job_failed(struct ing_job *j)
{
    struct ing_partition *p = j->p;

    if (ing_stopping(p))
        return;
    j->failures++;
    p->job_again_ns = kl_env_mono_ns(p->i->env) + ing_backoff_ms(p->i, j->failures) * 1000000;
    kl_count(p->i->m.flush_failures, 1);
    kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ", cut %" PRIu64 ", attempt %u "
            "failed; the log still has it, trying again: %s", p->number, j->seq, j->failures,
            j->err.text);
    ing_flush_check(p, &j->err);
}

/* ---- work ---- */

static void fileset_path(const struct ing_part *part, char path[BLK_PATH_MAX + 1])
{
    blk_fileset_path(&part->info, path);
}

static void write_work(struct ing_job *j)
{
    struct ing_partition *p = j->p;
    char                  path[BLK_PATH_MAX + 1];
    int                   names = 0;

    j->code = ing_folder(p, &j->err);
    for (uint32_t i = 0; i < j->part_count && j->code == KL_OK; i++) {
        struct ing_part *part = &j->parts[i];

        if (!part->written)
            j->code = ing_part_write(j, part, &j->err);
        if (j->code != KL_OK)
            break;
        part->written = true;
        fileset_path(part, path);
        j->code = blk_fileset_upload(p->filesets, path, p->i->store, &j->err);
        /* Another is there under its name: of a log before this one, which had come as far, or of an owner who
         * wrote it otherwise and never committed. Ours takes a name of its own, as those do that a compaction makes. */
        if (j->code == KL_EEXIST && ++names < REVISION_TRIES_MAX && !ing_stopping(p)) {
            j->code = blk_fileset_remove(p->filesets, path, &j->err);
            part->info.generation = part->info.generation == 0 ? j->generation : part->info.generation + 1;
            part->written = false;
            i--;
        }
    }
    if (j->code != KL_OK)
        ing_load_leave(p);                             /* a folder that failed is opened anew */
}

/* Puts the manifest under the first free revision; what a crash left under one is not ours. */
static void put_work(struct ing_job *j)
{
    struct kl_store *store = j->p->i->store;

    for (int n = 0; n < REVISION_TRIES_MAX; n++) {
        char key[KL_STORE_KEY_MAX + 1];

        kl_buf_reset(&j->bytes);
        blk_manifest_encode(&j->manifest, &j->bytes);
        blk_manifest_key(j->p->number, j->manifest.revision, key);
        j->code = store->put(store, key, kl_buf_span(&j->bytes), &j->err);
        if (j->code != KL_EEXIST) {
            if (j->code != KL_OK)
                kl_within(&j->err, "put manifest %s", key);
            return;
        }
        j->manifest.revision++;
    }
}

/* Somebody else's manifest, to build upon. */
static void conflict_work(struct ing_job *j)
{
    struct blk_pointer at;
    struct blk_manifest m = { 0 };

    j->code = blk_pointer_decode(kl_buf_span(&j->bytes), &at, &j->err);
    if (j->code == KL_OK)
        j->code = blk_manifest_read(j->p->i->store, j->p->number, &at, &m, &j->err);
    if (j->code == KL_OK) {
        blk_manifest_deinit(&j->manifest);
        j->manifest = m;
    }
}

static void remove_tenant_folder(struct kl_env_dir *root, const char *path)
{
    char           tenant[BLK_PATH_MAX + 1];
    char          *slash;
    struct kl_err  err;
    struct kl_env_dir *in;

    /* <tenant>/<pppp>/<fileset>: the folders above go when they are empty; if not, they stay. */
    strcpy(tenant, path);
    slash = strchr(tenant, '/');
    assert(slash != NULL);
    *slash = '\0';
    if (root->enter(root, tenant, false, &in, &err) != KL_OK)
        return;
    *strchr(slash + 1, '/') = '\0';
    in->remove_dir(in, slash + 1, &err);
    in->leave(in);
}

static void clean_work(struct ing_job *j)
{
    struct ing_partition *p = j->p;
    char                  path[BLK_PATH_MAX + 1];

    if (j->tidy != NULL) {
        j->code = ing_tidy_clean(j->tidy, &j->err);
        return;
    }
    j->code = KL_OK;
    if (j->deletion_count > 0 || j->covered)           /* it wrote nothing */
        return;
    j->code = ing_folder(p, &j->err);
    if (j->code == KL_OK && j->evict_count > 0)
        j->code = ing_local_evict(j, &j->err);
    for (uint32_t i = 0; i < j->part_count && j->code == KL_OK; i++) {
        if (j->committed && j->parts[i].written && ing_local_keeps(p, j->parts[i].info.max_ms))
            continue;
        fileset_path(&j->parts[i], path);
        j->code = blk_fileset_remove(p->filesets, path, &j->err);
        if (j->code == KL_ENOENT)
            j->code = KL_OK;
        if (j->code == KL_OK)
            remove_tenant_folder(p->filesets, path);
    }
    if (j->code != KL_OK)
        ing_load_leave(p);
}

static void work(struct kl_env_task *task)
{
    struct ing_job *j = kl_container_of(task, struct ing_job, work);

    j->err = (struct kl_err){ 0 };
    if (j->step == ING_WRITE)
        write_work(j);
    else if (j->step == ING_PUT)
        put_work(j);
    else if (j->step == ING_CONFLICT)
        conflict_work(j);
    else
        clean_work(j);
    j->p->i->env->sched->post(j->p->shard->loop, &j->back);
}

/* ---- on the loop ---- */

/* The first record that a replay needs, when `without`'s samples are in the catalogue. */
uint64_t ing_replay_from(struct ing_partition *p, const struct ing_job *without)
{
    uint64_t from = p->applied + 1;

    if (p->first_any != 0 && p->first_any < from)
        from = p->first_any;
    for (uint32_t i = 0; i < p->first_count; i++)
        if (p->firsts[i].seq < from)
            from = p->firsts[i].seq;
    for (const struct ing_job *j = p->jobs; j != NULL; j = j->next)
        if (j != without && j->adopt == 0 && j->first_seq < from)
            from = j->first_seq;
    for (uint32_t t = 0; t < p->tenant_count; t++)
        for (const struct ing_refs *r = p->tenants[t].refs; r != NULL; r = r->next) {
            uint64_t oldest = ing_refs_oldest(r);

            from = oldest < from ? oldest : from;
        }
    return from < p->manifest.replay_from ? p->manifest.replay_from : from;
}

/* The next manifest. False: there shall be none, what housekeeping built upon has changed. */
static bool build(struct ing_job *j)
{
    struct ing_partition *p = j->p;

    j->upon = p->pointer_revision;
    blk_manifest_copy(&j->manifest, &p->manifest);
    if (j->tidy != NULL && !ing_tidy_apply(j->tidy, &j->manifest, kl_env_now_ms(p->i->env)))
        return false;
    if (j->deletion_count > 0)
        ing_deletions_build(j, &j->manifest);
    blk_manifest_forget(&j->manifest);
    j->manifest.revision++;
    j->manifest.partition = p->number;
    if (ing_epoch(p) > j->manifest.epoch)              /* 0, if the lease went just now: then a */
        j->manifest.epoch = ing_epoch(p);              /* higher one is in the way, or nobody is */
    if (j->adopt != 0) {
        j->manifest.incarnation = j->adopt;
        j->manifest.cut_count = 0;
        j->manifest.deleted_seq = 0;
        j->manifest.replay_from = 1;
        return true;
    }
    if (j->tidy != NULL || j->deletion_count > 0)
        return true;
    for (uint32_t i = 0; i < j->part_count; i++)
        if (blk_manifest_find(&j->manifest, &j->parts[i].info) == j->manifest.fileset_count) {
            char path[BLK_PATH_MAX + 1];

            fileset_path(&j->parts[i], path);
            blk_manifest_here(&j->manifest, path);     /* should anybody have taken it for an orphan */
            blk_manifest_add(&j->manifest, &j->parts[i].info);
        }
    blk_manifest_cut(&j->manifest, j->seq, j->end_ms);
    j->manifest.replay_from = ing_replay_from(p, j);
    return true;
}

static void pointed(struct kl_bus_kv *op);

static void point(struct ing_job *j)
{
    struct ing_partition *p = j->p;
    struct blk_pointer    at = { .revision = j->manifest.revision, .epoch = j->manifest.epoch,
                                 .digest = kl_hash64(j->bytes.at, j->bytes.size) };

    p->pointer = at;
    kl_buf_reset(&j->bytes);
    blk_pointer_encode(&at, &j->bytes);
    j->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&j->bytes),
                                .expect = p->pointer_revision, .loop = p->shard->loop,
                                .done = pointed };
    blk_pointer_key(p->number, j->kv.key, sizeof j->kv.key);
    j->out = true;
    ing_out(p->i);
    p->i->bus->kv(p->i->bus, &j->kv);
}

void ing_olds_add(struct ing_partition *p, uint64_t revision, int64_t at_ms)
{
    if (p->old_count == p->old_room) {
        p->old_room = p->old_room == 0 ? 16 : p->old_room * 2;
        p->olds = kl_resize(p->olds, p->old_room * sizeof *p->olds);
    }
    p->olds[p->old_count++] = (struct ing_old){ revision, at_ms };
}

static void committed(struct ing_job *j)
{
    struct ing_partition *p = j->p;
    int64_t               now_ms = kl_env_now_ms(p->i->env);
    uint64_t              old = p->manifest.revision;

    j->committed = true;
    blk_manifest_copy(&p->manifest, &j->manifest);
    if (old != 0)
        ing_olds_add(p, old, now_ms + ING_OLD_MS);
    /* What lies between was put by a try that failed, and never pointed at. */
    for (uint64_t r = old + 1; r < p->manifest.revision && r - old <= REVISION_TRIES_MAX; r++)
        ing_olds_add(p, r, now_ms + ING_OLD_MS);
    j->failures = 0;
    if (j->tidy != NULL) {
        ing_tidy_committed(j->tidy);
        j->step = ING_CLEAN;
        return;
    }
    if (j->deletion_count > 0) {
        j->step = ING_CLEAN;
        ing_flush_check(p, NULL);
        return;
    }
    if (j->adopt == 0 && p->manifest.replay_from > 1) {
        if (p->purge_count == ING_PURGES_MAX)
            p->purge_count--;                          /* the last waits a little longer */
        p->purges[p->purge_count].seq = p->manifest.replay_from - 1;
        p->purges[p->purge_count++].at_ms = now_ms + p->i->o.log_keep_ms;
    }
    kl_count(p->i->m.flushes, 1);
    kl_count(p->i->m.filesets, j->part_count);
    j->step = ING_LET_GO;
}

static void conflict_got(struct kl_bus_kv *op)
{
    struct ing_job       *j = kl_container_of(op, struct ing_job, kv);
    struct ing_partition *p = j->p;
    struct blk_pointer    at = { 0 };

    ing_in(p->i);
    j->out = false;
    if (op->code == KL_ENOENT) {                       /* gone altogether: ours shall be the first */
        p->pointer_revision = 0;
        j->step = ING_PUT;
    } else if (op->code != KL_OK) {
        j->err = op->err;
        job_failed(j);
    } else if (blk_pointer_decode(kl_span(op->got, op->got_size), &at, &j->err) != KL_OK) {
        kl_within(&j->err, "the catalogue's pointer");
        job_failed(j);
    } else if (at.digest == p->pointer.digest && at.revision == p->pointer.revision) {
        p->pointer_revision = op->revision;            /* it was ours: only its answer got lost */
        committed(j);
    } else if (at.epoch > j->manifest.epoch) {
        kl_fail(&j->err, KL_EEXIST, "another owner, of epoch %" PRIu64 ", writes the catalogue",
                at.epoch);
        free(op->got);
        if (p->i->member == NULL) {
            ing_partition_break(p, &j->err);
            return;
        }
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": %s: this one follows it",
                p->number, j->err.text);
        p->fenced = at.epoch;
        j->step = j->part_count > 0 ? ING_WRITE : ING_PUT;
        return;
    } else {
        p->pointer_revision = j->upon = op->revision;
        kl_buf_reset(&j->bytes);
        kl_buf_add(&j->bytes, op->got, op->got_size);
        j->step = ING_CONFLICT;
    }
    if (op->code == KL_OK)
        free(op->got);
    if (!ing_stopping(p))
        ing_job_start(p);
}

static void pointed(struct kl_bus_kv *op)
{
    struct ing_job       *j = kl_container_of(op, struct ing_job, kv);
    struct ing_partition *p = j->p;

    ing_in(p->i);
    j->out = false;
    if (op->code == KL_OK) {
        p->pointer_revision = op->revision;
        committed(j);
        ing_job_start(p);
        return;
    }
    if (op->code == KL_EEXIST && !ing_stopping(p)) {
        j->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = p->shard->loop,
                                    .done = conflict_got };
        blk_pointer_key(p->number, j->kv.key, sizeof j->kv.key);
        j->out = true;
        ing_out(p->i);
        p->i->bus->kv(p->i->bus, &j->kv);
        return;
    }
    j->err = op->err;
    kl_within(&j->err, "set the catalogue's pointer");
    /* It may have happened: then the next try loses its race, and finds that it was ours. Or a later owner
     * has built upon it, and this one never learns. */
    if (j->tidy != NULL)
        j->tidy->perhaps = true;
    j->step = ING_POINT;
    job_failed(j);
}

static void job_end(struct ing_job *j)
{
    struct ing_partition *p = j->p;

    p->jobs = j->next;
    if (p->jobs == NULL)
        p->jobs_last = NULL;
    p->job_count--;
    if (j->adopt != 0)
        p->reload = true;
    ing_job_free(j);
    ing_flush_check(p, NULL);
    ing_job_start(p);
}

static void work_back(struct kl_env_task *task)
{
    struct ing_job       *j = kl_container_of(task, struct ing_job, back);
    struct ing_partition *p = j->p;

    ing_in(p->i);
    j->out = false;
    if (ing_snap_damaged(p))
        return;                                        /* the log makes this job anew */
    if (j->code != KL_OK && j->step != ING_CLEAN) {
        job_failed(j);
        return;
    }
    switch (j->step) {
    case ING_WRITE:
        j->step = ING_PUT;
        break;
    case ING_PUT:
        j->step = ING_POINT;
        break;
    case ING_CONFLICT:
        blk_manifest_copy(&p->manifest, &j->manifest);
        j->step = ING_PUT;
        if (!ing_follow_found(p))
            return;
        break;
    case ING_CLEAN:
        if (j->code != KL_OK)                          /* found and removed at the next start */
            kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": a fileset that was "
                    "uploaded cannot be removed here: %s", p->number, j->err.text);
        job_end(j);
        return;
    default:
        assert(!"a step of work");
    }
    ing_job_start(p);
}

/* Chunks that the catalogue has are forgotten, when no page is being made of them. */
void ing_job_let_go(struct ing_partition *p)
{
    struct ing_job *j = p->jobs;

    if (j == NULL || j->step != ING_LET_GO || p->rendering > 0)
        return;
    ing_erased_free(j);
    for (uint32_t i = 0; i < j->part_count; i++) {
        struct ing_part *part = &j->parts[i];
        uint64_t         gone = part->head->gone;

        for (uint32_t k = 0; k < part->series_count; k++)
            if (part->series[k].series->alive)
                ing_series_let_go(part->head, part->series[k].series, j->number);
        for (uint32_t k = 0; k < part->series_count; k++)
            if (part->series[k].series->alive && ing_series_idle(part->series[k].series))
                ing_head_remove(part->head, part->series[k].series);
        if (part->head->gone != gone)
            ing_pairs_sweep(&part->head->pairs);
    }
    for (struct ing_wait *w = p->waits; w != NULL; w = w->next)
        if (w->seq == 0 || w->seq >= j->seq)
            __atomic_add_fetch(&w->flush->fileset_count, j->part_count, __ATOMIC_ACQ_REL);
    j->step = ING_CLEAN;
    ing_metrics_collect(p);
    ing_flush_check(p, NULL);
    ing_asks_resume(p);
}

void ing_job_start(struct ing_partition *p)
{
    struct ing_job *j = p->jobs;
    int             state = atomic_load(&p->state);

    if (j == NULL || j->out || ing_stopping(p) || p->damaged || (state != ING_REPLAYING && state != ING_LIVE) ||
        (p->reload && !atomic_load(&p->going_over)) ||         /* it goes as well: what it seals is in the log */
        (j->failures > 0 && kl_env_mono_ns(p->i->env) < p->job_again_ns))
        return;
    if (j->digest_due) {
        ing_digest_job(j);
        return;
    }
    if (j->step < ING_LET_GO && ing_epoch(p) == 0) {   /* the owner does it; see follow.c */
        if (j->tidy == NULL)
            return;
        j->step = ING_CLEAN;
    }
    if (j->step == ING_LET_GO) {
        ing_job_let_go(p);
        if (j->step == ING_LET_GO)
            return;
    }
    /* Its lease was another's meanwhile, whose catalogue it followed: that is to be built upon. */
    if ((j->step == ING_POINT || j->step == ING_CONFLICT) && j->upon != p->pointer_revision)
        j->step = ING_PUT;
    if (j->step == ING_POINT) {
        if (j->bytes.size == 0 || j->failures > 0) {   /* after a failure: the manifest's bytes anew */
            kl_buf_reset(&j->bytes);
            blk_manifest_encode(&j->manifest, &j->bytes);
        }
        point(j);
        return;
    }
    if (j->adopt != 0 && j->step == ING_PUT && !ing_logmark_is(p, j->adopt))
        return;                                        /* doormen hear of it first */
    if (j->step == ING_PUT && !build(j))
        j->step = ING_CLEAN;                           /* what was written goes again */
    j->generation = p->manifest.revision + 1;
    j->work = (struct kl_env_task){ .run = work };
    j->back = (struct kl_env_task){ .run = work_back };
    j->out = true;
    ing_out(p->i);
    p->i->env->sched->errand(p->i->env->sched, &j->work);
}

/* ---- the log is purged of what nobody needs, when it is old enough ---- */

static void purged(struct kl_bus_purge *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, purge);

    ing_in(p->i);
    p->purging = false;
    if (op->code == KL_OK)
        p->purged = op->up_to;
    else if (!ing_stopping(p))
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": the log cannot be purged "
                "up to record %" PRIu64 ": %s", p->number, op->up_to, op->err.text);
}

void ing_jobs_tick(struct ing_partition *p)
{
    uint32_t due = 0;

    ing_job_start(p);
    while (due < p->purge_count && p->purges[due].at_ms <= kl_env_now_ms(p->i->env))
        due++;
    if (due == 0 || p->purging || p->reload || ing_epoch(p) == 0)
        return;
    p->purge = (struct kl_bus_purge){ .partition = p->number, .up_to = p->purges[due - 1].seq,
                                      .loop = p->shard->loop, .done = purged };
    memmove(p->purges, p->purges + due, (p->purge_count - due) * sizeof *p->purges);
    p->purge_count -= due;
    if (p->purge.up_to <= p->purged)
        return;
    p->purging = true;
    ing_out(p->i);
    p->i->bus->purge(p->i->bus, &p->purge);
}
