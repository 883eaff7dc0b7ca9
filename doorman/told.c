/*
 * Spans of pushes that are traced. A record gathers samples of many pushes: its span belongs to the
 * first traced one's trace, and goes along with it (kl_bus_append.trace); each of the others gets one
 * of its own, linked to that. On the gate's loop.
 */
#include "doorman/told.h"

#include <string.h>

#include "doorman/dm_priv.h"

enum { APPENDS_TOLD_MAX = 16 };                        /* of one record */

void dm_told_read(struct dm_gate *g, const struct dm_ticket *t, int64_t begin_ns)
{
    const struct dm_push *p = t->push;
    struct kl_trace      is = kl_trace_child(g->options->tracer, &p->trace);
    struct kl_trace_span s;

    if (!is.on)
        return;
    kl_trace_span_begin(&s, &is, p->trace.span, "decode", KL_TRACE_INTERNAL, begin_ns);
    s.failed = t->status != 0;
    kl_trace_span_text(&s, "koalemos.tenant", kl_span_str(p->tenant));
    kl_trace_span_number(&s, "koalemos.body_bytes", (int64_t)p->body_size);
    kl_trace_span_number(&s, "koalemos.samples", (int64_t)p->samples_stored);
    kl_trace_span_number(&s, "koalemos.histograms", (int64_t)p->hists_stored);
    kl_trace_span_number(&s, "koalemos.refused", (int64_t)t->report.total);
    if (s.failed)
        kl_trace_span_text(&s, "koalemos.error", kl_span_str(t->words));
    kl_trace_span_end(g->options->tracer, &s, kl_env_mono_ns(g->env));
}

void dm_told_batch(struct dm_gate *g, const struct dm_batch *b, const struct kl_err *why)
{
    struct kl_tracer *tracer = g->options->tracer;
    const struct kl_trace *record = &b->op.trace;
    int64_t  now_ns = kl_env_mono_ns(g->env);
    unsigned told = 0;

    for (size_t i = 0; i < b->waiter_count && told < APPENDS_TOLD_MAX; i++) {
        const struct kl_trace *above = &b->waiters[i]->push->trace;
        struct kl_trace        is = *record;
        struct kl_trace_span   s;

        if (!above->on)
            continue;
        if (told > 0)
            is = kl_trace_child(tracer, above);
        kl_trace_span_begin(&s, &is, above->span, "append", KL_TRACE_PRODUCER, b->begun_ns);
        if (told++ > 0)
            s.link = *record;
        s.failed = why != NULL;
        kl_trace_span_number(&s, "koalemos.partition", b->part->number);
        kl_trace_span_number(&s, "koalemos.record_bytes", (int64_t)b->bytes.size);
        kl_trace_span_number(&s, "koalemos.pushes", (int64_t)b->waiter_count);
        kl_trace_span_number(&s, "koalemos.tries", b->attempts);
        if (why != NULL)
            kl_trace_span_text(&s, "koalemos.error", kl_span_str(why->text));
        else
            kl_trace_span_number(&s, "koalemos.sequence", (int64_t)b->op.seq);
        kl_trace_span_end(tracer, &s, now_ns);
    }
}

void dm_told_enter(struct dm_entry *e, struct dm_push *p, const char *request_id, const char *traceparent)
{
    if (request_id != NULL && strlen(request_id) < sizeof p->request_id)
        strcpy(p->request_id, request_id);
    e->begun_ns = kl_env_mono_ns(e->env);
    kl_trace_enter(e->tracer, traceparent, true, &p->trace, e->above);
}

void dm_told_leave(const struct dm_entry *e, const struct dm_push *p, const char *name, unsigned status)
{
    struct kl_trace_span s;

    if (!p->trace.on)
        return;
    kl_trace_span_begin(&s, &p->trace, e->above, name, KL_TRACE_SERVER, e->begun_ns);
    s.failed = status >= 500;
    kl_trace_span_number(&s, "http.response.status_code", status);
    kl_trace_span_text(&s, "koalemos.tenant", kl_span_str(p->tenant));
    kl_trace_span_text(&s, "koalemos.request_id", kl_span_str(p->request_id));
    if (s.failed)
        kl_trace_span_text(&s, "koalemos.answer", kl_span(p->text, strnlen(p->text, 200)));
    kl_trace_span_end(e->tracer, &s, kl_env_mono_ns(e->env));
}
