/* libkoal/bus/bus_nats_nkey: files by which NATS knows us, whole ones and others. */
#include "libkoal/bus/bus_nats_nkey.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/koa-nkey-XXXXXX";

static void holds(const char *text, size_t size, const char *seed, const char *jwt)
{
    FILE *f = fopen(path, "w");
    char *got;

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, size, f), size);
    fclose(f);
    got = kl_nkey_seed(path);
    ck_assert_msg((got == NULL) == (seed == NULL) && (got == NULL || strcmp(got, seed) == 0), "%s", text);
    free(got);
    got = kl_nkey_jwt(path);
    ck_assert_msg((got == NULL) == (jwt == NULL) && (got == NULL || strcmp(got, jwt) == 0), "%s", text);
    free(got);
}
static void is(const char *text, const char *seed, const char *jwt) { holds(text, strlen(text), seed, jwt); }

START_TEST(a_file_has_the_seed_alone_or_in_a_section)
{
    is("SUAB", "SUAB", NULL);
    is("\n  SUAB\r\nmore", "SUAB", NULL);
    is("-----BEGIN NATS USER JWT-----\r\neyJ0.eyJq.c2ln\r\n------END NATS USER JWT------\r\n\nIMPORTANT\n\n"
       "-----BEGIN USER NKEY SEED-----\nSUAB\n------END USER NKEY SEED------\n", "SUAB", "eyJ0.eyJq.c2ln");
}
END_TEST

START_TEST(what_is_no_such_file_has_neither)
{
    char *large = malloc(KL_NKEY_FILE_MAX + 1);

    is("", NULL, NULL);
    is("\n", NULL, NULL);
    is("-----BEGIN USER NKEY SEED-----", NULL, NULL);
    is("-----BEGIN USER NKEY SEED-----\n------END USER NKEY SEED------\n", NULL, NULL);
    is("-----BEGIN NATS USER JWT-----\n", NULL, NULL);
    is("-----BEGIN NATS USER JWT-----\n------END NATS USER JWT------\n", NULL, NULL);
    memset(large, '\n', KL_NKEY_FILE_MAX + 1);
    memcpy(large, "SUAB", 4);
    holds(large, KL_NKEY_FILE_MAX + 1, NULL, NULL);
    free(large);
    unlink(path);
    ck_assert_ptr_null(kl_nkey_seed(path));
    ck_assert_ptr_null(kl_nkey_jwt(path));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/bus/nkey");
    TCase *t = tcase_create("all");
    int    failed;

    close(mkstemp(path));
    tcase_add_test(t, a_file_has_the_seed_alone_or_in_a_section);
    tcase_add_test(t, what_is_no_such_file_has_neither);
    suite_add_tcase(s, t);
    failed = run_suite(s);
    unlink(path);
    return failed;
}
