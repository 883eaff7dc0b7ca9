/* The list of a backup: what it says comes back, and what was changed, cut or is another is refused. */
#include "koalemos/backup_priv.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kl_buf list, heard;
static struct kl_err err;
static char          cell[128];

static enum kl_code manifest(void *ctx, uint32_t partition, uint64_t hash, struct kl_err *e)
{
    (void)ctx, (void)e;
    kl_buf_addf(&heard, "m%u:%llx ", partition, (unsigned long long)hash);
    return KL_OK;
}

static enum kl_code fileset(void *ctx, uint64_t hash, const char *path, struct kl_err *e)
{
    (void)ctx, (void)e;
    kl_buf_addf(&heard, "f%llx:%s ", (unsigned long long)hash, path);
    return KL_OK;
}

static enum kl_code mark(void *ctx, const char *key, struct kl_err *e)
{
    (void)ctx;
    kl_buf_addf(&heard, "k%s ", key);
    return strcmp(key, "bad") == 0 ? kl_fail(e, KL_EINVAL, "that one") : KL_OK;
}

static enum kl_code read_list(const void *at, size_t size)
{
    const struct backup_each each = { manifest, fileset, mark, NULL };

    kl_buf_reset(&heard);
    err.text[0] = '\0';
    return backup_list_read(kl_span(at, size), cell, &each, &err);
}

static void setup(void)
{
    kl_buf_init(&list, 0);
    kl_buf_init(&heard, 0);
    backup_list_begin(&list, "here");
    kl_buf_adds(&list, "manifest 3 00000000000000ab\nfileset 0123456789abcdef t/0003/7-00000000000000000001.2\nmark catalogue/import/t/X\n");
}

static void teardown(void)
{
    kl_buf_deinit(&list);
    kl_buf_deinit(&heard);
}

START_TEST(what_a_list_says_comes_back)
{
    backup_list_end(&list);
    ck_assert_msg(read_list(list.at, list.size) == KL_OK, "%s", err.text);
    ck_assert_str_eq(cell, "here");
    kl_buf_add8(&heard, 0);
    ck_assert_str_eq(heard.at, "m3:ab f123456789abcdef:t/0003/7-00000000000000000001.2 kcatalogue/import/t/X ");
}
END_TEST

START_TEST(a_list_that_was_cut_or_changed_anywhere_is_refused)
{
    backup_list_end(&list);
    for (size_t n = 0; n < list.size; n++) {
        ck_assert_int_eq(read_list(list.at, n), KL_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(err.text, "list of the backup"));
    }
    for (size_t i = 0; i < list.size; i++) {
        list.at[i] ^= 1;
        ck_assert_int_eq(read_list(list.at, list.size), KL_ECORRUPT);
        ck_assert_uint_eq(heard.size, 0);              /* nothing is told before all of it is known to be good */
        list.at[i] ^= 1;
    }
}
END_TEST

START_TEST(a_line_that_is_not_known_and_one_that_is_refused_end_it)
{
    kl_buf_adds(&list, _i == 0 ? "something else\n" : "mark bad\n");
    backup_list_end(&list);
    ck_assert_int_eq(read_list(list.at, list.size), _i == 0 ? KL_ECORRUPT : KL_EINVAL);
}
END_TEST

START_TEST(keys_sort_by_time)
{
    char a[BACKUP_KEY_MAX], b[BACKUP_KEY_MAX];

    backup_key(999, "list", a);
    backup_key(1700000000000, "0003", b);
    ck_assert_str_eq(a, "backup/0000000000999/list");
    ck_assert_str_eq(b, "backup/1700000000000/0003");
    ck_assert(kl_store_key_fit(a) && kl_store_key_fit(b));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("koalemos/backup");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_a_list_says_comes_back);
    tcase_add_test(t, a_list_that_was_cut_or_changed_anywhere_is_refused);
    tcase_add_loop_test(t, a_line_that_is_not_known_and_one_that_is_refused_end_it, 0, 2);
    tcase_add_test(t, keys_sort_by_time);
    suite_add_tcase(s, t);
    return run_suite(s);
}
