/*
 * A snapshot's head, encoded slice by slice on the partition's loop. Labels get numbers of the
 * file's own as they are first met, so nothing in it depends on where it is read.
 */
#include "ingestor/snap_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void ing_snap_header_put(const struct ing_snap_header *h, uint8_t out[ING_SNAP_HEADER])
{
    struct kl_buf b = { 0 };
    uint32_t      crc;

    kl_buf_adds(&b, ING_SNAP_MAGIC);
    kl_buf_add32(&b, ING_SNAP_VERSION);
    kl_buf_add32(&b, h->partition);
    kl_buf_add64(&b, h->incarnation);
    kl_buf_add64(&b, h->serial);
    kl_buf_add64(&b, h->seq);
    kl_buf_add64(&b, (uint64_t)h->time_ms);
    while (b.size < ING_SNAP_HEADER - 4)
        kl_buf_add8(&b, 0);
    crc = kl_crc32c(0, b.at, b.size);
    kl_buf_add32(&b, crc);
    memcpy(out, b.at, ING_SNAP_HEADER);
    kl_buf_deinit(&b);
}

uint32_t ing_snap_block_crc(uint64_t serial, uint64_t number, uint32_t kind, struct kl_span payload)
{
    uint64_t place[3] = { serial, number, kind };

    return kl_crc32c(kl_crc32c(0, place, sizeof place), payload.at, payload.size);
}

/* ---- blocks ---- */

static size_t block_begin(struct kl_buf *out, enum ing_snap_kind kind)
{
    kl_buf_add32(out, kind);
    kl_buf_add32(out, 0);
    kl_buf_add32(out, 0);                              /* the checksum: the worker's */
    return out->size;
}

static void block_end(struct kl_buf *out, size_t from)
{
    uint32_t size = (uint32_t)(out->size - from);

    assert(out->size - from <= ING_SNAP_BLOCK_MAX);
    memcpy(out->at + from - ING_SNAP_BLOCK_HEAD + 4, &size, sizeof size);
}

/* Grown by doubling, what is new zeroed. */
static uint32_t *numbers_room(uint32_t *at, uint32_t *room, uint32_t need)
{
    uint32_t more = *room == 0 ? 256 : *room;

    if (need <= *room)
        return at;
    while (more < need)
        more *= 2;
    at = kl_resize(at, more * sizeof *at);
    memset(at + *room, 0, (more - *room) * sizeof *at);
    *room = more;
    return at;
}

static void put_digest(struct ing_put *w)
{
    const struct ing_digest *d = &w->p->digest;

    kl_buf_addv(&w->out, d->log_from);
    kl_buf_add64(&w->out, d->log_hash);
    kl_buf_addz(&w->out, d->doubt_ms);
    kl_buf_addv(&w->out, d->cuts.cut_count);
    for (uint32_t i = 0; i < d->cuts.cut_count; i++) {
        kl_buf_addv(&w->out, d->cuts.cuts[i].seq);
        kl_buf_addz(&w->out, d->cuts.cuts[i].end_ms);
    }
}

static void put_state(struct ing_put *w)
{
    struct ing_partition *p = w->p;
    size_t                from = block_begin(&w->out, ING_SNAP_STATE);

    kl_buf_addv(&w->out, p->epoch_seen);
    kl_buf_addv(&w->out, p->cut_seq);
    kl_buf_addz(&w->out, p->cut_end_ms);
    kl_buf_add8(&w->out, p->cut_number);
    kl_buf_addz(&w->out, p->record_time_ms);
    kl_buf_addz(&w->out, p->aged_ms);
    kl_buf_addv(&w->out, p->late_writes);
    kl_buf_addv(&w->out, p->sample_count);
    kl_buf_addv(&w->out, p->first_any);
    kl_buf_addv(&w->out, p->first_count);
    for (uint32_t i = 0; i < p->first_count; i++) {
        kl_buf_addz(&w->out, p->firsts[i].window_ms_start);
        kl_buf_addv(&w->out, p->firsts[i].seq);
    }
    put_digest(w);
    block_end(&w->out, from);
}

static void put_file(struct ing_put *w, uint32_t slot, uint64_t serial, uint64_t size)
{
    size_t from = block_begin(&w->out, ING_SNAP_FILE);

    kl_buf_add8(&w->out, (uint8_t)slot);
    kl_buf_add64(&w->out, serial);
    kl_buf_add64(&w->out, size);
    block_end(&w->out, from);
}

static void put_tenant(struct ing_put *w, const struct ing_head *h)
{
    size_t from = block_begin(&w->out, ING_SNAP_TENANT);

    kl_buf_addspan(&w->out, h->tenant);
    kl_buf_addv(&w->out, (uint64_t)h->window_ms);
    kl_buf_addv(&w->out, h->count);
    kl_buf_addv(&w->out, h->pairs.pair_live);
    kl_buf_addv(&w->out, h->samples);
    kl_buf_addv(&w->out, h->late_samples);
    kl_buf_addv(&w->out, h->equal_samples);
    block_end(&w->out, from);
}

static void put_extras(struct ing_put *w, const struct ing_head *h)
{
    const struct ing_extras *x = h->extras;
    size_t                   from;

    if (x == NULL)
        return;
    from = block_begin(&w->out, ING_SNAP_EXTRAS);
    for (uint32_t i = 0; i < x->meta_count + x->exemplar_count; i++) {
        if (i < x->meta_count) {
            kl_buf_add8(&w->out, ING_SNAP_META);
            kl_buf_add8(&w->out, x->metas[i].type);
            kl_buf_addspan(&w->out, x->metas[i].metric);
            kl_buf_addspan(&w->out, x->metas[i].unit);
            kl_buf_addspan(&w->out, x->metas[i].help);
            kl_buf_addz(&w->out, x->metas[i].told_ms);
            kl_buf_add8(&w->out, x->metas[i].old);
        } else {
            const struct ing_exemplar *e = &x->exemplars[i - x->meta_count];

            kl_buf_add8(&w->out, ING_SNAP_EXEMPLAR);
            kl_buf_add64(&w->out, e->fp.hi);
            kl_buf_add64(&w->out, e->fp.lo);
            kl_buf_addz(&w->out, e->time_ms);
            kl_buf_addf64(&w->out, e->value);
            kl_buf_addspan(&w->out, e->labels);
            kl_buf_add8(&w->out, e->old);
        }
        if (w->out.size - from > ING_SNAP_SLICE_BYTES) {
            block_end(&w->out, from);
            from = block_begin(&w->out, ING_SNAP_EXTRAS);
        }
    }
    block_end(&w->out, from);
}

/* As they are when the pass begins: an orphan that joins its series meanwhile must not be lost. */
static void put_orphans(struct ing_put *w, const struct ing_tenant *t)
{
    for (const struct ing_refs *r = t->refs; r != NULL; r = r->next) {
        size_t from;

        if (r->orphan_count == 0)
            continue;
        from = block_begin(&w->out, ING_SNAP_ORPHANS);
        kl_buf_add(&w->out, r->who.bytes, sizeof r->who.bytes);
        for (uint32_t i = 0; i < r->orphan_count; i++) {
            kl_buf_addv(&w->out, r->orphans[i].ref);
            kl_buf_addv(&w->out, r->orphans[i].first_seq);
            kl_buf_addspan(&w->out, kl_buf_span(&r->orphans[i].samples));
        }
        block_end(&w->out, from);
    }
}

void ing_put_begin(struct ing_put *w, struct ing_partition *p, const struct ing_snap_header *h,
                   uint32_t file, uint64_t file_serial)
{
    uint8_t head[ING_SNAP_HEADER];

    *w = (struct ing_put){ .p = p, .tenants = p->tenant_count, .file = file };
    ing_snap_header_put(h, head);
    kl_buf_add(&w->out, head, sizeof head);
    put_state(w);
    for (uint32_t slot = 1; slot <= ING_FILES_MAX; slot++)
        if (p->files.at[slot] != NULL && p->files.at[slot]->live > 0)
            put_file(w, slot, p->files.at[slot]->serial, p->files.at[slot]->size);
    if (file != 0)
        put_file(w, file, file_serial, 0);
    for (uint32_t t = 0; t < w->tenants; t++) {
        put_tenant(w, p->tenants[t].head);
        put_extras(w, p->tenants[t].head);
        put_orphans(w, &p->tenants[t]);
    }
    w->done = false;
}

void ing_put_free(struct ing_put *w)
{
    kl_buf_deinit(&w->out);
    free(w->pair_numbers);
    free(w->name_numbers);
    free(w->series_numbers);
    free(w->spilled);
}

/* ---- series ---- */

static uint32_t pair_number(struct ing_put *w, struct ing_head *h, uint32_t id)
{
    const struct ing_pair *pair = ing_pair_at(h->pairs.pair_pages, id);
    uint32_t               name = pair->name;

    w->pair_numbers = numbers_room(w->pair_numbers, &w->pair_room, id + 1);
    if (w->pair_numbers[id] != 0)
        return w->pair_numbers[id];
    w->name_numbers = numbers_room(w->name_numbers, &w->name_room, name + 1);
    if (w->name_numbers[name] == 0) {
        kl_buf_add8(&w->out, ING_SNAP_NAME);
        kl_buf_addspan(&w->out, ing_text(ing_name_at(h->pairs.name_pages, name)->text));
        w->name_numbers[name] = ++w->name_count;
    }
    kl_buf_add8(&w->out, ING_SNAP_PAIR);
    kl_buf_addv(&w->out, w->name_numbers[name]);
    kl_buf_addspan(&w->out, ing_text(pair->text));
    return w->pair_numbers[id] = ++w->pair_count;
}

static void spill(struct ing_put *w, struct ing_head *h, struct ing_series *s, struct ing_chunk *c)
{
    if (w->spilled_count == w->spilled_room) {
        w->spilled_room = w->spilled_room == 0 ? 256 : w->spilled_room * 2;
        w->spilled = kl_resize(w->spilled, w->spilled_room * sizeof *w->spilled);
    }
    w->spilled[w->spilled_count++] =
        (struct ing_spilling){ h, s->id, c, (uint32_t)w->chunks_at };
    c->at = 1;                                         /* a series that rests may begin a tail before the pass ends */
}

static void put_chunks(struct ing_put *w, struct ing_head *h, struct ing_series *s)
{
    uint32_t count = 0;

    for (const struct ing_chunk *c = s->first; c != NULL; c = c->next)
        count++;
    kl_buf_addv(&w->out, count);
    for (struct ing_chunk *c = s->first; c != NULL; c = c->next) {
        uint32_t file = c->file, at = c->at;

        assert(c->cut == 0);
        /* The last one may still grow, where there is a tail. */
        if (file == 0 && w->file != 0 &&
            (c->next != NULL || s->tail.count == 0 || c->count >= ING_GROWN) &&
            w->chunks_at + c->size + ING_SPILLED_HEAD <= UINT32_MAX / 2) {
            spill(w, h, s, c);
            file = w->file;
            at = (uint32_t)w->chunks_at;
            w->chunks_at += c->size + ING_SPILLED_HEAD;
        }
        kl_buf_addz(&w->out, c->first_ms);
        kl_buf_addv(&w->out, c->span_ms);
        kl_buf_addv(&w->out, c->count);
        kl_buf_add8(&w->out, c->kind);
        kl_buf_add8(&w->out, (uint8_t)file);
        if (file == 0) {
            kl_buf_addspan(&w->out, kl_span(c->bytes, c->size));
        } else {
            kl_buf_addv(&w->out, c->size);
            kl_buf_add32(&w->out, at);
        }
        w->end.chunks++;
    }
}

static void put_series(struct ing_put *w, struct ing_head *h, struct ing_series *s)
{
    const struct ing_tail *t = &s->tail;
    const struct ing_late *l = s->late;
    uint32_t               numbers[KL_LABELS_MAX];

    for (uint32_t i = 0; i < s->pair_count; i++)       /* these come first */
        numbers[i] = pair_number(w, h, s->pairs[i]);
    kl_buf_add8(&w->out, ING_SNAP_ONE);
    kl_buf_add64(&w->out, s->fp.hi);
    kl_buf_add64(&w->out, s->fp.lo);
    kl_buf_addv(&w->out, s->pair_count);
    for (uint32_t i = 0; i < s->pair_count; i++)
        kl_buf_addv(&w->out, numbers[i]);
    kl_buf_addz(&w->out, s->last_ms);
    kl_buf_add8(&w->out, (t->count > 0 ? ING_SNAP_HAS_TAIL : 0) | (l != NULL ? ING_SNAP_HAS_LATE : 0) |
                         (t->count > 0 && t->end == ING_END_START ? ING_SNAP_TAIL_START : 0));
    if (t->count > 0) {
        kl_buf_add8(&w->out, t->kind);
        kl_buf_addv(&w->out, t->count);
        kl_buf_addz(&w->out, t->first_ms);
        kl_buf_addv(&w->out, (uint64_t)t->last_ms - (uint64_t)t->first_ms);
        kl_buf_addv(&w->out, (uint32_t)t->step_ms);
        kl_buf_add64(&w->out, t->bits);
        kl_buf_addspan(&w->out, kl_span(t->bytes, t->size));
    }
    if (l != NULL) {
        kl_buf_addv(&w->out, l->count);
        for (uint32_t i = 0; i < l->count; i++) {
            kl_buf_addz(&w->out, l->at[i].time_ms);
            kl_buf_addz(&w->out, l->at[i].start_ms);
            kl_buf_addf64(&w->out, l->at[i].value);
        }
    }
    put_chunks(w, h, s);
    w->series_numbers = numbers_room(w->series_numbers, &w->series_room, s->id + 1);
    w->series_numbers[s->id] = ++w->series_count;
    w->end.series++;
}

/* ---- refs: at the end, of the series that were written. Younger ones are defined again by what is
 * replayed. ---- */

static void put_page(struct ing_put *w, const struct ing_ref_page *p, uint64_t *before)
{
    for (uint32_t i = 0; i < ING_REF_PAGE; i++) {
        uint64_t ref = p->number * ING_REF_PAGE + i;

        if ((p->series[i] & ING_ORPHAN_BIT) != 0 || p->series[i] >= w->series_room ||
            w->series_numbers[p->series[i]] == 0)
            continue;
        kl_buf_addz(&w->out, (int64_t)(ref - *before));
        kl_buf_addv(&w->out, w->series_numbers[p->series[i]]);
        kl_buf_addv(&w->out, p->defined[i]);
        kl_buf_add8(&w->out, (uint8_t)(w->p->cut_number - p->used[i]));
        *before = ref;
    }
}

static void put_refs(struct ing_put *w, const struct ing_tenant *t)
{
    for (const struct ing_refs *r = t->refs; r != NULL; r = r->next) {
        size_t   from = block_begin(&w->out, ING_SNAP_REFS);
        uint64_t before = 0;

        kl_buf_add(&w->out, r->who.bytes, sizeof r->who.bytes);
        kl_buf_addv(&w->out, r->base_seq);
        for (uint32_t n = 0; n < r->page_count; n++)
            put_page(w, r->pages[n], &before);
        block_end(&w->out, from);
    }
}

static void put_end(struct ing_put *w)
{
    size_t from = block_begin(&w->out, ING_SNAP_END);

    w->end.seq = w->p->applied;
    w->end.hash = w->p->applied_hash;
    w->end.chunks_size = w->file == 0 ? 0 : w->chunks_at;
    kl_buf_add64(&w->out, w->end.seq);
    kl_buf_add64(&w->out, w->end.hash);
    kl_buf_add64(&w->out, w->end.chunks_size);
    kl_buf_addv(&w->out, w->end.series);
    kl_buf_addv(&w->out, w->end.chunks);
    kl_buf_addv(&w->out, w->p->digest.log_from);
    kl_buf_add64(&w->out, w->p->digest.log_hash);
    block_end(&w->out, from);
    w->done = true;
}

void ing_put_slice(struct ing_put *w)
{
    struct ing_tenant *t;
    size_t             from;

    w->spilled_before = w->spilled_count;
    kl_buf_reset(&w->out);
    if (w->tenant == w->tenants) {
        put_end(w);
        return;
    }
    t = &w->p->tenants[w->tenant];
    if (w->refs_due) {
        put_refs(w, t);
        w->refs_due = false;
        w->series = 0;
        w->tenant++;
        w->pair_count = w->name_count = w->series_count = 0;
        if (w->pair_room > 0)
            memset(w->pair_numbers, 0, w->pair_room * sizeof *w->pair_numbers);
        if (w->name_room > 0)
            memset(w->name_numbers, 0, w->name_room * sizeof *w->name_numbers);
        if (w->series_room > 0)
            memset(w->series_numbers, 0, w->series_room * sizeof *w->series_numbers);
        return;
    }
    if (w->series == 0)
        put_tenant(w, t->head);
    from = block_begin(&w->out, ING_SNAP_SERIES);
    for (uint32_t n = 0; n < ING_SNAP_SLICE_SERIES && w->series < t->head->made &&
                         w->out.size - from < ING_SNAP_SLICE_BYTES; w->series++) {
        struct ing_series *s = ing_series_at(t->head, w->series);

        if (!s->alive)
            continue;
        put_series(w, t->head, s);
        n++;
    }
    block_end(&w->out, from);
    w->refs_due = w->series >= t->head->made;
}
