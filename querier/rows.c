/*
 * Rollups in place of samples (libblock/rollup.h): a fetch that says of which fold its reader is reads, of a
 * fileset that has a fitting rollup, that one. Three things decide.
 *
 *   may it      the fold is exact over these times, or the request allows the resolution
 *               (max_source_resolution): qr_rows_fit
 *   is it so    the rollup is of the fileset as it is: same name; it lacks the rows of no series, which a rule
 *               may let go before the samples; no deletion concerns it, and no other fileset of the
 *               partition reaches into its time: qr_rows_choose
 *   is it all   nothing else, live or in another partition, has samples of a series within the time of
 *               its rows: qr_rows_clash, when all is merged. Else the fetch begins anew, without rollups
 *
 * A rollup whose fileset is past its retention is all there is, and is read where it fits; so is, besides its
 * fileset, one that has rows of series whose samples are (`carried`). These are lone: of a series of which
 * their fileset has samples, or something else has coarser rows, they are not taken. Of one of which it has none
 * they are what its samples were: others at that time came late, are about to go, and lie under them, unseen
 * (as they become part of no rows: libblock/compact.h).
 */
#include <inttypes.h>

#include "libblock/rollup.h"
#include "querier/qr_priv.h"

static bool exact(const struct qr_fetch *f, int64_t resolution_ms)
{
    return f->fold != PQL_FOLD_NONE && f->fold != PQL_FOLD_SUM && f->fold != PQL_FOLD_RATE && f->fold_ms % resolution_ms == 0;
}

bool qr_rows_fit(const struct qr_fetch *f, int64_t resolution_ms)
{
    if (f->fold == PQL_FOLD_NONE || f->what != TSP_SEL_SERIES || f->rows_max_ms == 0)
        return false;
    return exact(f, resolution_ms) ||
           (f->rows_max_ms > 0 && resolution_ms <= f->rows_max_ms && resolution_ms * 2 <= f->range_ms);
}

static const struct blk_info *named(const struct blk_manifest *m, const struct blk_info *f, int64_t resolution_ms)
{
    struct blk_info info = *f;
    uint32_t        at;

    info.resolution_ms = resolution_ms;
    at = blk_manifest_find(m, &info);
    return at < m->fileset_count && !m->filesets[at].quarantined ? &m->filesets[at] : NULL;
}

bool qr_rows_lone(const struct qr_fetch *f, const struct blk_manifest *m, const struct blk_info *info)
{
    return qr_rows_fit(f, info->resolution_ms) && (info->carried || named(m, info, 0) == NULL);
}

static bool concerned(const struct blk_manifest *m, const struct blk_info *info)
{
    for (uint32_t i = 0; i < m->deletion_count; i++)
        if (blk_deletion_concerns(m->deletions[i], info))
            return true;
    return false;
}

static bool overlapped(const struct qr_part *p, size_t at)
{
    const struct blk_info *x = p->files[at].info;

    for (size_t i = 0; i < p->file_count; i++) {
        const struct blk_info *y = p->files[i].info;

        if (i != at && !p->files[i].lone && x->min_ms <= y->max_ms && y->min_ms <= x->max_ms)
            return true;
    }
    return false;
}

/* Where among the files a rollup is that is lone, or is not: file_count. */
static size_t listed(const struct qr_part *p, const struct blk_info *info)
{
    size_t i = 0;

    while (i < p->file_count && p->files[i].info != info)
        i++;
    return i;
}

void qr_rows_choose(struct qr_part *p)
{
    const struct blk_manifest *m = &p->manifest->m;
    size_t                     left = 0;

    for (size_t i = 0; i < p->file_count; i++) {
        const struct blk_info *info = p->files[i].info;

        p->files[i].lone = info->resolution_ms != 0;
        p->files[i].of = p->files[i].lone ? named(m, info, 0) : info;
    }
    for (size_t i = 0; i < p->file_count && !p->f->no_rows; i++) {
        const struct blk_info *info = p->files[i].info, *rows = NULL;

        for (unsigned k = 0; k < BLK_ROLLUPS_MAX && !p->files[i].lone; k++)
            if ((info->rolled >> k & 1) && qr_rows_fit(p->f, blk_rollup_ms[k])) {
                const struct blk_info *x = named(m, info, blk_rollup_ms[k]);

                rows = x != NULL && !x->lacks ? x : rows;      /* the coarsest that fits */
            }
        if (rows != NULL && !concerned(m, info) && !overlapped(p, i)) {
            size_t at = listed(p, rows);

            if (at < p->file_count)                    /* it has what is only there, too, and stands once */
                p->files[at].info = NULL;
            p->files[i].info = rows;
        }
    }
    for (size_t i = 0; i < p->file_count; i++) {
        if (p->files[i].info == NULL)
            continue;
        if (p->files[i].info->resolution_ms > p->f->rows_ms)
            p->f->rows_ms = p->files[i].info->resolution_ms;
        p->files[left++] = p->files[i];
    }
    p->f->files_total -= p->file_count - left;
    p->file_count = left;
}

/* Since when a chunk may have samples behind it: rows stand for what was before them. */
static int64_t since(const struct qr_found *g, const struct blk_chunk_ref *c)
{
    int64_t from;

    if (g->rows_ms == 0)
        return c->first_ms;
    from = blk_bucket_end(c->first_ms, g->rows_ms) - g->rows_ms + 1;
    return from < g->window_start_ms ? g->window_start_ms : from;
}

static bool clash(const struct qr_found *a, const struct qr_found *b)
{
    for (uint32_t i = 0; i < a->chunk_count; i++)
        for (uint32_t k = 0; k < b->chunk_count; k++)
            if (since(a, &a->chunks[i]) <= b->chunks[k].last_ms && since(b, &b->chunks[k]) <= a->chunks[i].last_ms)
                return true;
    return false;
}

/* Does b speak for the series in place of lone rows a, where they clash? */
static bool speaks_for(const struct qr_found *b, const struct qr_found *a, bool later)
{
    if (!b->lone)
        return a->of != NULL && b->of == a->of;
    return b->rows_ms > a->rows_ms || (b->rows_ms == a->rows_ms && later);
}

/* Of a series' n: lone rows that others speak for are left out, and samples under those that are not are marked.
 * Returns how many are left. */
static size_t without_lone(struct qr_found *g, size_t n)
{
    size_t left = 0;

    for (size_t i = 0; i < n; i++) {
        bool out = false;

        for (size_t k = 0; k < n && g[i].lone && !out; k++)
            out = k != i && speaks_for(&g[k], &g[i], k > i) && clash(&g[i], &g[k]);
        g[i].left_out = out;
    }
    for (size_t i = 0; i < n; i++)
        if (!g[i].left_out)
            g[left++] = g[i];
    for (size_t i = 0; i < left; i++)
        for (size_t k = 0; k < left && g[i].rows_ms == 0 && !g[i].under; k++)
            g[i].under = g[k].lone && clash(&g[i], &g[k]);
    return left;
}

bool qr_rows_over(const struct qr_found *g, size_t n, int64_t time_ms)
{
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; g[i].lone && k < g[i].chunk_count; k++)
            if (since(&g[i], &g[i].chunks[k]) <= time_ms && time_ms <= g[i].chunks[k].last_ms)
                return true;
    return false;
}

/* Samples of which some lie under lone rows are told with them: without those. */
static bool apart(const struct qr_found *a, const struct qr_found *b)
{
    return (a->rows_ms == 0 && b->rows_ms == 0) || (a->under && b->lone) || (b->under && a->lone) || !clash(a, b);
}

bool qr_rows_clash(struct qr_fetch *f)
{
    size_t left = 0;

    for (size_t i = 0, n, k; f->rows_ms > 0 && i < f->found_count; i += n) {
        struct qr_found *g = &f->found[i];

        for (n = 1; i + n < f->found_count && kl_fp_cmp(g[n].fp, g->fp) == 0; n++)
            ;
        k = n == 1 ? 1 : without_lone(g, n);
        for (size_t a = 1; a < k; a++)
            for (size_t b = 0; b < a; b++)
                if (!apart(&g[a], &g[b]))
                    return true;
        memmove(&f->found[left], g, k * sizeof *g);
        left += k;
    }
    if (f->rows_ms > 0)
        f->found_count = left;
    return false;
}

int64_t qr_rows_to(const struct qr_fetch *f)
{
    int64_t more = 0, to;

    for (unsigned i = 0; i < BLK_ROLLUPS_MAX && f->fold == PQL_FOLD_RATE; i++)
        if (blk_rollup_ms[i] > more && qr_rows_fit(f, blk_rollup_ms[i]))
            more = blk_rollup_ms[i];
    return __builtin_add_overflow(f->to_ms, more, &to) ? INT64_MAX : to;
}

bool qr_rows_ends(const struct qr_fetch *f) { return f->rows_ms > 0 && f->fold == PQL_FOLD_RATE; }

/* Backwards, as none ends before the place it is read from. */
uint32_t qr_rows_widen(uint32_t count, int64_t *times, int64_t *starts, double *values, const struct kl_hist **hists,
                       struct pql_unseen *unseen)
{
    struct blk_row row;
    uint32_t       total = 0, at;

    for (uint32_t i = 0; i < count; i++)
        total += 1 + (blk_row_get(hists[i], &row) && row.count > 1);
    at = total;
    for (uint32_t i = count; i-- > 0; ) {
        const struct kl_hist *h = hists[i];
        int64_t               time = times[i], start = starts[i];
        bool                  is_row = blk_row_get(h, &row);

        at--;
        times[at] = time;
        starts[at] = start;
        values[at] = is_row ? row.last : 0;
        hists[at] = is_row ? NULL : h;
        unseen[at] = (struct pql_unseen){ 0, 0 };
        if (!is_row || !(row.count > 1))
            continue;
        if (row.count > 2)
            unseen[at] = (struct pql_unseen){ row.count - 2, row.resets };
        at--;
        times[at] = time - (int64_t)row.since_ms;
        starts[at] = blk_row_begun(&row, start);
        values[at] = row.first;
        hists[at] = NULL;
        unseen[at] = (struct pql_unseen){ 0, 0 };
    }
    return total;
}

void qr_rows_value(const struct qr_fetch *f, struct kl_hist **hist, double *value)
{
    struct blk_row row;

    if (f->rows_ms == 0)
        return;
    if (!blk_row_get(*hist, &row)) {                   /* a histogram after all: one sample */
        if (f->fold != PQL_FOLD_COUNT)
            return;
        *value = kl_is_stale((*hist)->sum) ? kl_bits_f64(KL_STALE_BITS) : 1;
        *hist = NULL;
        return;
    }
    *hist = NULL;
    switch ((enum pql_fold)f->fold) {
    case PQL_FOLD_MIN:   *value = row.min; break;
    case PQL_FOLD_MAX:   *value = row.max; break;
    case PQL_FOLD_FIRST: *value = row.first; break;
    case PQL_FOLD_COUNT: *value = row.count; break;
    case PQL_FOLD_SUM:   *value = row.sum; break;
    default:             *value = row.last; break;
    }
}

void qr_rows_tell(const struct qr_fetch *f, struct pql_query *q)
{
    static const char *const names[] = { "", "min_over_time", "max_over_time", "first_over_time",
                                         "last_over_time or present_over_time", "count_over_time", "sum_over_time", "rate or increase" };

    if (f->fold == PQL_FOLD_RATE) {
        pql_info(q, "%s read rows of %" PRId64 " minutes in place of samples: %s", names[f->fold], f->rows_ms / 60000,
                 f->fold_ms % f->rows_ms == 0
                     ? "ranges end with rows, so this is exact but for the last digits"
                     : "near by at most what a counter rises in a row at each end of a range; "
                       "max_source_resolution allows it");
        return;
    }
    pql_info(q, "%s read rows of %" PRId64 " minutes in place of samples; this is %s", names[f->fold],
             f->rows_ms / 60000, exact(f, f->rows_ms) ? "exact" : "near: max_source_resolution allows it");
}
