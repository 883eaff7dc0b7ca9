/*
 * What readers keep of a fileset from one select to the next: data frames, unpacked, and which series
 * a list of matchers meant, with their labels. A fileset never changes, so neither does this.
 *
 * Without locks. A slot is filled by one exchange and emptied only by a trim, which goes to work only
 * while no select is open (readers goes from 0 to far below it; a select that begins meanwhile uses
 * nothing kept). While less than half of the room is taken, all that is read is kept; then only what
 * is wanted for the second time, so that one pass over everything drives out nothing that is used; a
 * trim gives back what was not used since the one before.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>

enum { SEEN = 1, USED = 2, TRIMMING = INT_MIN / 2 };

struct blk_kept {
    struct blk_keep *keep;
    atomic_int       readers;
    _Atomic(struct blk_selection *) selections[BLK_SELECTIONS_MAX];
    _Atomic uint64_t asked[BLK_SELECTIONS_MAX];        /* hashes of keys that were asked for once */
    atomic_uint      asked_next;
    uint32_t         frame_count;
    struct slot { _Atomic(struct blk_data *) data; _Atomic uint8_t marks; } frames[];
};

void blk_fileset_keep(struct blk_fileset *f, struct blk_keep *keep)
{
    uint32_t n = f->summaries.data.count;

    assert(f->kept == NULL);
    f->kept = kl_new(sizeof *f->kept + n * sizeof f->kept->frames[0]);
    f->kept->keep = keep;
    f->kept->frame_count = n;
}

bool blk_kept_enter(struct blk_fileset *f)
{
    if (f->kept == NULL)
        return false;
    if (atomic_fetch_add(&f->kept->readers, 1) >= 0)
        return true;
    atomic_fetch_sub(&f->kept->readers, 1);
    return false;
}

void blk_kept_leave(struct blk_fileset *f) { atomic_fetch_sub(&f->kept->readers, 1); }

static bool take(struct blk_keep *k, size_t bytes)
{
    if (atomic_fetch_add(&k->bytes, bytes) + bytes <= k->cap_bytes)
        return true;
    atomic_fetch_sub(&k->bytes, bytes);
    return false;
}

static bool roomy(const struct blk_keep *k) { return atomic_load(&k->bytes) < k->cap_bytes / 2; }

static void count(_Atomic uint64_t *n) { atomic_fetch_add_explicit(n, 1, memory_order_relaxed); }

/* ---- data frames ---- */

static size_t data_bytes(const struct blk_data *d)
{
    return sizeof *d + d->size + d->series_count * sizeof *d->cells_end +
           d->cell_count * sizeof *d->cells + d->column_count * sizeof *d->columns;
}

struct blk_data *blk_kept_data(struct blk_fileset *f, uint32_t number)
{
    struct slot     *s = &f->kept->frames[number];
    struct blk_data *d = atomic_load(&s->data);

    if (d != NULL && !(atomic_load_explicit(&s->marks, memory_order_relaxed) & USED))
        atomic_fetch_or_explicit(&s->marks, USED, memory_order_relaxed);
    count(d != NULL ? &f->kept->keep->hits : &f->kept->keep->misses);
    return d;
}

void blk_kept_offer_data(struct blk_fileset *f, uint32_t number, struct blk_data *d, bool again)
{
    struct slot     *s = &f->kept->frames[number];
    struct blk_data *none = NULL;

    /* What will be wanted again counts as used: the next trim leaves it. */
    if ((!(atomic_fetch_or(&s->marks, again ? SEEN | USED : SEEN) & SEEN) && !again && !roomy(f->kept->keep)) ||
        !take(f->kept->keep, data_bytes(d)))
        return;
    d->kept = true;
    if (!atomic_compare_exchange_strong(&s->data, &none, d)) {
        d->kept = false;                               /* another select was quicker */
        atomic_fetch_sub(&f->kept->keep->bytes, data_bytes(d));
    }
}

/* ---- selections ---- */

void blk_selection_free(struct blk_selection *s)
{
    if (s == NULL)
        return;
    kl_arena_deinit(&s->labels);
    free(s->key);
    free(s->found);
    free(s);
}

static size_t selection_bytes(const struct blk_selection *s)
{
    return sizeof *s + s->key_size + s->count * sizeof *s->found + s->labels.used_bytes;
}

const struct blk_selection *blk_kept_selection(struct blk_fileset *f, struct kl_span key)
{
    struct blk_kept *k = f->kept;

    for (unsigned i = 0; i < BLK_SELECTIONS_MAX; i++) {
        struct blk_selection *s = atomic_load(&k->selections[i]);

        if (s == NULL || !kl_span_eq(kl_span(s->key, s->key_size), key))
            continue;
        atomic_store_explicit(&s->used, true, memory_order_relaxed);
        count(&k->keep->hits);
        return s;
    }
    count(&k->keep->misses);
    return NULL;
}

bool blk_kept_wants_selection(struct blk_fileset *f, struct kl_span key)
{
    struct blk_kept *k = f->kept;
    uint64_t         hash = kl_hash64(key.at, key.size);

    for (unsigned i = 0; i < BLK_SELECTIONS_MAX; i++)
        if (atomic_load_explicit(&k->asked[i], memory_order_relaxed) == hash)
            return true;
    if (roomy(k->keep))
        return true;
    atomic_store(&k->asked[atomic_fetch_add(&k->asked_next, 1) % BLK_SELECTIONS_MAX], hash);
    return false;
}

bool blk_kept_offer_selection(struct blk_fileset *f, struct blk_selection *s)
{
    struct blk_kept *k = f->kept;
    size_t           bytes = selection_bytes(s);

    if (bytes > k->keep->cap_bytes / 8 || !take(k->keep, bytes))
        return false;
    atomic_store(&s->used, true);
    for (unsigned i = 0; i < BLK_SELECTIONS_MAX; i++) {
        struct blk_selection *none = NULL;

        if (atomic_compare_exchange_strong(&k->selections[i], &none, s))
            return true;
    }
    atomic_fetch_sub(&k->keep->bytes, bytes);
    return false;
}

/* ---- giving back ---- */

static void drop_data(struct blk_kept *k, struct slot *s)
{
    struct blk_data *d = atomic_exchange(&s->data, NULL);

    if (d == NULL)
        return;
    atomic_fetch_sub(&k->keep->bytes, data_bytes(d));
    d->kept = false;
    blk_data_free(d);
}

static void drop_selection(struct blk_kept *k, unsigned i)
{
    struct blk_selection *s = atomic_exchange(&k->selections[i], NULL);

    if (s == NULL)
        return;
    atomic_fetch_sub(&k->keep->bytes, selection_bytes(s));
    blk_selection_free(s);
}

void blk_fileset_trim(struct blk_fileset *f)
{
    struct blk_kept *k = f->kept;
    int              none = 0;

    if (k == NULL || !atomic_compare_exchange_strong(&k->readers, &none, TRIMMING))
        return;
    for (uint32_t i = 0; i < k->frame_count; i++) {
        if (!(atomic_load(&k->frames[i].marks) & USED))
            drop_data(k, &k->frames[i]);
        atomic_store(&k->frames[i].marks, 0);
    }
    for (unsigned i = 0; i < BLK_SELECTIONS_MAX; i++) {
        struct blk_selection *s = atomic_load(&k->selections[i]);

        if (s != NULL && !atomic_exchange(&s->used, false))
            drop_selection(k, i);
        atomic_store(&k->asked[i], 0);
    }
    atomic_fetch_sub(&k->readers, TRIMMING);
}

void blk_kept_free(struct blk_kept *k)
{
    if (k == NULL)
        return;
    assert(atomic_load(&k->readers) == 0);
    for (uint32_t i = 0; i < k->frame_count; i++)
        drop_data(k, &k->frames[i]);
    for (unsigned i = 0; i < BLK_SELECTIONS_MAX; i++)
        drop_selection(k, i);
    free(k);
}
