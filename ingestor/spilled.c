/*
 * Many spilled chunks at once. A snapshot writes series after series, so that those of one lie side by
 * side: what lies between two is read with them where that is less than another call costs, at most as
 * much as the second has and GAP bytes.
 */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"

#include <stdlib.h>

enum { GAP = 512, RUN_MAX = 256 * 1024 };

struct place { uint32_t file, at, size, index; };      /* size: with its checksum */

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return x->file != y->file ? (x->file < y->file ? -1 : 1) : x->at < y->at ? -1 : x->at > y->at;
}

/* How many of the places are read together, and how many bytes that are. */
static uint32_t run_of(const struct place *p, uint32_t count, size_t *size)
{
    uint32_t n = 1;

    *size = p[0].size;
    for (; n < count && p[n].file == p[0].file && p[n].at >= p[0].at + *size &&
           p[n].at - p[0].at - *size <= p[n].size + GAP && p[n].at - p[0].at + p[n].size <= RUN_MAX; n++)
        *size = p[n].at - p[0].at + p[n].size;
    return n;
}

static struct place *places_of(const struct ing_chunk *const *chunks, uint32_t count, uint32_t *spilled)
{
    struct place *places = kl_resize(NULL, (count + 1) * sizeof *places);
    bool          sorted = true;
    uint32_t      n = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (chunks[i]->file == 0)
            continue;
        places[n] = (struct place){ chunks[i]->file, chunks[i]->at, chunks[i]->size + ING_SPILLED_HEAD, i };
        sorted &= n == 0 || by_place(&places[n - 1], &places[n]) <= 0;
        n++;
    }
    if (!sorted)
        qsort(places, n, sizeof *places, by_place);
    *spilled = n;
    return places;
}

static enum kl_code read_run(struct ing_files *files, const struct place *p, size_t size, bool at_hand,
                             char *to, struct kl_err *err)
{
    const struct ing_file *f = files->at[p->file];

    if (at_hand)
        return kl_env_view_at_hand(f->dir, f->view, p->at, to, size) ? KL_OK
             : kl_fail(err, KL_EAGAIN, "not in memory");
    return f->dir->view_read(f->view, p->at, to, size, err) == KL_OK ? KL_OK
         : ing_chunk_damaged(files, f, err);
}

enum kl_code ing_chunks_bytes(struct ing_files *files, const struct ing_chunk *const *chunks, uint32_t count,
                              bool at_hand, struct kl_span *bytes, char **block, struct kl_err *err)
{
    uint32_t      spilled;
    struct place *p = places_of(chunks, count, &spilled);
    enum kl_code  code = KL_OK;
    size_t        size, total = 0;
    char         *to;

    for (uint32_t i = 0; i < count; i++)
        bytes[i] = kl_span(chunks[i]->bytes, chunks[i]->size);
    for (uint32_t i = 0; i < spilled; total += size)
        i += run_of(p + i, spilled - i, &size);
    *block = to = kl_resize(NULL, total + 1);
    for (uint32_t i = 0, n; i < spilled && code == KL_OK; i += n, to += size) {
        n = run_of(p + i, spilled - i, &size);
        code = read_run(files, p + i, size, at_hand, to, err);
        for (uint32_t k = i; k < i + n && code == KL_OK; k++)
            code = ing_chunk_check(files, chunks[p[k].index], to + (p[k].at - p[i].at), &bytes[p[k].index], err);
    }
    free(p);
    return code;
}
