/*
 * What logs that were made anew have lost: their owners name it in the KV (libtsproto/logmark.h), and
 * an answer over such a time says so.
 */
#include "querier/qr_priv.h"

#include <inttypes.h>
#include <stdlib.h>

static void change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct qr_shard *s = w->ctx;
    struct qr_losses one = { 0 };
    struct kl_err    err;
    uint32_t         i = 0;

    (void)revision;
    if (!tsp_logmark_of(key, &one.partition) || one.partition >= TSP_PARTITIONS_MAX)
        return;
    if (value.at != NULL && tsp_logmark_decode(value, &one.mark, &err) != KL_OK) {
        kl_logf(s->q->o.log, KL_WARN, "querier: %s: %s", key, err.text);
        return;
    }
    while (i < s->loss_count && s->losses[i].partition != one.partition)
        i++;
    if (one.mark.lost_count == 0) {
        if (i < s->loss_count)
            s->losses[i] = s->losses[--s->loss_count];
        return;
    }
    if (i == s->loss_count)
        s->losses = kl_resize(s->losses, ++s->loss_count * sizeof *s->losses);
    s->losses[i] = one;
}

static void current(struct kl_bus_watch *w) { (void)w; }

void qr_losses_open(struct qr_shard *s)
{
    s->loss_watch = (struct kl_bus_watch){ .prefix = TSP_LOGMARK_PREFIX, .loop = s->loop,
                                           .change = change, .current = current, .ctx = s };
    s->q->bus->watch(s->q->bus, &s->loss_watch);
}

void qr_losses_close(struct qr_shard *s)
{
    s->q->bus->unwatch(s->q->bus, &s->loss_watch);
    free(s->losses);
    s->losses = NULL;
    s->loss_count = 0;
}

void qr_losses_warn(struct qr_fetch *f, uint32_t partition)
{
    const struct qr_shard *s = f->job->shard;

    if (f->probe)                                      /* whoever evaluates such a time is warned */
        return;
    for (uint32_t i = 0; i < s->loss_count; i++)
        for (uint32_t k = 0; s->losses[i].partition == partition && k < s->losses[i].mark.lost_count; k++) {
            const struct tsp_lost *l = &s->losses[i].mark.lost[k];
            char                   words[KL_ERR_TEXT_MAX];

            if (f->to_ms < l->from_ms || f->from_ms > l->to_ms)
                continue;
            tsp_lost_words(l, words, sizeof words);
            qr_job_warn(f->job, "partition %" PRIu32 ": %s", partition, words);
        }
}
