/*
 * `consistency=all`: a push that the logs have is answered only when every replica in the placement
 * table has applied it. Each is asked a question that waits for that position (TSP_READ_CAUSAL); what
 * it would answer does not matter. One that does not answer in time makes it a 503: the samples are
 * taken, and sending them once more is harmless.
 */
#include "doorman/dm_priv.h"

#include "libtsproto/select.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WAIT_MS = 5000 };

struct ask { struct kl_bus_ask op; struct kl_buf question; struct everywhere *of; uint32_t partition;
             char name[TSP_NAME_MAX + 1]; };
struct everywhere { struct dm_gate *g; struct dm_push *push; uint32_t left, failed, count;
                    struct ask *asks; };

static void end(struct everywhere *e)
{
    struct dm_push *p = e->push;

    if (--e->left > 0)
        return;
    if (e->failed > 0) {
        p->status = 503;
        p->retry_after_s = 1;
    }
    for (uint32_t i = 0; i < e->count; i++)
        kl_buf_deinit(&e->asks[i].question);
    free(e->asks);
    free(e);
    p->done(p);
}

static void fail(struct everywhere *e, uint32_t partition, const char *name, const char *words)
{
    if (e->failed++ == 0)
        snprintf(e->push->text, sizeof e->push->text, "partition %" PRIu32 ": the log has it, but %s has not "
                 "applied it: %s; consistency=all wants every replica. Sending it again is harmless\n",
                 partition, name, words);
}

static void answered(struct kl_bus_ask *op)
{
    struct ask *a = kl_container_of(op, struct ask, op);

    if (op->code == KL_OK)
        free(op->answer);
    else
        fail(a->of, a->partition, a->name, op->err.text);
    end(a->of);
}

static void ask(struct everywhere *e, struct ask *a, const struct dm_position *at, const char *name)
{
    struct tsp_select s = { .what = TSP_SEL_NAMES, .partition = at->partition,
                            .tenant = kl_span_str(e->push->tenant), .limit = 1,
                            .consistency = TSP_READ_CAUSAL, .min_seq = at->seq, .timeout_ms = WAIT_MS };
    struct kl_err err = { 0 };

    a->of = e;
    a->partition = at->partition;
    snprintf(a->name, sizeof a->name, "%s", name);
    kl_buf_init(&a->question, KL_BUS_MESSAGE_MAX);
    e->left++;
    if (tsp_select_encode(&s, &a->question, &err) != KL_OK) {
        fail(e, at->partition, name, err.text);
        end(e);
        return;
    }
    a->op = (struct kl_bus_ask){ .question = kl_buf_span(&a->question), .timeout_ms = WAIT_MS,
                                 .loop = e->g->loop, .done = answered };
    tsp_select_member(a->op.subject, sizeof a->op.subject, at->partition, name);
    e->g->bus->ask(e->g->bus, &a->op);
}

void dm_everywhere(struct dm_gate *g, struct dm_push *push)
{
    struct everywhere *e = kl_new(sizeof *e);

    e->g = g;
    e->push = push;
    e->left = 1;                                       /* this function's own */
    e->asks = kl_new((push->acked_count * TSP_REPLICAS_MAX + 1) * sizeof *e->asks);
    if (push->acked_elsewhere)
        fail(e, push->acked[0].partition, "somebody, perhaps,", "it lies in too many partitions to ask all");
    for (uint32_t i = 0; i < push->acked_count; i++) {
        const char *names[TSP_REPLICAS_MAX];
        unsigned    count = push->acked[i].partition < tsp_placement_partitions(g->placement)
                          ? tsp_placement_members(g->placement, push->acked[i].partition, names,
                                                  TSP_REPLICAS_MAX) : 0;

        if (count == 0)
            fail(e, push->acked[i].partition, "nobody", "no ingestor has this partition");
        for (unsigned k = 0; k < count; k++)
            ask(e, &e->asks[e->count++], &push->acked[i], names[k]);
    }
    end(e);
}
