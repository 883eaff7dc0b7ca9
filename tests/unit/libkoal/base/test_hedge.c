/* libkoal/base/hedge: after how long a thing is asked for once more, and how often that may be. */
#include "libkoal/base/hedge.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>

enum { MS = 1000000 };

static struct kl_hedge h;

static void setup(void) { h = (struct kl_hedge){ .first_ms = 250, .least_ms = 10, .most_ms = 1000, .burst = 4 }; }

START_TEST(it_is_as_long_as_nineteen_of_twenty_took_within_bounds)
{
    ck_assert_int_eq(kl_hedge_after_ms(&h), 250);
    for (int i = 0; i < 400; i++)
        kl_hedge_answered(&h, (i % 40 == 7 ? 5000 : 40 + i % 20) * (int64_t)MS);
    ck_assert_int_ge(kl_hedge_after_ms(&h), 55);
    ck_assert_int_le(kl_hedge_after_ms(&h), 61);
    for (int i = 0; i < 400; i++)
        kl_hedge_answered(&h, MS / 2);
    ck_assert_int_eq(kl_hedge_after_ms(&h), 10);
    for (int i = 0; i < 400; i++)
        kl_hedge_answered(&h, INT64_C(60000) * MS);
    ck_assert_int_eq(kl_hedge_after_ms(&h), 1000);
}
END_TEST

START_TEST(no_more_than_a_part_of_all_is_asked_for_twice)
{
    int twice = 0;

    for (int i = 0; i < 1000; i++) {
        kl_hedge_asked(&h, 10);
        twice += kl_hedge_may(&h);
    }
    ck_assert_int_ge(twice, 100);
    ck_assert_int_le(twice, 100 + 4);
    setup();
    for (int i = 0; i < 1000; i++) {
        kl_hedge_asked(&h, 0);
        twice -= kl_hedge_may(&h);
    }
    ck_assert_int_ge(twice, 100 - 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libkoal/base/hedge");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, it_is_as_long_as_nineteen_of_twenty_took_within_bounds);
    tcase_add_test(t, no_more_than_a_part_of_all_is_asked_for_twice);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
