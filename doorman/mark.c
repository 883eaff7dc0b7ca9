/*
 * Which incarnation of each partition's log is accepted: the partition's owner says so in the KV
 * (libtsproto/logmark.h), each gate watches. What another incarnation acks is no ack: its samples
 * would be read only once the owner has sealed what it holds of the one before.
 */
#include "doorman/dm_priv.h"

#include "libtsproto/logmark.h"

#include <inttypes.h>

static void change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct dm_gate    *g = kl_container_of(w, struct dm_gate, marks.watch);
    struct tsp_logmark mark = { 0 };
    struct kl_err      err;
    uint32_t           partition;

    (void)revision;
    if (!tsp_logmark_of(key, &partition) || partition >= TSP_PARTITIONS_MAX)
        return;
    if (value.at != NULL && tsp_logmark_decode(value, &mark, &err) != KL_OK) {
        kl_logf(g->log, KL_ERROR, "%s: %s", key, err.text);
        return;                                        /* the last one goes on holding */
    }
    g->marks.accepted[partition] = mark.incarnation;
}

static void current(struct kl_bus_watch *w) { (void)w; }

void dm_mark_begin(struct dm_gate *g)
{
    g->marks.watch = (struct kl_bus_watch){ .prefix = TSP_LOGMARK_PREFIX, .loop = g->loop,
                                            .change = change, .current = current };
    g->bus->watch(g->bus, &g->marks.watch);
}

void dm_mark_end(struct dm_gate *g) { g->bus->unwatch(g->bus, &g->marks.watch); }

bool dm_mark_takes(const struct dm_gate *g, uint32_t partition, uint64_t incarnation, struct kl_err *err)
{
    uint64_t accepted = g->marks.accepted[partition];

    if (accepted == 0 || accepted == incarnation)
        return true;
    kl_fail(err, KL_EAGAIN, "the log was made anew: its incarnation is %" PRIu64 ", accepted is %" PRIu64
            ": what was applied of that one is being sealed", incarnation, accepted);
    return false;
}
