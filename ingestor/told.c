/*
 * What is told of single records and questions: spans, where they are traced, and at level debug a
 * line for a question that is refused, with the id of the request that it is for. On a partition's loop.
 */
#include "ingestor/ing_priv.h"

#include <inttypes.h>

void ing_told_record(struct ing_partition *p, const struct kl_bus_record *rec, int64_t begin_ns)
{
    struct kl_tracer    *t = p->i->o.tracer;
    struct kl_trace      is = kl_trace_child(t, &rec->trace);
    struct kl_trace_span s;

    /* What is replayed was traced when it came. */
    if (!is.on || atomic_load(&p->state) == ING_REPLAYING)
        return;
    kl_trace_span_begin(&s, &is, rec->trace.span, "apply", KL_TRACE_CONSUMER, begin_ns);
    kl_trace_span_number(&s, "koalemos.partition", p->number);
    kl_trace_span_number(&s, "koalemos.sequence", (int64_t)rec->seq);
    kl_trace_span_number(&s, "koalemos.record_bytes", (int64_t)rec->bytes.size);
    kl_trace_span_number(&s, "koalemos.records_behind", (int64_t)rec->behind);
    kl_trace_span_end(t, &s, kl_env_mono_ns(p->i->env));
}

void ing_told_question(struct ing_question *of)
{
    struct ing_ingestor     *i = of->i;
    const struct tsp_select *q = &of->select;
    struct kl_trace          is = kl_trace_child(i->o.tracer, &q->trace);
    struct kl_trace_span     s;

    if (of->code != KL_OK)
        kl_log_event(i->o.log, KL_DEBUG, (struct kl_log_field[]){
            kl_log_text("request_id", q->request_id), kl_log_text("tenant", q->tenant),
            kl_log_number("partition", q->partition) }, 3, "a question is refused: %s", of->err.text);
    if (!is.on)
        return;
    kl_trace_span_begin(&s, &is, q->trace.span, "select", KL_TRACE_SERVER, of->begun_ns);
    s.failed = of->code != KL_OK;
    kl_trace_span_number(&s, "koalemos.partition", q->partition);
    kl_trace_span_number(&s, "koalemos.partitions", of->asked);
    kl_trace_span_number(&s, "koalemos.page_bytes", (int64_t)(of->first.size + of->others.size));
    kl_trace_span_text(&s, "koalemos.tenant", q->tenant);
    if (s.failed)
        kl_trace_span_text(&s, "koalemos.error", kl_span_str(of->err.text));
    kl_trace_span_end(i->o.tracer, &s, kl_env_mono_ns(i->env));
}
