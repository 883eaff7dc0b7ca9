/*
 * What the sources of a fetch found, as one run by rising fingerprint. Each source is sorted, so
 * neighbouring runs are merged two by two; of equal fingerprints the earlier source stays first,
 * which is the order of precedence that decoding rests on: within a partition filesets by rising
 * log position, then the live answer; the partition of the newest layout after any other.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

static void add_source(struct qr_fetch *f, struct qr_source *s)
{
    if (f->source_count == f->source_room) {
        f->source_room = f->source_room == 0 ? 16 : f->source_room * 2;
        f->sources = kl_resize(f->sources, f->source_room * sizeof *f->sources);
    }
    f->sources[f->source_count++] = s;
}

static void gather(struct qr_fetch *f)
{
    for (size_t i = 0; i < f->part_count && f->merge_err.code == KL_OK; i++) {
        struct qr_part   *p = f->parts[i];
        struct qr_source *live;

        for (size_t k = 0; k < p->file_count; k++)
            if (p->files[k].source != NULL) {
                add_source(f, p->files[k].source);
                p->files[k].source = NULL;
            }
        if (p->page_count == 0 || p->failed)           /* half of its pages would be half a truth */
            continue;
        live = qr_source_new(f->job, p->partition, UINT64_MAX);
        add_source(f, live);
        qr_live_parse(p, live, &f->merge_err);
    }
}

static void count_sources(struct qr_fetch *f)
{
    for (size_t i = 0; i < f->source_count; i++) {
        const struct qr_source *s = f->sources[i];

        if (s->order == UINT64_MAX) {
            f->live_series += s->count;
        } else {
            f->stored_series += s->count;
            f->stored_bytes += s->charged;
        }
    }
}

static bool take(struct qr_fetch *f, size_t bytes)
{
    if (!kl_budget_take(&f->job->budget, bytes)) {
        qr_over_budget(f->job, &f->merge_err);
        return false;
    }
    f->charged += bytes;
    return true;
}

struct run { size_t from, to; };

static void merge_two(const struct qr_found *in, struct qr_found *out, struct run a, struct run b)
{
    size_t at = a.from;

    while (a.from < a.to && b.from < b.to)
        out[at++] = kl_fp_cmp(in[b.from].fp, in[a.from].fp) < 0 ? in[b.from++] : in[a.from++];
    memcpy(out + at, in + a.from, (a.to - a.from) * sizeof *out);
    at += a.to - a.from;
    memcpy(out + at, in + b.from, (b.to - b.from) * sizeof *out);
}

static void merge_series(struct qr_fetch *f)
{
    struct qr_found *in, *out;
    struct run      *runs;
    size_t           total = 0, run_count = 0;

    for (size_t i = 0; i < f->source_count; i++) {
        total += f->sources[i]->count;
        run_count += f->sources[i]->count > 0;
    }
    f->found_count = total;
    if (total == 0)
        return;
    if (run_count == 1) {
        for (size_t i = 0; i < f->source_count; i++)
            if (f->sources[i]->count > 0) {
                f->found = f->sources[i]->found;       /* still charged to the source */
                f->sources[i]->found = NULL;
            }
        return;
    }
    if (!take(f, 2 * total * sizeof *in))
        return;
    in = kl_resize(NULL, total * sizeof *in);
    out = kl_resize(NULL, total * sizeof *out);
    runs = kl_resize(NULL, run_count * sizeof *runs);
    total = run_count = 0;
    for (size_t i = 0; i < f->source_count; i++) {
        const struct qr_source *s = f->sources[i];

        if (s->count == 0)
            continue;
        memcpy(in + total, s->found, s->count * sizeof *in);
        runs[run_count++] = (struct run){ total, total + s->count };
        total += s->count;
    }
    while (run_count > 1) {
        size_t           n = 0;
        struct qr_found *swap = in;

        for (size_t i = 0; i < run_count; i += 2) {
            struct run a = runs[i], b = i + 1 < run_count ? runs[i + 1] : (struct run){ a.to, a.to };

            merge_two(in, out, a, b);
            runs[n++] = (struct run){ a.from, b.to };
        }
        run_count = n;
        in = out;
        out = swap;
    }
    f->found = in;
    free(out);
    free(runs);
}

/* Was the series placed where `a` is before it was where `b` is? */
static bool older(const struct qr_fetch *f, struct kl_span tenant, struct kl_span metric,
                  const struct qr_found *a, const struct qr_found *b)
{
    return a->partition != b->partition &&
           tsp_placement_since(f->table->placement, tenant, metric, a->fp, a->partition) <
           tsp_placement_since(f->table->placement, tenant, metric, b->fp, b->partition);
}

/* Where a series came from several partitions, the one in which it was last placed goes last. */
static void order_layouts(struct qr_fetch *f)
{
    static const char name[] = "__name__";
    struct kl_span    tenant = kl_span_str(f->job->tenant);

    if (f->part_count < 2)
        return;
    for (size_t i = 0, n; i < f->found_count; i += n) {
        struct qr_found *g = &f->found[i];
        struct kl_span   metric;
        bool             mixed = false;

        for (n = 1; i + n < f->found_count && kl_fp_cmp(g[n].fp, g->fp) == 0; n++)
            mixed = mixed || g[n].partition != g->partition;
        if (!mixed)
            continue;
        metric = kl_labels_get(g->labels, kl_span(name, sizeof name - 1));
        /* A group is as long as its series has sources: a few. Stable, by insertion. */
        for (size_t k = 1; k < n; k++) {
            struct qr_found keep = g[k];
            size_t          at = k;

            while (at > 0 && older(f, tenant, metric, &keep, &g[at - 1]))
                at--;
            memmove(&g[at + 1], &g[at], (k - at) * sizeof *g);
            g[at] = keep;
        }
    }
}

/* ---- texts and metadata ---- */

static void merge_texts(struct qr_fetch *f)
{
    size_t total = 0;

    for (size_t i = 0; i < f->source_count; i++)
        total += f->sources[i]->text_count;
    if (total == 0 || !take(f, total * sizeof *f->texts))
        return;
    f->texts = kl_resize(NULL, total * sizeof *f->texts);
    for (size_t i = 0; i < f->source_count; i++) {
        const struct qr_source *s = f->sources[i];

        if (s->text_count > 0)
            memcpy(f->texts + f->text_count, s->texts, s->text_count * sizeof *f->texts);
        f->text_count += s->text_count;
    }
    f->text_count = qr_texts_unite(f->texts, total);
}

static int by_meta(const void *a, const void *b)
{
    const struct qr_meta *x = a, *y = b;
    int                   c = kl_span_cmp(x->metric, y->metric);

    if (c == 0)
        c = (int)x->type - (int)y->type;
    if (c == 0)
        c = kl_span_cmp(x->help, y->help);
    return c != 0 ? c : kl_span_cmp(x->unit, y->unit);
}

static bool add_meta(struct qr_fetch *f, const struct qr_meta *m)
{
    if (f->meta_count % 256 == 0) {
        if (!take(f, 256 * sizeof *m))
            return false;
        f->metas = kl_resize(f->metas, (f->meta_count + 256) * sizeof *m);
    }
    f->metas[f->meta_count++] = *m;
    return true;
}

static void read_metas(struct qr_fetch *f, const struct qr_part *p, struct kl_cur *c)
{
    while (kl_cur_left(c) > 0 && !c->bad) {
        struct qr_meta m;

        m.metric = kl_cur_span(c);
        m.type = kl_cur_8(c);
        m.unit = kl_cur_span(c);
        m.help = kl_cur_span(c);
        if (!c->bad && !add_meta(f, &m))
            return;
    }
    if (c->bad)
        kl_fail(&f->merge_err, KL_ECORRUPT, "partition %" PRIu32 ": a damaged page", p->partition);
}

static void read_part(struct qr_fetch *f, const struct qr_part *p)
{
    for (size_t k = 0; k < p->page_count && f->merge_err.code == KL_OK; k++) {
        struct tsp_page head;
        struct kl_cur   c;

        if (tsp_page_open(kl_span(p->pages[k].bytes, p->pages[k].size), &head, &c,
                          &f->merge_err) == KL_OK)
            read_metas(f, p, &c);
    }
    for (size_t k = 0; k < p->file_count && f->merge_err.code == KL_OK; k++) {
        const struct qr_source *s = p->files[k].source;

        for (size_t i = 0; s != NULL && i < s->meta_count; i++)
            if (!add_meta(f, &s->metas[i]))
                return;
    }
}

static void merge_metas(struct qr_fetch *f)
{
    size_t n = 0;

    for (size_t i = 0; i < f->part_count && f->merge_err.code == KL_OK; i++)
        read_part(f, f->parts[i]);
    if (f->meta_count > 1)
        qsort(f->metas, f->meta_count, sizeof *f->metas, by_meta);
    for (size_t i = 0; i < f->meta_count; i++)
        if (i == 0 || by_meta(&f->metas[i], &f->metas[n - 1]) != 0)
            f->metas[n++] = f->metas[i];
    f->meta_count = n;
}

void qr_merge(struct qr_fetch *f)
{
    if (f->what == TSP_SEL_METADATA) {
        merge_metas(f);
        return;
    }
    gather(f);
    if (f->merge_err.code != KL_OK)
        return;
    count_sources(f);
    if (f->what == TSP_SEL_NAMES || f->what == TSP_SEL_VALUES) {
        merge_texts(f);
    } else {
        merge_series(f);
        if (f->merge_err.code == KL_OK)
            order_layouts(f);
    }
}
