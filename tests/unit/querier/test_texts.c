/* Unions of texts that come in runs. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "querier/qr_priv.h"
#include "tests/suite.h"

enum { MOST = 200 };

static int by_text(const void *a, const void *b)
{
    return kl_span_cmp(*(const struct kl_span *)a, *(const struct kl_span *)b);
}

START_TEST(texts_are_united_sorted_and_each_once_however_they_come)
{
    static char words[100][8];
    unsigned    seed = (unsigned)_i + 1;

    for (int i = 0; i < 100; i++)
        snprintf(words[i], sizeof words[i], "%s%d", i % 3 == 0 ? "" : "w", i * 7 % 100);
    for (int round = 0; round < 300; round++) {
        struct kl_span texts[MOST], want[MOST];
        size_t         count = (size_t)rand_r(&seed) % MOST, n = 0, run = 1 + (size_t)rand_r(&seed) % 60, got;

        for (size_t i = 0; i < count; i++)
            texts[i] = kl_span_str(words[(size_t)rand_r(&seed) % (round % 7 == 0 ? 3 : 100)]);
        for (size_t i = 0; i < count && round % 3 > 0; i += run)       /* as sources send them */
            qsort(texts + i, count - i < run ? count - i : run, sizeof *texts, by_text);
        memcpy(want, texts, count * sizeof *texts);
        qsort(want, count, sizeof *want, by_text);
        for (size_t i = 0; i < count; i++)
            if (i == 0 || !kl_span_eq(want[i], want[n - 1]))
                want[n++] = want[i];
        got = qr_texts_unite(texts, count);
        ck_assert_uint_eq(got, n);
        for (size_t i = 0; i < n; i++)
            ck_assert(kl_span_eq(texts[i], want[i]));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("querier texts");
    TCase *t = tcase_create("texts");

    tcase_add_loop_test(t, texts_are_united_sorted_and_each_once_however_they_come, 0, 5);
    suite_add_tcase(s, t);
    return run_suite(s);
}
