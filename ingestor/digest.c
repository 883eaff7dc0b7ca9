/*
 * Members of a partition compared (libtsproto/digest.h): a hash over the log's records between cuts, and a
 * sum over what each cut sealed. Both are told in this member's key of the KV; every ingestor watches all
 * keys, its own included, so what was told is compared in one place, by whoever it concerns.
 *
 * The log's hash costs nothing that was not paid before. The sum is made by a worker, from the chunks as
 * they lie in memory (or in the snapshot's files) when the cut's job comes first: so it finds whatever
 * happened to them since they were applied, also in a standby, which writes no filesets. An owner makes it
 * before it writes.
 *
 * What a cut seals follows from the log and the cuts obeyed before it. Where this member cannot know that it
 * has read what others have, it says so of its next cuts ("sure"):
 *  - samples waited here for a definition, which others had (a replay begins behind it);
 *  - a sample that a cut may have taken already came in a record that, as far as is known here, is no repeat:
 *    the bus knows repeats by what it read before, and a reader that just began has read nothing;
 *  - a cut was passed over here that others obeyed.
 * All of that is over when a cut has taken whatever was doubtful: `doubt_ms` is the latest time of it.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS_MS = 3 * 60 * 1000 };                   /* the bus looks two minutes back */

/* ---- the log ---- */

void ing_digest_record(struct ing_partition *p, uint64_t seq)
{
    struct ing_digest *d = &p->digest;
    uint64_t           step[3] = { d->log_hash, seq, p->applied_hash };

    d->log_hash = kl_hash64(step, sizeof step);
}

bool ing_digest_is_other(struct ing_partition *p)
{
    struct ing_digest *d = &p->digest;
    struct kl_err      err;

    if (d->check_seq == 0 || p->applied < d->check_seq)
        return false;
    d->check_seq = 0;
    if (p->restored.log_from == 0 || (p->restored.log_from == d->log_from && p->restored.log_hash == d->log_hash))
        return false;
    kl_fail(&err, KL_ECORRUPT, "records %" PRIu64 " to %" PRIu64 " are not those that the snapshot was made from",
            p->restored.seq + 1, p->restored.seq_end);
    ing_snap_doubt(p, &err);
    return true;
}

/* The first record since the partition was loaded tells the log's time. */
void ing_digest_begin_record(struct ing_partition *p)
{
    struct ing_digest *d = &p->digest;

    if (!d->began) {
        d->began = true;
        d->repeats_until_ms = p->i->o.no_repeats || p->applied == 0 ? INT64_MIN
                                                                   : p->record_time_ms + REPEATS_MS;
    }
    d->taken_ms = INT64_MIN;
    if (p->record_time_ms < d->repeats_until_ms)
        for (uint32_t i = 0; i < d->cuts.cut_count; i++)
            if (d->cuts.cuts[i].end_ms > d->taken_ms)
                d->taken_ms = d->cuts.cuts[i].end_ms;
}

void ing_digest_doubt(struct ing_partition *p, int64_t time_ms)
{
    if (time_ms > p->digest.doubt_ms)
        p->digest.doubt_ms = time_ms;
}

/* ---- the cuts ---- */

void ing_digest_reset(struct ing_partition *p)
{
    struct ing_digest *d = &p->digest;

    d->log_from = d->log_hash = 0;
    d->check_seq = 0;
    d->cuts.cut_count = 0;
    d->doubt_ms = d->taken_ms = d->repeats_until_ms = INT64_MIN;
    d->began = false;
}

void ing_digest_obeyed(struct ing_partition *p, uint64_t seq, int64_t end_ms)
{
    struct blk_manifest *m = &p->digest.cuts;

    if (m->cut_count == BLK_CUTS_MAX) {                /* no owner has so many that count: so not compared */
        memmove(m->cuts, m->cuts + 1, --m->cut_count * sizeof *m->cuts);
        p->digest.doubt_ms = INT64_MAX;
    }
    blk_manifest_cut(m, seq, end_ms);
}

/* A cut that the catalogue has may not have been read yet: then what it covers is passed over, and nothing of
 * it is here when it is. Or it was passed over (as a window that was cut before, or of a lower epoch), and
 * what it took for others is held here until the next one. */
void ing_digest_catalogued(struct ing_partition *p)
{
    for (uint32_t i = 0; i < p->manifest.cut_count; i++) {
        const struct blk_cut *cut = &p->manifest.cuts[i];

        if (cut->seq <= p->applied && !blk_manifest_covers(&p->digest.cuts, cut->seq, cut->end_ms - 1))
            ing_digest_doubt(p, cut->end_ms - 1);
        ing_digest_obeyed(p, cut->seq, cut->end_ms);
    }
}

void ing_digest_loaded(struct ing_partition *p)
{
    struct ing_digest *d = &p->digest;

    ing_digest_catalogued(p);
    d->began = false;
    if (!p->restored.is) {
        d->doubt_ms = INT64_MIN;                       /* nothing is held */
        d->log_from = p->applied == 0 ? 1 : 0;
        d->log_hash = 0;
        d->told = (struct tsp_digest){ .incarnation = p->incarnation };
        d->due = true;                                 /* what this member told before is no more */
    }
}

/* What others must have obeyed, too, for their cut to have sealed the same. */
static uint64_t after(const struct ing_digest *d, uint64_t seq, bool *sure)
{
    uint64_t hash = 0;

    for (uint32_t i = 0; i < d->cuts.cut_count; i++) {
        uint64_t step[3] = { hash, d->cuts.cuts[i].seq, (uint64_t)d->cuts.cuts[i].end_ms };

        if (d->cuts.cuts[i].seq >= seq)                /* of the catalogue: samples were passed over by it */
            *sure = false;
        hash = kl_hash64(step, sizeof step);
    }
    return hash;
}

/* Any cut ends what the log's hash is of, obeyed or not: so that is the same for all. */
void ing_digest_cut_read(struct ing_partition *p, uint64_t seq)
{
    struct ing_digest *d = &p->digest;

    d->cut = (struct tsp_digest_cut){ .seq = seq, .log_from = d->log_from, .log_hash = d->log_hash };
    d->log_from = seq;
    d->log_hash = 0;
}

void ing_digest_cut(struct ing_partition *p, int64_t end_ms, struct tsp_digest_cut *cut)
{
    struct ing_digest *d = &p->digest;

    *cut = d->cut;
    cut->end_ms = end_ms;
    cut->all = true;
    cut->sure = d->doubt_ms == INT64_MIN;
    cut->after = after(d, cut->seq, &cut->sure);
    if (d->doubt_ms < end_ms)
        d->doubt_ms = INT64_MIN;
}

/* ---- the content ---- */

static void work(struct kl_env_task *task)
{
    struct ing_job *j = kl_container_of(task, struct ing_job, work);

    j->err = (struct kl_err){ 0 };
    j->code = KL_OK;
    j->digest.of[TSP_DIGEST_SAMPLES] = j->digest.of[TSP_DIGEST_STARTS] = (struct tsp_digest_sum){ 0 };
    for (uint32_t i = 0; i < j->part_count && j->code == KL_OK; i++)
        j->code = ing_part_digest(&j->parts[i], j->digest.of, &j->err);
    j->p->i->env->sched->post(j->p->shard->loop, &j->back);
}

static void back(struct kl_env_task *task)
{
    struct ing_job       *j = kl_container_of(task, struct ing_job, back);
    struct ing_partition *p = j->p;

    ing_in(p->i);
    j->out = false;
    if (ing_snap_damaged(p))
        return;                                        /* the log makes this job anew */
    j->digest_due = false;
    if (j->code == KL_OK)
        ing_digest_tell(p, &j->digest);
    else
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ", cut %" PRIu64 ": no digest, so other "
                "members are not compared with: %s", p->number, j->seq, j->err.text);
    ing_job_start(p);
}

void ing_digest_job(struct ing_job *j)
{
    struct ing_partition *p = j->p;

    j->work = (struct kl_env_task){ .run = work };
    j->back = (struct kl_env_task){ .run = back };
    j->out = true;
    ing_out(p->i);
    p->i->env->sched->errand(p->i->env->sched, &j->work);
}

/* ---- telling ---- */

static void told(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, digest.kv);
    struct ing_digest    *d = &p->digest;

    ing_in(p->i);
    d->out = false;
    kl_buf_deinit(&d->bytes);
    if (op->code == KL_OK || (op->code == KL_ENOENT && op->kind == KL_BUS_KV_DELETE)) {
        d->failures = 0;
        d->is_told = op->kind == KL_BUS_KV_PUT;
        return;
    }
    d->due = true;
    d->failures++;
    d->again_ns = kl_env_mono_ns(p->i->env) + ing_backoff_ms(p->i, d->failures) * 1000000;
}

void ing_digest_tick(struct ing_partition *p)
{
    struct ing_digest *d = &p->digest;
    bool               away = atomic_load(&p->state) == ING_AWAY;

    if (away && d->is_told)                            /* nobody need be compared with one that is no member */
        d->due = true;
    if (!d->due || d->out || p->i->member == NULL || ing_stopping(p) ||
        kl_env_mono_ns(p->i->env) < d->again_ns || (away && !d->is_told))
        return;
    d->due = false;
    d->out = true;
    ing_out(p->i);
    d->kv = (struct kl_bus_kv){ .kind = away ? KL_BUS_KV_DELETE : KL_BUS_KV_PUT, .expect = UINT64_MAX,
                                .loop = p->shard->loop, .done = told };
    kl_buf_init(&d->bytes, KL_BUS_VALUE_MAX);
    if (!away)
        tsp_digest_encode(&d->told, &d->bytes);
    d->kv.value = kl_buf_span(&d->bytes);
    tsp_digest_key(d->kv.key, sizeof d->kv.key, p->number, p->i->name);
    p->i->bus->kv(p->i->bus, &d->kv);
}

void ing_digest_tell(struct ing_partition *p, const struct tsp_digest_cut *cut)
{
    struct ing_digest *d = &p->digest;

    if (d->told.incarnation != p->incarnation)
        d->told = (struct tsp_digest){ .incarnation = p->incarnation };
    tsp_digest_tell(&d->told, cut);
    d->due = true;
    ing_digest_tick(p);
}

/* ---- comparing, on the first shard's loop: nothing of a partition is touched ---- */

static bool is_new(struct ing_ingestor *i, const struct tsp_difference *x)
{
    struct ing_compared *c = &i->compared;
    struct ing_said      said = { x->partition, x->of_a->seq, kl_hash64_seed(x->a, strlen(x->a),
                                  kl_hash64(x->b, strlen(x->b))), x->verdict };

    for (uint32_t k = 0; k < ING_SAID_MAX; k++)
        if (c->said[k].partition == said.partition && c->said[k].seq == said.seq && c->said[k].who == said.who &&
            c->said[k].verdict == said.verdict)
            return false;
    c->said[c->said_at++ % ING_SAID_MAX] = said;
    return true;
}

/* Each of the two says it: who is asked which of them is right has both at hand. */
static void differ(void *ctx, const struct tsp_difference *x)
{
    struct ing_ingestor *i = ctx;
    char                 words[TSP_DIGEST_WORDS_MAX];

    if (strcmp(x->a, i->name) != 0 && strcmp(x->b, i->name) != 0)
        return;
    i->compared.mine++;
    if (!is_new(i, x))
        return;
    tsp_difference_words(x, words, sizeof words);
    kl_count(i->m.alarms, 1);
    kl_count(i->m.differences, 1);
    kl_logf(i->o.log, KL_ERROR, "ingestor: ALARM: %s", words);
}

static void change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct ing_ingestor *i = w->ctx;
    struct ing_compared *c = &i->compared;
    struct kl_err        err = { 0 };
    struct tsp_alike     same;
    uint32_t             partition = UINT32_MAX, here = 0;

    (void)revision;
    if (!tsp_digests_put(c->all, key, value, &partition, &err))
        kl_logf(i->o.log, KL_DEBUG, "ingestor: the key %s: %s", key, err.text);
    if (partition >= i->o.partitions)
        return;
    c->mine = 0;
    tsp_digests_differ(c->all, partition, differ, i, &same);
    if (same.last_seq > c->same[partition] && atomic_load(&i->partitions[partition].wanted)) {
        kl_count(i->m.compared, 1);
        kl_logf(i->o.log, KL_DEBUG, "ingestor: partition %" PRIu32 ": two members sealed the same at cut %" PRIu64,
                partition, same.last_seq);
    }
    c->same[partition] = same.last_seq;
    c->differs[partition] = c->mine > 0;
    for (uint32_t n = 0; n < i->o.partitions; n++)
        here += c->differs[n];
    kl_gauge_set(i->m.differ, here);
}

static void current(struct kl_bus_watch *w) { (void)w; }

void ing_digest_watch(struct ing_ingestor *i)
{
    struct ing_compared *c = &i->compared;

    c->all = tsp_digests_new();
    c->same = kl_new(i->o.partitions * sizeof *c->same);
    c->differs = kl_new(i->o.partitions * sizeof *c->differs);
    c->watch = (struct kl_bus_watch){ .prefix = TSP_DIGEST_PREFIX, .loop = i->shards[0].loop, .change = change,
                                      .current = current, .ctx = i };
    i->bus->watch(i->bus, &c->watch);
}

void ing_digest_unwatch(struct ing_ingestor *i) { i->bus->unwatch(i->bus, &i->compared.watch); }

void ing_digest_free(struct ing_ingestor *i)
{
    tsp_digests_free(i->compared.all);
    free(i->compared.same);
    free(i->compared.differs);
}
