/*
 * Aggregates made by the ingestors. A need whose language allows it (pql_need.push) is asked of the owners of
 * its metric's partitions as a PARTIAL: one answer a partition, no pages, no second try; a slow owner's is put to
 * the next member as well, as for pages (live.c), and the first answer counts, also where it is a refusal of what
 * was asked. The answers take the place of the series where all of this holds:
 *
 *   the selector names its metric, so its layout is one number
 *   every partition answered: then each of its series with samples in the range has its place there by the
 *     newest layout, so none is in two partitions
 *   no fileset of the tenant meets the range, by a catalogue as new as the answers say: all is in the heads
 *   no answer knows of a newer placement table than was asked by
 *
 * Else, whatever the reason, the fetch begins anew and asks for the series, as if nothing had been; the reason
 * is told by query_explain. A text that was refused is not pushed again for a while, nor is anything to a
 * partition of which no member answered: they may hang, and then each question would wait for them first.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

enum { NOT_AGAIN_MS = 30 * 1000, TIMEOUT_MAX_MS = 10 * 1000 };

static uint64_t key_of(const struct qr_fetch *f)
{
    uint64_t seed = kl_hash64(f->job->tenant, strlen(f->job->tenant));

    return kl_hash64_seed(f->push->text.at, f->push->text.size, seed);
}

static uint64_t key_of_part(uint32_t partition) { return kl_hash64_seed(&partition, sizeof partition, 1); }

void qr_note(const struct qr_shard *s, struct qr_noted *notes, size_t max, uint64_t key, int64_t for_ms)
{
    struct qr_noted *at = &notes[0];                   /* the same, or who is over first */

    for (size_t i = 0; i < max && at->key != key; i++)
        if (notes[i].key == key || notes[i].until_ns < at->until_ns)
            at = &notes[i];
    *at = (struct qr_noted){ key, kl_env_mono_ns(s->q->env) + for_ms * INT64_C(1000000) };
}

bool qr_noted(const struct qr_shard *s, const struct qr_noted *notes, size_t max, uint64_t key)
{
    for (size_t i = 0; i < max; i++)
        if (notes[i].key == key)
            return kl_env_mono_ns(s->q->env) < notes[i].until_ns;
    return false;
}

static void note(const struct qr_fetch *f, uint64_t key)
{
    qr_note(f->job->shard, f->job->shard->refused, QR_REFUSED_MAX, key, NOT_AGAIN_MS);
}

static bool noted(const struct qr_fetch *f, uint64_t key)
{
    return qr_noted(f->job->shard, f->job->shard->refused, QR_REFUSED_MAX, key);
}

static bool has_silent(const struct qr_fetch *f)
{
    for (size_t i = 0; i < f->part_count; i++)
        if (noted(f, key_of_part(f->parts[i]->partition)))
            return true;
    return false;
}

void qr_push_silent(const struct qr_part *p) { note(p->f, key_of_part(p->partition)); }

void qr_push_failed(struct qr_part *p, const struct kl_err *err)
{
    qr_push_cannot(p->f, err->code == KL_EINVAL || err->code == KL_ELIMIT, "partition %" PRIu32 ": %s",
                   p->partition, err->text);
}

void qr_push_cannot(struct qr_fetch *f, bool remember, const char *fmt, ...)
{
    va_list args;

    if (f->unpushed[0] != '\0')                        /* the first reason is the one to tell */
        return;
    va_start(args, fmt);
    vsnprintf(f->unpushed, sizeof f->unpushed, fmt, args);
    va_end(args);
    if (remember)
        note(f, key_of(f));
    qr_stop_all(f->job, f);                            /* of the other partitions */
}

bool qr_push_meets(const struct qr_fetch *f, const struct qr_manifest *m)
{
    for (uint32_t i = 0; m != NULL && i < m->m.fileset_count; i++) {
        const struct blk_info *x = &m->m.filesets[i];

        if (x->series_count > 0 && x->min_ms <= f->to_ms && x->max_ms >= f->from_ms &&
            strcmp(x->tenant, f->job->tenant) == 0)
            return true;
    }
    return false;
}

/* What is known of the catalogue already says that there is more than the heads. */
static bool has_filesets(const struct qr_fetch *f)
{
    const struct qr_shard *s = f->job->shard;

    for (size_t i = 0; i < f->part_count; i++)
        if (f->parts[i]->partition < s->pointer_count &&
            qr_push_meets(f, s->pointers[f->parts[i]->partition].manifest))
            return true;
    return false;
}

void qr_push_plan(struct qr_fetch *f)
{
    const struct tsp_placement *t = f->table->placement;
    struct kl_span              metric = qr_fetch_metric(f);
    int64_t                     since;

    if (f->push == NULL)
        return;
    if (metric.size == 0)
        qr_push_cannot(f, false, "the selector does not name its metric");
    else if (noted(f, key_of(f)))
        qr_push_cannot(f, false, "it was refused a moment ago");
    else if (has_silent(f))
        qr_push_cannot(f, false, "a partition did not answer a moment ago");
    else if (has_filesets(f))
        qr_push_cannot(f, false, "filesets have samples of these times");
    if (f->unpushed[0] != '\0') {
        f->push = NULL;
        return;
    }
    kl_count(f->job->q->m.pushes, 1);
    f->what = f->select->what = TSP_SEL_PARTIAL;
    f->select->push = (struct tsp_push){
        .version = TSP_PUSH_VERSION, .text = f->push->text, .start_ms = f->push->start_ms,
        .step_ms = f->push->step_ms, .steps = f->push->steps, .lookback_ms = f->lookback_ms,
        .samples_max = f->job->q->o.query_samples_max, .tally = f->tallied,
        .partitions = tsp_placement_partitions(t),
        .spread = tsp_placement_spread_of(t, kl_span_str(f->job->tenant), metric, &since),
    };
}

int64_t qr_push_timeout_ms(const struct qr_job *j, bool another)
{
    int64_t half_ms = qr_job_left_ms(j) / 2;           /* the other half is for the series */
    int64_t most_ms = another ? QR_ASK_PATIENCE_MS : TIMEOUT_MAX_MS;

    return half_ms < 1 ? 1 : half_ms < most_ms ? half_ms : most_ms;
}

static int by_number(const void *a, const void *b)
{
    const struct qr_part *x = *(struct qr_part *const *)a, *y = *(struct qr_part *const *)b;

    return x->partition < y->partition ? -1 : x->partition > y->partition;
}

void qr_push_take(struct qr_fetch *f)
{
    struct qr_part **parts = kl_resize(NULL, (f->part_count + 1) * sizeof(struct qr_part *));
    struct kl_span  *bytes = kl_resize(NULL, (f->part_count + 1) * sizeof *bytes);
    struct kl_err    err = { .code = KL_OK };

    memcpy(parts, f->parts, f->part_count * sizeof(struct qr_part *));
    qsort(parts, f->part_count, sizeof(struct qr_part *), by_number);
    for (size_t i = 0; i < f->part_count && err.code == KL_OK; i++) {
        struct tsp_page page;
        struct kl_cur   c;

        if (parts[i]->page_count != 1)
            kl_fail(&err, KL_ECORRUPT, "an answer without an aggregate");
        else if (tsp_page_open(kl_span(parts[i]->pages[0].bytes, parts[i]->pages[0].size), &page, &c, &err) == KL_OK)
            bytes[i] = kl_span(c.at, kl_cur_left(&c));
    }
    if (err.code == KL_OK)
        pql_feed_partials(f->job->pql, f->id, bytes, f->part_count, &f->fed, &err);
    if (err.code == KL_OK)
        f->pushed = true;
    else
        f->merge_err = err;                            /* the loop makes a reason of it */
    f->live_series = f->fed.series;
    free(parts);
    free(bytes);
}
