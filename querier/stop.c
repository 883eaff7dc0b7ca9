/*
 * Aggregates that are not wanted any more: another member was quicker; a partition refused, so that the series are
 * asked for; nobody waits for the query. Who was asked is told (TSP_SEL_STOP, by the same subject, so that it comes
 * behind the question), and answers the question then. Whether that arrives is not looked after: at the latest
 * the question's own time ends it. An ingestor that knows no such message refuses it, and goes on.
 */
#include <stdio.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

enum { STOP_MS = 2000, STOP_BYTES_MAX = 1024 };
struct stop { struct qr_job *job; struct kl_bus_ask ask; struct kl_buf bytes; };

void qr_pushed_begin(struct qr_pushed *x, const struct qr_fetch *f, uint32_t partition, const char *subject,
                     struct tsp_push *push)
{
    struct qr_shard *s = f->job->shard;

    *x = (struct qr_pushed){ .f = f, .subject = subject, .partition = partition, .number = ++s->pushed,
                             .next = f->job->pushed };
    f->job->pushed = x;
    push->asker = s->asker;
    push->number = x->number;
}

void qr_pushed_end(struct qr_pushed *x)
{
    struct qr_pushed **at = &x->f->job->pushed;

    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
}

static void told(struct kl_bus_ask *op)
{
    struct stop *s = kl_container_of(op, struct stop, ask);

    if (op->code == KL_OK)
        free(op->answer);
    qr_drop(s->job);
    kl_buf_deinit(&s->bytes);
    free(s);
}

void qr_stop(struct qr_pushed *x)
{
    struct qr_job    *j = x->f->job;
    struct tsp_select q = { .what = TSP_SEL_STOP, .partition = x->partition, .tenant = kl_span_str(j->tenant),
                            .push = { .asker = j->shard->asker, .number = x->number } };
    struct stop      *s;
    struct kl_err     err;

    if (x->stopped)
        return;
    x->stopped = true;
    kl_count(j->q->m.pushes_stopped, 1);
    s = kl_new(sizeof *s);
    s->job = j;
    kl_buf_init(&s->bytes, STOP_BYTES_MAX);
    if (tsp_select_encode(&q, &s->bytes, &err) != KL_OK) {             /* it is made for nothing, as it would be */
        kl_buf_deinit(&s->bytes);
        free(s);
        return;
    }
    s->ask = (struct kl_bus_ask){ .question = kl_buf_span(&s->bytes), .timeout_ms = STOP_MS, .loop = j->shard->loop,
                                  .done = told };
    snprintf(s->ask.subject, sizeof s->ask.subject, "%s", x->subject);
    qr_hold(j);
    j->q->bus->ask(j->q->bus, &s->ask);
}

void qr_stop_all(struct qr_job *j, const struct qr_fetch *f)
{
    for (struct qr_pushed *x = j->pushed; x != NULL; x = x->next)
        if (f == NULL || x->f == f)
            qr_stop(x);
}
