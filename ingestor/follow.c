/*
 * A standby follows the catalogue that the partition's owner writes: when its pointer has moved, the
 * manifest is read, and cuts that are in it by now need not be written here: their chunks are let go.
 * A cut that is not yet in it stays in memory, so that this member can write it if it becomes the owner.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <stdlib.h>

void ing_follow_covered(struct ing_partition *p)
{
    for (struct ing_job *j = p->jobs; j != NULL; j = j->next)
        if (j->out || j->step >= ING_LET_GO) {
            continue;
        } else if (j->adopt != 0) {
            if (p->manifest.incarnation == j->adopt) {
                j->failures = 0;
                j->covered = true;
                j->step = ING_CLEAN;
            }
        } else if (j->deletion_count > 0 && p->manifest.incarnation == p->incarnation &&
                   p->manifest.deleted_seq >= j->seq) {
            j->failures = 0;
            j->step = ING_CLEAN;
        } else if (j->tidy == NULL && j->deletion_count == 0 && p->manifest.incarnation == p->incarnation &&
                   blk_manifest_covers(&p->manifest, j->seq, j->end_ms - 1)) {
            j->failures = 0;
            j->step = ING_LET_GO;
        }
}

static void failed(struct ing_partition *p)
{
    struct ing_follow *f = &p->follow;

    if (ing_stopping(p))
        return;
    f->failures++;
    f->again_ns = kl_env_mono_ns(p->i->env) + ing_backoff_ms(p->i, f->failures) * 1000000;
    kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": the catalogue cannot be followed, "
            "trying again: %s", p->number, f->err.text);
}

/* The owner went over to a new log: what is held of the old one is in its catalogue, or lost. */
static void other_log(struct ing_partition *p)
{
    atomic_store(&p->going_over, false);               /* so no job goes on; they are freed when nobody reads what they hold */
    ing_partition_anew(p, "the owner went over to a log made anew");
}

bool ing_follow_found(struct ing_partition *p)
{
    bool going_over = p->jobs != NULL && p->jobs->adopt != 0;  /* its catalogue is still that of the old one */

    if (p->manifest.incarnation != p->incarnation && !going_over) {
        other_log(p);
        return false;
    }
    ing_follow_covered(p);
    return true;
}

static void back(struct kl_env_task *task)
{
    struct ing_partition *p = kl_container_of(task, struct ing_partition, follow.back);
    struct ing_follow    *f = &p->follow;

    ing_in(p->i);
    f->out = false;
    if (f->code != KL_OK) {
        failed(p);
        return;
    }
    f->failures = 0;
    if (f->revision <= p->pointer_revision || (p->jobs != NULL && p->jobs->out)) {
        blk_manifest_deinit(&f->manifest);             /* older by now, or not the time: again */
        f->manifest = (struct blk_manifest){ 0 };
        return;
    }
    p->pointer = f->at;
    p->pointer_revision = f->revision;
    blk_manifest_deinit(&p->manifest);
    p->manifest = f->manifest;
    f->manifest = (struct blk_manifest){ 0 };
    if (p->epoch_seen < p->manifest.epoch)
        p->epoch_seen = p->manifest.epoch;
    atomic_store(&p->m_epoch_seen, p->epoch_seen);
    if (!ing_follow_found(p))
        return;
    ing_digest_catalogued(p);
    ing_job_start(p);
}

static void work(struct kl_env_task *task)
{
    struct ing_partition *p = kl_container_of(task, struct ing_partition, follow.work);
    struct ing_follow    *f = &p->follow;

    f->err = (struct kl_err){ 0 };
    f->code = blk_manifest_read(p->i->store, p->number, &f->at, &f->manifest, &f->err);
    p->i->env->sched->post(p->shard->loop, &f->back);
}

static void got(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, follow.kv);
    struct ing_follow    *f = &p->follow;

    f->code = op->code;
    f->err = op->err;
    f->revision = op->revision;
    if (op->code == KL_OK) {
        f->code = blk_pointer_decode(kl_span(op->got, op->got_size), &f->at, &f->err);
        free(op->got);
    }
    if (f->code != KL_OK) {
        ing_in(p->i);
        f->out = false;
        failed(p);
        return;
    }
    f->work = (struct kl_env_task){ .run = work };
    f->back = (struct kl_env_task){ .run = back };
    p->i->env->sched->work(p->i->env->sched, &f->work);
}

void ing_follow_tick(struct ing_partition *p)
{
    struct ing_follow *f = &p->follow;

    /* Who found the log made anew, and waits for its owner to seal what is held, learns so that he has. */
    if (p->i->member == NULL || f->out || (p->reload && !atomic_load(&p->going_over)) || ing_stopping(p) || ing_epoch(p) != 0 ||
        atomic_load(&p->catalogue_seen) <= p->pointer_revision || p->tidy != NULL ||
        (p->jobs != NULL && p->jobs->out) || kl_env_mono_ns(p->i->env) < f->again_ns)
        return;
    f->out = true;
    ing_out(p->i);
    f->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = p->shard->loop, .done = got };
    blk_pointer_key(p->number, f->kv.key, sizeof f->kv.key);
    p->i->bus->kv(p->i->bus, &f->kv);
}
