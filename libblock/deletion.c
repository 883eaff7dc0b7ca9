#include "libblock/deletion.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "libblock/fileset_priv.h"
#include "libblock/rollup.h"

/* ---- one ---- */

static void release(struct blk_deletion *d)
{
    for (uint32_t i = 0; i < d->matcher_count; i++)
        kl_regex_free((struct kl_regex *)d->matchers[i].re);
    free(d->matchers);                                 /* the texts lie behind them */
    free(d);
}

static uint8_t *text(struct kl_span *s, uint8_t *at)
{
    if (s->size > 0)
        memcpy(at, s->at, s->size);
    s->at = at;
    return at + s->size;
}

static enum kl_code compile(struct kl_matcher *m, struct kl_err *err)
{
    struct kl_regex *re;

    m->re = NULL;
    if (m->op != KL_MATCH_RE && m->op != KL_MATCH_NRE)
        return KL_OK;
    if (kl_regex_new(m->value, &re, err) != KL_OK)
        return err->code;
    m->re = re;
    return KL_OK;
}

enum kl_code blk_deletion_new(const struct blk_deletion *like, struct blk_deletion **out,
                              struct kl_err *err)
{
    struct blk_deletion *d;
    size_t               bytes = 0;
    uint8_t             *at;

    if (like->matcher_count == 0 || like->matcher_count > BLK_DELETION_MATCHERS_MAX)
        return kl_fail(err, KL_EINVAL, "a deletion has 1 to %d matchers", BLK_DELETION_MATCHERS_MAX);
    if (like->from_ms > like->to_ms)
        return kl_fail(err, KL_EINVAL, "a deletion ends before it begins");
    for (uint32_t i = 0; i < like->matcher_count; i++)
        bytes += like->matchers[i].name.size + like->matchers[i].value.size;
    d = kl_new(sizeof *d);
    d->number = like->number;
    d->seq = like->seq;
    d->incarnation = like->incarnation;
    d->at_ms = like->at_ms;
    d->from_ms = like->from_ms;
    d->to_ms = like->to_ms;
    memcpy(d->tenant, like->tenant, sizeof d->tenant);
    atomic_init(&d->refs, 1);
    d->matchers = kl_resize(NULL, like->matcher_count * sizeof *d->matchers + bytes + 1);
    at = (uint8_t *)(d->matchers + like->matcher_count);
    for (uint32_t i = 0; i < like->matcher_count; i++) {
        struct kl_matcher *m = &d->matchers[i];

        *m = like->matchers[i];
        at = text(&m->name, at);
        at = text(&m->value, at);
        d->matcher_count++;
        if (compile(m, err) != KL_OK) {
            release(d);
            return kl_fail(err, KL_EINVAL, "a deletion's expression does not compile");
        }
    }
    *out = d;
    return KL_OK;
}

struct blk_deletion *blk_deletion_ref(struct blk_deletion *d)
{
    atomic_fetch_add(&d->refs, 1);
    return d;
}

void blk_deletion_unref(struct blk_deletion *d)
{
    if (d != NULL && atomic_fetch_sub(&d->refs, 1) == 1)
        release(d);
}

bool blk_deletion_follows(const struct blk_deletion *d, uint64_t incarnation, uint64_t id)
{
    /* An incarnation is its stream's creation time: the later log comes later. */
    return d->incarnation != incarnation ? d->incarnation > incarnation : d->seq > id;
}

/* The last row that stands for something up to there. */
static int64_t last_row(int64_t to_ms, int64_t resolution_ms)
{
    return resolution_ms > 0 ? blk_bucket_end(to_ms, resolution_ms) : to_ms;
}

bool blk_deletion_concerns(const struct blk_deletion *d, const struct blk_info *info)
{
    return d->number > info->obeyed && blk_deletion_follows(d, info->incarnation, info->id) &&
           d->from_ms <= info->max_ms && last_row(d->to_ms, info->resolution_ms) >= info->min_ms &&
           strcmp(d->tenant, info->tenant) == 0;
}

/* ---- spans ---- */

static int by_from(const void *a, const void *b)
{
    const struct blk_hidden *x = a, *y = b;

    return x->from_ms < y->from_ms ? -1 : x->from_ms > y->from_ms;
}

uint32_t blk_deletions_hide(const struct blk_deletion *const *list, uint32_t count,
                            struct kl_labels labels, struct blk_hidden *spans)
{
    uint32_t n = 0, kept = 0;

    for (uint32_t i = 0; i < count; i++)
        if (kl_matchers_test(list[i]->matchers, list[i]->matcher_count, labels))
            spans[n++] = (struct blk_hidden){ list[i]->from_ms, list[i]->to_ms };
    if (n < 2)
        return n;
    qsort(spans, n, sizeof *spans, by_from);
    for (uint32_t i = 1; i < n; i++) {
        struct blk_hidden *last = &spans[kept];

        if (last->to_ms != INT64_MAX && spans[i].from_ms > last->to_ms + 1)
            spans[++kept] = spans[i];
        else if (spans[i].to_ms > last->to_ms)
            last->to_ms = spans[i].to_ms;
    }
    return kept + 1;
}

void blk_hidden_widen(struct blk_hidden *spans, uint32_t count, int64_t resolution_ms)
{
    for (uint32_t i = 0; i < count; i++)
        spans[i].to_ms = last_row(spans[i].to_ms, resolution_ms);
}

bool blk_hidden_all(const struct blk_hidden *spans, uint32_t count, int64_t from_ms, int64_t to_ms)
{
    for (uint32_t i = 0; i < count; i++)
        if (spans[i].from_ms <= from_ms && spans[i].to_ms >= to_ms)
            return true;
    return false;
}

bool blk_hidden_any(const struct blk_hidden *spans, uint32_t count, int64_t from_ms, int64_t to_ms)
{
    for (uint32_t i = 0; i < count; i++)
        if (spans[i].from_ms <= to_ms && spans[i].to_ms >= from_ms)
            return true;
    return false;
}

/* ---- chunks ---- */

enum { ARENA_MAX = 256 << 20 };

struct blk_hide {
    struct kl_arena arena;                             /* histograms of one chunk */
    struct kl_buf   bytes;                             /* of what was encoded anew */
    struct blk_chunk_ref *refs;
    size_t         *at;                                /* where in bytes; SIZE_MAX: as it was */
    size_t          room;
    int64_t times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    double  values[BLK_CHUNK_MAX];
    struct kl_hist hists[BLK_CHUNK_MAX];
};

struct blk_hide *blk_hide_new(void)
{
    struct blk_hide *h = kl_new(sizeof *h);

    kl_arena_init(&h->arena, ARENA_MAX);
    return h;
}

void blk_hide_free(struct blk_hide *h)
{
    if (h == NULL)
        return;
    kl_arena_deinit(&h->arena);
    kl_buf_deinit(&h->bytes);
    free(h->refs);
    free(h->at);
    free(h);
}

/* What is left of a chunk, encoded anew behind `bytes`; count 0: nothing. */
static enum kl_code cut_chunk(struct blk_hide *h, const struct blk_hidden *spans,
                              uint32_t span_count, struct blk_chunk_ref *c, struct kl_err *err)
{
    bool         hists = c->kind == BLK_HISTS, started = false;
    uint32_t     n, kept = 0;
    enum kl_code code;

    kl_arena_deinit(&h->arena);
    code = hists ? blk_chunk_decode_hists(c->bytes, &h->arena, h->times, h->hists, h->starts, &n, err)
                 : blk_chunk_decode(c->bytes, h->times, h->values, h->starts, &n, err);
    if (code != KL_OK)
        return code;
    for (uint32_t i = 0; i < n; i++) {
        if (blk_hidden_any(spans, span_count, h->times[i], h->times[i]))
            continue;
        h->times[kept] = h->times[i];
        h->starts[kept] = h->starts[i];
        started |= h->starts[i] != 0;
        if (hists)
            h->hists[kept] = h->hists[i];
        else
            h->values[kept] = h->values[i];
        kept++;
    }
    c->count = kept;
    if (kept == 0 || kept == n)                        /* none of its samples lies there */
        return KL_OK;
    c->first_ms = h->times[0];
    c->last_ms = h->times[kept - 1];
    if (hists)
        blk_chunk_encode_hists(h->times, h->hists, started ? h->starts : NULL, kept, &h->bytes);
    else
        blk_chunk_encode(h->times, h->values, started ? h->starts : NULL, kept, &h->bytes);
    return KL_OK;
}

enum kl_code blk_hide_chunks(struct blk_hide *h, const struct blk_hidden *spans, uint32_t span_count,
                             const struct blk_chunk_ref *chunks, uint32_t count,
                             const struct blk_chunk_ref **left, uint32_t *left_count,
                             struct kl_err *err)
{
    uint32_t n = 0;

    kl_buf_reset(&h->bytes);
    if (count > h->room) {
        h->room = count * (size_t)2;
        h->refs = kl_resize(h->refs, h->room * sizeof *h->refs);
        h->at = kl_resize(h->at, h->room * sizeof *h->at);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct blk_chunk_ref c = chunks[i];
        size_t               before = h->bytes.size;
        bool                 whole = !blk_hidden_any(spans, span_count, c.first_ms, c.last_ms);

        if (blk_hidden_all(spans, span_count, c.first_ms, c.last_ms))
            continue;
        if (!whole && cut_chunk(h, spans, span_count, &c, err) != KL_OK)
            return kl_within(err, "leave out what was deleted");
        if (c.count == 0)
            continue;
        h->refs[n] = c;
        h->at[n++] = h->bytes.size == before ? SIZE_MAX : before;
    }
    for (uint32_t i = 0, next; i < n; i++) {           /* only now do the bytes stay where they are */
        if (h->at[i] == SIZE_MAX)
            continue;
        for (next = i + 1; next < n && h->at[next] == SIZE_MAX; next++)
            ;
        h->refs[i].bytes = kl_span(h->bytes.at + h->at[i],
                                   (next < n ? h->at[next] : h->bytes.size) - h->at[i]);
    }
    *left = h->refs;
    *left_count = n;
    return KL_OK;
}
