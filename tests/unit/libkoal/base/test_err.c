#include "libkoal/base/err.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(context_stands_in_front_of_the_cause)
{
    struct kl_err err;

    kl_fail(&err, KL_EIO, "write %s: %s", "x", "No space left on device");
    ck_assert_int_eq(kl_within(&err, "flush of %d", 7), KL_EIO);
    ck_assert_str_eq(err.text, "flush of 7: write x: No space left on device");
}
END_TEST

START_TEST(however_much_context_there_is_the_reason_stays_readable)
{
    static const char reason[] = "No space left on device";
    struct kl_err err;
    char   path[300];

    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    kl_fail(&err, KL_ELIMIT, "write %s: %s", path, reason);
    for (int i = 0; i < 12; i++) {
        kl_within(&err, "in step %d of %.*s", i, 20 * i, path);
        ck_assert_uint_lt(strlen(err.text), sizeof err.text);
        ck_assert_str_eq(err.text + strlen(err.text) - strlen(reason), reason);
        ck_assert_ptr_eq(strstr(err.text, "in step"), err.text);
    }
    ck_assert_int_eq(err.code, KL_ELIMIT);
}
END_TEST

START_TEST(a_character_is_not_cut_in_two)
{
    struct kl_err err;
    char   words[KL_ERR_TEXT_MAX] = "";

    while (strlen(words) + 2 < sizeof words)
        strcat(words, "\xc3\xa4");
    kl_fail(&err, KL_EIO, "%s", words);
    for (int i = 0; i < 4; i++) {
        kl_within(&err, "%.*s", 1 + i, "abcd");
        const char *rest = strstr(err.text, "...");
        ck_assert_ptr_nonnull(rest);
        ck_assert_int_eq((unsigned char)rest[3], 0xc3);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("err");
    TCase *t = tcase_create("err");

    tcase_add_test(t, context_stands_in_front_of_the_cause);
    tcase_add_test(t, however_much_context_there_is_the_reason_stays_readable);
    tcase_add_test(t, a_character_is_not_cut_in_two);
    suite_add_tcase(s, t);
    return run_suite(s);
}
