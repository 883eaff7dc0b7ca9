/*
 * Reading frames that are known to be wanted in rising order, several at once: asking a store costs
 * as much as some hundred kilobytes, asking a disk as much as some. Frames that lie closer together
 * than that are read in one go, with what lies between them, up to a share of what is wanted; each is
 * checked when it is taken. A store is told of the next such run while the one before is worked on.
 */
#include "libblock/fileset_priv.h"

#include <stdlib.h>

enum { RUN_MAX = 1 << 20 };

void blk_ahead_init(struct blk_ahead *a, struct blk_fileset *f, enum blk_file file,
                    const struct blk_places *places)
{
    *a = (struct blk_ahead){ .f = f, .file = file, .places = places };
}

void blk_ahead_deinit(struct blk_ahead *a)
{
    free(a->wanted);
    free(a->bytes);
    free(a->counted);
}

void blk_ahead_forget(struct blk_ahead *a)
{
    a->wanted_count = a->wanted_at = 0;
    a->size = 0;
}

void blk_ahead_want(struct blk_ahead *a, uint32_t number)
{
    if (a->wanted_count > 0 && a->wanted[a->wanted_count - 1] >= number)
        return;
    if (a->wanted_count == a->wanted_room) {
        a->wanted_room = a->wanted_room ? a->wanted_room * 2 : 64;
        a->wanted = kl_resize(a->wanted, a->wanted_room * sizeof *a->wanted);
    }
    a->wanted[a->wanted_count++] = number;
}

bool blk_ahead_count(struct blk_ahead *a, uint32_t number)
{
    if (a->counted == NULL)
        a->counted = kl_new(a->places->count / 8 + 1);
    if (a->counted[number / 8] >> number % 8 & 1)
        return false;
    a->counted[number / 8] |= (uint8_t)(1u << number % 8);
    a->bytes_of.wanted += a->places->at[number].size;
    return true;
}

static uint64_t end_of(const struct blk_place *p) { return p->offset + p->size; }

/* Where to read to when frame `number` is asked for. */
static uint64_t run_end(struct blk_ahead *a, uint32_t number)
{
    const struct blk_place *first = &a->places->at[number], *last = first;
    uint64_t                wanted = first->size;

    while (a->wanted_at < a->wanted_count && a->wanted[a->wanted_at] < number)
        a->wanted_at++;
    if (a->wanted_at == a->wanted_count || a->wanted[a->wanted_at] != number)
        return end_of(first);                          /* nobody said that this would be wanted */
    for (uint32_t i = a->wanted_at + 1; i < a->wanted_count; i++) {
        const struct blk_place  *next = &a->places->at[a->wanted[i]];
        const struct blk_source *s = a->f->source;
        uint64_t                 all = end_of(next) - first->offset;

        wanted += next->size;
        if (next->offset - end_of(last) > s->near_bytes || all > RUN_MAX ||
            all > wanted * s->percent_max / 100)
            break;
        last = next;
    }
    return end_of(last);
}

/* What follows the run that ends at `end` is asked for meanwhile. */
static void look_ahead(struct blk_ahead *a, uint64_t end)
{
    uint32_t at = a->wanted_at, before = at;
    uint64_t offset;

    if (a->f->source->ahead == NULL)
        return;
    while (at < a->wanted_count && a->places->at[a->wanted[at]].offset < end)
        at++;
    if (at == a->wanted_count)
        return;
    offset = a->places->at[a->wanted[at]].offset;
    a->f->source->ahead(a->f->source, a->file, offset, run_end(a, a->wanted[at]) - offset);
    a->wanted_at = before;                             /* run_end has moved on */
}

enum kl_code blk_ahead_frame(struct blk_ahead *a, uint32_t number, void **raw, size_t *size,
                             struct kl_err *err)
{
    const struct blk_place *p = &a->places->at[number];
    uint64_t                end;

    if (a->never)
        return kl_fail(err, KL_EAGAIN, "not in memory");
    blk_ahead_count(a, number);
    if (p->offset >= a->from && end_of(p) <= a->from + a->size)
        return blk_fileset_unframe(a->f, a->file, p, a->bytes + (p->offset - a->from), raw, size, err);
    end = run_end(a, number);
    if (a->wanted_at < a->wanted_count && a->wanted[a->wanted_at] == number)
        look_ahead(a, end);
    if (end == end_of(p))
        return blk_fileset_frame(a->f, a->file, p, &a->bytes_of, raw, size, err);
    if (end - p->offset > a->room) {
        a->room = end - p->offset;
        a->bytes = kl_resize(a->bytes, a->room);       /* at most RUN_MAX, or one frame */
    }
    a->size = 0;
    if (a->f->source->read(a->f->source, a->file, p->offset, a->bytes, end - p->offset, &a->bytes_of,
                           err) != KL_OK) {
        kl_within(err, "fileset %s: %s at %llu", a->f->path, blk_file_names[a->file],
                  (unsigned long long)p->offset);
        return err->code;
    }
    a->from = p->offset;
    a->size = end - p->offset;
    return blk_fileset_unframe(a->f, a->file, p, a->bytes, raw, size, err);
}
