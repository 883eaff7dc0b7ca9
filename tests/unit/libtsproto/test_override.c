/* libtsproto/override: what is said of a tenant while services run, with its history. */
#include "libtsproto/override.h"

#include "libkoal/base/hash.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tsp_override in, out;
static struct kl_buf       b;
static struct kl_err       err;

static void teardown(void) { kl_buf_deinit(&b); }

static void make(uint32_t count, size_t all_size)
{
    static char all[TSP_OVERRIDE_ALL_MAX + 1];

    memset(all, 'x', sizeof all);
    memcpy(all, "{\"a\": \"", 7);
    memcpy(all + all_size - 2, "\"}", 2);
    in = (struct tsp_override){ .tenant = kl_span_str("team-a"), .count = count };
    for (uint32_t i = 0; i < count && i < TSP_OVERRIDE_VERSIONS_MAX; i++)
        in.versions[i] = (struct tsp_override_version){
            .number = 1000 - i, .of = i % 2, .time_ms = 1700000000000 - i, .by = kl_span_str("ops"),
            .note = kl_span_str("why"), .all = kl_span(all, all_size) };
}

START_TEST(what_was_written_is_read)
{
    make(3, 20);
    ck_assert_int_eq(tsp_override_write(&in, &b, &err), KL_OK);
    ck_assert_int_eq(tsp_override_read(kl_buf_span(&b), &out, &err), KL_OK);
    ck_assert_uint_eq(out.count, 3);
    ck_assert(kl_span_eq(out.tenant, in.tenant));
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(out.versions[i].number, in.versions[i].number);
        ck_assert_uint_eq(out.versions[i].of, in.versions[i].of);
        ck_assert_int_eq(out.versions[i].time_ms, in.versions[i].time_ms);
        ck_assert(kl_span_eq(out.versions[i].by, in.versions[i].by));
        ck_assert(kl_span_eq(out.versions[i].note, in.versions[i].note));
        ck_assert(kl_span_eq(out.versions[i].all, in.versions[i].all));
    }
}
END_TEST

START_TEST(the_oldest_versions_give_way_and_the_newest_never_does)
{
    make(TSP_OVERRIDE_VERSIONS_MAX, TSP_OVERRIDE_ALL_MAX);
    ck_assert_int_eq(tsp_override_write(&in, &b, &err), KL_OK);
    ck_assert_uint_le(b.size, TSP_OVERRIDE_VALUE_MAX);
    ck_assert_int_eq(tsp_override_read(kl_buf_span(&b), &out, &err), KL_OK);
    ck_assert_uint_eq(out.count, 3);
    ck_assert_uint_eq(out.versions[0].number, 1000);
}
END_TEST

START_TEST(what_is_past_a_bound_is_not_written)
{
    make(1, TSP_OVERRIDE_ALL_MAX + 1);
    ck_assert_int_eq(tsp_override_write(&in, &b, &err), KL_EINVAL);
    make(0, 20);
    ck_assert_int_eq(tsp_override_write(&in, &b, &err), KL_EINVAL);
    make(TSP_OVERRIDE_VERSIONS_MAX + 1, 20);
    ck_assert_int_eq(tsp_override_write(&in, &b, &err), KL_EINVAL);
    make(2, 20);
    in.versions[1].number = in.versions[0].number;
    ck_assert_int_eq(tsp_override_write(&in, &b, &err), KL_EINVAL);
    make(1, 20);
    in.tenant = kl_span_str("..");
    ck_assert_int_eq(tsp_override_write(&in, &b, &err), KL_EINVAL);
    ck_assert_uint_eq(b.size, 0);
}
END_TEST

START_TEST(a_wrong_byte_anywhere_is_noticed)
{
    make(2, 12);
    ck_assert_int_eq(tsp_override_write(&in, &b, &err), KL_OK);
    for (size_t i = 0; i < b.size; i++) {
        b.at[i] ^= 0x10;
        ck_assert_int_ne(tsp_override_read(kl_buf_span(&b), &out, &err), KL_OK);
        b.at[i] ^= 0x10;
        ck_assert_int_ne(tsp_override_read(kl_span(b.at, i), &out, &err), KL_OK);
    }
    ck_assert_int_eq(tsp_override_read(kl_buf_span(&b), &out, &err), KL_OK);
}
END_TEST

static const struct { const char *all; bool good; } forms[] = {
    { "{}", true }, { "{\"a\": \"b\"}", true }, { "{\"a\":\"b\", \"c\": \"\\\"\\u00e4\\n\"}", true },
    { "", false }, { "{", false }, { "{}}", false }, { "{\"a\": 1}", false }, { "{\"a\": \"b\"", false }, { "{\"a\" \"b\"}", false },
    { "{\"a\": \"b\"} ", false }, { "{\"a\": \"\n\"}", false }, { "{\"a\": \"\\x\"}", false }, { "{\"a\": \"\\u00g0\"}", false },
    { "{\"a\": {\"b\": \"c\"}}", false }, { "{\"a\": \"b\",}", false }, { "[]", false }, { "{\"a\": \"\\", false },
};

START_TEST(what_is_said_has_the_one_form_or_is_neither_written_nor_read)
{
    make(1, 20);
    in.versions[0].all = kl_span_str(forms[_i].all);
    ck_assert_int_eq(tsp_override_write(&in, &b, &err), forms[_i].good ? KL_OK : KL_EINVAL);
}
END_TEST

START_TEST(what_a_newer_program_wrote_is_told_from_damage)
{
    static const uint8_t next[] = { 2, 0, 0, 0, 0, 0 };

    ck_assert_int_eq(tsp_override_read(kl_span(next, sizeof next), &out, &err), KL_ELIMIT);
}
END_TEST

START_TEST(any_name_of_a_tenant_has_a_key)
{
    char a[80], c[80];

    tsp_override_key(kl_span_str("a..b"), a, sizeof a);
    tsp_override_key(kl_span_str("a.b"), c, sizeof c);
    ck_assert_uint_eq(strlen(a), strlen(TSP_OVERRIDE_PREFIX) + 32);
    ck_assert_str_ne(a, c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/override");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, what_was_written_is_read);
    tcase_add_test(t, the_oldest_versions_give_way_and_the_newest_never_does);
    tcase_add_test(t, what_is_past_a_bound_is_not_written);
    tcase_add_test(t, a_wrong_byte_anywhere_is_noticed);
    tcase_add_loop_test(t, what_is_said_has_the_one_form_or_is_neither_written_nor_read, 0, sizeof forms / sizeof forms[0]);
    tcase_add_test(t, what_a_newer_program_wrote_is_told_from_damage);
    tcase_add_test(t, any_name_of_a_tenant_has_a_key);
    suite_add_tcase(s, t);
    return run_suite(s);
}
