/* libblock/manifest: the catalogue of a partition comes back as it was, or not at all. */
#include "libblock/manifest.h"

#include <check.h>
#include <stdlib.h>

static struct kl_err err;

static struct blk_manifest make(uint32_t filesets)
{
    struct blk_manifest m = { .partition = 7, .revision = 42, .epoch = 3, .incarnation = ~0ull - 5,
                              .replay_from = 1000 };

    for (uint32_t i = 0; i < filesets; i++) {
        struct blk_info info;

        memset(&info, 0, sizeof info);                 /* also its padding: compared as bytes */
        strcpy(info.tenant, "anonymous");
        info.partition = 7;
        info.id = i * 100 + 99;
        info.window_start_ms = -7200000 + (int64_t)i * 7200000;
        info.window_ms = 7200000;
        info.incarnation = 9;
        info.first_seq = i * 100;
        info.min_ms = -5;
        info.max_ms = 5;
        info.series_count = i;
        info.sample_count = i * 480;
        info.chunk_bytes = i * 300;
        info.content = i * 0x9e3779b97f4a7c15ull;
        blk_manifest_add(&m, &info);
    }
    return m;
}

START_TEST(manifest_comes_back_whole)
{
    struct blk_manifest m = make((uint32_t)_i * 37), back;
    struct kl_buf       b = { 0 };

    blk_manifest_cut(&m, 99, 7200000);
    blk_manifest_cut(&m, 199, 3600000);
    blk_manifest_encode(&m, &b);
    ck_assert_msg(blk_manifest_decode(kl_buf_span(&b), &back, &err) == KL_OK, "%s", err.text);
    ck_assert(back.partition == 7 && back.revision == 42 && back.epoch == 3 &&
              back.incarnation == m.incarnation && back.replay_from == 1000 && back.cut_count == 2 &&
              back.cuts[1].seq == 199 && back.cuts[1].end_ms == 3600000 &&
              back.fileset_count == m.fileset_count);
    for (uint32_t i = 0; i < m.fileset_count; i++)
        ck_assert_int_eq(memcmp(&m.filesets[i], &back.filesets[i], sizeof m.filesets[i]), 0);
    blk_manifest_deinit(&back);
    blk_manifest_deinit(&m);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(flipped_or_cut_manifest_is_refused)
{
    struct blk_manifest m = make(3), back;
    struct blk_pointer  p = { 5, 6, 7 }, p_back;
    struct kl_buf       b = { 0 }, q = { 0 };

    blk_manifest_cut(&m, 99, 7200000);
    blk_manifest_encode(&m, &b);
    blk_pointer_encode(&p, &q);
    for (size_t at = 0; at < b.size; at++) {
        b.at[at] ^= 0x10;
        ck_assert_int_eq(blk_manifest_decode(kl_buf_span(&b), &back, &err), KL_ECORRUPT);
        b.at[at] ^= 0x10;
        ck_assert_int_eq(blk_manifest_decode(kl_span(b.at, at), &back, &err), KL_ECORRUPT);
    }
    for (size_t at = 0; at < q.size; at++) {
        q.at[at] ^= 0x10;
        ck_assert_int_eq(blk_pointer_decode(kl_buf_span(&q), &p_back, &err), KL_ECORRUPT);
        q.at[at] ^= 0x10;
        ck_assert_int_eq(blk_pointer_decode(kl_span(q.at, at), &p_back, &err), KL_ECORRUPT);
    }
    ck_assert_int_eq(blk_pointer_decode(kl_buf_span(&q), &p_back, &err), KL_OK);
    ck_assert(p_back.revision == 5 && p_back.epoch == 6 && p_back.digest == 7);
    blk_manifest_deinit(&m);
    kl_buf_deinit(&b);
    kl_buf_deinit(&q);
}
END_TEST

START_TEST(only_cuts_that_no_later_one_covers_are_kept)
{
    struct blk_manifest m = { 0 };

    blk_manifest_cut(&m, 100, 1000);
    blk_manifest_cut(&m, 200, 2000);                   /* covers the first */
    ck_assert_uint_eq(m.cut_count, 1);
    blk_manifest_cut(&m, 150, 1500);                   /* covered already */
    ck_assert_uint_eq(m.cut_count, 1);
    blk_manifest_cut(&m, 300, 1000);                   /* later, of less */
    ck_assert_uint_eq(m.cut_count, 2);
    ck_assert(blk_manifest_covers(&m, 150, 1999));
    ck_assert(!blk_manifest_covers(&m, 150, 2000));
    ck_assert(!blk_manifest_covers(&m, 250, 1500));
    ck_assert(blk_manifest_covers(&m, 250, 999));
    blk_manifest_cut(&m, 400, INT64_MAX);
    ck_assert_uint_eq(m.cut_count, 1);
    ck_assert(blk_manifest_covers(&m, 400, INT64_MAX));
    ck_assert(!blk_manifest_covers(&m, 401, 0));
}
END_TEST

START_TEST(keys_sort_as_numbers)
{
    char a[KL_STORE_KEY_MAX + 1], b[KL_STORE_KEY_MAX + 1], c[64];

    blk_manifest_key(3, 9, a);
    blk_manifest_key(3, 10, b);
    ck_assert_str_eq(a, "catalogue/0003/00000000000000000009");
    ck_assert_int_lt(strcmp(a, b), 0);
    blk_pointer_key(12, c, sizeof c);
    ck_assert_str_eq(c, "catalogue.0012");
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("libblock/manifest");
    TCase   *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_loop_test(t, manifest_comes_back_whole, 0, 5);
    tcase_add_test(t, flipped_or_cut_manifest_is_refused);
    tcase_add_test(t, only_cuts_that_no_later_one_covers_are_kept);
    tcase_add_test(t, keys_sort_as_numbers);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
