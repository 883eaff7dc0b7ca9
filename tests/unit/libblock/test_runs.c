/* Samples of overlapping chunks in order of time; of equal times the later chunk's. */
#include <check.h>
#include <stdbool.h>
#include <stdlib.h>

#include "libblock/runs.h"
#include "tests/suite.h"

enum { CHUNKS = 40, EACH = 30, TIMES = 300 };

START_TEST(of_two_samples_with_one_time_the_later_chunks_stays)
{
    int64_t         times[CHUNKS * EACH];
    uint32_t        room[2][CHUNKS * EACH], *index = room[0], *other = room[1], want[TIMES], n = 0, count, at = 0;
    struct blk_runs r = { 0 };
    bool            there[TIMES] = { false };

    srandom((unsigned)_i);
    for (int round = 0; round < 3; round++) {          /* used anew each time */
        n = at = 0;
        for (int k = 0; k < TIMES; k++)
            there[k] = false;
        for (int c = 0; c < 1 + _i % CHUNKS; c++) {
            uint32_t from = n;

            for (int64_t t = random() % 20; t < TIMES && n < from + EACH; t += 1 + random() % 20) {
                there[t] = true;
                want[t] = n;
                times[n++] = t;
            }
            blk_runs_add(&r, times, from, n);
        }
        count = blk_runs_merge(&r, times, n, &index, &other);
        for (int k = 0; k < TIMES; k++)
            if (there[k]) {
                ck_assert_uint_lt(at, count);
                ck_assert_uint_eq(index[at], want[k]);
                at++;
            }
        ck_assert_uint_eq(at, count);
    }
    free(r.at);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("runs");
    TCase *t = tcase_create("runs");

    tcase_add_loop_test(t, of_two_samples_with_one_time_the_later_chunks_stays, 0, 60);
    suite_add_tcase(s, t);
    return run_suite(s);
}
