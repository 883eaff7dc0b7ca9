/*
 * A snapshot's head, block by block, into an empty partition. The bytes are believed as little as
 * any input: whatever numbers, bounds and tails say is checked before it is used.
 */
#include "ingestor/snap_priv.h"

#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LABELS_ROOM_FIRST = 256 };

enum kl_code ing_snap_header_get(const uint8_t in[ING_SNAP_HEADER], struct ing_snap_header *h,
                                 struct kl_err *err)
{
    struct kl_cur c = kl_cur(in, ING_SNAP_HEADER);
    struct kl_span magic = kl_cur_bytes(&c, 8);
    uint32_t      version, crc;

    memcpy(&crc, in + ING_SNAP_HEADER - 4, sizeof crc);
    if (!kl_span_eq(magic, kl_span_str(ING_SNAP_MAGIC)) ||
        crc != kl_crc32c(0, in, ING_SNAP_HEADER - 4))
        return kl_fail(err, KL_ECORRUPT, "its first bytes are not a snapshot's");
    version = kl_cur_32(&c);
    /* 1: no repeats in tails, 2: nothing of digests, 3: exemplars twice, not when metadata was told */
    if (version < 1 || version > ING_SNAP_VERSION)
        return kl_fail(err, KL_ECORRUPT, "it is of version %" PRIu32 ", this reads 1 to %d", version,
                       ING_SNAP_VERSION);
    h->version = version;
    h->partition = kl_cur_32(&c);
    h->incarnation = kl_cur_64(&c);
    h->serial = kl_cur_64(&c);
    h->seq = kl_cur_64(&c);
    h->time_ms = (int64_t)kl_cur_64(&c);
    return KL_OK;
}

static enum kl_code wrong(struct kl_err *err, const char *what)
{
    return kl_fail(err, KL_ECORRUPT, "%s", what);
}

void ing_get_free(struct ing_get *g)
{
    for (uint32_t i = 0; i < g->of_count; i++) {
        free(g->of[i].pairs);
        free(g->of[i].names);
        free(g->of[i].series);
    }
    free(g->of);
    kl_buf_deinit(&g->text);
}

static void number_add(uint32_t **at, uint32_t *count, uint32_t *room, uint32_t id)
{
    if (*count == *room) {
        *room = *room == 0 ? LABELS_ROOM_FIRST : *room * 2;
        *at = kl_resize(*at, *room * sizeof **at);
    }
    (*at)[(*count)++] = id;
}

/* ---- the small blocks ---- */

/* What an older version did not keep: nothing is known of the log, and the samples that came in the hour after
 * are as doubtful as those before. */
static enum kl_code get_digest(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    struct ing_digest *d = &g->p->digest;
    uint64_t           count, last = 0;

    if (g->header.version < 3) {
        if (__builtin_add_overflow(g->p->record_time_ms, INT64_C(3600000), &d->doubt_ms))
            d->doubt_ms = INT64_MAX;
        return KL_OK;
    }
    d->log_from = kl_cur_v(c);
    d->log_hash = kl_cur_64(c);
    d->doubt_ms = kl_cur_z(c);
    count = kl_cur_v(c);
    if (c->bad || count > BLK_CUTS_MAX)
        return wrong(err, "cuts that are cut short");
    for (uint64_t i = 0; i < count; i++) {
        uint64_t seq = kl_cur_v(c);

        if (c->bad || seq <= last)
            return wrong(err, "cuts out of order");
        ing_digest_obeyed(g->p, seq, kl_cur_z(c));
        last = seq;
    }
    return KL_OK;
}

static enum kl_code get_state(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    struct ing_partition *p = g->p;
    uint64_t              count;
    int64_t               before = INT64_MIN;

    if (g->state_seen)
        return wrong(err, "a second state");
    g->state_seen = true;
    p->epoch_seen = kl_cur_v(c);
    p->cut_seq = kl_cur_v(c);
    p->cut_end_ms = kl_cur_z(c);
    p->cut_number = kl_cur_8(c);
    p->record_time_ms = kl_cur_z(c);
    p->aged_ms = kl_cur_z(c);
    p->late_writes = kl_cur_v(c);
    p->sample_count = kl_cur_v(c);
    p->first_any = kl_cur_v(c);
    count = kl_cur_v(c);
    if (c->bad || count > ING_SPANS_MAX || count > kl_cur_left(c))
        return wrong(err, "a state that is cut short");
    p->firsts = kl_resize(p->firsts, (count + 1) * sizeof *p->firsts);
    p->first_room = (uint32_t)count + 1;
    for (p->first_count = 0; p->first_count < count; p->first_count++) {
        struct ing_first *f = &p->firsts[p->first_count];

        f->window_ms_start = kl_cur_z(c);
        f->seq = kl_cur_v(c);
        if (p->first_count > 0 && f->window_ms_start <= before)
            return wrong(err, "windows out of order");
        before = f->window_ms_start;
    }
    return get_digest(g, c, err);
}

static enum kl_code get_file(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    struct ing_partition *p = g->p;
    uint8_t               slot = kl_cur_8(c);
    uint64_t              serial = kl_cur_64(c), size = kl_cur_64(c), real;
    struct ing_file      *f;
    char                  name[40];

    if (c->bad || slot == 0 || p->files.at[slot] != NULL)
        return wrong(err, "a file under a number that is no one's or another's");
    if (p->spilled == NULL)
        return wrong(err, "a file where there can be none");
    if (size == 0 && g->own_file != 0)
        return wrong(err, "two files of one pass");
    f = kl_new(sizeof *f);
    f->dir = p->spilled;
    f->serial = serial;
    ing_snap_chunks_name(serial, name, sizeof name);
    if (p->spilled->view(p->spilled, name, &f->view, &real, err) != KL_OK) {
        free(f);
        p->bad_serial = serial;
        return err->code == KL_ENOENT ? kl_fail(err, KL_ECORRUPT, "%s is missing", name) : err->code;
    }
    f->size = size == 0 ? real : size;
    p->files.at[slot] = f;
    if (real != f->size) {
        p->bad_serial = serial;
        return kl_fail(err, KL_ECORRUPT, "%s has %" PRIu64 " bytes, not %" PRIu64, name, real, size);
    }
    g->file_size[slot] = f->size;
    if (size == 0) {
        g->own_file = slot;
        g->own_serial = serial;
    }
    return KL_OK;
}

/* Of series or pairs, than the file has room for. */
static uint32_t no_more(const struct ing_get *g, uint64_t count)
{
    uint64_t most = g->size_bytes / 4 < 1u << 28 ? g->size_bytes / 4 : 1u << 28;

    return (uint32_t)(count < most ? count : most);
}

static enum kl_code get_tenant(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    struct kl_span   tenant = kl_cur_span(c);
    uint64_t         window_ms = kl_cur_v(c), series = kl_cur_v(c), pairs = kl_cur_v(c),
                     samples = kl_cur_v(c), late = kl_cur_v(c), equal = kl_cur_v(c);
    struct ing_head *h;

    if (c->bad || tenant.size == 0 || tenant.size > BLK_TENANT_MAX)
        return wrong(err, "a tenant without a name, or with too long a one");
    g->tenant = ing_tenant(g->p, tenant, true);
    h = g->head = g->tenant->head;
    g->refs = NULL;
    if ((uint64_t)h->window_ms != window_ms)
        return kl_fail(err, KL_EINVAL, "blocks span %" PRId64 " ms now, not %" PRIu64 " as then",
                       h->window_ms, window_ms);
    ing_head_reserve(h, no_more(g, series));
    ing_pairs_reserve(&h->pairs, no_more(g, pairs));
    h->samples = samples;
    h->late_samples = late;
    h->equal_samples = equal;
    for (g->current = 0; g->current < g->of_count && g->of[g->current].head != h; g->current++)
        ;
    if (g->current < g->of_count)
        return KL_OK;
    if (g->of_count == g->of_room) {
        g->of_room = g->of_room == 0 ? 4 : g->of_room * 2;
        g->of = kl_resize(g->of, g->of_room * sizeof *g->of);
    }
    g->of[g->of_count++] = (struct numbers){ .head = h };
    return KL_OK;
}

static enum kl_code get_extras(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    while (kl_cur_left(c) > 0) {
        uint8_t kind = kl_cur_8(c), old = 0;

        if (kind == ING_SNAP_META) {
            struct ing_meta m = { .type = kl_cur_8(c), .told_ms = g->p->record_time_ms };

            m.metric = kl_cur_span(c);
            m.unit = kl_cur_span(c);
            m.help = kl_cur_span(c);
            if (g->header.version < 4) {
                ing_digest_doubt(g->p, m.told_ms);     /* it may have been told long ago */
            } else {
                m.told_ms = kl_cur_z(c);
                old = kl_cur_8(c);
                m.old = old == 1;
            }
            if (!c->bad && (old > 1 || !ing_extras_meta(g->head, &m)))
                return wrong(err, "metadata that is none, or more than there may be");
        } else if (kind == ING_SNAP_EXEMPLAR) {
            struct ing_exemplar e = { .fp.hi = kl_cur_64(c) };

            e.fp.lo = kl_cur_64(c);
            e.time_ms = kl_cur_z(c);
            e.value = kl_cur_f64(c);
            e.labels = kl_cur_span(c);
            if (g->header.version >= 4)
                old = kl_cur_8(c);
            e.old = old == 1;
            if (!c->bad && kl_labels_check((struct kl_labels){ e.labels.at, e.labels.size }, err) != KL_OK)
                return kl_within(err, "an exemplar");
            if (!c->bad && (old > 1 || !ing_extras_exemplar(g->head, &e)))
                return wrong(err, "an exemplar that is none, or more than there may be");
        } else {
            return wrong(err, "an extra of an unknown kind");
        }
    }
    return KL_OK;
}

static struct ing_refs *refs_of(struct ing_get *g, struct kl_cur *c, uint64_t base)
{
    struct kl_span who = kl_cur_bytes(c, sizeof(struct tsp_incarnation));
    struct tsp_incarnation w;

    if (c->bad)
        return NULL;
    memcpy(w.bytes, who.at, sizeof w.bytes);
    for (struct ing_refs *r = g->tenant->refs; r != NULL; r = r->next)
        if (memcmp(&r->who, &w, sizeof w) == 0)
            return r;
    g->refs = ing_refs_new(w, g->head, base);
    g->refs->next = g->tenant->refs;
    g->tenant->refs = g->refs;
    return g->refs;
}

static enum kl_code get_orphans(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    struct ing_refs *r = refs_of(g, c, g->header.seq);

    if (r == NULL)
        return wrong(err, "orphans of no writer");
    while (kl_cur_left(c) > 0) {
        uint64_t           ref = kl_cur_v(c), first = kl_cur_v(c);
        struct kl_span     samples = kl_cur_span(c);
        struct ing_orphan *o;

        if (c->bad || !ing_kept_check(samples) || first == 0)
            return wrong(err, "an orphan that is cut short");
        if (g->p->orphan_bytes + samples.size > 2 * (uint64_t)ING_ORPHAN_BYTES_MAX)
            return wrong(err, "more orphans than there may be");
        if (ing_refs_find(r, ref, g->p->cut_number) != ING_NONE)
            return wrong(err, "an orphan twice");
        o = ing_refs_orphan(r, ref, first, g->p->cut_number);
        kl_buf_add(&o->samples, samples.at, samples.size);
        g->p->orphan_bytes += samples.size;
        g->head->memory.bytes[ING_MEM_OTHER] += (int64_t)samples.size;
    }
    return KL_OK;
}

/* ---- series ---- */

static enum kl_code get_name(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    struct numbers *n = &g->of[g->current];
    struct kl_span  name = kl_cur_span(c);

    if (c->bad || name.size == 0 || name.size > KL_LABELS_BYTES_MAX || !kl_utf8_ok(name))
        return wrong(err, "a label name that is none");
    number_add(&n->names, &n->name_count, &n->name_room,
               ing_pairs_name(&g->head->pairs, name, true));
    return KL_OK;
}

static enum kl_code get_pair(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    struct numbers   *n = &g->of[g->current];
    struct ing_pairs *p = &g->head->pairs;
    uint64_t          name = kl_cur_v(c);
    struct kl_span    value = kl_cur_span(c);

    if (c->bad || name == 0 || name > n->name_count || value.size == 0 ||
        value.size > KL_LABELS_BYTES_MAX || !kl_utf8_ok(value))
        return wrong(err, "a label value that is none");
    number_add(&n->pairs, &n->pair_count, &n->pair_room,
               ing_pairs_of(p, n->names[name - 1], value, true));
    return KL_OK;
}

static enum kl_code get_tail(struct ing_get *g, struct kl_cur *c, struct ing_series *s,
                             bool last_start, struct kl_err *err)
{
    struct ing_tail *t = &s->tail, got = { .kind = kl_cur_8(c) };
    uint64_t         count = kl_cur_v(c), span, step;
    struct kl_span   bytes;

    got.first_ms = kl_cur_z(c);
    span = kl_cur_v(c);
    step = kl_cur_v(c);
    got.bits = kl_cur_64(c);
    bytes = kl_cur_span(c);
    if (c->bad || count == 0 || count > ING_TAIL_MAX || bytes.size > UINT16_MAX - 16 ||
        span > UINT32_MAX || step > INT32_MAX ||
        __builtin_add_overflow(got.first_ms, (int64_t)span, &got.last_ms))
        return wrong(err, "a tail that is none");
    got.count = (uint16_t)count;
    got.step_ms = (int32_t)step;
    got.size = (uint16_t)bytes.size;
    got.bytes = (uint8_t *)bytes.at;
    if (!ing_tail_check(&got) || last_start != (got.end == ING_END_START) || got.last_ms > s->last_ms)
        return wrong(err, "a tail that does not hold what it says");
    *t = got;
    t->room = ing_block_room(got.size);
    t->bytes = ing_block_take(&g->head->tails, t->room);
    memcpy(t->bytes, bytes.at, bytes.size);
    return KL_OK;
}

static enum kl_code get_late(struct ing_get *g, struct kl_cur *c, struct ing_series *s,
                             struct kl_err *err)
{
    uint64_t         count = kl_cur_v(c);
    struct ing_late *l;

    if (c->bad || count == 0 || count > ING_LATE_MAX || count > kl_cur_left(c))
        return wrong(err, "late samples that are none");
    l = s->late = kl_resize(NULL, sizeof *l + count * sizeof *l->at);
    l->count = l->room = (uint32_t)count;
    g->head->memory.bytes[ING_MEM_LATE] += (int64_t)(count * sizeof *l->at);
    for (uint32_t i = 0; i < count; i++) {
        l->at[i].time_ms = kl_cur_z(c);
        l->at[i].start_ms = kl_cur_z(c);
        l->at[i].value = kl_cur_f64(c);
        if (c->bad || (i > 0 && l->at[i].time_ms <= l->at[i - 1].time_ms))
            return wrong(err, "late samples out of order");
    }
    return KL_OK;
}

/* Can it be decoded? Nobody looks again at one that lies in memory. */
static bool chunk_ok(struct kl_span bytes, const struct ing_chunk *like, struct kl_err *err)
{
    struct blk_chunk_head head;
    struct ing_run        run;
    struct kl_hist        hists[BLK_CHUNK_MAX];
    struct kl_arena       arena;
    enum kl_code          code;

    if (blk_chunk_peek(bytes, &head, err) != KL_OK || head.kind != like->kind ||
        head.count != like->count || head.first_ms != like->first_ms ||
        head.last_ms != ing_chunk_last(like))
        return false;
    if (head.kind == BLK_FLOATS) {
        code = blk_chunk_decode(bytes, run.times, run.values, run.starts, &run.count, err);
    } else {
        kl_arena_init(&arena, 256 << 20);
        code = blk_chunk_decode_hists(bytes, &arena, run.times, hists, run.starts, &run.count, err);
        kl_arena_deinit(&arena);
    }
    if (code != KL_OK)
        return false;
    for (uint32_t i = 1; i < run.count; i++)
        if (run.times[i] <= run.times[i - 1])
            return false;
    return run.times[0] == head.first_ms && run.times[run.count - 1] == head.last_ms;
}

static enum kl_code get_chunk(struct ing_get *g, struct kl_cur *c, struct ing_series *s,
                              struct kl_err *err)
{
    struct ing_chunk like = { .first_ms = kl_cur_z(c) };
    uint64_t         span = kl_cur_v(c), count = kl_cur_v(c), size, at;
    uint8_t          kind = kl_cur_8(c), file = kl_cur_8(c);
    struct kl_span   bytes = { 0 };
    int64_t          last;

    size = file == 0 ? (bytes = kl_cur_span(c)).size : kl_cur_v(c);
    at = file == 0 ? 0 : kl_cur_32(c);
    if (c->bad || span > UINT32_MAX || count == 0 || count > BLK_CHUNK_MAX || size == 0 ||
        size > ING_CHUNK_BYTES_MAX || (kind != BLK_FLOATS && kind != BLK_HISTS) ||
        __builtin_add_overflow(like.first_ms, (int64_t)span, &last) || last > s->last_ms)
        return wrong(err, "a chunk that is none");
    like.span_ms = (uint32_t)span;
    like.count = (uint32_t)count;
    like.kind = kind;
    like.size = (uint32_t)size;
    g->chunks++;
    if (file == 0) {
        struct blk_chunk_head head = { .kind = kind, .count = (uint32_t)count,
                                       .first_ms = like.first_ms, .last_ms = last };

        if (!chunk_ok(bytes, &like, err))
            return wrong(err, "a chunk that cannot be decoded");
        ing_chunk_append(s, ing_chunk_new(g->head, bytes, &head));
        return KL_OK;
    }
    if (g->file_size[file] < at + size + ING_SPILLED_HEAD)
        return wrong(err, "a chunk outside of its file");
    if (file == g->own_file && at + size + ING_SPILLED_HEAD > g->own_end)
        g->own_end = at + size + ING_SPILLED_HEAD;
    ing_chunk_append(s, ing_chunk_spilled(g->head, &like, file, (uint32_t)at));
    return KL_OK;
}

/* Names rising, and no more bytes than a label set may have. */
static bool labels_ok(struct ing_get *g, const uint32_t *pairs, uint32_t count)
{
    const struct ing_pairs *p = &g->head->pairs;
    struct kl_span          before = { 0 };
    size_t                  size = 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct ing_pair *pair = ing_pair_at(p->pair_pages, pairs[i]);
        struct kl_span         name = ing_text(ing_name_at(p->name_pages, pair->name)->text);

        if (i > 0 && kl_span_cmp(before, name) >= 0)
            return false;
        before = name;
        size += name.size + ing_text(pair->text).size + 6;
    }
    return size <= KL_LABELS_BYTES_MAX + 6 * KL_LABELS_MAX;
}

static enum kl_code get_one(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    struct numbers    *n = &g->of[g->current];
    struct kl_fp       fp = { .hi = kl_cur_64(c) };
    uint64_t           count, chunks;
    uint32_t           pairs[KL_LABELS_MAX];
    struct ing_series *s;
    int64_t            last_ms;
    uint8_t            flags;

    fp.lo = kl_cur_64(c);
    count = kl_cur_v(c);
    if (c->bad || count > KL_LABELS_MAX)
        return wrong(err, "a series of too many labels");
    for (uint32_t i = 0; i < count; i++) {
        uint64_t number = kl_cur_v(c);

        if (c->bad || number == 0 || number > n->pair_count)
            return wrong(err, "a series of a label that was not told");
        pairs[i] = n->pairs[number - 1];
    }
    last_ms = kl_cur_z(c);
    flags = kl_cur_8(c);
    if (c->bad || flags > 7 || !labels_ok(g, pairs, (uint32_t)count) ||
        ing_head_find(g->head, fp) != NULL)
        return wrong(err, "a series that is none, or told twice");
    s = ing_head_add(g->head, fp, pairs, (uint32_t)count);
    s->last_ms = last_ms;
    number_add(&n->series, &n->series_count, &n->series_room, s->id);
    g->series++;
    if ((flags & ING_SNAP_HAS_TAIL) != 0 &&
        get_tail(g, c, s, (flags & ING_SNAP_TAIL_START) != 0, err) != KL_OK)
        return err->code;
    if ((flags & ING_SNAP_HAS_LATE) != 0 && get_late(g, c, s, err) != KL_OK)
        return err->code;
    chunks = kl_cur_v(c);
    for (uint64_t i = 0; i < chunks; i++)
        if (get_chunk(g, c, s, err) != KL_OK)
            return err->code;
    g->head->heavy |= s->chunk_bytes > ING_HEAVY_BYTES;
    return KL_OK;
}

static enum kl_code get_series(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    enum kl_code code = KL_OK;

    while (kl_cur_left(c) > 0 && code == KL_OK) {
        uint8_t kind = kl_cur_8(c);

        code = kind == ING_SNAP_NAME ? get_name(g, c, err) : kind == ING_SNAP_PAIR ? get_pair(g, c, err)
             : kind == ING_SNAP_ONE ? get_one(g, c, err) : wrong(err, "an item of an unknown kind");
    }
    return code;
}

static enum kl_code get_refs(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    struct numbers  *n = &g->of[g->current];
    struct kl_cur    at = *c;
    struct ing_refs *r;
    uint64_t         base, ref = 0;

    kl_cur_bytes(&at, sizeof(struct tsp_incarnation));
    base = kl_cur_v(&at);
    r = refs_of(g, c, base);
    kl_cur_v(c);
    if (r == NULL || c->bad)
        return wrong(err, "refs of no writer");
    if (base < r->base_seq) {
        if (r->count > r->orphan_count)
            return wrong(err, "refs of one writer twice");
        r->base_seq = base;                            /* only its orphans came before */
    }
    while (kl_cur_left(c) > 0) {
        uint64_t number, defined;
        uint8_t  age;
        uint32_t known;

        ref += (uint64_t)kl_cur_z(c);
        number = kl_cur_v(c);
        defined = kl_cur_v(c);
        age = kl_cur_8(c);
        if (c->bad || number == 0 || number > n->series_count || defined > UINT32_MAX)
            return wrong(err, "a ref to no series");
        known = ing_refs_find(r, ref, (uint8_t)(g->p->cut_number - age));
        if (known != ING_NONE)
            continue;                                  /* an orphan as of the start: its definition is replayed */
        ing_refs_set(r, ref, n->series[number - 1], base + defined * ING_REF_GRAIN,
                     (uint8_t)(g->p->cut_number - age));
        ing_series_at(g->head, n->series[number - 1])->definitions++;
    }
    return KL_OK;
}

static enum kl_code get_end(struct ing_get *g, struct kl_cur *c, struct kl_err *err)
{
    g->end.seq = kl_cur_64(c);
    g->end.hash = kl_cur_64(c);
    g->end.chunks_size = kl_cur_64(c);
    g->end.series = kl_cur_v(c);
    g->end.chunks = kl_cur_v(c);
    if (g->header.version >= 3) {
        g->end.log_from = kl_cur_v(c);
        g->end.log_hash = kl_cur_64(c);
    }
    if (c->bad || !g->state_seen || g->end.seq < g->header.seq || g->end.series != g->series ||
        g->end.chunks != g->chunks)
        return wrong(err, "an end that does not count what was before");
    if (g->end.chunks_size != (g->own_file == 0 ? 0 : g->file_size[g->own_file])) {
        g->p->bad_serial = g->own_serial;
        return kl_fail(err, KL_ECORRUPT, "its own file of chunks has another size than it says");
    }
    g->end_seen = true;
    return KL_OK;
}

enum kl_code ing_get_block(struct ing_get *g, uint32_t kind, struct kl_span payload, struct kl_err *err)
{
    struct kl_cur c = kl_cur(payload.at, payload.size);
    enum kl_code  code;

    if (g->end_seen)
        return wrong(err, "something after the end");
    if (g->head == NULL && kind >= ING_SNAP_EXTRAS)
        return wrong(err, "something of no tenant");
    switch (kind) {
    case ING_SNAP_END:     code = get_end(g, &c, err); break;
    case ING_SNAP_STATE:   code = get_state(g, &c, err); break;
    case ING_SNAP_FILE:    code = get_file(g, &c, err); break;
    case ING_SNAP_TENANT:  code = get_tenant(g, &c, err); break;
    case ING_SNAP_EXTRAS:  code = get_extras(g, &c, err); break;
    case ING_SNAP_ORPHANS: code = get_orphans(g, &c, err); break;
    case ING_SNAP_SERIES:  code = get_series(g, &c, err); break;
    case ING_SNAP_REFS:    code = get_refs(g, &c, err); break;
    default:
        return kl_fail(err, KL_ECORRUPT, "a block of unknown kind %" PRIu32, kind);
    }
    if (code != KL_OK)
        return code;
    return c.bad || kl_cur_left(&c) > 0 ? wrong(err, "a block that is cut short or too long") : KL_OK;
}
