/* libblock/manifest: the catalogue of a partition comes back as it was, or not at all. */
#include "libblock/manifest.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "libkoal/base/hash.h"
#include "tests/suite.h"

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
        info.generation = i % 3 == 2 ? i : 0;
        info.quarantined = i % 5 == 3;
        info.obeyed = i % 4 == 1 ? i : 0;
        info.resolution_ms = i % 7 == 2 ? 300000 : 0;
        info.rolled = i % 4;
        info.carried = i % 7 == 2 && i % 2 == 0;
        info.lacks = i % 7 == 2 && i % 3 == 0;
        blk_manifest_add(&m, &info);
    }
    return m;
}

static struct kl_span text(const char *s) { return kl_span(s, strlen(s)); }

static struct blk_deletion *deletion(uint64_t number, uint64_t seq, int64_t from_ms, int64_t to_ms)
{
    struct kl_matcher    matchers[] = { { KL_MATCH_EQ, text("__name__"), text("up"), NULL },
                                        { KL_MATCH_NRE, text("job"), text("a.*|b"), NULL } };
    struct blk_deletion  like = { .number = number, .seq = seq, .incarnation = 9, .at_ms = 1234,
                                  .from_ms = from_ms, .to_ms = to_ms, .tenant = "anonymous",
                                  .matcher_count = 2, .matchers = matchers };
    struct blk_deletion *d;

    if (blk_deletion_new(&like, &d, &err) != KL_OK)
        abort();                                       /* no test runs while a golden file is made */
    return d;
}

START_TEST(manifest_comes_back_whole)
{
    struct blk_manifest m = make((uint32_t)_i * 37), back;
    struct kl_buf       b = { 0 };

    blk_manifest_cut(&m, 99, 7200000);
    blk_manifest_cut(&m, 199, 3600000);
    if (m.fileset_count > 4) {
        blk_manifest_drop(&m, 2, 12345);
        blk_manifest_drop(&m, m.fileset_count - 1, -1);
        blk_manifest_drop(&m, 0, INT64_MAX);
    }
    m.deleted_seq = 777;
    for (int i = 0; i < _i * 3; i++)
        blk_manifest_delete(&m, deletion(5 + (uint64_t)i * 2, 300 + (uint64_t)i, -i, i));
    m.deletions_made += 10;
    blk_manifest_encode(&m, &b);
    ck_assert_msg(blk_manifest_decode(kl_buf_span(&b), &back, &err) == KL_OK, "%s", err.text);
    ck_assert(back.deleted_seq == 777 && back.deletions_made == m.deletions_made &&
              back.deletion_count == m.deletion_count);
    for (uint32_t i = 0; i < m.deletion_count; i++) {
        const struct blk_deletion *x = m.deletions[i], *y = back.deletions[i];

        ck_assert(x->number == y->number && x->seq == y->seq && x->incarnation == y->incarnation &&
                  x->at_ms == y->at_ms && x->from_ms == y->from_ms && x->to_ms == y->to_ms &&
                  strcmp(x->tenant, y->tenant) == 0 && y->matcher_count == 2 &&
                  y->matchers[1].op == KL_MATCH_NRE && kl_span_eq(y->matchers[1].value, text("a.*|b")) &&
                  !kl_matcher_test(&y->matchers[1], text("abc")));
    }
    ck_assert(back.partition == 7 && back.revision == 42 && back.epoch == 3 &&
              back.incarnation == m.incarnation && back.replay_from == 1000 && back.cut_count == 2 &&
              back.cuts[1].seq == 199 && back.cuts[1].end_ms == 3600000 &&
              back.fileset_count == m.fileset_count);
    for (uint32_t i = 0; i < m.fileset_count; i++)
        ck_assert_int_eq(memcmp(&m.filesets[i], &back.filesets[i], sizeof m.filesets[i]), 0);
    ck_assert_uint_eq(back.gone_count, m.gone_count);
    for (uint32_t i = 0; i < m.gone_count; i++)
        ck_assert(strcmp(m.gone[i].path, back.gone[i].path) == 0 &&
                  m.gone[i].at_ms == back.gone[i].at_ms);
    blk_manifest_deinit(&back);
    blk_manifest_deinit(&m);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(dropped_filesets_are_gone_by_name_and_the_others_keep_their_order)
{
    struct blk_manifest m = make(9), copy = { 0 };
    char                path[BLK_PATH_MAX + 1];

    blk_fileset_path(&m.filesets[4], path);
    ck_assert_uint_eq(blk_manifest_find(&m, &m.filesets[4]), 4);
    blk_manifest_drop(&m, 4, 77);
    ck_assert_uint_eq(m.fileset_count, 8);
    ck_assert_str_eq(m.gone[0].path, path);
    ck_assert_int_eq(m.gone[0].at_ms, 77);
    ck_assert_uint_eq(m.filesets[4].id, 599);
    blk_manifest_copy(&copy, &m);
    for (uint32_t i = 0; i < 8; i++) {
        blk_manifest_drop(&copy, 0, i);
        blk_manifest_add(&copy, &m.filesets[i]);       /* room is kept right on the way */
    }
    ck_assert_uint_eq(copy.fileset_count, 8);
    ck_assert_uint_eq(copy.gone_count, 9);
    for (uint32_t i = 0; i < 8; i++)
        ck_assert_uint_eq(copy.filesets[i].id, m.filesets[i].id);
    ck_assert_uint_eq(m.gone_count, 1);
    blk_manifest_deinit(&copy);
    blk_manifest_deinit(&m);
}
END_TEST

START_TEST(deletion_is_forgotten_when_no_fileset_has_what_it_hides)
{
    struct blk_manifest        m = { .incarnation = 9 };
    struct blk_info            info = { .tenant = "anonymous", .id = 100, .incarnation = 9, .max_ms = 50,
                                        .generation = 3 };
    const struct blk_deletion *list[4];
    bool                       gone;

    blk_manifest_add(&m, &info);
    info.id = 400;                                     /* of a later cut: it never had it */
    blk_manifest_add(&m, &info);
    info.incarnation = 8;                              /* of a log before: all of it precedes */
    blk_manifest_add(&m, &info);
    strcpy(info.tenant, "other");
    blk_manifest_add(&m, &info);
    blk_manifest_delete(&m, deletion(1, 300, 60, 70)); /* of no time that there is */
    blk_manifest_delete(&m, deletion(2, 300, 20, 30));
    ck_assert_uint_eq(blk_manifest_concerning(&m, &m.filesets[0], list), 1);
    ck_assert_uint_eq(list[0]->number, 2);
    ck_assert_uint_eq(blk_manifest_concerning(&m, &m.filesets[1], list), 0);
    ck_assert_uint_eq(blk_manifest_concerning(&m, &m.filesets[2], list), 1);
    ck_assert_uint_eq(blk_manifest_concerning(&m, &m.filesets[3], list), 0);
    blk_manifest_forget(&m);
    ck_assert_uint_eq(m.deletion_count, 1);
    ck_assert_uint_eq(blk_manifest_disobeying(&m, m.deletions[0], &gone), 2);
    m.filesets[2].obeyed = 2;
    blk_manifest_drop(&m, 0, 1000);                    /* rewritten: its bytes are in the store yet */
    ck_assert_uint_eq(blk_manifest_disobeying(&m, m.deletions[0], &gone), 0);
    ck_assert(gone);
    blk_manifest_forget(&m);
    ck_assert_uint_eq(m.deletion_count, 1);
    m.gone_count = 0;
    blk_manifest_forget(&m);
    ck_assert_uint_eq(m.deletion_count, 0);
    ck_assert_uint_eq(m.deletions_made, 2);            /* no number is given twice */
    blk_manifest_deinit(&m);
}
END_TEST

static struct blk_manifest golden(bool with_gone, bool with_deletions, bool with_rollups, bool carried, bool lacks)
{
    struct blk_manifest m = { .partition = 7, .revision = 42, .epoch = 3,
                              .incarnation = 0xfedcba9876543210ull, .replay_from = 1000 };

    for (uint32_t i = 0; i < 5; i++) {
        struct blk_info info = { .partition = 7, .id = i * 100 + 99, .window_ms = i == 3 ? 0 : 7200000,
                                 .window_start_ms = -7200000 + (int64_t)i * 7200000,
                                 .incarnation = 9, .first_seq = i * 100, .min_ms = -5,
                                 .max_ms = 5 + (int64_t)i, .series_count = i, .sample_count = i * 480,
                                 .chunk_bytes = i * 300, .content = i * 0x9e3779b97f4a7c15ull };

        strcpy(info.tenant, i % 2 ? "golden" : "anonymous");
        if (with_gone) {
            info.generation = i == 2 ? 41 : 0;
            info.quarantined = i == 3;
        }
        blk_manifest_add(&m, &info);
    }
    if (with_gone) {
        blk_manifest_drop(&m, 2, 1700000000000);
        blk_manifest_drop(&m, 0, 1700000000001);
    }
    blk_manifest_cut(&m, 99, 7200000);
    blk_manifest_cut(&m, 199, 3600000);
    if (with_deletions) {
        m.deleted_seq = 350;
        m.filesets[1].obeyed = 3;
        m.filesets[1].resolution_ms = with_rollups ? 3600000 : 0;
        m.filesets[1].carried = carried;
        m.filesets[1].lacks = lacks;
        m.filesets[0].rolled = with_rollups ? 2 : 0;
        blk_manifest_delete(&m, deletion(4, 340, -7200000, 86400000));
        blk_manifest_delete(&m, deletion(6, 350, INT64_MIN, INT64_MAX));
    }
    return m;
}

static struct kl_span golden_file(int version, const char *name)
{
    static char bytes[2][4096];
    static int  turn;
    char        path[128];
    FILE       *f;
    size_t      size;

    snprintf(path, sizeof path, "tests/data/manifest-v%d/%s", version, name);
    f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s", path);
    turn = !turn;
    size = fread(bytes[turn], 1, sizeof bytes[turn], f);
    fclose(f);
    return kl_span(bytes[turn], size);
}

START_TEST(manifest_of_each_version_is_read)           /* once a version, from 1 */
{
    struct blk_manifest want = golden(_i > 1, _i > 2, _i > 3, _i > 4, _i > 5), m;
    struct blk_pointer  p;
    struct kl_span      bytes = golden_file(_i, "manifest");
    struct kl_buf       a = { 0 }, b = { 0 };

    ck_assert_msg(blk_manifest_decode(bytes, &m, &err) == KL_OK, "%s", err.text);
    blk_manifest_encode(&want, &a);                    /* equal when they say the same in bytes */
    blk_manifest_encode(&m, &b);
    ck_assert(kl_span_eq(kl_buf_span(&a), kl_buf_span(&b)));
    ck_assert_int_eq(blk_pointer_decode(golden_file(_i, "pointer"), &p, &err), KL_OK);
    ck_assert(p.revision == 42 && p.epoch == 3 && p.digest == kl_hash64(bytes.at, bytes.size));
    kl_buf_deinit(&a);
    kl_buf_deinit(&b);
    blk_manifest_deinit(&want);
    blk_manifest_deinit(&m);
}
END_TEST

/* `test_manifest write`: the present version anew; only ever for a new one. */
static int write_golden(void)
{
    struct blk_manifest m = golden(true, true, true, true, true);
    struct blk_pointer  p = { 42, 3, 0 };
    struct kl_buf       b = { 0 }, q = { 0 };
    FILE               *f;

    blk_manifest_encode(&m, &b);
    p.digest = kl_hash64(b.at, b.size);
    blk_pointer_encode(&p, &q);
    f = fopen("tests/data/manifest-v6/manifest", "wb");
    fwrite(b.at, 1, b.size, f);
    fclose(f);
    f = fopen("tests/data/manifest-v6/pointer", "wb");
    fwrite(q.at, 1, q.size, f);
    fclose(f);
    kl_buf_deinit(&b);
    kl_buf_deinit(&q);
    blk_manifest_deinit(&m);
    return 0;
}

START_TEST(flipped_or_cut_manifest_is_refused)
{
    struct blk_manifest m = make(3), back;
    struct blk_pointer  p = { 5, 6, 7 }, p_back;
    struct kl_buf       b = { 0 }, q = { 0 };

    blk_manifest_cut(&m, 99, 7200000);
    blk_manifest_delete(&m, deletion(4, 340, -7200000, 86400000));
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

int main(int argc, char **argv)
{
    Suite *s = suite_create("libblock/manifest");
    TCase *t = tcase_create("all");

    (void)argv;
    if (argc > 1)
        return write_golden();

    tcase_add_test(t, deletion_is_forgotten_when_no_fileset_has_what_it_hides);
    tcase_add_test(t, dropped_filesets_are_gone_by_name_and_the_others_keep_their_order);
    tcase_add_loop_test(t, manifest_of_each_version_is_read, 1, 7);
    tcase_add_loop_test(t, manifest_comes_back_whole, 0, 5);
    tcase_add_test(t, flipped_or_cut_manifest_is_refused);
    tcase_add_test(t, only_cuts_that_no_later_one_covers_are_kept);
    tcase_add_test(t, keys_sort_as_numbers);
    suite_add_tcase(s, t);
    return run_suite(s);
}
