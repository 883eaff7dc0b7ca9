/*
 * A data frame: the chunks of many series, with each time column once. A cell is a chunk without its
 * times; it names a column of its own frame or, for a column that was met in an earlier frame, how
 * many frames back and which. Series of one scrape have the same times, so a fileset holds few.
 *
 *   varint first series   varint series   varint cells   varint columns
 *   columns times { varint count, zigzag first time - origin, varint last - first, varint size }
 *   series times  varint cells of it, at least 1
 *   cells times   varint 2 * column, or 2 * frames back + 1 and then varint column
 *   cells times   u8 kind
 *   cells times   varint size
 *   the columns' time sections end to end, then the cells' rests (chunk.c: head | time | rest)
 *
 * Origin is the window's start. The list comes apart from the bytes so that zstd sees like by like.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <stdlib.h>

/* Columns met before: direct-mapped, the newer displaces the older, so memory is bounded and what
 * is written depends on the series alone. */
enum { KNOWN = 1 << 16 };
struct known { struct kl_fp hash; uint32_t frame, column; bool used; };

struct blk_columns {
    int64_t  origin_ms;
    uint32_t frame, first, last, series, cells, columns;
    struct kl_buf column_list, series_list, refs, kinds, sizes, times, rests, scratch;
    uint32_t cells_of_last;
    struct known *known;
};

struct blk_columns *blk_columns_new(int64_t origin_ms)
{
    struct blk_columns *c = kl_new(sizeof *c);

    c->origin_ms = origin_ms;
    c->known = kl_new(KNOWN * sizeof *c->known);
    return c;
}

void blk_columns_free(struct blk_columns *c)
{
    if (c == NULL)
        return;
    kl_buf_deinit(&c->column_list);
    kl_buf_deinit(&c->series_list);
    kl_buf_deinit(&c->refs);
    kl_buf_deinit(&c->kinds);
    kl_buf_deinit(&c->sizes);
    kl_buf_deinit(&c->times);
    kl_buf_deinit(&c->rests);
    kl_buf_deinit(&c->scratch);
    free(c->known);
    free(c);
}

static void put_ref(struct blk_columns *c, const struct blk_parts *p)
{
    struct kl_buf *s = &c->scratch;
    struct kl_fp   hash;
    struct known  *k;

    kl_buf_reset(s);
    kl_buf_addv(s, p->count);
    kl_buf_addz(s, (int64_t)((uint64_t)p->first_ms - (uint64_t)c->origin_ms));
    kl_buf_addv(s, (uint64_t)p->last_ms - (uint64_t)p->first_ms);
    kl_buf_addv(s, p->time.size);
    size_t head = s->size;
    kl_buf_add(s, p->time.at, p->time.size);
    hash = kl_hash128(s->at, s->size);                 /* 128 bits: equal is the same */
    k = &c->known[hash.lo % KNOWN];
    if (k->used && kl_fp_cmp(k->hash, hash) == 0) {
        if (k->frame == c->frame) {
            kl_buf_addv(&c->refs, (uint64_t)k->column * 2);
        } else {
            kl_buf_addv(&c->refs, (uint64_t)(c->frame - k->frame) * 2 + 1);
            kl_buf_addv(&c->refs, k->column);
        }
        return;
    }
    *k = (struct known){ .hash = hash, .frame = c->frame, .column = c->columns, .used = true };
    kl_buf_addv(&c->refs, (uint64_t)c->columns++ * 2);
    kl_buf_add(&c->column_list, s->at, head);
    kl_buf_add(&c->times, p->time.at, p->time.size);
}

void blk_columns_add(struct blk_columns *c, uint32_t series, const struct blk_parts *p)
{
    if (c->series == 0) {
        c->first = series;
    } else if (series != c->last) {
        assert(series == c->last + 1);
        kl_buf_addv(&c->series_list, c->cells_of_last);
    }
    if (c->series == 0 || series != c->last) {
        c->series++;
        c->cells_of_last = 0;
        c->last = series;
    }
    c->cells_of_last++;
    c->cells++;
    put_ref(c, p);
    kl_buf_add8(&c->kinds, p->kind);
    kl_buf_addv(&c->sizes, p->rest.size);
    kl_buf_add(&c->rests, p->rest.at, p->rest.size);
}

size_t blk_columns_size(const struct blk_columns *c)
{
    return c->column_list.size + c->series_list.size + c->refs.size + c->kinds.size +
           c->sizes.size + c->times.size + c->rests.size;
}

void blk_columns_flush(struct blk_columns *c, struct kl_buf *out, uint32_t *first, uint32_t *count)
{
    struct kl_buf *parts[] = { &c->column_list, &c->series_list, &c->refs, &c->kinds, &c->sizes,
                               &c->times, &c->rests };

    kl_buf_addv(&c->series_list, c->cells_of_last);
    kl_buf_addv(out, c->first);
    kl_buf_addv(out, c->series);
    kl_buf_addv(out, c->cells);
    kl_buf_addv(out, c->columns);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        kl_buf_add(out, parts[i]->at, parts[i]->size);
        kl_buf_reset(parts[i]);
    }
    *first = c->first;
    *count = c->series;
    c->frame++;
    c->series = c->cells = c->columns = c->cells_of_last = 0;
}

void blk_data_free(struct blk_data *d)
{
    if (d == NULL || d->kept)
        return;
    free(d->raw);
    free(d->cells_end);
    free(d->cells);
    free(d->columns);
    free(d);
}

static bool read_columns(struct kl_cur *c, int64_t origin_ms, struct blk_data *d)
{
    for (uint32_t i = 0; i < d->column_count; i++) {
        uint64_t count = kl_cur_v(c), first = (uint64_t)kl_cur_z(c) + (uint64_t)origin_ms;
        uint64_t span = kl_cur_v(c), size = kl_cur_v(c);

        if (c->bad || count == 0 || count > BLK_CHUNK_MAX || size > d->size ||
            span > (uint64_t)INT64_MAX - first)
            return false;
        d->columns[i] = (struct blk_column){ .count = (uint32_t)count, .size = (uint32_t)size,
                                             .first_ms = (int64_t)first,
                                             .last_ms = (int64_t)(first + span) };
    }
    return true;
}

static bool read_cells(struct kl_cur *c, uint32_t frame_number, struct blk_data *d)
{
    uint64_t cells = 0;

    for (uint32_t i = 0; i < d->series_count; i++) {
        uint64_t n = kl_cur_v(c);

        if (c->bad || n == 0 || n > d->cell_count - cells)
            return false;
        cells += n;
        d->cells_end[i] = (uint32_t)cells;
    }
    if (cells != d->cell_count)
        return false;
    for (uint32_t i = 0; i < d->cell_count; i++) {
        uint64_t ref = kl_cur_v(c), column = ref & 1 ? kl_cur_v(c) : ref / 2;
        uint64_t back = ref & 1 ? ref / 2 : 0;

        /* A column of another frame is checked against that frame's count when it is fetched. */
        if (c->bad || back > frame_number || ((ref & 1) && back == 0) || column > UINT32_MAX ||
            (back == 0 && column >= d->column_count))
            return false;
        d->cells[i].back = (uint32_t)back;
        d->cells[i].column = (uint32_t)column;
    }
    for (uint32_t i = 0; i < d->cell_count; i++) {
        uint8_t kind = kl_cur_8(c);

        if ((kind & ~BLK_HAS_STARTS) != BLK_FLOATS && (kind & ~BLK_HAS_STARTS) != BLK_HISTS)
            return false;
        d->cells[i].kind = kind;
    }
    for (uint32_t i = 0; i < d->cell_count; i++) {
        uint64_t size = kl_cur_v(c);

        if (c->bad || size > d->size)
            return false;
        d->cells[i].size = (uint32_t)size;
    }
    return true;
}

/* Where each piece lies; together they must fill the rest of the frame. */
static bool lay_out(const struct kl_cur *c, struct blk_data *d)
{
    uint64_t at = d->size - kl_cur_left(c);

    for (uint32_t i = 0; i < d->column_count; i++) {
        d->columns[i].at = (uint32_t)at;
        at += d->columns[i].size;
        if (at > d->size)
            return false;
    }
    for (uint32_t i = 0; i < d->cell_count; i++) {
        d->cells[i].at = (uint32_t)at;
        at += d->cells[i].size;
        if (at > d->size)
            return false;
    }
    return at == d->size;
}

enum kl_code blk_data_read(void *raw_take, size_t size, int64_t origin_ms, uint32_t frame_number,
                           struct blk_data **out, struct kl_err *err)
{
    struct kl_cur    c = kl_cur(raw_take, size);
    struct blk_data *d = kl_new(sizeof *d);
    uint64_t         first = kl_cur_v(&c), series = kl_cur_v(&c);
    uint64_t         cells = kl_cur_v(&c), columns = kl_cur_v(&c);

    d->raw = raw_take;
    d->size = size;
    /* A cell takes three bytes of the list, a column four: what is allocated is bound to the size. */
    if (c.bad || first > BLK_SERIES_MAX || series == 0 || series > cells ||
        cells > kl_cur_left(&c) / 3 || columns > kl_cur_left(&c) / 4)
        goto corrupt;
    d->first = (uint32_t)first;
    d->series_count = (uint32_t)series;
    d->cell_count = (uint32_t)cells;
    d->column_count = (uint32_t)columns;
    d->cells_end = kl_resize(NULL, (series + 1) * sizeof *d->cells_end);
    d->cells = kl_resize(NULL, (cells + 1) * sizeof *d->cells);
    d->columns = kl_resize(NULL, (columns + 1) * sizeof *d->columns);
    if (!read_columns(&c, origin_ms, d) || !read_cells(&c, frame_number, d) || !lay_out(&c, d))
        goto corrupt;
    *out = d;
    return KL_OK;
corrupt:
    blk_data_free(d);
    return kl_fail(err, KL_ECORRUPT, "bad list of chunks");
}
