/*
 * The chunks of a series out of data frames. The frame at hand is kept, and a few of those that
 * time columns were borrowed from: whoever asks for series in the order of data reads each frame
 * once.
 */
#include "libblock/fileset_priv.h"

#include "libkoal/base/sorted.h"

#include <stdlib.h>

void blk_fetch_init(struct blk_fetch *x, struct blk_fileset *f, int64_t from_ms, int64_t to_ms,
                    size_t cap_bytes)
{
    memset(x, 0, sizeof *x);
    x->f = f;
    x->from_ms = from_ms;
    x->to_ms = to_ms;
    kl_arena_init(&x->arena, cap_bytes);
    blk_ahead_init(&x->ahead, f, BLK_DATA, &f->summaries.data);
}

void blk_fetch_clear(struct blk_fetch *x)
{
    kl_arena_deinit(&x->arena);
    x->count = 0;
}

void blk_fetch_reset(struct blk_fetch *x)
{
    blk_fetch_clear(x);
    blk_ahead_forget(&x->ahead);
}

void blk_fetch_deinit(struct blk_fetch *x)
{
    for (unsigned i = 0; i < BLK_FETCH_LENT; i++)
        blk_data_free(x->lent[i].data);
    blk_data_free(x->data);
    blk_ahead_deinit(&x->ahead);
    kl_arena_deinit(&x->arena);
    kl_buf_deinit(&x->out);
    free(x->chunks);
}

static enum kl_code get_frame(struct blk_fetch *x, uint32_t number, struct blk_data **d,
                              struct kl_err *err)
{
    struct blk_data *kept = x->kept ? blk_kept_data(x->f, number) : NULL;

    if (kept != NULL) {
        if (blk_ahead_count(&x->ahead, number))
            x->ahead.bytes_of.memory += x->f->summaries.data.at[number].size;
        *d = kept;
        return KL_OK;
    }
    if (blk_fileset_data(x->f, number, &x->ahead, d, err) != KL_OK)
        return err->code;
    if (x->kept)
        blk_kept_offer_data(x->f, number, *d, x->again);
    return KL_OK;
}

/* The frame that a cell's times were kept in; the least recently used one makes room. */
static enum kl_code borrow(struct blk_fetch *x, uint32_t number, const struct blk_data **d,
                           struct kl_err *err)
{
    unsigned worst = 0;

    for (unsigned i = 0; i < BLK_FETCH_LENT; i++) {
        if (x->lent[i].data != NULL && x->lent[i].number == number) {
            x->lent[i].used = ++x->clock;
            *d = x->lent[i].data;
            return KL_OK;
        }
        worst = x->lent[i].used < x->lent[worst].used ? i : worst;
    }
    blk_data_free(x->lent[worst].data);
    x->lent[worst].data = NULL;
    if (get_frame(x, number, &x->lent[worst].data, err) != KL_OK)
        return err->code;
    x->lent[worst].number = number;
    x->lent[worst].used = ++x->clock;
    *d = x->lent[worst].data;
    return KL_OK;
}

static enum kl_code add_chunk(struct blk_fetch *x, const struct blk_column *column,
                              const struct blk_data *from, const struct blk_cell *cell,
                              struct kl_err *err)
{
    struct blk_parts p = { .kind = cell->kind, .count = column->count,
                           .first_ms = column->first_ms, .last_ms = column->last_ms,
                           .time = kl_span(from->raw + column->at, column->size),
                           .rest = kl_span(x->data->raw + cell->at, cell->size) };
    void            *bytes;

    kl_buf_reset(&x->out);
    blk_chunk_join(&p, &x->out);
    if ((bytes = kl_arena_copy(&x->arena, x->out.at, x->out.size)) == NULL)
        return kl_fail(err, KL_ELIMIT, "select: a batch of more than %zu bytes", x->arena.cap_bytes);
    if (x->count == x->room) {
        x->room = x->room ? x->room * 2 : 64;
        x->chunks = kl_resize(x->chunks, x->room * sizeof *x->chunks);
    }
    x->chunks[x->count++] = (struct blk_chunk_ref){
        .bytes = kl_span(bytes, x->out.size), .first_ms = p.first_ms, .last_ms = p.last_ms,
        .count = p.count, .kind = cell->kind & BLK_KIND_MASK,
    };
    return KL_OK;
}

/* The cells of `series` in the frame at hand. */
static enum kl_code take_cells(struct blk_fetch *x, uint32_t series, struct kl_err *err)
{
    const struct blk_data *d = x->data;
    uint32_t               in = series - d->first;
    uint32_t               from = in > 0 ? d->cells_end[in - 1] : 0;

    for (uint32_t i = from; i < d->cells_end[in]; i++) {
        const struct blk_cell   *cell = &d->cells[i];
        const struct blk_data   *times = d;
        const struct blk_column *column;

        if (cell->back > 0 && borrow(x, x->data_number - cell->back, &times, err) != KL_OK)
            return err->code;
        if (cell->column >= times->column_count) {
            kl_fail(err, KL_ECORRUPT, "a chunk without times");
            return blk_fileset_corrupt(x->f, BLK_DATA, err);
        }
        column = &times->columns[cell->column];
        if (column->last_ms < x->from_ms || column->first_ms > x->to_ms)
            continue;
        if (add_chunk(x, column, times, cell, err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}

/* The first frame that holds some of `series`. */
static uint32_t first_frame(const struct blk_places *p, uint32_t series)
{
    return KL_FIRST(i, p->count, p->at[i].first + p->at[i].count > series);
}

void blk_fetch_want(struct blk_fetch *x, uint32_t series)
{
    const struct blk_places *p = &x->f->summaries.data;

    for (uint32_t n = first_frame(p, series); n < p->count && p->at[n].first <= series; n++)
        blk_ahead_want(&x->ahead, n);
}

enum kl_code blk_fetch_series(struct blk_fetch *x, uint32_t series, struct kl_err *err)
{
    const struct blk_places *p = &x->f->summaries.data;

    for (uint32_t n = first_frame(p, series); n < p->count && p->at[n].first <= series; n++) {
        if (x->data == NULL || x->data_number != n) {
            blk_data_free(x->data);
            x->data = NULL;
            if (get_frame(x, n, &x->data, err) != KL_OK)
                return err->code;
            x->data_number = n;
        }
        if (take_cells(x, series, err) != KL_OK)
            return err->code;
    }
    return KL_OK;
}
