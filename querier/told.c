/*
 * What is told of a job that has ended: a line in the log where it was slow. On the shard's loop.
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

void qr_told_job(struct qr_job *j, int64_t now_ns)
{
    const struct qr_cost *c = &j->cost;
    int64_t took_ns = now_ns - j->submitted_ns;
    bool    failed = j->failure.kind != PQL_OK;

    if (j->q->o.slow_ms <= 0 || took_ns < j->q->o.slow_ms * 1000000)
        return;
    kl_count(j->q->m.slow, 1);
    kl_log_event(j->q->o.log, KL_WARN, (struct kl_log_field[]){
        kl_log_text("request_id", kl_span_str(j->request_id)),
        kl_log_text("tenant", kl_span_str(j->tenant)),
        kl_log_text("path", kl_span_str(j->path)),
        kl_log_text("query", beginning(j->text, QR_TOLD_TEXT_MAX)),
        count("query_bytes", j->text.size),
        kl_log_number("duration_ms", took_ns / 1000000),
        kl_log_number("queued_ms", ((j->running || j->pours ? j->begun_ns : now_ns) - j->submitted_ns) / 1000000),
        kl_log_number("range_s", (j->range_to_ms - j->range_from_ms) / 1000),
        kl_log_number("step_s", j->step_ms / 1000),
        count("partitions", c->partitions),
        count("filesets", c->filesets),
        count("pages", c->pages),
        count("page_bytes", c->page_bytes),
        count("series", c->series),
        count("samples", c->samples),
        kl_log_text("error", failed ? beginning(kl_span_str(j->failure.text), 200) : kl_span(NULL, 0)),
    }, 16, "slow query");
}

void qr_told_part(struct qr_part *p)
{
    struct qr_cost *c = &p->f->job->cost;

    c->partitions++;
    c->filesets += p->file_count;
    c->pages += p->page_count;
    for (size_t i = 0; i < p->page_count; i++)
        c->page_bytes += p->pages[i].size;
}
