/*
 * /query_explain: what a query read and did. Each selector with the partitions asked, pages and bytes
 * from live heads, filesets read and left alone (of other tenants or times; without the metric), series
 * and samples (of the chunks that were selected, which may reach beyond the range); each operator as
 * the language tells of it, with its time. As JSON, or as text.
 */
#include <inttypes.h>

#include "querier/api_priv.h"

enum { FILES_SHOWN_MAX = 100 };

static const char *const ops[] = { "=", "!=", "=~", "!~" };

static void selector(struct kl_buf *out, const struct qr_fetch *f)
{
    kl_buf_add8(out, '{');
    for (size_t i = 0; i < f->matcher_count; i++) {
        const struct kl_matcher *m = &f->matchers[i];

        kl_buf_adds(out, i > 0 ? "," : "");
        kl_buf_add(out, m->name.at, m->name.size);
        kl_buf_adds(out, ops[m->op]);
        kl_json_str(out, m->value);
    }
    kl_buf_add8(out, '}');
}

static size_t pages_of(const struct qr_fetch *f)
{
    size_t pages = 0;

    for (size_t i = 0; i < f->part_count; i++)
        pages += f->parts[i]->page_count;
    return pages;
}

static size_t files_read(const struct qr_fetch *f)
{
    size_t read = 0;

    for (size_t i = 0; i < f->part_count; i++)
        for (size_t k = 0; k < f->parts[i]->file_count; k++)
            read += f->parts[i]->files[k].read;
    return read;
}

/* Data and index alike: what was needed, and from where it came. */
static void bytes_json(const char *kind, const struct blk_bytes *b, struct kl_buf *out)
{
    kl_buf_addf(out, "\"%s\":{\"neededBytes\":%" PRIu64 ",\"memoryBytes\":%" PRIu64 ",\"diskBytes\":%"
                PRIu64 ",\"storeBytes\":%" PRIu64 ",\"sharedBytes\":%" PRIu64 ",\"storeRequests\":%"
                PRIu64 "}", kind, b->wanted, b->memory, b->disk, b->store, b->shared, b->requests);
}

static void bytes_text(const char *kind, const struct blk_bytes *b, struct kl_buf *out)
{
    kl_buf_addf(out, "    %s: %" PRIu64 " bytes needed; %" PRIu64 " from memory, %" PRIu64 " from disk, %"
                PRIu64 " from the store in %" PRIu64 " requests, %" PRIu64 " with another's\n", kind,
                b->wanted, b->memory, b->disk, b->store, b->requests, b->shared);
}

static void fetch_json(const struct qr_fetch *f, struct kl_buf *out)
{
    struct kl_buf text = { 0 };                        /* a selector's, bounded by the query's text */
    size_t        shown = 0;

    selector(&text, f);
    kl_buf_addf(out, "{\"need\":%" PRIu32 ",\"selector\":", f->id);
    kl_json_str(out, kl_buf_span(&text));
    kl_buf_addf(out, ",\"fromMs\":%" PRId64 ",\"toMs\":%" PRId64 ",\"partitions\":[", f->from_ms,
                f->to_ms);
    for (size_t i = 0; i < f->part_count; i++)
        kl_buf_addf(out, i > 0 ? ",%" PRIu32 : "%" PRIu32, f->parts[i]->partition);
    kl_buf_addf(out, "],\"partitionsOf\":%" PRIu32 ",\"partitionsFailed\":%zu,"
                "\"live\":{\"pages\":%zu,\"bytes\":%zu,\"series\":%zu},"
                "\"filesets\":{\"read\":%zu,\"withoutMetric\":%zu,\"otherTenantOrTime\":%zu,"
                "\"bytes\":%zu,\"series\":%zu,\"paths\":[",
                tsp_placement_partitions(f->table->placement), f->parts_failed, pages_of(f),
                f->page_bytes, f->live_series, files_read(f), f->files_pruned, f->files_of_others,
                f->stored_bytes, f->stored_series);
    for (size_t i = 0; i < f->part_count; i++)
        for (size_t k = 0; k < f->parts[i]->file_count && shown < FILES_SHOWN_MAX; k++) {
            char path[BLK_PATH_MAX + 1];

            if (!f->parts[i]->files[k].read)
                continue;
            blk_fileset_path(f->parts[i]->files[k].info, path);
            kl_buf_adds(out, shown++ > 0 ? "," : "");
            kl_json_cstr(out, path);
        }
    kl_buf_adds(out, "],");
    bytes_json("data", &f->tally.data, out);
    kl_buf_add8(out, ',');
    bytes_json("index", &f->tally.index, out);
    kl_buf_addf(out, "},\"series\":%zu,\"samples\":%zu,\"pushed\":", f->series_count, f->sample_count);
    if (f->pushed)
        kl_buf_addf(out, "{\"series\":%" PRIu64 ",\"samples\":%" PRIu64 ",\"groups\":%" PRIu64 "}",
                    f->fed.series, f->fed.samples, f->fed.groups);
    else
        kl_buf_adds(out, "null");
    kl_buf_adds(out, ",\"notPushed\":");
    kl_json_cstr(out, f->unpushed);
    kl_buf_add8(out, '}');
    kl_buf_deinit(&text);
}

/* Rounds are kept newest first; told oldest first. */
static void fetches_json(const struct qr_round *r, bool *first, struct kl_buf *out)
{
    if (r == NULL)
        return;
    fetches_json(r->before, first, out);
    for (size_t i = 0; i < r->count; i++) {
        kl_buf_adds(out, *first ? "" : ",");
        *first = false;
        fetch_json(&r->fetches[i], out);
    }
}

/* What of the answer was there already, or why nothing was looked for. */
static void reuse_json(const struct qr_query *x, struct kl_buf *out)
{
    uint64_t steps, cached;
    uint32_t pieces;

    qr_reuse_tell(x, &steps, &cached, &pieces);
    kl_buf_addf(out, ",\"resultsCache\":{\"steps\":%" PRIu64 ",\"cachedSteps\":%" PRIu64 ",\"pieces\":%"
                PRIu32 ",\"passedBy\":", steps, cached, pieces);
    kl_json_cstr(out, x->reuse_passed != NULL ? x->reuse_passed : "");
    kl_buf_add8(out, '}');
}

static void reuse_text(const struct qr_query *x, struct kl_buf *out)
{
    uint64_t steps, cached;
    uint32_t pieces;

    qr_reuse_tell(x, &steps, &cached, &pieces);
    if (x->reuse_passed != NULL)
        kl_buf_addf(out, "results cache passed by: %s\n", x->reuse_passed);
    else
        kl_buf_addf(out, "results cache: %" PRIu64 " of %" PRIu64 " steps, in %" PRIu32 " pieces\n", cached,
                    steps, pieces);
}

/* What was read ahead for it since it came the last time. */
static void ahead_json(const struct qr_query *x, struct kl_buf *out)
{
    kl_buf_addf(out, ",\"prefetch\":{\"repeats\":%u,\"usedBytes\":%" PRIu64 ",\"wastedBytes\":%" PRIu64 "}",
                x->repeats, x->ahead_used, x->ahead_wasted);
}

static void ahead_text(const struct qr_query *x, struct kl_buf *out)
{
    if (x->repeats > 0)
        kl_buf_addf(out, "it came again %u times; read ahead for it since: %" PRIu64 " bytes used, %" PRIu64
                    " not\n", x->repeats, x->ahead_used, x->ahead_wasted);
}

void qr_explain_json(const struct qr_query *x, struct kl_buf *out)
{
    bool first = true;

    kl_buf_adds(out, "{\"query\":");
    kl_json_str(out, x->params.text);
    kl_buf_addf(out, ",\"startMs\":%" PRId64 ",\"endMs\":%" PRId64 ",\"stepMs\":%" PRId64
                ",\"timings\":{\"queuedNs\":%" PRId64 ",\"parseNs\":%" PRId64 ",\"fetchNs\":%" PRId64
                ",\"decodeNs\":%" PRId64 ",\"evaluateNs\":%" PRId64 "},\"selectors\":[",
                x->params.start_ms, x->params.end_ms, x->params.step_ms,
                x->job.begun_ns - x->job.submitted_ns, x->parse_ns, x->fetch_ns, x->decode_ns,
                x->eval_ns);
    fetches_json(x->round, &first, out);
    kl_buf_add8(out, ']');
    reuse_json(x, out);
    ahead_json(x, out);
    kl_buf_adds(out, ",\"operators\":");
    pql_explain_json(x->job.pql, x->operator_ns, out);
    kl_buf_addf(out, ",\"result\":{\"series\":%zu,\"samplesTotal\":%" PRIu64 ",\"samplesPeak\":%"
                PRIu64 "}}", x->result->series_count, x->result->samples_total,
                x->result->samples_peak);
}

static void fetches_text(const struct qr_round *r, struct kl_buf *out)
{
    if (r == NULL)
        return;
    fetches_text(r->before, out);
    for (size_t i = 0; i < r->count; i++) {
        const struct qr_fetch *f = &r->fetches[i];

        kl_buf_addf(out, "need %" PRIu32 ": ", f->id);
        selector(out, f);
        kl_buf_addf(out, "  %" PRId64 "..%" PRId64 " ms\n"
                    "    %zu of %" PRIu32 " partitions, %zu failed; live: %zu pages, %zu bytes, %zu "
                    "series\n    filesets: %zu read, %zu without the metric, %zu of other tenants or "
                    "times; %zu bytes, %zu series\n", f->from_ms,
                    f->to_ms, f->part_count, tsp_placement_partitions(f->table->placement),
                    f->parts_failed, pages_of(f), f->page_bytes, f->live_series, files_read(f),
                    f->files_pruned, f->files_of_others, f->stored_bytes, f->stored_series);
        bytes_text("data", &f->tally.data, out);
        bytes_text("index", &f->tally.index, out);
        kl_buf_addf(out, "    %zu series, %zu samples\n", f->series_count, f->sample_count);
        if (f->pushed)
            kl_buf_addf(out, "    pushed to the ingestors: %" PRIu64 " groups of %" PRIu64 " series, %" PRIu64
                        " samples\n", f->fed.groups, f->fed.series, f->fed.samples);
        else if (f->unpushed[0] != '\0')
            kl_buf_addf(out, "    not pushed: %s\n", f->unpushed);
    }
}

void qr_explain_text(const struct qr_query *x, struct kl_buf *out)
{
    kl_buf_add(out, x->params.text.at, x->params.text.size);
    kl_buf_addf(out, "\nqueued %.3f ms, parse %.3f, fetch %.3f, decode %.3f, evaluate %.3f\n",
                (double)(x->job.begun_ns - x->job.submitted_ns) * 1e-6, (double)x->parse_ns * 1e-6,
                (double)x->fetch_ns * 1e-6, (double)x->decode_ns * 1e-6,
                (double)x->eval_ns * 1e-6);
    fetches_text(x->round, out);
    reuse_text(x, out);
    ahead_text(x, out);
    pql_explain_text(x->job.pql, x->operator_ns, out);
    kl_buf_addf(out, "%zu series; %" PRIu64 " samples in all, %" PRIu64 " at once\n",
                x->result->series_count, x->result->samples_total, x->result->samples_peak);
    for (size_t i = 0; i < x->result->warning_count; i++)
        kl_buf_addf(out, "warning: %s\n", x->result->warnings[i]);
}
