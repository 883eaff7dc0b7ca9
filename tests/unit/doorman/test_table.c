/* doorman: what is remembered, what gives way, and what may enter. */
#include "doorman/inspect.h"
#include "doorman/table.h"
#include "doorman/tenants.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kl_fp key_of(uint64_t i) { return kl_hash128(&i, sizeof i); }

START_TEST(a_row_is_found_again_however_the_table_grows)
{
    enum { N = 50000 };
    struct dm_table *t = dm_table_new(1 << 20);
    struct kl_fp     group[DM_TABLE_GROUP];

    for (uint64_t i = 0; i < N; i++) {
        ck_assert_ptr_null(dm_table_find(t, key_of(i), 1));
        dm_table_add(t, key_of(i), 1)->ref = i + 1;
    }
    for (uint64_t i = 0; i < N; i++) {
        struct dm_row *row;
        group[i % DM_TABLE_GROUP] = key_of(i);
        if (i % DM_TABLE_GROUP == DM_TABLE_GROUP - 1)
            dm_table_prefetch(t, group, DM_TABLE_GROUP);
        row = dm_table_find(t, key_of(i), 1);
        ck_assert_ptr_nonnull(row);
        ck_assert_uint_eq(row->ref, i + 1);
        ck_assert_ptr_eq(dm_table_at(t, dm_table_index(t, row), 0, i + 1), row);
    }
    ck_assert_ptr_null(dm_table_find(t, key_of(N), 1));
    ck_assert_uint_eq(dm_table_count(t), N);
    dm_table_free(t);
}
END_TEST

START_TEST(equal_bytes_of_two_tenants_are_two_series)
{
    struct dm_table *t = dm_table_new(10);

    dm_table_add(t, key_of(1), 1)->ref = 1;
    ck_assert_ptr_null(dm_table_find(t, key_of(1), 2));
    dm_table_add(t, key_of(1), 2)->ref = 2;
    ck_assert_uint_eq(dm_table_find(t, key_of(1), 1)->ref, 1);
    dm_table_free(t);
}
END_TEST

START_TEST(a_full_table_forgets_the_cold)
{
    enum { MOST = 1000, HOT = 16 };
    struct dm_table *t = dm_table_new(MOST);

    for (uint64_t i = 0; i < 20000; i++) {
        dm_table_add(t, key_of(i), 0)->ref = i + 1;
        for (uint64_t hot = 0; hot < HOT && hot < i; hot++)
            ck_assert_msg(dm_table_find(t, key_of(hot), 0) != NULL, "forgot %d at %d", (int)hot, (int)i);
        ck_assert_uint_le(dm_table_count(t), MOST);
        ck_assert_ptr_nonnull(dm_table_find(t, key_of(i), 0));
    }
    ck_assert_uint_eq(dm_table_evicted(t), 20000 - MOST);
    ck_assert_ptr_null(dm_table_at(t, 499, 0, 500));      /* whose place another took */
    dm_table_free(t);
}
END_TEST

START_TEST(a_reset_forgets_all)
{
    struct dm_table *t = dm_table_new(10);

    dm_table_add(t, key_of(1), 0)->ref = 7;
    dm_table_reset(t);
    ck_assert_ptr_null(dm_table_find(t, key_of(1), 0));
    ck_assert_ptr_null(dm_table_at(t, 0, 0, 7));
    ck_assert_uint_eq(dm_table_add(t, key_of(1), 0)->ref, 0);
    dm_table_free(t);
}
END_TEST

START_TEST(tenants_keep_their_numbers_and_are_bounded)
{
    struct dm_tenants *t = dm_tenants_new();
    char               name[16];

    for (uint32_t i = 0; i < 2 * DM_TENANTS_MAX; i++) {
        snprintf(name, sizeof name, "t%u", i % DM_TENANTS_MAX);
        ck_assert_uint_eq(dm_tenants_of(t, kl_span_str(name))->number, i % DM_TENANTS_MAX);
    }
    ck_assert_ptr_null(dm_tenants_of(t, kl_span_str("one more")));
    ck_assert_ptr_null(dm_tenants_at(t, DM_TENANTS_MAX));
    dm_tenants_reset(t);
    ck_assert_ptr_nonnull(dm_tenants_of(t, kl_span_str("one more")));
    dm_tenants_free(t);
}
END_TEST

static const struct { enum dm_reason why; bool in_order; const char *pairs[12]; } sets[] = {
    { DM_GOOD, true, { "__name__", "m", "a", "1" } },
    { DM_GOOD, true, { "__name__", "m", "a", "", "b", "1" } },
    { DM_GOOD, false, { "b", "1", "__name__", "m", "a", "1" } },
    { DM_UNSORTED, true, { "b", "1", "__name__", "m" } },
    { DM_TWICE, true, { "__name__", "m", "a", "1", "a", "2" } },
    { DM_NO_LABEL_NAME, true, { "", "1", "__name__", "m" } },
    { DM_NAMELESS, true, { "a", "1" } },
    { DM_NAMELESS, true, { "__name__", "", "a", "1" } },
    { DM_NAMELESS, true, { NULL } },
    { DM_NOT_UTF8, true, { "__name__", "m", "a", "\xff" } },
    { DM_NOT_UTF8, true, { "\xc0\x80", "m", } },
    { DM_LONG_NAME, true, { "__name__", "m", "a123456789", "1" } },
    { DM_LONG_VALUE, true, { "__name__", "m", "a", "12345678901" } },
    { DM_LONG_NAME, true, { "__name__", "m", "Z123456789", "1" } },        /* before its order */
    { DM_LONG_VALUE, true, { "__name__", "m", "a", "\xff" "2345678901" } }, /* before its bytes */
    { DM_TOO_MANY_LABELS, true, { "__name__", "m", "a", "1", "b", "1", "c", "1" } },
    { DM_GOOD, true, { "__name__", "m", "a", "1", "b", "1", "c", "" } },
};
static const struct dm_limits limits = { .label_count_max = 3, .name_bytes_max = 9,
                                         .value_bytes_max = 10, .past_ms = 100, .future_ms = 50 };

START_TEST(a_series_enters_only_as_the_format_and_the_limits_say)
{
    struct kl_labels_builder b = { 0 };
    struct kl_span           metric;
    struct kl_err            err;

    for (const char *const *p = sets[_i].pairs; *p != NULL; p += 2)
        kl_labels_add(&b, kl_span_str(p[0]), kl_span_str(p[1]), &err);
    ck_assert_int_eq(dm_inspect_labels(&limits, &b, sets[_i].in_order, &metric), sets[_i].why);
    if (sets[_i].why == DM_GOOD)
        ck_assert(kl_span_eq(metric, kl_span_str("m")));
}
END_TEST

/* Of no form: it is not looked through, not even to find that it is no text. */
START_TEST(a_set_larger_than_any_that_is_stored_goes_to_no_rule)
{
    struct kl_labels_builder b = { 0 };
    struct kl_err            err;
    char                    *text = malloc(KL_LABELS_BYTES_MAX);

    memset(text, 0xff, KL_LABELS_BYTES_MAX);
    kl_labels_add(&b, kl_span("a", 1), kl_span(text, KL_LABELS_BYTES_MAX), &err);
    ck_assert_int_eq(dm_inspect_form(&b, true), DM_LARGE_SET);
    memset(text, 'x', KL_LABELS_BYTES_MAX);
    b.pairs[0].value.size = KL_LABELS_BYTES_MAX - 1;
    ck_assert_int_eq(dm_inspect_form(&b, true), DM_GOOD);
    kl_labels_add(&b, kl_span("b", 1), kl_span("", 0), &err);
    ck_assert_int_eq(dm_inspect_form(&b, true), DM_LARGE_SET);
    free(text);
}
END_TEST

START_TEST(a_time_enters_within_the_window_and_never_where_it_would_overflow)
{
    static const struct dm_limits none = { 0 };

    ck_assert_int_eq(dm_inspect_time(&limits, 1000, 900), DM_GOOD);
    ck_assert_int_eq(dm_inspect_time(&limits, 1000, 899), DM_TOO_OLD);
    ck_assert_int_eq(dm_inspect_time(&limits, 1000, 1050), DM_GOOD);
    ck_assert_int_eq(dm_inspect_time(&limits, 1000, 1051), DM_TOO_NEW);
    ck_assert_int_eq(dm_inspect_time(&none, 1000, -1000000), DM_GOOD);
    ck_assert_int_eq(dm_inspect_time(&none, 1000, INT64_MIN), DM_TOO_OLD);
    ck_assert_int_eq(dm_inspect_time(&none, 1000, INT64_MAX), DM_TOO_NEW);
}
END_TEST

START_TEST(a_report_counts_by_reason_names_the_first_and_stays_text)
{
    struct dm_report        *r = calloc(1, sizeof *r);
    struct kl_labels_builder b = { 0 };
    struct kl_err            err;
    char                     text[2048], tiny[40];

    for (int i = 0; i < 30; i++)
        kl_labels_add(&b, kl_span_str("a\xff\n"), kl_span_str("\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82"
                      "\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"), &err);
    dm_report_add(r, DM_UNSORTED, 3, &b, "");
    dm_report_add(r, DM_UNSORTED, 4, NULL, "not this one");
    for (int why = 1; why < DM_REASONS; why++)
        dm_report_add(r, (enum dm_reason)why, 1, &b, "");
    dm_report_write(r, 5, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "refused, 5 stored: "));
    ck_assert_ptr_nonnull(strstr(text, "8 with label names out of order"));
    ck_assert_ptr_null(strstr(text, "not this one"));
    ck_assert(kl_utf8_ok(kl_span_str(text)));
    ck_assert_uint_lt(strlen(text), sizeof text);
    dm_report_write(r, 5, tiny, sizeof tiny);
    ck_assert_uint_lt(strlen(tiny), sizeof tiny);
    free(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/table");
    TCase *t = tcase_create("all");

    tcase_add_test(t, a_row_is_found_again_however_the_table_grows);
    tcase_add_test(t, equal_bytes_of_two_tenants_are_two_series);
    tcase_add_test(t, a_full_table_forgets_the_cold);
    tcase_add_test(t, a_reset_forgets_all);
    tcase_add_test(t, tenants_keep_their_numbers_and_are_bounded);
    tcase_add_loop_test(t, a_series_enters_only_as_the_format_and_the_limits_say, 0,
                        (int)(sizeof sets / sizeof sets[0]));
    tcase_add_test(t, a_set_larger_than_any_that_is_stored_goes_to_no_rule);
    tcase_add_test(t, a_time_enters_within_the_window_and_never_where_it_would_overflow);
    tcase_add_test(t, a_report_counts_by_reason_names_the_first_and_stays_text);
    suite_add_tcase(s, t);
    return run_suite(s);
}
