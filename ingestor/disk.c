/*
 * The disk's high-water mark. Once a second a worker asks how full the file system of the data
 * folder is. Past `disk_high_percent` the ingestor says so in the KV, under "disk.<its name>", in the
 * words that a refused push shall be told; below `disk_low_percent` it takes them back. Doormen watch
 * these keys and refuse what belongs to its partitions, with 503, before the disk is full. Nothing
 * else stops: queries, flushes, merges and retention go on, and make room.
 *
 * Words of a process before this one are corrected by the first look. On a loop: the first shard's.
 */
#include "ingestor/ing_priv.h"

#include <inttypes.h>
#include <stdio.h>

enum { LOOK_MS = 1000 };

static void look_again(struct ing_disk *d)
{
    d->out = false;
    d->again_ns = kl_env_mono_ns(d->i->env) + INT64_C(1000000) * LOOK_MS;
}

static void published(struct kl_bus_kv *op)
{
    struct ing_disk *d = kl_container_of(op, struct ing_disk, kv);

    ing_in(d->i);
    if (op->code == KL_OK || (op->kind == KL_BUS_KV_DELETE && op->code == KL_ENOENT)) {
        d->told = true;
        d->told_full = d->telling_full;
    } else if (!atomic_load(&d->i->stopping)) {
        kl_logf(d->i->o.log, KL_WARN, "ingestor: cannot tell the doormen how full the disk is, trying "
                "again: %s", op->err.text);
    }
    look_again(d);
}

static void publish(struct ing_disk *d)
{
    struct ing_ingestor *i = d->i;

    d->telling_full = d->full;
    d->kv = (struct kl_bus_kv){ .kind = d->full ? KL_BUS_KV_PUT : KL_BUS_KV_DELETE,
                                .value = kl_span_str(d->words), .expect = UINT64_MAX,
                                .loop = i->shards[0].loop, .done = published };
    tsp_disk_key(i->name, d->kv.key, sizeof d->kv.key);
    ing_out(i);
    i->bus->kv(i->bus, &d->kv);
}

static void back(struct kl_env_task *task)
{
    struct ing_disk     *d = kl_container_of(task, struct ing_disk, back);
    struct ing_ingestor *i = d->i;
    double               used;

    ing_in(i);
    if (atomic_load(&i->stopping)) {
        d->out = false;
        return;
    }
    if (d->code != KL_OK || d->total_bytes == 0) {
        if (d->failures++ == 0)
            kl_logf(i->o.log, KL_WARN, "ingestor: cannot see how full the disk is: %s", d->err.text);
        look_again(d);
        return;
    }
    d->failures = 0;
    used = 100.0 * (double)(d->total_bytes - d->free_bytes) / (double)d->total_bytes;
    kl_gauge_set(i->m.disk_used, used / 100);
    if (!d->full && used >= i->o.disk_high_percent) {
        d->full = true;
        snprintf(d->words, sizeof d->words, "the disk of %s is %.1f %% full, past its mark of %d %%: "
                 "nothing more is taken until it is below %d %%", i->name, used,
                 i->o.disk_high_percent, i->o.disk_low_percent);
        kl_logf(i->o.log, KL_ERROR, "ingestor: %s", d->words);
    } else if (d->full && used < i->o.disk_low_percent) {
        d->full = false;
        kl_logf(i->o.log, KL_INFO, "ingestor: the disk is %.1f %% full: pushes are taken again", used);
    }
    kl_gauge_set(i->m.disk_full, d->full);
    if (!d->told || d->told_full != d->full)
        publish(d);
    else
        look_again(d);
}

static void work(struct kl_env_task *task)
{
    struct ing_disk *d = kl_container_of(task, struct ing_disk, work);

    d->err = (struct kl_err){ 0 };
    d->code = d->i->dir->room(d->i->dir, &d->free_bytes, &d->total_bytes, &d->err);
    if (d->code == KL_OK && d->free_bytes > d->total_bytes)
        d->free_bytes = d->total_bytes;
    d->i->env->sched->post(d->i->shards[0].loop, &d->back);
}

void ing_disk_tick(struct ing_ingestor *i)
{
    struct ing_disk *d = &i->disk;

    if (d->out || i->o.disk_high_percent <= 0 || kl_env_mono_ns(i->env) < d->again_ns)
        return;
    d->i = i;
    d->out = true;
    d->work = (struct kl_env_task){ .run = work };
    d->back = (struct kl_env_task){ .run = back };
    ing_out(i);
    i->env->sched->work(i->env->sched, &d->work);
}
