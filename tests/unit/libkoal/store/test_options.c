/* libkoal/store/options: what the configuration may say of the store. */
#include "libkoal/store/options.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The rows that matter, as libkoal/app/options.c has them. */
static const struct kl_option table[] = {
    { "cell", KL_OPT_TEXT, "main", 0, 0, NULL, "" },
    { "store.url", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
    { "store.dir", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
    { "store.s3.endpoint", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
    { "store.s3.region", KL_OPT_TEXT, "us-east-1", 0, 0, NULL, "" },
    { "store.s3.style", KL_OPT_CHOICE, "auto", 0, 0, "auto|path|host", "" },
    { "store.s3.access_key.file", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
    { "store.s3.secret_key.file", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
    { "store.s3.session_token.file", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
    { "store.s3.ca.file", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
    { "store.s3.proxy", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
    { "store.s3.signature", KL_OPT_CHOICE, "v4", 0, 0, "v4|v2", "" },
    { "store.s3.conditional_put", KL_OPT_CHOICE, "auto", 0, 0, "auto|on|off", "" },
    { "store.s3.part_bytes", KL_OPT_BYTES, "16MiB", 5 << 20, (int64_t)4 << 30, NULL, "" },
    { "store.s3.tries", KL_OPT_INT, "5", 1, 100, NULL, "" },
    { "store.s3.connect_timeout", KL_OPT_MS, "5s", 100, 600000, NULL, "" },
    { "store.s3.stall_timeout", KL_OPT_MS, "15s", 1000, 600000, NULL, "" },
    { "store.s3.timeout", KL_OPT_MS, "5m", 1000, 86400000, NULL, "" },
    { 0 },
};

static struct kl_config       *config;
static struct kl_store_options o;
static struct kl_err           err;

static enum kl_code read_args(const char *a, const char *b)
{
    const char *args[] = { a, b, NULL };

    kl_config_free(config);
    config = NULL;
    ck_assert_msg(kl_config_load(table, "", kl_span(NULL, 0), NULL, args, &config, &err) == KL_OK, "%s",
                  err.text);
    return kl_store_options_read(config, &o, &err);
}

START_TEST(a_folder_is_named_by_url_or_by_dir)
{
    ck_assert_int_eq(read_args(NULL, NULL), KL_OK);
    ck_assert_int_eq(o.kind, KL_STORE_NONE);
    ck_assert_int_eq(read_args("--store.url=dir:/a/b", NULL), KL_OK);
    ck_assert_int_eq(o.kind, KL_STORE_DIR);
    ck_assert_str_eq(o.path, "/a/b");
    ck_assert_int_eq(read_args("--store.dir=/c", NULL), KL_OK);
    ck_assert_int_eq(o.kind, KL_STORE_DIR);
    ck_assert_str_eq(o.path, "/c");
    ck_assert_int_eq(read_args("--store.dir=/c", "--store.url=dir:/c"), KL_EINVAL);
}
END_TEST

START_TEST(a_bucket_is_named_with_or_without_a_prefix)
{
    static const char *const url[][3] = {
        { "s3://abc", "abc", "" }, { "s3://abc/", "abc", "" }, { "s3://abc/x", "abc", "x" },
        { "s3://a-b.c/x/y/", "a-b.c", "x/y" } };

    for (size_t i = 0; i < sizeof url / sizeof url[0]; i++) {
        char arg[100];

        snprintf(arg, sizeof arg, "--store.url=%s", url[i][0]);
        ck_assert_int_eq(read_args(arg, NULL), KL_OK);
        ck_assert_int_eq(o.kind, KL_STORE_S3);
        ck_assert_str_eq(o.s3.bucket, url[i][1]);
        ck_assert_str_eq(o.s3.prefix, url[i][2]);
        ck_assert(!o.s3.path_style);
    }
    ck_assert_int_eq(read_args("--store.url=s3://abc", "--store.s3.endpoint=http://127.0.0.1:1"), KL_OK);
    ck_assert(o.s3.path_style);
}
END_TEST

/* What is in folders is encrypted, what is in a bucket only with a key for objects: never by silence plain. */
START_TEST(a_copy_of_what_is_encrypted_lies_open_nowhere)
{
    struct kl_env        *env = kl_env_real_new(0);
    struct kl_keys       *keys = kl_keys_random();
    struct kl_store_place p = { .env = env, .keys = keys, .writes = true };
    struct kl_store      *s;
    struct kl_env_dir    *dir;
    char                  path[] = "/tmp/store-options-XXXXXX", copy[80], command[100];
    void                 *bytes;
    size_t                size;

    ck_assert_ptr_nonnull(mkdtemp(path));
    ck_assert_int_eq(read_args(NULL, NULL), KL_OK);
    p.config = config;
    ck_assert_int_eq(kl_store_open_at(&p, "s3://bucket/copy", true, &s, &err), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "would not be encrypted"));
    snprintf(copy, sizeof copy, "%s/copy", path);
    ck_assert_msg(kl_store_open_at(&p, copy, true, &s, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(s->put(s, "a/b", kl_span_str("a canary"), &err), KL_OK);
    s->close(s);
    snprintf(copy, sizeof copy, "%s/copy/a", path);
    ck_assert_int_eq(kl_env_dir_real_open(copy, false, &dir, &err), KL_OK);
    ck_assert_int_eq(dir->read(dir, "b", 1000, &bytes, &size, &err), KL_OK);
    ck_assert_ptr_null(memmem(bytes, size, "canary", 6));
    free(bytes);
    dir->leave(dir);
    kl_keys_unref(keys);
    kl_env_real_free(env);
    snprintf(command, sizeof command, "rm -r %s", path);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(an_address_that_is_none_is_refused_and_its_secrets_are_not_told)
{
    static const char *const bad[] = { "/a/b", "dir:", "s3:/abc", "s3://", "s3:///x", "http://abc",
                                       "s3://key:secret@abc/x", "ftp://key:secret@abc" };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char arg[100];

        snprintf(arg, sizeof arg, "--store.url=%s", bad[i]);
        ck_assert_int_eq(read_args(arg, NULL), KL_EINVAL);
        ck_assert_ptr_null(strstr(err.text, "secret@"));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/store/options");
    TCase *t = tcase_create("all");

    tcase_add_test(t, a_folder_is_named_by_url_or_by_dir);
    tcase_add_test(t, a_bucket_is_named_with_or_without_a_prefix);
    tcase_add_test(t, a_copy_of_what_is_encrypted_lies_open_nowhere);
    tcase_add_test(t, an_address_that_is_none_is_refused_and_its_secrets_are_not_told);
    suite_add_tcase(s, t);
    return run_suite(s);
}
