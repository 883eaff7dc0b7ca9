#include "libkoal/auth/keys.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libkoal/auth/endpoints.h"
#include "tests/suite.h"

#define DIGEST "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"

static struct kl_err err;

static enum kl_code parse(const char *text, struct kl_auth_keys *keys)
{
    return kl_auth_keys_parse(kl_span_str(text), keys, &err);
}

START_TEST(a_file_is_read_and_keys_are_found)
{
    struct kl_auth_keys       keys;
    const struct kl_auth_key *k;

    ck_assert_int_eq(parse("# keys\n\nzoe " DIGEST " read * # for the operator\r\n"
                           "adam " DIGEST " write,read team-a,team-b rate=50", &keys), KL_OK);
    ck_assert_uint_eq(keys.count, 2);
    k = kl_auth_keys_find(&keys, "adam", 4);
    ck_assert_ptr_nonnull(k);
    ck_assert_uint_eq(k->roles, KL_ROLE_READ | KL_ROLE_WRITE);
    ck_assert_uint_eq(k->rate, 50);
    ck_assert(kl_auth_key_has(k, "team-b"));
    ck_assert(!kl_auth_key_has(k, "team"));
    ck_assert(!k->everywhere);
    k = kl_auth_keys_find(&keys, "zoe", 3);
    ck_assert(k->everywhere && kl_auth_key_has(k, "anything"));
    ck_assert_ptr_null(kl_auth_keys_find(&keys, "zo", 2));
    ck_assert_ptr_null(kl_auth_keys_find(&keys, "", 0));
    kl_auth_keys_free(&keys);
}
END_TEST

START_TEST(a_line_that_is_no_key_is_named_and_nothing_is_taken)
{
    static const char *const bad[] = {
        "a " DIGEST " read", "a 12 read *", "a " DIGEST " root *", "a " DIGEST " read,read *",
        "a " DIGEST " read a,,b", "a " DIGEST " read a,*", "a " DIGEST " read * rate=0", "a " DIGEST " read * rate=5x",
        "a " DIGEST " read * burst=5", "a " DIGEST " read * rate=5 more", "a.b " DIGEST " read *",
        "a " DIGEST "00 read *", "a " DIGEST " read ..",
    };
    struct kl_auth_keys keys = { .count = 77 };
    char                text[400];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "ok " DIGEST " read *\n%s\n", bad[i]);
        ck_assert_msg(parse(text, &keys) == KL_EINVAL, "%s", bad[i]);
        ck_assert_ptr_nonnull(strstr(err.text, "line 2"));
        ck_assert_ptr_null(strstr(err.text, "5feceb66"));
        ck_assert_uint_eq(keys.count, 77);
    }
    ck_assert_int_eq(parse("a " DIGEST " read *\na " DIGEST " read *\n", &keys), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "two keys a"));
    ck_assert_int_eq(kl_auth_keys_parse(kl_span("a\0b", 3), &keys, &err), KL_EINVAL);
}
END_TEST

START_TEST(a_new_key_fits_its_line)
{
    struct kl_buf        line = { 0 };
    struct kl_auth_keys  keys;
    struct kl_auth_shown s;
    char                 shown[KL_AUTH_SHOWN_MAX], header[300], room[KL_AUTH_HEADER_MAX];
    uint8_t              digest[KL_SHA256];

    ck_assert_int_eq(kl_auth_key_new("admin,read", "team-a", 7, &line, shown, &err), KL_OK);
    ck_assert_int_eq(kl_auth_keys_parse(kl_buf_span(&line), &keys, &err), KL_OK);
    snprintf(header, sizeof header, "Bearer %s", shown);
    ck_assert(kl_auth_shown(header, room, &s));
    ck_assert_uint_eq(s.secret_size, 64);              /* 256 bits */
    kl_sha256(kl_span(s.secret, s.secret_size), digest);
    ck_assert_mem_eq(digest, keys.at[0].digest, KL_SHA256);
    ck_assert_ptr_null(memmem(line.at, line.size, s.secret, s.secret_size));
    ck_assert_int_eq(strncmp(s.id, keys.at[0].id, s.id_size), 0);
    ck_assert_uint_eq(keys.at[0].roles, KL_ROLE_ADMIN | KL_ROLE_READ);
    ck_assert_uint_eq(keys.at[0].rate, 7);
    kl_auth_keys_free(&keys);
    ck_assert_int_eq(kl_auth_key_new("admin", "a b", 0, &line, shown, &err), KL_EINVAL);
    ck_assert_int_eq(kl_auth_key_new("admin", "a\nevil " DIGEST " admin *", 0, &line, shown, &err), KL_EINVAL);
    ck_assert_int_eq(kl_auth_key_new("", "a", 0, &line, shown, &err), KL_EINVAL);
    kl_buf_deinit(&line);
}
END_TEST

static char folder[64], file[100];

static void make_folder(void)
{
    strcpy(folder, "/tmp/koalemos-keys-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/keys", folder);
}

static void remove_folder(void)
{
    char command[100];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(a_file_that_anyone_may_write_or_that_is_none_is_not_read)
{
    char  *bytes;
    size_t size;

    ck_assert_int_eq(kl_auth_file_read(file, &bytes, &size, NULL, &err), KL_ENOENT);
    ck_assert_int_eq(kl_auth_file_read(folder, &bytes, &size, NULL, &err), KL_EINVAL);
    ck_assert_int_eq(mkfifo(file, 0600), 0);
    ck_assert_int_eq(kl_auth_file_read(file, &bytes, &size, NULL, &err), KL_EINVAL);   /* and nobody waits for it */
    unlink(file);
    ck_assert_int_eq(kl_auth_file_add(file, "a " DIGEST " read *", &err), KL_OK);
    ck_assert_int_eq(kl_auth_file_read(file, &bytes, &size, NULL, &err), KL_OK);
    free(bytes);
    ck_assert_int_eq(chmod(file, 0602), 0);
    ck_assert_int_eq(kl_auth_file_read(file, &bytes, &size, NULL, &err), KL_EINVAL);
    ck_assert_int_eq(chmod(file, 0600), 0);
    ck_assert_int_eq(truncate(file, KL_AUTH_FILE_MAX + 1), 0);
    ck_assert_int_eq(kl_auth_file_read(file, &bytes, &size, NULL, &err), KL_ELIMIT);
}
END_TEST

enum { EACH = 40 };
static void *change(void *ctx)
{
    struct kl_err mine;
    char          line[200], id[20];

    for (int i = 0; i < EACH; i++) {
        snprintf(id, sizeof id, "%s-%d", (const char *)ctx, i);
        snprintf(line, sizeof line, "%s " DIGEST " read *", id);
        ck_assert_msg(kl_auth_file_add(file, line, &mine) == KL_OK, "%s", mine.text);
        if (i % 2 == 1)
            ck_assert_msg(kl_auth_file_remove(file, id, &mine) == KL_OK, "%s", mine.text);
    }
    return NULL;
}

START_TEST(two_who_change_a_file_at_once_undo_nothing)
{
    struct kl_auth_keys keys;
    pthread_t           other;
    char               *bytes;
    size_t              size;

    ck_assert_int_eq(pthread_create(&other, NULL, change, (void *)(uintptr_t)"x"), 0);
    change((void *)(uintptr_t)"y");
    pthread_join(other, NULL);
    ck_assert_int_eq(kl_auth_file_remove(file, "z", &err), KL_ENOENT);
    ck_assert_int_eq(kl_auth_file_read(file, &bytes, &size, NULL, &err), KL_OK);
    ck_assert_int_eq(kl_auth_keys_parse(kl_span(bytes, size), &keys, &err), KL_OK);
    ck_assert_uint_eq(keys.count, EACH);
    kl_auth_keys_free(&keys);
    free(bytes);
    strcat(file, ".new");
    ck_assert_int_eq(access(file, F_OK), -1);          /* nothing is left beside it */
}
END_TEST

START_TEST(a_key_is_shown_in_each_way_that_clients_have)
{
    static const struct { const char *header, *id, *secret; } all[] = {
        { "Bearer k1.s3cret", "k1", "s3cret" }, { "bearer  k1.s.x ", "k1", "s.x" }, { "Token k1.s", "k1", "s" },
        { "Basic dXNlcjprMS5zM2NyZXQ=", "k1", "s3cret" }, { "Basic OmsxLnM=", "k1", "s" },
        { "Bearer", NULL, NULL }, { "Bearer k1", NULL, NULL }, { "Bearer .s", NULL, NULL }, { "Bearer k1.", NULL, NULL },
        { "Basic !!!!", NULL, NULL }, { "Basic dXNlcg==", NULL, NULL }, { "Basic dXNlc", NULL, NULL },
        { "Digest k1.s", NULL, NULL }, { "", NULL, NULL }, { NULL, NULL, NULL }, { "Bearerk1.s", NULL, NULL },
    };
    struct kl_auth_shown s;
    char                 room[KL_AUTH_HEADER_MAX], longest[2000];

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        bool is = kl_auth_shown(all[i].header, room, &s);

        ck_assert_msg(is == (all[i].id != NULL), "%s", all[i].header);
        if (is) {
            ck_assert(kl_span_eq(kl_span(s.id, s.id_size), kl_span_str(all[i].id)));
            ck_assert(kl_span_eq(kl_span(s.secret, s.secret_size), kl_span_str(all[i].secret)));
        }
    }
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "Bearer a.", 9);
    longest[sizeof longest - 1] = '\0';
    ck_assert(!kl_auth_shown(longest, room, &s));
}
END_TEST

START_TEST(endpoints_have_a_role_by_method_and_the_prefix_changes_nothing)
{
    ck_assert_uint_eq(kl_auth_endpoint_of("POST", "/api/v1/koalemos/nodes")->role, KL_ROLE_ADMIN);
    ck_assert_uint_eq(kl_auth_endpoint_of("HEAD", "/api/v1/koalemos/nodes")->role, KL_ROLE_READ);
    ck_assert_ptr_eq(kl_auth_endpoint_of("GET", "/prometheus/api/v1/query"), kl_auth_endpoint_of("GET", "/api/v1/query"));
    ck_assert_ptr_null(kl_auth_endpoint_of("GET", "/prometheusapi/v1/query"));
    ck_assert_ptr_null(kl_auth_endpoint_of("GET", "/api/v1/query/"));
    ck_assert_uint_eq(kl_auth_endpoint_of("GET", "/-/healthy")->role, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("keys");
    TCase *t = tcase_create("keys"), *files = tcase_create("files");

    tcase_add_test(t, a_file_is_read_and_keys_are_found);
    tcase_add_test(t, a_line_that_is_no_key_is_named_and_nothing_is_taken);
    tcase_add_test(t, a_new_key_fits_its_line);
    tcase_add_test(t, a_key_is_shown_in_each_way_that_clients_have);
    tcase_add_test(t, endpoints_have_a_role_by_method_and_the_prefix_changes_nothing);
    tcase_add_checked_fixture(files, make_folder, remove_folder);
    tcase_add_test(files, a_file_that_anyone_may_write_or_that_is_none_is_not_read);
    tcase_add_test(files, two_who_change_a_file_at_once_undo_nothing);
    suite_add_tcase(s, files);
    suite_add_tcase(s, t);
    return run_suite(s);
}
