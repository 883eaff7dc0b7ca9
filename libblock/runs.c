#include "libblock/runs.h"

#include "libkoal/base/mem.h"

void blk_runs_add(struct blk_runs *r, const int64_t *times, uint32_t from, uint32_t to)
{
    if (r->count > 0 && times[from] > times[r->at[r->count - 1].to - 1]) {
        r->at[r->count - 1].to = to;
        return;
    }
    if (r->count == r->room) {
        r->room = r->room == 0 ? 16 : r->room * 2;
        r->at = kl_resize(r->at, r->room * sizeof *r->at);
    }
    r->at[r->count++] = (struct blk_run){ from, to };
}

/* Of index runs a and b (b is the later one) into `out` at `at`; returns where it ends. */
static uint32_t merge_two(const int64_t *times, const uint32_t *in, uint32_t *out, uint32_t at,
                          struct blk_run a, struct blk_run b)
{
    while (a.from < a.to && b.from < b.to) {
        int64_t ta = times[in[a.from]], tb = times[in[b.from]];

        if (ta < tb) {
            out[at++] = in[a.from++];
        } else {
            a.from += ta == tb;
            out[at++] = in[b.from++];
        }
    }
    while (a.from < a.to)
        out[at++] = in[a.from++];
    while (b.from < b.to)
        out[at++] = in[b.from++];
    return at;
}

uint32_t blk_runs_merge(struct blk_runs *r, const int64_t *times, uint32_t total, uint32_t **index, uint32_t **other)
{
    for (uint32_t i = 0; i < total; i++)
        (*index)[i] = i;
    while (r->count > 1) {
        size_t    n = 0;
        uint32_t  at = 0, *swap = *index;

        for (size_t i = 0; i < r->count; i += 2) {
            struct blk_run a = r->at[i], b = { 0, 0 };
            uint32_t       begin = at;

            if (i + 1 < r->count)
                b = r->at[i + 1];
            at = merge_two(times, *index, *other, at, a, b);
            r->at[n++] = (struct blk_run){ begin, at };
        }
        r->count = n;
        total = at;
        *index = *other;
        *other = swap;
    }
    r->count = 0;
    return total;
}
