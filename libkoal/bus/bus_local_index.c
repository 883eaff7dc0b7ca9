/* Where each record lies: per segment and partition a run of consecutive sequences, eight bytes a
 * record. Belongs to the reader's loop (and, before that begins, to recovery). */
#include "libkoal/bus/bus_local_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void kl_busl_index_init(struct kl_busl_index *x, uint32_t partitions)
{
    *x = (struct kl_busl_index){ .partitions = partitions };
    x->first = kl_new(partitions * sizeof *x->first);
    x->last = kl_new(partitions * sizeof *x->last);
    x->bytes = kl_new(partitions * sizeof *x->bytes);
    for (uint32_t p = 0; p < partitions; p++)
        x->first[p] = 1;
}

static void segment_free(struct kl_busl_index *x, struct kl_busl_segment *s,
                         struct kl_env_dir *dir)
{
    if (s->view != NULL)
        dir->view_close(s->view);
    for (uint32_t p = 0; p < x->partitions; p++)
        free(s->runs[p].at);
    free(s);
}

void kl_busl_index_deinit(struct kl_busl_index *x, struct kl_env_dir *dir)
{
    for (uint32_t i = 0; i < x->count; i++)
        segment_free(x, x->segments[i], dir);
    free(x->segments);
    free(x->first);
    free(x->last);
    free(x->bytes);
    *x = (struct kl_busl_index){ 0 };
}

struct kl_busl_segment *kl_busl_index_segment(struct kl_busl_index *x, uint64_t number,
                                              uint64_t salt)
{
    struct kl_busl_segment *s = x->count > 0 ? x->segments[x->count - 1] : NULL;

    if (s != NULL && s->number == number)
        return s;
    assert(s == NULL || number == s->number + 1);
    if (x->count == x->room) {
        x->room = x->room > 0 ? 2 * x->room : 16;
        x->segments = kl_resize(x->segments, x->room * sizeof *x->segments);
    }
    s = kl_new(sizeof *s + x->partitions * sizeof s->runs[0]);
    s->number = number;
    s->salt = salt;
    s->size = KL_BUSL_SEGMENT_HEAD;
    x->segments[x->count++] = s;
    return s;
}

enum kl_code kl_busl_index_add(struct kl_busl_index *x, struct kl_busl_segment *s,
                               uint32_t partition, uint64_t seq, uint64_t offset, size_t size,
                               struct kl_err *err)
{
    struct kl_busl_run *run = &s->runs[partition];

    /* A hole may only lie in what was purged: first is one above the purge mark, so a sequence at
     * or below it that is not the next one comes after records whose segment is gone. */
    if (seq != x->last[partition] + 1 &&
        (run->count > 0 || seq <= x->last[partition] || seq > x->first[partition]))
        return kl_fail(err, KL_ECORRUPT,
                       "partition %u: record %llu follows record %llu; those between are missing",
                       partition, (unsigned long long)seq,
                       (unsigned long long)x->last[partition]);
    if (run->count == 0)
        run->first = seq;
    if (run->count == run->room) {
        run->room = run->room > 0 ? run->room + run->room / 2 : 8;
        run->at = kl_resize(run->at, run->room * sizeof *run->at);
    }
    run->at[run->count++] = (struct kl_busl_place){ .offset = (uint32_t)offset,
                                                    .size = (uint32_t)size };
    x->last[partition] = seq;
    if (seq >= x->first[partition])
        x->bytes[partition] += size;
    return KL_OK;
}

struct kl_busl_segment *kl_busl_index_find(struct kl_busl_index *x, uint32_t partition,
                                           uint64_t seq)
{
    for (uint32_t i = x->count; i > 0; i--) {          /* readers are mostly near the end */
        struct kl_busl_run *run = &x->segments[i - 1]->runs[partition];

        if (run->count > 0 && run->first <= seq && seq - run->first < run->count)
            return x->segments[i - 1];
    }
    return NULL;
}

void kl_busl_index_purge(struct kl_busl_index *x, uint32_t partition, uint64_t up_to)
{
    for (uint32_t i = 0; i < x->count; i++) {
        struct kl_busl_run *run = &x->segments[i]->runs[partition];

        uint64_t from = run->first < x->first[partition] ? x->first[partition] : run->first;

        for (uint64_t seq = from; seq - run->first < run->count && seq <= up_to; seq++)
            x->bytes[partition] -= run->at[seq - run->first].size;
    }
    x->first[partition] = up_to + 1;
}

bool kl_busl_index_oldest_is_done(const struct kl_busl_index *x)
{
    if (x->count < 2)
        return false;
    for (uint32_t p = 0; p < x->partitions; p++) {
        const struct kl_busl_run *run = &x->segments[0]->runs[p];

        if (run->count > 0 && run->first + run->count > x->first[p])
            return false;
    }
    return true;
}

void kl_busl_index_drop_oldest(struct kl_busl_index *x, struct kl_env_dir *dir)
{
    segment_free(x, x->segments[0], dir);
    memmove(x->segments, x->segments + 1, --x->count * sizeof *x->segments);
}
