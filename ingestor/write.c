/*
 * Work: what a cut took of one tenant, written as a fileset. Per series the chunks are decoded,
 * merged (of two values for one time the later chunk's stays) and encoded anew at fixed bounds, so
 * that the bytes depend on the samples alone, not on when tails happened to be sealed.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { HISTS_ARENA_MAX = 1 << 30 };

struct row {                                           /* a series, to be put in order */
    size_t labels, labels_size;                        /* in `text` */
    struct kl_span metric;
    const char *text;                                  /* the start of all labels, for comparing */
    const struct ing_sealed *sealed;
};

static struct kl_labels labels_of(const struct row *r)
{
    return (struct kl_labels){ (const uint8_t *)r->text + r->labels, r->labels_size };
}

static int by_labels(const void *a, const void *b)
{
    int c = kl_span_cmp(((const struct row *)a)->metric, ((const struct row *)b)->metric);

    return c != 0 ? c : kl_labels_cmp(labels_of(a), labels_of(b));
}

/* ---- one series' samples, merged ---- */

struct sample { int64_t time_ms, start_ms; double value; const struct kl_hist *hist; uint32_t order; };
struct merge {
    struct sample  *at; size_t count, room;
    struct kl_arena arena;                             /* of histograms */
    struct ing_files *files;
    struct kl_buf   spilled;                           /* a chunk that was read */
    struct kl_buf   out;                               /* encoded chunks, one after another */
    struct blk_chunk_ref *refs; uint32_t ref_count, ref_room;
};

static struct sample *room_for(struct merge *m, size_t more)
{
    if (m->count + more > m->room) {
        m->room = (m->count + more) * 2;
        m->at = kl_resize(m->at, m->room * sizeof *m->at);
    }
    return m->at + m->count;
}

static enum kl_code take_chunk(struct merge *m, const struct ing_chunk *c, struct kl_err *err)
{
    int64_t        times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    double         values[BLK_CHUNK_MAX];
    struct kl_span bytes;
    struct sample *to = room_for(m, c->count);
    uint32_t       count;

    if (ing_chunk_bytes(m->files, c, &m->spilled, &bytes, err) != KL_OK)
        return err->code;
    if (c->kind == BLK_FLOATS) {
        if (blk_chunk_decode(bytes, times, values, starts, &count, err) != KL_OK)
            return kl_within(err, "a chunk in memory");
        for (uint32_t i = 0; i < count; i++)
            to[i] = (struct sample){ times[i], starts[i], values[i], NULL, (uint32_t)(m->count + i) };
    } else {
        struct kl_hist *hists = kl_arena_alloc(&m->arena, c->count * sizeof *hists);

        if (hists == NULL)
            return kl_fail(err, KL_ELIMIT, "a series of more than %d MiB of histograms",
                           HISTS_ARENA_MAX >> 20);
        if (blk_chunk_decode_hists(bytes, &m->arena, times, hists, starts, &count, err) != KL_OK)
            return kl_within(err, "a chunk in memory");
        for (uint32_t i = 0; i < count; i++)
            to[i] = (struct sample){ times[i], starts[i], 0, &hists[i], (uint32_t)(m->count + i) };
    }
    m->count += count;
    return KL_OK;
}

static int by_time(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;

    if (x->time_ms != y->time_ms)
        return x->time_ms < y->time_ms ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* Rising times, each once: the last of equal ones. */
static void settle(struct merge *m)
{
    size_t kept = 0;
    bool   rising = true;

    for (size_t i = 1; i < m->count && rising; i++)
        rising = m->at[i - 1].time_ms < m->at[i].time_ms;
    if (rising)
        return;
    qsort(m->at, m->count, sizeof *m->at, by_time);
    for (size_t i = 0; i < m->count; i++)
        if (i + 1 == m->count || m->at[i].time_ms != m->at[i + 1].time_ms)
            m->at[kept++] = m->at[i];
    m->count = kept;
}

static void encode_run(struct merge *m, size_t from, uint32_t count)
{
    int64_t        times[BLK_CHUNK_USUAL], starts[BLK_CHUNK_USUAL];
    double         values[BLK_CHUNK_USUAL];
    struct kl_hist hists[BLK_CHUNK_USUAL];
    bool           any = false, floats = m->at[from].hist == NULL;
    size_t         before = m->out.size;

    for (uint32_t i = 0; i < count; i++) {
        const struct sample *s = &m->at[from + i];

        times[i] = s->time_ms;
        starts[i] = s->start_ms;
        any |= s->start_ms != 0;
        values[i] = s->value;
        if (!floats)
            hists[i] = *s->hist;
    }
    if (floats)
        blk_chunk_encode(times, values, any ? starts : NULL, count, &m->out);
    else
        blk_chunk_encode_hists(times, hists, any ? starts : NULL, count, &m->out);
    if (m->ref_count == m->ref_room) {
        m->ref_room = m->ref_room == 0 ? 16 : m->ref_room * 2;
        m->refs = kl_resize(m->refs, m->ref_room * sizeof *m->refs);
    }
    /* The offset for now: `out` may still move. */
    m->refs[m->ref_count++] = (struct blk_chunk_ref){
        .bytes = kl_span((void *)before, m->out.size - before), .first_ms = times[0],
        .last_ms = times[count - 1], .count = count,
        .kind = floats ? BLK_FLOATS : BLK_HISTS };
}

/* Fixed bounds: every BLK_CHUNK_USUAL samples from the first, and where the kind changes. */
static void encode(struct merge *m)
{
    for (size_t i = 0, n; i < m->count; i += n) {
        for (n = 1; n < BLK_CHUNK_USUAL && i + n < m->count &&
                    (m->at[i + n].hist == NULL) == (m->at[i].hist == NULL); n++)
            ;
        encode_run(m, i, (uint32_t)n);
    }
    for (uint32_t i = 0; i < m->ref_count; i++)
        m->refs[i].bytes.at = m->out.at + (uintptr_t)m->refs[i].bytes.at;
}

static enum kl_code write_series(struct ing_part *part, const struct row *r, struct merge *m,
                                 struct blk_writer *w, struct kl_err *err)
{
    m->count = 0;
    m->ref_count = 0;
    kl_buf_reset(&m->out);
    for (uint32_t i = 0; i < r->sealed->count; i++)
        if (take_chunk(m, part->chunks[r->sealed->first + i], err) != KL_OK)
            return err->code;
    settle(m);
    encode(m);
    if (blk_writer_series(w, labels_of(r), r->sealed->series->fp, m->refs, m->ref_count, err) !=
        KL_OK)
        return err->code;
    if (m->arena.used_bytes > 0)
        kl_arena_deinit(&m->arena);
    return KL_OK;
}

static enum kl_code write_all(struct ing_part *part, struct blk_writer *w, struct kl_err *err)
{
    struct kl_buf text = { 0 };
    struct row   *rows = kl_resize(NULL, (part->series_count + 1) * sizeof *rows);
    struct merge  m = { .files = part->head->files };
    enum kl_code  code = KL_OK;

    kl_arena_init(&m.arena, HISTS_ARENA_MAX);
    for (uint32_t i = 0; i < part->series_count; i++) {
        const struct ing_series *s = part->series[i].series;

        rows[i] = (struct row){ .labels = text.size, .sealed = &part->series[i] };
        ing_render(part->view.pairs, part->view.names, s->pairs, s->pair_count, &text);
        rows[i].labels_size = text.size - rows[i].labels;
    }
    for (uint32_t i = 0; i < part->series_count; i++) {
        rows[i].text = text.at;
        rows[i].metric = kl_labels_get(labels_of(&rows[i]), kl_span_str("__name__"));
    }
    qsort(rows, part->series_count, sizeof *rows, by_labels);
    for (uint32_t i = 0; i < part->series_count && code == KL_OK; i++)
        code = write_series(part, &rows[i], &m, w, err);
    for (uint32_t i = 0; i < part->meta_count && code == KL_OK; i++) {
        const struct ing_meta *x = &part->metas[i];

        code = blk_writer_metadata(w, x->metric, x->type, x->unit, x->help, err);
    }
    for (uint32_t i = 0; i < part->exemplar_count && code == KL_OK; i++) {
        const struct ing_exemplar *e = &part->exemplars[i];

        code = blk_writer_exemplar(w, e->fp, e->time_ms, e->value,
                                   (struct kl_labels){ e->labels.at, e->labels.size }, err);
    }
    kl_arena_deinit(&m.arena);
    kl_buf_deinit(&m.out);
    kl_buf_deinit(&m.spilled);
    kl_buf_deinit(&text);
    free(m.at);
    free(m.refs);
    free(rows);
    return code;
}

/* ---- the digest of a part ---- */

static void put_buckets(struct kl_buf *b, const struct kl_hist_span *spans, uint32_t n, const double *counts)
{
    int64_t index = 0;

    for (uint32_t i = 0; i < n; i++) {
        index += spans[i].offset;
        for (uint32_t k = 0; k < spans[i].length; k++, index++, counts++)
            if (*counts != 0) {
                kl_buf_add64(b, (uint64_t)index);
                kl_buf_addf64(b, *counts);
            }
    }
    kl_buf_add64(b, UINT64_MAX);
}

/* Of its value alone: spans may be cut otherwise, and empty buckets be left out, by the chunk it was in. */
static uint64_t hist_hash(const struct kl_hist *h)
{
    struct kl_buf b = { 0 };
    uint64_t      hash;

    kl_buf_add32(&b, (uint32_t)h->schema);
    kl_buf_addf64(&b, h->zero_threshold);
    kl_buf_addf64(&b, h->zero_count);
    kl_buf_addf64(&b, h->count);
    kl_buf_addf64(&b, h->sum);
    put_buckets(&b, h->pos_spans, h->pos_span_count, h->pos);
    put_buckets(&b, h->neg_spans, h->neg_span_count, h->neg);
    for (uint32_t i = 0; i < h->bound_count; i++)
        kl_buf_addf64(&b, h->bounds[i]);
    hash = kl_hash64(b.at, b.size);
    kl_buf_deinit(&b);
    return hash;
}

/* Of chunks that lie one behind another no sample is there twice: they need not be merged. */
static bool all_apart(const struct ing_part *part, const struct ing_sealed *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct ing_chunk *c = part->chunks[s->first + i];

        if (c->kind != BLK_FLOATS || (i > 0 && c->first_ms <= ing_chunk_last(part->chunks[s->first + i - 1])))
            return false;
    }
    return true;
}

/* Start times are summed up under a key of their own. */
static void digest_start(struct tsp_digest_sum *sum, struct kl_fp key, int64_t time_ms, int64_t start_ms)
{
    struct kl_fp other = { key.lo + 0x9e3779b97f4a7c15ull, key.hi ^ 0xc2b2ae3d27d4eb4full };

    if (start_ms != 0)
        tsp_digest_add(sum, other, time_ms, (uint64_t)start_ms);
}

static enum kl_code digest_chunk(struct merge *m, const struct ing_chunk *c, struct kl_fp key,
                                 struct tsp_digest_sum of[TSP_DIGEST_KINDS], struct kl_err *err)
{
    int64_t               times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    double                values[BLK_CHUNK_MAX];
    struct kl_span        bytes;
    struct tsp_digest_sum now = of[TSP_DIGEST_SAMPLES];
    uint32_t              count;
    bool                  told;

    if (ing_chunk_bytes(m->files, c, &m->spilled, &bytes, err) != KL_OK)
        return err->code;
    told = blk_chunk_has_starts(bytes);
    if (blk_chunk_decode(bytes, times, values, told ? starts : NULL, &count, err) != KL_OK)
        return kl_within(err, "a chunk in memory");
    for (uint32_t i = 0; i < count; i++)
        tsp_digest_add(&now, key, times[i], kl_f64_bits(values[i]));
    of[TSP_DIGEST_SAMPLES] = now;
    for (uint32_t i = 0; told && i < count; i++)
        digest_start(&of[TSP_DIGEST_STARTS], key, times[i], starts[i]);
    return KL_OK;
}

static enum kl_code digest_series(const struct ing_part *part, const struct ing_sealed *s, struct merge *m,
                                  struct kl_fp key, struct tsp_digest_sum of[TSP_DIGEST_KINDS], struct kl_err *err)
{
    bool apart = all_apart(part, s);

    m->count = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct ing_chunk *c = part->chunks[s->first + i];

        if ((apart ? digest_chunk(m, c, key, of, err) : take_chunk(m, c, err)) != KL_OK)
            return err->code;
    }
    settle(m);
    for (size_t i = 0; i < m->count; i++) {
        const struct sample *x = &m->at[i];

        tsp_digest_add(&of[TSP_DIGEST_SAMPLES], key, x->time_ms,
                       x->hist != NULL ? hist_hash(x->hist) : kl_f64_bits(x->value));
        digest_start(&of[TSP_DIGEST_STARTS], key, x->time_ms, x->start_ms);
    }
    if (m->arena.used_bytes > 0)
        kl_arena_deinit(&m->arena);
    return KL_OK;
}

enum kl_code ing_part_digest(const struct ing_part *part, struct tsp_digest_sum of[TSP_DIGEST_KINDS],
                             struct kl_err *err)
{
    struct merge  m = { .files = part->head->files };
    struct kl_buf labels = { 0 };
    struct kl_fp  tenant = kl_hash128(part->head->tenant.at, part->head->tenant.size);
    enum kl_code  code = KL_OK;

    kl_arena_init(&m.arena, HISTS_ARENA_MAX);
    for (uint32_t i = 0; i < part->series_count && code == KL_OK; i++) {
        const struct ing_series *s = part->series[i].series;
        struct kl_fp             key;

        kl_buf_reset(&labels);
        ing_render(part->view.pairs, part->view.names, s->pairs, s->pair_count, &labels);
        key = kl_hash128(labels.at, labels.size);
        key.hi = (key.hi ^ tenant.hi) * 0x9e3779b97f4a7c15ull;
        key.lo ^= tenant.lo;
        code = digest_series(part, &part->series[i], &m, key, of, err);
    }
    kl_arena_deinit(&m.arena);
    kl_buf_deinit(&m.spilled);
    kl_buf_deinit(&labels);
    free(m.at);
    return code;
}

/* A whole fileset of that name: this cut was written before, unless it is of another incarnation. */
static enum kl_code use_existing(struct ing_partition *p, struct ing_part *part, bool *again,
                                 struct kl_err *err)
{
    char                path[BLK_PATH_MAX + 1];
    struct blk_fileset *f;
    struct blk_info     info;

    *again = false;
    blk_fileset_path(&part->info, path);
    if (blk_fileset_open_local(p->filesets, path, &f, err) == KL_OK) {
        info = *blk_fileset_info(f);
        blk_fileset_unref(f);
        if (info.incarnation == part->info.incarnation) {
            part->info = info;
            return KL_OK;
        }
    } else if (err->code == KL_ECORRUPT) {
        kl_count(p->i->m.quarantined, 1);
        kl_logf(p->i->o.log, KL_ERROR, "ingestor: partition %" PRIu32 ": a local fileset that was not "
                "uploaded yet is corrupt, and is written anew from the log: %s", p->number, err->text);
    } else {
        return kl_within(err, "fileset %s", path);
    }
    if (blk_fileset_remove(p->filesets, path, err) != KL_OK)
        return kl_within(err, "fileset %s", path);
    *again = true;
    return KL_OK;
}

enum kl_code ing_part_write(struct ing_job *j, struct ing_part *part, struct kl_err *err)
{
    struct ing_partition *p = j->p;
    struct blk_writer    *w;
    struct blk_info       done;
    bool                  again;
    enum kl_code          code = blk_writer_open(p->filesets, &part->info, &w, err);

    if (code == KL_EEXIST) {
        if (use_existing(p, part, &again, err) != KL_OK)
            return err->code;
        if (!again)
            return KL_OK;
        code = blk_writer_open(p->filesets, &part->info, &w, err);
    }
    if (code != KL_OK)
        return kl_within(err, "begin a fileset");
    code = write_all(part, w, err);
    if (code != KL_OK) {
        blk_writer_abandon(w);
        return kl_within(err, "write a fileset");
    }
    if (blk_writer_finish(w, &done, err) != KL_OK)
        return kl_within(err, "finish a fileset");
    part->info = done;
    return KL_OK;
}
