/* libkoal/base/sorted: arrays in order, against what was put into them. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/sorted.h"
#include "tests/suite.h"

enum { NUMBERS = 200, DRAWS = 5000 };

struct item { int number; char what[9]; };

static int by_number(const void *key, const void *item)
{
    int a = *(const int *)key, b = ((const struct item *)item)->number;

    return a < b ? -1 : a > b;
}

START_TEST(it_holds_what_was_put_and_not_taken_in_order)
{
    bool         is[NUMBERS] = { false }, there;
    struct item *items = NULL;
    size_t       count = 0, room = 0, wanted = 0;
    unsigned     seed = 7;

    for (int i = 0; i < DRAWS; i++) {
        int    n = (int)((seed = seed * 1103515245u + 12345) >> 16) % NUMBERS;
        size_t at = kl_sorted_place(&n, items, count, sizeof *items, by_number, &there);

        ck_assert(there == is[n]);
        if (there) {
            ck_assert_int_eq(items[at].number, n);
            kl_sorted_close(items, &count, sizeof *items, at);
        } else {
            items = kl_sorted_grow(items, &count, &room, sizeof *items, at);
            items[at] = (struct item){ n, "an item" };
        }
        is[n] = !is[n];
        wanted = is[n] ? wanted + 1 : wanted - 1;
        ck_assert_uint_eq(count, wanted);
        ck_assert_uint_le(count, room);
        for (size_t k = 0; k < count; k++)
            ck_assert(is[items[k].number] && strcmp(items[k].what, "an item") == 0 &&
                      (k == 0 || items[k - 1].number < items[k].number));
    }
    free(items);
}
END_TEST

START_TEST(of_nothing_the_place_is_its_beginning)
{
    int  n = 3;
    bool there = true;

    ck_assert_uint_eq(kl_sorted_place(&n, NULL, 0, sizeof(struct item), by_number, &there), 0);
    ck_assert(!there);
}
END_TEST

START_TEST(the_first_that_holds_is_found_among_equal_ones_and_none_is_the_end)
{
    static const int at[] = { 1, 3, 3, 3, 7, 9 };
    uint32_t         count = sizeof at / sizeof *at;

    for (uint32_t n = 0; n <= count; n++)
        for (int key = 0; key <= 10; key++) {
            uint32_t want = 0, got = KL_FIRST(i, n, at[i] >= key);

            while (want < n && at[want] < key)
                want++;
            ck_assert_uint_eq(got, want);
        }
    ck_assert_uint_eq(KL_FIRST(i, UINT32_MAX, i >= UINT32_MAX - 1), UINT32_MAX - 1);
    ck_assert_uint_eq(KL_FIRST(i, UINT32_MAX, false), UINT32_MAX);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/base/sorted");
    TCase *t = tcase_create("all");

    tcase_add_test(t, it_holds_what_was_put_and_not_taken_in_order);
    tcase_add_test(t, of_nothing_the_place_is_its_beginning);
    tcase_add_test(t, the_first_that_holds_is_found_among_equal_ones_and_none_is_the_end);
    suite_add_tcase(s, t);
    return run_suite(s);
}
