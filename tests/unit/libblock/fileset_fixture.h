#ifndef BLK_FILESET_FIXTURE_H
#define BLK_FILESET_FIXTURE_H
/* What suites of one fileset begin with: a disk that fails and crashes, a store, a name; and what is read
 * held against what was written. */
#include "libblock/fileset_priv.h"

#include "tests/suite.h"
#include "tests/unit/libblock/fileset_kit.h"

static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *root;
static struct kit_store        store;
static struct kl_err           err;
static const int64_t           start = 1700000000000 / 7200000 * 7200000;
static struct blk_info         info;
static char                    path[BLK_PATH_MAX + 1];

static inline void setup(void)
{
    disk = kl_env_disk_sim_new();
    root = kl_env_disk_sim_root(disk);
    kit_store_init(&store);
    info = (struct blk_info){ .tenant = "anonymous", .partition = 3, .window_start_ms = start,
                              .window_ms = 7200000, .id = 4711, .incarnation = 0xabcdef, .first_seq = 12 };
    blk_fileset_path(&info, path);
}

/* A folder that could not be synced is dead until it is opened anew (dir.h). */
static inline void reopen(void)
{
    root->leave(root);
    root = kl_env_disk_sim_root(disk);
}

static inline void teardown(void)
{
    root->leave(root);
    kl_env_disk_sim_free(disk);
    kit_store_deinit(&store);
}

/* Opens the local one, or, for odd, the uploaded one. */
static inline struct blk_fileset *open_one(int how)
{
    struct blk_fileset *f;

    if (how % 2) {
        ck_assert_msg(blk_fileset_upload(root, path, &store.store, &err) == KL_OK, "%s", err.text);
        ck_assert_msg(blk_fileset_open_store(&store.store, path, &f, &err) == KL_OK, "%s", err.text);
    } else {
        ck_assert_msg(blk_fileset_open_local(root, path, &f, &err) == KL_OK, "%s", err.text);
    }
    return f;
}

static inline struct kit_series *series_of(struct kl_fp fp)
{
    for (uint32_t i = 0; i < kit_count; i++)
        if (kl_fp_cmp(kit[i].fp, fp) == 0)
            return &kit[i];
    return NULL;
}

static inline void check_series(const struct blk_selected *s, const struct kit_series *want)
{
    static int64_t times[BLK_CHUNK_MAX];
    static double  values[BLK_CHUNK_MAX];
    static struct kl_hist hists[BLK_CHUNK_MAX];
    uint32_t at = 0, n;
    struct kl_arena arena;

    ck_assert_ptr_nonnull(want);
    ck_assert_uint_eq(s->labels.size, want->labels_size);
    ck_assert_int_eq(memcmp(s->labels.at, want->labels, want->labels_size), 0);
    kl_arena_init(&arena, 64 << 20);
    for (uint32_t c = 0; c < s->chunk_count; c++) {
        const struct blk_chunk_ref *ref = &s->chunks[c];
        double                      buckets[3];

        ck_assert_int_eq(ref->kind, want->hists ? BLK_HISTS : BLK_FLOATS);
        if (want->hists)
            ck_assert_int_eq(blk_chunk_decode_hists(ref->bytes, &arena, times, hists, NULL, &n, &err), KL_OK);
        else
            ck_assert_int_eq(blk_chunk_decode(ref->bytes, times, values, NULL, &n, &err), KL_OK);
        ck_assert_uint_eq(n, ref->count);
        ck_assert_int_eq(ref->first_ms, times[0]);
        ck_assert_int_eq(ref->last_ms, times[n - 1]);
        ck_assert_uint_le(at + n, want->count);
        ck_assert_int_eq(memcmp(times, want->times + at, n * 8), 0);
        for (uint32_t k = 0; k < n; k++)
            if (want->hists) {
                struct kl_hist h = kit_hist(want, at + k, buckets);
                ck_assert(hists[k].sum == h.sum && hists[k].count == h.count &&
                          hists[k].reset == h.reset && hists[k].was_int && hists[k].schema == 3 &&
                          hists[k].pos_count == 3 && hists[k].pos_spans[0].offset == -2 &&
                          memcmp(hists[k].pos, buckets, sizeof buckets) == 0);
            } else {
                ck_assert_uint_eq(kl_f64_bits(values[k]), kl_f64_bits(want->values[at + k]));
            }
        at += n;
    }
    ck_assert_uint_eq(at, want->count);
    kl_arena_deinit(&arena);
}
#endif
