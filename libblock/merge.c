/*
 * The samples of one series from several filesets, merged. Chunks that follow each other without
 * overlap and without anything hidden are handed on as they are; else all are decoded, merged by
 * time, the later input's sample winning, and encoded again.
 */
#include "libblock/compact_priv.h"

#include <assert.h>
#include <stdlib.h>

enum { ARENA_MAX = 1 << 30 };

struct sample {
    int64_t  time_ms, start_ms;
    uint32_t input;
    bool     is_hist;
    union { double value; struct kl_hist *hist; };
};
struct blk_merge {
    struct sample *samples;
    size_t count, room;
    struct kl_arena arena;                             /* histograms of the series */
    struct kl_buf   bytes;
    size_t         *ends;
    struct blk_chunk_ref *refs;
    size_t ref_count, ref_room;
    int64_t times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    double  values[BLK_CHUNK_MAX];
    struct kl_hist hists[BLK_CHUNK_MAX];
};

struct blk_merge *blk_merge_new(void)
{
    struct blk_merge *m = kl_new(sizeof *m);

    kl_arena_init(&m->arena, ARENA_MAX);
    return m;
}

void blk_merge_free(struct blk_merge *m)
{
    if (m == NULL)
        return;
    kl_arena_deinit(&m->arena);
    kl_buf_deinit(&m->bytes);
    free(m->samples);
    free(m->ends);
    free(m->refs);
    free(m);
}

static void add_ref(struct blk_merge *m, struct blk_chunk_ref ref)
{
    if (m->ref_count == m->ref_room) {
        m->ref_room = m->ref_room ? m->ref_room * 2 : 64;
        m->refs = kl_resize(m->refs, m->ref_room * sizeof *m->refs);
        m->ends = kl_resize(m->ends, m->ref_room * sizeof *m->ends);
    }
    m->ends[m->ref_count] = m->bytes.size;
    m->refs[m->ref_count++] = ref;
}

static bool is_hidden(const struct blk_part *p, int64_t time_ms)
{
    for (uint32_t i = 0; i < p->hidden_count; i++)
        if (time_ms >= p->hidden[i].from_ms && time_ms <= p->hidden[i].to_ms)
            return true;
    return false;
}

static enum kl_code take_chunk(struct blk_merge *m, const struct blk_part *p, uint32_t input,
                               const struct blk_chunk_ref *c, struct kl_err *err)
{
    bool         hists = c->kind == BLK_HISTS;
    uint32_t     n;
    enum kl_code code = hists ? blk_chunk_decode_hists(c->bytes, &m->arena, m->times, m->hists,
                                                       m->starts, &n, err)
                              : blk_chunk_decode(c->bytes, m->times, m->values, m->starts, &n, err);

    if (code != KL_OK)
        return code;
    if (m->count + n > m->room) {
        m->room = (m->count + n) * 2;
        m->samples = kl_resize(m->samples, m->room * sizeof *m->samples);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct sample s = { .time_ms = m->times[i], .start_ms = m->starts[i], .input = input,
                            .is_hist = hists };

        if (is_hidden(p, s.time_ms))
            continue;
        if (hists) {
            s.hist = kl_arena_copy(&m->arena, &m->hists[i], sizeof m->hists[i]);
            if (s.hist == NULL)
                return kl_fail(err, KL_ELIMIT, "a series of more than %d bytes", ARENA_MAX);
        } else {
            s.value = m->values[i];
        }
        m->samples[m->count++] = s;
    }
    return KL_OK;
}

static int by_time(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;

    if (x->time_ms != y->time_ms)
        return x->time_ms < y->time_ms ? -1 : 1;
    return x->input < y->input ? -1 : x->input > y->input;
}

/* Samples [from, to), all of one kind, as a chunk. */
static void encode(struct blk_merge *m, size_t from, size_t to)
{
    struct blk_chunk_ref ref = { .first_ms = m->samples[from].time_ms,
                                 .last_ms = m->samples[to - 1].time_ms, .count = (uint32_t)(to - from),
                                 .kind = m->samples[from].is_hist ? BLK_HISTS : BLK_FLOATS };

    for (size_t i = from; i < to; i++) {
        m->times[i - from] = m->samples[i].time_ms;
        m->starts[i - from] = m->samples[i].start_ms;
        if (m->samples[i].is_hist)
            m->hists[i - from] = *m->samples[i].hist;
        else
            m->values[i - from] = m->samples[i].value;
    }
    if (ref.kind == BLK_HISTS)
        blk_chunk_encode_hists(m->times, m->hists, m->starts, ref.count, &m->bytes);
    else
        blk_chunk_encode(m->times, m->values, m->starts, ref.count, &m->bytes);
    add_ref(m, ref);
}

static enum kl_code merge_samples(struct blk_merge *m, const struct blk_part *parts, uint32_t count,
                                  struct kl_err *err)
{
    size_t kept = 0;

    for (uint32_t p = 0; p < count; p++)
        for (uint32_t i = 0; i < parts[p].chunk_count; i++)
            if (take_chunk(m, &parts[p], p, &parts[p].chunks[i], err) != KL_OK)
                return err->code;
    if (m->count > 0)
        qsort(m->samples, m->count, sizeof *m->samples, by_time);
    for (size_t i = 0; i < m->count; i++)              /* of one time, the last is the latest input's */
        if (i + 1 == m->count || m->samples[i + 1].time_ms != m->samples[i].time_ms)
            m->samples[kept++] = m->samples[i];
    for (size_t from = 0, to; from < kept; from = to) {
        for (to = from + 1; to < kept && to - from < BLK_CHUNK_MAX &&
                            m->samples[to].is_hist == m->samples[from].is_hist; to++)
            ;
        encode(m, from, to);
    }
    for (size_t i = 0; i < m->ref_count; i++) {        /* only now does `bytes` stay where it is */
        size_t from = i > 0 ? m->ends[i - 1] : 0;
        m->refs[i].bytes = kl_span(m->bytes.at + from, m->ends[i] - from);
    }
    return KL_OK;
}

static int by_first(const void *a, const void *b)
{
    const struct blk_chunk_ref *x = a, *y = b;
    return x->first_ms < y->first_ms ? -1 : x->first_ms > y->first_ms;
}

/* All chunks in time order, if that is all there is to do. */
static bool join(struct blk_merge *m, const struct blk_part *parts, uint32_t count)
{
    for (uint32_t p = 0; p < count; p++) {
        if (parts[p].hidden_count > 0)
            return false;
        for (uint32_t i = 0; i < parts[p].chunk_count; i++)
            add_ref(m, parts[p].chunks[i]);
    }
    if (m->ref_count > 0)
        qsort(m->refs, m->ref_count, sizeof *m->refs, by_first);
    for (size_t i = 1; i < m->ref_count; i++)
        if (m->refs[i].first_ms <= m->refs[i - 1].last_ms)
            return false;
    return true;
}

enum kl_code blk_merge_series(struct blk_merge *m, const struct blk_part *parts, uint32_t count,
                              const struct blk_chunk_ref **chunks, uint32_t *chunk_count,
                              struct kl_err *err)
{
    kl_arena_deinit(&m->arena);
    kl_buf_reset(&m->bytes);
    m->count = m->ref_count = 0;
    if (!join(m, parts, count)) {
        m->ref_count = 0;
        if (merge_samples(m, parts, count, err) != KL_OK)
            return err->code;
    }
    assert(m->ref_count <= UINT32_MAX);
    *chunks = m->refs;
    *chunk_count = (uint32_t)m->ref_count;
    return KL_OK;
}
