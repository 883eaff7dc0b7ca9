/*
 * libblock: filesets of each version of the format, kept under tests/data, are read by every later
 * program: what they hold is told by the same made-up numbers that they were written from.
 * `test_golden write` writes the present version anew; only ever for a new version.
 */
#include "libblock/blk_priv.h"
#include "libblock/rollup.h"
#include "tests/suite.h"
#include "tests/unit/libblock/fileset_kit.h"


enum { SAMPLES = 300, KINDS = 12 };
static const int64_t start = 1700000000000 / 7200000 * 7200000;
static struct kl_err err;
static struct blk_info info = { .tenant = "golden", .partition = 1, .window_ms = 7200000, .id = 1000,
                                .incarnation = 0x1122334455667788ull, .first_seq = 5 };

/* Integers and bits only: the same on every machine. */
static double value_of(unsigned kind, uint32_t k)
{
    static const uint64_t odd[] = { KL_STALE_BITS, 0x7ff8000000000001ull, 0x7ff0000000000000ull,
                                    0xfff0000000000000ull, 0x8000000000000000ull, 0x7ff0000000000abcull };
    uint64_t mixed = (k + 1) * 0x9e3779b97f4a7c15ull * (kind + 1);

    mixed ^= mixed >> 29;
    switch (kind) {
    case 0:  return 42;
    case 1:  return (double)(k * 15);
    case 2:  return (double)(k * 15 + mixed % 7);
    case 3:  return (double)(mixed % 2000) / 100;
    case 4:  return k == 150 ? 1e15 : (double)(k % 150 * 1000 + mixed % 50);
    case 5:  return k % 40 == 7 ? kl_bits_f64(odd[k / 40 % 6]) : (double)k;
    case 6:  return kl_bits_f64(mixed >> 2);
    case 7:  return 4096.0 * (double)(mixed % 1000);
    case 8:  return (double)(mixed % 1000000) / 1e9;
    case 9:  return kl_bits_f64(0x3ff0000000000000ull + k * 1000 + mixed % 64);
    case 10: return (double)(k / 60);
    default: return k % 2 ? 0.1 + (double)k * 3 : -(double)k;
    }
}

static void make_all(void)
{
    info.window_start_ms = start;
    kit_count = KINDS + 1;
    for (unsigned i = 0; i < kit_count; i++) {
        struct kit_series *s = &kit[i];
        char kind[16];
        const char *pairs[] = { "__name__", i < KINDS ? "golden_metric" : "golden_histogram", "kind",
                                kind, "job", "golden", NULL };

        snprintf(kind, sizeof kind, "%02u", i);
        kit_name(s, pairs);
        s->hists = i == KINDS;
        s->count = SAMPLES;
        s->times = malloc(SAMPLES * 8);
        s->values = malloc(SAMPLES * 8);
        for (uint32_t k = 0; k < SAMPLES; k++) {
            s->times[k] = start + k * 15000 + (i % 3 == 0 ? 0 : k * 7 % 5);
            s->values[k] = value_of(i % KINDS, k);
        }
    }
    qsort(kit, kit_count, sizeof *kit, kit_order);
}

/* Start times, in the floats' chunks. Rows were made without them when version 3 was written. */
static int64_t start_of(const struct kit_series *s, uint32_t k)
{
    return s->values == NULL || k < 20 ? 0 : start + 1000 * (k / 150);
}

static enum kl_code write_golden(struct kl_env_dir *root)
{
    struct blk_writer *w;
    struct kl_buf      b = { 0 };
    int64_t            starts[SAMPLES];

    if (blk_writer_open(root, &info, &w, &err) != KL_OK)
        return err.code;
    for (uint32_t i = 0; i < kit_count; i++) {
        struct kit_series   *s = &kit[i];
        struct blk_chunk_ref ref = { .first_ms = s->times[0], .last_ms = s->times[SAMPLES - 1],
                                     .count = SAMPLES, .kind = s->hists ? BLK_HISTS : BLK_FLOATS };
        if (s->hists) {
            kit_chunks(s, SAMPLES, &b, &ref);
        } else {
            kl_buf_reset(&b);
            for (uint32_t k = 0; k < SAMPLES; k++)
                starts[k] = start_of(s, k);
            blk_chunk_encode(s->times, s->values, i % 2 && info.resolution_ms == 0 ? starts : NULL, SAMPLES, &b);
            ref.bytes = kl_buf_span(&b);
        }
        if (info.resolution_ms != 0) {
            struct blk_roll            *r = blk_roll_new(info.resolution_ms);
            const struct blk_chunk_ref *rows;
            uint32_t                    n;

            ck_assert_int_eq(blk_roll_series(r, &ref, 1, &rows, &n, &err), KL_OK);
            ck_assert_int_eq(blk_writer_series(w, kit_labels(s), s->fp, rows, n, &err), KL_OK);
            blk_roll_free(r);
            continue;
        }
        ck_assert_int_eq(blk_writer_series(w, kit_labels(s), s->fp, &ref, 1, &err), KL_OK);
    }
    blk_writer_metadata(w, kit_text("golden_metric"), 2, kit_text("bytes"), kit_text("Golden."), &err);
    blk_writer_exemplar(w, kit[3].fp, kit[3].times[9], 1.5, kit_labels(&kit[3]), &err);
    kl_buf_deinit(&b);
    return blk_writer_finish(w, NULL, &err);
}

/* Rows, each of twenty samples 15 s apart, but the first, whose bucket ends with its one sample. */
static void check_rows(const struct kit_series *s, const struct blk_selected *one)
{
    static int64_t        times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    static struct kl_hist hists[BLK_CHUNK_MAX];
    struct kl_arena       arena;
    uint32_t              n, k = 0;

    kl_arena_init(&arena, 64 << 20);
    ck_assert_uint_eq(one->chunk_count, 1);
    ck_assert_int_eq(blk_chunk_decode_hists(one->chunks[0].bytes, &arena, times, hists, starts, &n, &err), KL_OK);
    for (uint32_t i = 0; i < n; i++) {
        struct blk_row row;
        uint32_t       count = 0;
        double         last = 0;

        ck_assert(blk_row_get(&hists[i], &row));
        for (; k < SAMPLES && s->times[k] <= times[i]; k++)
            if (!kl_is_stale(s->values[k])) {
                count++;
                last = s->values[k];
            }
        ck_assert(row.count == count && kl_f64_bits(row.last) == kl_f64_bits(last));
    }
    kl_arena_deinit(&arena);
}

static void check_one(const struct blk_selected *one)
{
    static int64_t        times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    static double         values[BLK_CHUNK_MAX];
    static struct kl_hist hists[BLK_CHUNK_MAX];
    struct kl_arena       arena;
    uint32_t              i = 0, n;

    while (i < kit_count && kl_fp_cmp(kit[i].fp, one->fp) != 0)
        i++;
    ck_assert_uint_lt(i, kit_count);
    if (info.resolution_ms != 0 && !kit[i].hists) {
        check_rows(&kit[i], one);
        return;
    }
    ck_assert_uint_eq(one->chunk_count, 1);
    kl_arena_init(&arena, 64 << 20);
    if (kit[i].hists) {
        ck_assert_int_eq(blk_chunk_decode_hists(one->chunks[0].bytes, &arena, times, hists, starts, &n, &err), KL_OK);
        for (uint32_t k = 0; k < SAMPLES; k++) {
            double         buckets[3];
            struct kl_hist want = kit_hist(&kit[i], k, buckets);
            ck_assert(hists[k].count == want.count && hists[k].sum == want.sum &&
                      memcmp(hists[k].pos, buckets, sizeof buckets) == 0 && hists[k].reset == want.reset);
        }
    } else {
        ck_assert_int_eq(blk_chunk_decode(one->chunks[0].bytes, times, values, starts, &n, &err), KL_OK);
        for (uint32_t k = 0; k < SAMPLES; k++) {
            ck_assert_uint_eq(kl_f64_bits(values[k]), kl_f64_bits(kit[i].values[k]));
            ck_assert_int_eq(starts[k], i % 2 ? start_of(&kit[i], k) : 0);
        }
    }
    ck_assert_uint_eq(n, SAMPLES);
    ck_assert_int_eq(memcmp(times, kit[i].times, sizeof(int64_t) * SAMPLES), 0);
    kl_arena_deinit(&arena);
}

static struct kl_env_dir *open_version(int version)
{
    struct kl_env_dir *root;
    char               folder[64];

    info.generation = version == 1 ? 0 : 77;
    info.resolution_ms = version < 3 ? 0 : 300000;
    snprintf(folder, sizeof folder, "tests/data/fileset-v%d", version);
    ck_assert_msg(kl_env_dir_real_open(folder, false, &root, &err) == KL_OK, "%s", err.text);
    return root;
}

START_TEST(fileset_of_each_version_is_read)            /* once a version, from 1 */
{
    struct kl_env_dir     *root = open_version(_i);
    struct blk_fileset    *f;
    struct blk_select     *s;
    struct blk_selected    one;
    struct kl_buf          labels = { 0 };
    char                   path[BLK_PATH_MAX + 1];
    uint32_t               n = 0;

    blk_fileset_path(&info, path);
    ck_assert_msg(blk_fileset_open_local(root, path, &f, &err) == KL_OK, "%s", err.text);
    ck_assert_msg(blk_fileset_verify(f, &err) == KL_OK, "%s", err.text);
    ck_assert_uint_eq(blk_fileset_info(f)->incarnation, info.incarnation);
    ck_assert_uint_eq(blk_fileset_info(f)->generation, info.generation);
    ck_assert_int_eq(blk_fileset_info(f)->resolution_ms, info.resolution_ms);
    ck_assert(blk_fileset_has_metric(f, kit_text("golden_histogram")));
    ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &s, &err), KL_OK);
    for (; blk_select_next(s, &one, &err) == KL_OK; n++)
        check_one(&one);
    ck_assert_uint_eq(n, kit_count);
    blk_select_close(s);
    ck_assert_int_eq(blk_fileset_find(f, kit[5].fp, &labels, &err), KL_OK);
    kl_buf_deinit(&labels);
    blk_fileset_unref(f);
    root->leave(root);
}
END_TEST

START_TEST(content_digest_is_the_same_for_ever)        /* owner and standby may differ in version */
{
    struct kl_env_disk_sim *disk = kl_env_disk_sim_new();
    struct kl_env_dir      *sim = kl_env_disk_sim_root(disk), *root = open_version(_i);
    struct blk_fileset     *golden, *now;
    char                    path[BLK_PATH_MAX + 1];

    ck_assert_int_eq(write_golden(sim), KL_OK);
    blk_fileset_path(&info, path);
    ck_assert_int_eq(blk_fileset_open_local(root, path, &golden, &err), KL_OK);
    ck_assert_int_eq(blk_fileset_open_local(sim, path, &now, &err), KL_OK);
    ck_assert_uint_eq(blk_fileset_info(golden)->content, blk_fileset_info(now)->content);
    blk_fileset_unref(golden);
    blk_fileset_unref(now);
    root->leave(root);
    sim->leave(sim);
    kl_env_disk_sim_free(disk);
}
END_TEST

START_TEST(write_the_present_version)
{
    struct kl_env_dir *root;

    info.generation = 77;
    info.resolution_ms = 300000;                       /* version 3 is about that alone */
    ck_assert_int_eq(kl_env_dir_real_open("tests/data/fileset-v3", true, &root, &err), KL_OK);
    ck_assert_msg(write_golden(root) == KL_OK, "%s", err.text);
    root->leave(root);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *s = suite_create("libblock/golden");
    TCase *t = tcase_create("all");

    (void)argv;
    tcase_add_checked_fixture(t, make_all, NULL);
    if (argc > 1) {
        tcase_add_test(t, write_the_present_version);
    } else {
        tcase_add_loop_test(t, fileset_of_each_version_is_read, 1, 4);
        tcase_add_loop_test(t, content_digest_is_the_same_for_ever, 1, 4);
    }
    suite_add_tcase(s, t);
    return run_suite(s);
}
