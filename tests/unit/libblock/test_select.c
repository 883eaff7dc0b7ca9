/* libblock/fileset: series, names and values are found by any way of selecting. */
#include "tests/unit/libblock/fileset_fixture.h"

START_TEST(select_gives_only_chunks_in_the_range)
{
    struct blk_fileset *f;
    struct blk_select  *s;
    struct blk_selected one;
    int64_t             from = start + 100 * 3000, to = start + 120 * 3000;
    uint32_t            n = 0;

    kit_make(2, 50, 2000, start, 3000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(0);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, from, to, true, &s, &err), KL_OK);
    for (; blk_select_next(s, &one, &err) == KL_OK; n++) {
        ck_assert_uint_ge(one.chunk_count, 1);
        for (uint32_t i = 0; i < one.chunk_count; i++)
            ck_assert(one.chunks[i].last_ms >= from && one.chunks[i].first_ms <= to);
        ck_assert_uint_lt(one.chunk_count, 4);
    }
    ck_assert_uint_eq(n, 50);
    blk_select_close(s);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, to + 100000000, INT64_MAX, true, &s, &err), KL_OK);
    ck_assert_int_eq(blk_select_next(s, &one, &err), KL_ENOENT);
    blk_select_close(s);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, from, to, false, &s, &err), KL_OK);
    ck_assert_int_eq(blk_select_next(s, &one, &err), KL_OK);
    ck_assert_uint_eq(one.chunk_count, 0);
    blk_select_close(s);
    blk_fileset_unref(f);
}
END_TEST

struct texts { unsigned count; char last[64]; bool sorted; };
static void keep_text(void *ctx, struct kl_span t)
{
    struct texts *x = ctx;
    char          now[64] = "";

    memcpy(now, t.at, t.size);
    x->sorted &= x->count == 0 || strcmp(x->last, now) < 0;
    strcpy(x->last, now);
    x->count++;
}

static const struct { enum kl_match_op op; const char *name, *value; } cases[] = {
    { KL_MATCH_EQ, "__name__", "metric_02_total" },  { KL_MATCH_EQ, "__name__", "none" },
    { KL_MATCH_NE, "__name__", "metric_02_total" },  { KL_MATCH_EQ, "device", "" },
    { KL_MATCH_NE, "device", "" },                   { KL_MATCH_EQ, "absent", "" },
    { KL_MATCH_NE, "absent", "" },                   { KL_MATCH_NE, "absent", "x" },
    { KL_MATCH_RE, "instance", "host-0[01].*" },     { KL_MATCH_RE, "instance", "host-00.*" },
    { KL_MATCH_NRE, "instance", "host-00.*" },       { KL_MATCH_RE, "device", "sda|sdb|zz" },
    { KL_MATCH_RE, "device", "sda|" },               { KL_MATCH_NRE, "device", "|sda" },
    { KL_MATCH_RE, "device", ".*" },                 { KL_MATCH_RE, "device", ".+" },
    { KL_MATCH_NRE, "device", ".+" },                { KL_MATCH_RE, "instance", ".*9:9100" },
    { KL_MATCH_RE, "absent", "x|y" },                { KL_MATCH_NRE, "absent", "x" },
    { KL_MATCH_EQ, "env", "prod" },                  { KL_MATCH_EQ, "zone", "a\xc3\xa9" },
    { KL_MATCH_RE, "instance", "zz.*" },             { KL_MATCH_RE, "instance", "[a-h]o.t-0.*" },
};
enum { CASES = sizeof cases / sizeof *cases };

static struct kl_matcher matcher(unsigned i)
{
    struct kl_matcher m = { .op = cases[i].op, .name = kit_text(cases[i].name),
                            .value = kit_text(cases[i].value) };
    struct kl_regex  *re = NULL;

    if (m.op >= KL_MATCH_RE)
        ck_assert_int_eq(kl_regex_new(m.value, &re, &err), KL_OK);
    m.re = re;
    return m;
}

START_TEST(matchers_find_what_testing_every_series_finds)     /* every case alone and with another */
{
    struct blk_fileset *f;

    kit_make(3, 900, 3, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(0);
    for (unsigned other = 0; other < CASES; other++) {
        struct kl_matcher   m[2] = { matcher((unsigned)_i), matcher(other) };
        struct blk_select  *s;
        struct blk_selected one;
        uint32_t            want = 0, got = 0;
        struct texts        names = { .sorted = true }, values = { .sorted = true };

        for (uint32_t i = 0; i < kit_count; i++)
            want += kl_matchers_test(m, 2, kit_labels(&kit[i]));
        ck_assert_int_eq(blk_select_open(f, m, 2, start, INT64_MAX, false, &s, &err), KL_OK);
        for (; blk_select_next(s, &one, &err) == KL_OK; got++)
            ck_assert(kl_matchers_test(m, 2, one.labels));
        ck_assert_uint_eq(got, want);
        blk_select_close(s);
        blk_fileset_names(f, m, 2, keep_text, &names, &err);
        blk_fileset_values(f, kit_text("instance"), m, 2, keep_text, &values, &err);
        ck_assert(names.sorted && values.sorted && (names.count > 0) == (want > 0));
        for (unsigned i = 0; i < 2; i++)
            kl_regex_free((struct kl_regex *)m[i].re);
    }
    blk_fileset_unref(f);
}
END_TEST

START_TEST(names_and_values_come_sorted_and_once)
{
    struct blk_fileset *f;
    struct texts        all = { .sorted = true }, values = { .sorted = true }, some = { .sorted = true };
    struct kl_matcher   m = { .op = KL_MATCH_EQ, .name = kit_text("__name__"),
                              .value = kit_text("metric_01_total") };

    kit_make(4, 700, 2, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(1);
    blk_fileset_names(f, NULL, 0, keep_text, &all, &err);
    ck_assert(all.sorted && all.count == 5);
    blk_fileset_values(f, kit_text("instance"), NULL, 0, keep_text, &values, &err);
    ck_assert(values.sorted && values.count == 40);
    blk_fileset_values(f, kit_text("__name__"), &m, 1, keep_text, &some, &err);
    ck_assert(some.count == 1);
    blk_fileset_unref(f);
}
END_TEST

START_TEST(series_are_found_by_fingerprint)
{
    struct blk_fileset *f;
    struct kl_buf       b = { 0 };
    unsigned            wrong = 0;

    kit_make(6, 3000, 1, start, 15000);
    ck_assert_int_eq(kit_write(root, &info, 240, NULL, &err), KL_OK);
    f = open_one(0);
    for (uint32_t i = 0; i < kit_count; i += 17) {
        kl_buf_reset(&b);
        ck_assert(blk_fileset_may_have(f, kit[i].fp));
        ck_assert_int_eq(blk_fileset_find(f, kit[i].fp, &b, &err), KL_OK);
        ck_assert(b.size == kit[i].labels_size && memcmp(b.at, kit[i].labels, b.size) == 0);
    }
    for (unsigned i = 0; i < 10000; i++)
        wrong += blk_fileset_may_have(f, (struct kl_fp){ kit_draw(), kit_draw() });
    ck_assert_uint_lt(wrong, 200);                     /* of a bloom filter with ten bits a series */
    ck_assert_int_eq(blk_fileset_find(f, (struct kl_fp){ 1, 2 }, &b, &err), KL_ENOENT);
    kl_buf_deinit(&b);
    blk_fileset_unref(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/fileset: select");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, select_gives_only_chunks_in_the_range);
    tcase_add_loop_test(t, matchers_find_what_testing_every_series_finds, 0, CASES);
    tcase_add_test(t, names_and_values_come_sorted_and_once);
    tcase_add_test(t, series_are_found_by_fingerprint);
    suite_add_tcase(s, t);

    return run_suite(s);
}
