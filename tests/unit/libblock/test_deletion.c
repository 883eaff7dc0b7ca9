/*
 * libblock/deletion: what is hidden is exactly what the deletions say, sample by sample; chunks that
 * none of it touches stay as they are.
 */
#include "libblock/deletion.h"

#include <check.h>
#include <stdlib.h>

#include "tests/suite.h"
#include "tests/unit/libblock/fileset_kit.h"

static struct kl_err err;

static struct blk_deletion *make(const char *name, const char *re, int64_t from_ms, int64_t to_ms)
{
    struct kl_matcher    m[] = { { KL_MATCH_EQ, kit_text("__name__"), kit_text(name), NULL },
                                 { KL_MATCH_RE, kit_text("instance"), kit_text(re), NULL } };
    struct blk_deletion  like = { .tenant = "t", .from_ms = from_ms, .to_ms = to_ms, .matcher_count = 2,
                                  .matchers = m };
    struct blk_deletion *d;

    ck_assert_msg(blk_deletion_new(&like, &d, &err) == KL_OK, "%s", err.text);
    return d;
}

START_TEST(spans_of_all_that_mean_a_series_are_joined_and_of_no_other)
{
    const char *const    pairs[] = { "__name__", "up", "instance", "a:1", NULL };
    struct kit_series    s;
    struct blk_deletion *d[] = { make("up", "a.*", 50, 60), make("up", ".*", 10, 20),
                                 make("up", "b.*", 0, 1000), make("down", ".*", 0, 1000),
                                 make("up", "a:1", 21, 30), make("up", "a:1", 55, 100),
                                 make("up", "a:1", INT64_MAX, INT64_MAX) };
    struct blk_hidden    spans[7];

    kit_name(&s, pairs);
    ck_assert_uint_eq(blk_deletions_hide((const struct blk_deletion *const *)d, 7, kit_labels(&s), spans), 3);
    ck_assert(spans[0].from_ms == 10 && spans[0].to_ms == 30);
    ck_assert(spans[1].from_ms == 50 && spans[1].to_ms == 100);
    ck_assert(spans[2].from_ms == INT64_MAX && spans[2].to_ms == INT64_MAX);
    ck_assert(blk_hidden_all(spans, 3, 12, 30) && !blk_hidden_all(spans, 3, 30, 50));
    ck_assert(blk_hidden_any(spans, 3, 30, 50) && !blk_hidden_any(spans, 3, 31, 49));
    for (int i = 0; i < 7; i++)
        blk_deletion_unref(d[i]);
}
END_TEST

START_TEST(row_goes_with_any_sample_that_it_stands_for_and_with_no_other)
{
    /* Rows at 290, 600 and 730 s, of the buckets that end at 300, 600 and 900 s. */
    struct blk_info      roll = { .tenant = "t", .id = 1, .resolution_ms = 300000, .min_ms = 290000, .max_ms = 730000 };
    struct blk_info      raw = { .tenant = "t", .id = 1, .min_ms = 290000, .max_ms = 730000 };
    struct blk_deletion *early = make("up", ".*", INT64_MIN, 1), *before = make("up", ".*", INT64_MIN, 0);
    struct blk_deletion *late = make("up", ".*", 730001, INT64_MAX);
    struct blk_hidden    spans[] = { { 100, 300000 }, { 300001, 300001 }, { 5, INT64_MAX - 1 }, { 1, 0 } };

    early->number = before->number = late->number = 1;
    early->incarnation = before->incarnation = late->incarnation = 1;
    ck_assert(blk_deletion_concerns(early, &roll) && !blk_deletion_concerns(before, &roll));
    ck_assert(!blk_deletion_concerns(late, &roll) && !blk_deletion_concerns(early, &raw));
    blk_hidden_widen(spans, 4, 300000);
    ck_assert_int_eq(spans[0].to_ms, 300000);
    ck_assert_int_eq(spans[1].to_ms, 600000);
    ck_assert_int_eq(spans[2].to_ms, INT64_MAX);
    ck_assert_int_eq(spans[3].to_ms, 0);
    blk_hidden_widen(spans + 1, 1, 0);
    ck_assert_int_eq(spans[1].to_ms, 600000);
    blk_deletion_unref(early);
    blk_deletion_unref(before);
    blk_deletion_unref(late);
}
END_TEST

START_TEST(deletion_that_means_nothing_is_refused)
{
    struct kl_matcher    m = { KL_MATCH_RE, kit_text("a"), kit_text("("), NULL };
    struct blk_deletion  like = { .tenant = "t", .to_ms = 1, .matcher_count = 1, .matchers = &m };
    struct blk_deletion *d;

    ck_assert_int_eq(blk_deletion_new(&like, &d, &err), KL_EINVAL);
    m.value = kit_text("x");
    like.from_ms = 2;
    ck_assert_int_eq(blk_deletion_new(&like, &d, &err), KL_EINVAL);
    like.from_ms = 1;
    like.matcher_count = 0;
    ck_assert_int_eq(blk_deletion_new(&like, &d, &err), KL_EINVAL);
    like.matcher_count = 1;
    ck_assert_int_eq(blk_deletion_new(&like, &d, &err), KL_OK);
    blk_deletion_unref(blk_deletion_ref(d));
    blk_deletion_unref(d);
}
END_TEST

enum { CHUNKS = 20, EACH = 50 };

/* Samples at 0, 10, 20, ...; values, or histograms' sums, tell their time. */
static void chunks_of(bool hists, struct kl_buf *bytes, struct blk_chunk_ref *refs)
{
    size_t ends[CHUNKS + 1] = { 0 };

    for (int c = 0; c < CHUNKS; c++) {
        int64_t        times[EACH], starts[EACH];
        double         values[EACH];
        struct kl_hist h[EACH];

        for (int i = 0; i < EACH; i++) {
            times[i] = (c * EACH + i) * 10;
            starts[i] = times[i] - 5;
            values[i] = (double)times[i];
            h[i] = (struct kl_hist){ .schema = 3, .sum = values[i], .count = 1, .zero_count = 1 };
        }
        if (hists)
            blk_chunk_encode_hists(times, h, starts, EACH, bytes);
        else
            blk_chunk_encode(times, values, starts, EACH, bytes);
        ends[c + 1] = bytes->size;
        refs[c] = (struct blk_chunk_ref){ .first_ms = times[0], .last_ms = times[EACH - 1], .count = EACH,
                                          .kind = hists ? BLK_HISTS : BLK_FLOATS };
    }
    for (int c = 0; c < CHUNKS; c++)
        refs[c].bytes = kl_span(bytes->at + ends[c], ends[c + 1] - ends[c]);
}

START_TEST(chunks_keep_all_that_is_not_hidden_and_nothing_that_is)
{
    struct blk_hide            *h = blk_hide_new();
    struct blk_chunk_ref        refs[CHUNKS];
    const struct blk_chunk_ref *left;
    struct kl_buf               bytes = { 0 };
    uint32_t                    n;
    bool                        hists = _i % 2;

    kit_seed = 77 + (uint64_t)_i;
    chunks_of(hists, &bytes, refs);
    for (int round = 0; round < 40; round++) {
        static bool       want[CHUNKS * EACH];
        struct blk_hidden spans[4];
        uint32_t          count = 0, as_they_were = 0;

        for (int i = 0; i < CHUNKS * EACH; i++)
            want[i] = true;
        for (int64_t at = -100; count < 4; count++) {
            spans[count].from_ms = at + 1 + (int64_t)(kit_draw() % 4000);
            at = spans[count].to_ms = spans[count].from_ms + (int64_t)(kit_draw() % 1500);
            for (int64_t i = 0; i < CHUNKS * EACH; i++)
                if (i * 10 >= spans[count].from_ms && i * 10 <= spans[count].to_ms)
                    want[i] = false;
        }
        ck_assert_msg(blk_hide_chunks(h, spans, count, refs, CHUNKS, &left, &n, &err) == KL_OK, "%s",
                      err.text);
        for (uint32_t c = 0; c < n; c++) {
            int64_t         times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
            double          values[BLK_CHUNK_MAX];
            struct kl_hist  hs[BLK_CHUNK_MAX];
            struct kl_arena arena;
            uint32_t        k;

            kl_arena_init(&arena, 1 << 20);
            if (hists)
                ck_assert_int_eq(blk_chunk_decode_hists(left[c].bytes, &arena, times, hs, starts, &k, &err), KL_OK);
            else
                ck_assert_int_eq(blk_chunk_decode(left[c].bytes, times, values, starts, &k, &err), KL_OK);
            ck_assert(k == left[c].count && times[0] == left[c].first_ms && times[k - 1] == left[c].last_ms);
            as_they_were += k == EACH;
            for (uint32_t i = 0; i < k; i++) {
                ck_assert(want[times[i] / 10] && starts[i] == times[i] - 5);
                ck_assert((hists ? hs[i].sum : values[i]) == (double)times[i]);
                want[times[i] / 10] = false;
            }
            kl_arena_deinit(&arena);
        }
        for (int i = 0; i < CHUNKS * EACH; i++)
            ck_assert(!want[i]);
        for (uint32_t c = 0; c < n; c++)               /* not a byte of these was copied */
            as_they_were -= left[c].bytes.at >= (const void *)bytes.at &&
                            left[c].bytes.at < (const void *)(bytes.at + bytes.size);
        ck_assert_uint_eq(as_they_were, 0);
    }
    blk_hide_free(h);
    kl_buf_deinit(&bytes);
}
END_TEST

START_TEST(damaged_chunk_is_told_and_not_read_where_all_of_it_is_hidden)
{
    struct blk_hide            *h = blk_hide_new();
    struct blk_chunk_ref        ref = { kl_span("\x7f\x7f", 2), 0, 100, 5, BLK_FLOATS };
    const struct blk_chunk_ref *left;
    struct blk_hidden           some = { 10, 20 }, all = { -1, 100 };
    uint32_t                    n = 7;

    ck_assert_int_eq(blk_hide_chunks(h, &some, 1, &ref, 1, &left, &n, &err), KL_ECORRUPT);
    ck_assert_int_eq(blk_hide_chunks(h, &all, 1, &ref, 1, &left, &n, &err), KL_OK);
    ck_assert_uint_eq(n, 0);
    blk_hide_free(h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/deletion");
    TCase *t = tcase_create("all");

    tcase_add_test(t, spans_of_all_that_mean_a_series_are_joined_and_of_no_other);
    tcase_add_test(t, row_goes_with_any_sample_that_it_stands_for_and_with_no_other);
    tcase_add_test(t, deletion_that_means_nothing_is_refused);
    tcase_add_loop_test(t, chunks_keep_all_that_is_not_hidden_and_nothing_that_is, 0, 4);
    tcase_add_test(t, damaged_chunk_is_told_and_not_read_where_all_of_it_is_hidden);
    suite_add_tcase(s, t);
    return run_suite(s);
}
