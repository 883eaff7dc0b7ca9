/* Counting what a fileset's data is made of: frame by frame, each read once, as it lies. */
#include "libblock/tools.h"

#include "libblock/fileset_priv.h"

#include <stdlib.h>

/* How many samples the columns of a frame have: a cell may name a column of an earlier frame. */
struct counts { uint16_t *at; uint32_t size; };

static struct blk_codec_count *codec_of(struct blk_census *c, const char *name)
{
    for (uint32_t i = 0; i < c->codec_count; i++)
        if (strcmp(c->codecs[i].name, name) == 0)
            return &c->codecs[i];
    if (c->codec_count == BLK_CODECS_MAX)
        return &c->codecs[BLK_CODECS_MAX - 1];         /* there are fewer names than that */
    c->codecs[c->codec_count].name = name;
    return &c->codecs[c->codec_count++];
}

static enum kl_code count_cells(const struct blk_data *d, uint32_t number,
                                const struct counts *counts, struct blk_census *c,
                                struct kl_err *err)
{
    for (uint32_t i = 0; i < d->cell_count; i++) {
        const struct blk_cell   *x = &d->cells[i];
        struct blk_parts         parts = { .kind = x->kind, .rest = kl_span(d->raw + x->at, x->size) };
        struct blk_codec_count  *to;

        if (x->back > number || x->column >= counts[number - x->back].size)
            return kl_fail(err, KL_ECORRUPT, "a chunk without a time column");
        parts.count = counts[number - x->back].at[x->column];
        to = codec_of(c, blk_parts_codec(&parts));
        to->chunks++;
        to->samples += parts.count;
        to->bytes += x->size;
        c->chunks++;
        c->samples += parts.count;
    }
    return KL_OK;
}

enum kl_code blk_fileset_census(struct blk_fileset *f, struct blk_census *c, struct kl_err *err)
{
    const struct blk_places *places = &f->summaries.data;
    struct counts           *counts = kl_new((places->count + 1) * sizeof *counts);
    struct blk_ahead         ahead;
    enum kl_code             code = KL_OK;

    blk_ahead_init(&ahead, f, BLK_DATA, places);
    for (uint32_t n = 0; n < places->count; n++)
        blk_ahead_want(&ahead, n);
    for (uint32_t n = 0; n < places->count && code == KL_OK; n++) {
        struct blk_data *d;

        if ((code = blk_fileset_data(f, n, &ahead, &d, err)) != KL_OK)
            break;
        counts[n].size = d->column_count;
        counts[n].at = kl_resize(NULL, (d->column_count + 1) * sizeof *counts[n].at);
        for (uint32_t i = 0; i < d->column_count; i++) {
            counts[n].at[i] = (uint16_t)d->columns[i].count;
            c->time_bytes += d->columns[i].size;
        }
        c->time_columns += d->column_count;
        code = count_cells(d, n, counts, c, err);
        if (code != KL_OK)
            blk_fileset_corrupt(f, BLK_DATA, err);
        blk_data_free(d);
    }
    c->filesets++;
    c->series += f->info.series_count;
    blk_ahead_deinit(&ahead);
    for (uint32_t n = 0; n < places->count; n++)
        free(counts[n].at);
    free(counts);
    return code;
}
