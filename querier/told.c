/*
 * What is told of a job that has ended: a line in the log where it was slow, and spans where it is
 * traced: `query` with plan, a fetch a partition, decode (each time that there was something to) and
 * evaluate, which is what remains from the last decode to the end. On the shard's loop.
 *
 * Of a query's text at most QR_TOLD_TEXT_MAX bytes are told: enough to find it again, and no more than
 * a line can bear. Its answer, or any sample of it, never is.
 */
#include "querier/qr_priv.h"

/* Not cut within a character. */
static struct kl_span beginning(struct kl_span text, size_t most)
{
    const uint8_t *at = text.at;

    if (text.size <= most)
        return text;
    while (most > 0 && (at[most] & 0xc0) == 0x80)
        most--;
    return kl_span(at, most);
}

static struct kl_log_field count(const char *name, uint64_t n) { return kl_log_number(name, (int64_t)n); }

static int64_t queued_ns(const struct qr_job *j, int64_t now_ns)
{
    return (j->running || j->pours ? j->begun_ns : now_ns) - j->submitted_ns;
}

static void put_span(struct qr_job *j, int64_t now_ns)
{
    const struct qr_cost *c = &j->cost;
    struct kl_trace_span  s;

    kl_trace_span_begin(&s, &j->trace, j->above.span, "query", KL_TRACE_INTERNAL, j->submitted_ns);
    s.failed = j->failure.kind != PQL_OK;
    kl_trace_span_text(&s, "koalemos.tenant", kl_span_str(j->tenant));
    kl_trace_span_number(&s, "koalemos.queued_us", queued_ns(j, now_ns) / 1000);
    kl_trace_span_number(&s, "koalemos.partitions", (int64_t)c->partitions);
    kl_trace_span_number(&s, "koalemos.filesets", (int64_t)c->filesets);
    kl_trace_span_number(&s, "koalemos.series", (int64_t)c->series);
    kl_trace_span_number(&s, "koalemos.samples", (int64_t)c->samples);
    if (s.failed)
        kl_trace_span_text(&s, "koalemos.error", beginning(kl_span_str(j->failure.text), 100));
    kl_trace_span_text(&s, "koalemos.query", j->text);
    kl_trace_span_end(j->q->o.tracer, &s, now_ns);
}

void qr_told_step(struct qr_job *j, const char *name, int64_t begin_ns, int64_t end_ns)
{
    struct kl_trace      is = kl_trace_child(j->q->o.tracer, &j->trace);
    struct kl_trace_span s;

    if (!is.on)
        return;
    kl_trace_span_begin(&s, &is, j->trace.span, name, KL_TRACE_INTERNAL, begin_ns);
    kl_trace_span_end(j->q->o.tracer, &s, end_ns);
}

void qr_told_job(struct qr_job *j, int64_t now_ns)
{
    const struct qr_cost *c = &j->cost;
    int64_t took_ns = now_ns - j->submitted_ns;
    bool    failed = j->failure.kind != PQL_OK;
    char    trace[33];

    if (j->trace.on)
        put_span(j, now_ns);
    if (j->q->o.slow_ms <= 0 || took_ns < j->q->o.slow_ms * 1000000)
        return;
    kl_count(j->q->m.slow, 1);
    kl_trace_id_text(&j->trace, trace);
    kl_log_event(j->q->o.log, KL_WARN, (struct kl_log_field[]){
        kl_log_text("request_id", kl_span_str(j->request_id)),
        kl_log_text("trace_id", kl_span_str(trace)),
        kl_log_text("tenant", kl_span_str(j->tenant)),
        kl_log_text("path", kl_span_str(j->path)),
        kl_log_text("query", beginning(j->text, QR_TOLD_TEXT_MAX)),
        count("query_bytes", j->text.size),
        kl_log_number("duration_ms", took_ns / 1000000),
        kl_log_number("queued_ms", queued_ns(j, now_ns) / 1000000),
        kl_log_number("range_s", (j->range_to_ms - j->range_from_ms) / 1000),
        kl_log_number("step_s", j->step_ms / 1000),
        count("partitions", c->partitions),
        count("filesets", c->filesets),
        count("pages", c->pages),
        count("page_bytes", c->page_bytes),
        count("series", c->series),
        count("samples", c->samples),
        kl_log_text("error", failed ? beginning(kl_span_str(j->failure.text), 200) : kl_span(NULL, 0)),
    }, 17, "slow query");
}

void qr_told_part(struct qr_part *p)
{
    struct qr_job       *j = p->f->job;
    struct qr_cost      *c = &j->cost;
    struct kl_trace_span s;
    size_t               bytes = 0;

    for (size_t i = 0; i < p->page_count; i++)
        bytes += p->pages[i].size;
    c->partitions++;
    c->filesets += p->file_count;
    c->pages += p->page_count;
    c->page_bytes += bytes;
    if (!p->trace.on)
        return;
    kl_trace_span_begin(&s, &p->trace, j->trace.span, "fetch", KL_TRACE_CLIENT, p->begun_ns);
    s.failed = p->failed;
    kl_trace_span_number(&s, "koalemos.partition", p->partition);
    kl_trace_span_number(&s, "koalemos.pages", (int64_t)p->page_count);
    kl_trace_span_number(&s, "koalemos.page_bytes", (int64_t)bytes);
    kl_trace_span_number(&s, "koalemos.filesets", (int64_t)p->file_count);
    kl_trace_span_number(&s, "koalemos.tries", p->tries + 1);
    kl_trace_span_end(j->q->o.tracer, &s, kl_env_mono_ns(j->q->env));
}
