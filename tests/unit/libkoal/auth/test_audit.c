#include "libkoal/auth/audit_priv.h"
#include "tests/suite.h"

#include <check.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char             folder[64];
static struct kl_err    err;
static char             last[65];
static uint64_t         count;

/* All syncs of folders go this way; the last that was not the log's own is remembered. */
static ino_t synced_other;

int fsync(int fd)
{
    struct stat s, own;

    if (fstat(fd, &s) == 0 && (stat(folder, &own) != 0 || s.st_ino != own.st_ino))
        synced_other = s.st_ino;
    return (int)syscall(SYS_fsync, fd);
}

static void setup(void)
{
    strcpy(folder, "/tmp/koalemos-audit-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void teardown(void)
{
    char command[100];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static struct kl_audit *open_it(const char *key, int64_t file_bytes)
{
    struct kl_audit *a = NULL;

    ck_assert_msg(kl_audit_open(&(struct kl_audit_options){ .folder = folder, .name = "koalemos serve",
                                .key = kl_span_str(key), .file_bytes = file_bytes }, &a, &err) == KL_OK, "%s", err.text);
    return a;
}

static enum kl_code verify(const char *key)
{
    return kl_audit_verify(folder, "koalemos-serve", kl_span_str(key), false, NULL, &count, last, &err);
}

static const struct kl_guard_ask drain = { .method = "POST", .route = "/drain", .path = "/drain\"\n\xff", .peer = "::1",
                                           .tenant = "a" };

static void some(const char *key, int orders, int64_t file_bytes)
{
    struct kl_audit *a = open_it(key, file_bytes);

    for (int i = 0; i < orders; i++) {
        ck_assert_int_eq(kl_audit_order(a, &drain, "k1", &err), KL_OK);
        kl_audit_done(a, &drain, "k1", 200);
    }
    kl_audit_close(a);
}

static char *path(unsigned number)
{
    static char text[120];

    snprintf(text, sizeof text, "%s/koalemos-serve-%06u.audit", folder, number);
    return text;
}

static char *slurp(const char *file, size_t *size)
{
    FILE *f = fopen(file, "r");
    char *bytes = kl_new(1 << 20);

    ck_assert_ptr_nonnull(f);
    *size = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

static void put(const char *file, const char *bytes, size_t size)
{
    FILE *f = fopen(file, "w");

    ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

START_TEST(what_was_recorded_verifies_over_starts_and_files)
{
    struct kl_guard_verdict v = { .status = 401, .words = "no key" };
    struct kl_audit        *a;

    ck_assert_int_eq(verify(""), KL_ENOENT);
    some("", 3, 0);
    ck_assert_msg(verify("") == KL_OK, "%s", err.text);
    ck_assert_uint_eq(count, 8);                       /* start, three of two, stop */
    some("", 30, 1000);                                /* several files */
    a = open_it("", 1000);
    kl_audit_refused(a, &drain, &v);
    kl_audit_close(a);
    ck_assert_msg(verify("") == KL_OK, "%s", err.text);
    ck_assert_uint_eq(count, 8 + 62 + 3);
    ck_assert_int_eq(access(path(5), F_OK), 0);
    ck_assert_int_eq(kl_audit_verify(folder, "koalemos-serve", kl_span_str(""), false, last, &count, last, &err), KL_OK);
    ck_assert_int_eq(kl_audit_verify(folder, "koalemos-serve", kl_span_str(""), false, "00", &count, last, &err), KL_ECORRUPT);
    unlink(path(1));
    ck_assert_int_eq(verify(""), KL_ECORRUPT);
    ck_assert_int_eq(kl_audit_verify(folder, "koalemos-serve", kl_span_str(""), true, NULL, &count, last, &err), KL_OK);
    unlink(path(3));
    ck_assert_int_eq(kl_audit_verify(folder, "koalemos-serve", kl_span_str(""), true, NULL, &count, last, &err), KL_ECORRUPT);
}
END_TEST

START_TEST(any_byte_that_was_changed_is_found)
{
    size_t size;
    char  *bytes;

    some("", 1, 0);
    bytes = slurp(path(1), &size);
    for (size_t i = 0; i < size - 1; i++) {            /* without its last LF the last record is a cut one */
        bytes[i] ^= 1;
        put(path(1), bytes, size);
        ck_assert_msg(verify("") == KL_ECORRUPT, "byte %zu", i);
        bytes[i] ^= 1;
    }
    put(path(1), bytes, size);
    ck_assert_int_eq(verify(""), KL_OK);
    free(bytes);
}
END_TEST

START_TEST(a_log_that_was_cut_anywhere_is_found_also_after_it_went_on)
{
    size_t size;
    char  *bytes;

    some("", 2, 0);
    bytes = slurp(path(1), &size);
    for (size_t cut = 0; cut < size; cut += 37) {
        put(path(1), bytes, cut);
        ck_assert_msg(verify("") == KL_ECORRUPT, "cut at %zu", cut);
    }
    put(path(1), bytes, size / 2);
    some("", 1, 0);                                    /* goes on, and says that it is broken */
    ck_assert_int_eq(verify(""), KL_ECORRUPT);
    free(bytes);
}
END_TEST

START_TEST(a_record_that_a_crash_cut_before_it_was_synced_is_passed_over)
{
    FILE *f;

    some("", 2, 0);
    f = fopen(path(1), "a");
    fputs("{\"n\":7,\"time\":", f);
    fclose(f);
    ck_assert_int_eq(verify(""), KL_OK);
    some("", 1, 0);
    ck_assert_msg(verify("") == KL_OK, "%s", err.text);
    ck_assert_uint_eq(count, 6 + 5);                   /* and the record that says so */
}
END_TEST

START_TEST(without_its_key_a_log_cannot_be_made_anew)
{
    some("secret", 2, 0);
    ck_assert_int_eq(verify("secret"), KL_OK);
    ck_assert_int_eq(verify(""), KL_ECORRUPT);
    ck_assert_int_eq(verify("Secret"), KL_ECORRUPT);
}
END_TEST

START_TEST(an_older_log_with_its_head_is_found_by_a_hash_that_was_kept_elsewhere)
{
    char   file[120], head[120], *bytes, *head_bytes, kept[65];
    size_t size, head_size;

    some("secret", 2, 0);
    snprintf(head, sizeof head, "%s/koalemos-serve.head", folder);
    snprintf(file, sizeof file, "%s", path(1));
    bytes = slurp(file, &size);
    head_bytes = slurp(head, &head_size);
    some("secret", 1, 0);
    ck_assert_int_eq(verify("secret"), KL_OK);
    strcpy(kept, last);
    ck_assert_int_eq(kl_audit_verify(folder, "koalemos-serve", kl_span_str("secret"), false, kept, &count, last, &err), KL_OK);
    put(file, bytes, size);
    ck_assert_int_eq(verify("secret"), KL_ECORRUPT);   /* its head knows better */
    put(head, head_bytes, head_size);
    ck_assert_int_eq(verify("secret"), KL_OK);
    ck_assert_int_eq(kl_audit_verify(folder, "koalemos-serve", kl_span_str("secret"), false, kept, &count, last, &err),
                     KL_ECORRUPT);
    free(bytes);
    free(head_bytes);
}
END_TEST

/* A log of two records with right hashes each: the first follows `prev`, the second has number `n`. */
static void forge(const char *prev, uint64_t n, bool follows)
{
    struct kl_audit_record r = { .n = 1, .event = "start" };
    struct kl_buf b = { 0 };
    char          hash[KL_AUDIT_HASH + 1], other[KL_AUDIT_HASH + 1], text[200];

    strcpy(hash, prev);
    strcpy(other, prev);
    kl_audit_line(&r, kl_span_str(""), hash, &b);
    r.n = n;
    kl_audit_line(&r, kl_span_str(""), follows ? hash : other, &b);
    put(path(1), b.at, b.size);
    snprintf(text, sizeof text, "%020" PRIu64 " %s\n", n, follows ? hash : other);
    kl_buf_reset(&b);
    kl_buf_adds(&b, text);
    snprintf(text, sizeof text, "%s/koalemos-serve.head", folder);
    put(text, b.at, b.size);
    kl_buf_deinit(&b);
}

START_TEST(records_with_right_hashes_that_do_not_follow_each_other_are_found)
{
    forge(KL_AUDIT_ZERO, 2, true);
    ck_assert_msg(verify("") == KL_OK, "%s", err.text);
    forge(KL_AUDIT_ZERO, 2, false);
    ck_assert_int_eq(verify(""), KL_ECORRUPT);
    forge(KL_AUDIT_ZERO, 3, true);
    ck_assert_int_eq(verify(""), KL_ECORRUPT);
    forge("1111111111111111111111111111111111111111111111111111111111111111", 2, true);
    ck_assert_int_eq(verify(""), KL_ECORRUPT);
}
END_TEST

START_TEST(a_log_that_was_made_anew_is_found_by_the_head_of_the_old_one)
{
    char   head[120], *bytes;
    size_t size;

    some("", 2, 0);
    snprintf(head, sizeof head, "%s/koalemos-serve.head", folder);
    bytes = slurp(head, &size);
    forge(KL_AUDIT_ZERO, 2, true);
    unlink(head);
    ck_assert_int_eq(verify(""), KL_ECORRUPT);
    unlink(path(1));
    some("", 5, 0);
    ck_assert_int_eq(verify(""), KL_OK);
    put(head, bytes, size);
    ck_assert_int_eq(verify(""), KL_ECORRUPT);
    free(bytes);
}
END_TEST

START_TEST(one_process_writes_a_log)
{
    struct kl_audit *a = open_it("", 0), *b;

    ck_assert_int_eq(kl_audit_open(&(struct kl_audit_options){ .folder = folder, .name = "koalemos serve" }, &b, &err),
                     KL_EEXIST);
    kl_audit_close(a);
}
END_TEST

START_TEST(a_flood_of_refusals_is_counted_and_not_written)
{
    struct kl_guard_verdict v = { .status = 401, .words = "no key" };
    struct kl_audit        *a = open_it("", 0);

    for (int i = 0; i < 10000; i++)
        kl_audit_refused(a, &drain, &v);
    kl_audit_close(a);
    ck_assert_int_eq(verify(""), KL_OK);
    ck_assert_uint_lt(count, 5000);
}
END_TEST

START_TEST(refusals_are_synced_without_an_order)
{
    struct kl_guard_verdict v = { .status = 401, .words = "no key" };
    struct kl_audit        *a = open_it("", 0);
    char                    head[120], *bytes;
    size_t                  size;
    bool                    synced = false;

    snprintf(head, sizeof head, "%s/koalemos-serve.head", folder);
    for (int i = 0; i < 3; i++)
        kl_audit_refused(a, &drain, &v);
    for (int i = 0; i < 1000 && !synced; i++) {        /* start and three */
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
        bytes = slurp(head, &size);
        synced = size > 20 && memcmp(bytes, "00000000000000000004 ", 21) == 0;
        free(bytes);
    }
    ck_assert(synced);
    ck_assert_msg(verify("") == KL_OK, "%s", err.text);
    ck_assert_uint_eq(count, 4);
    kl_audit_close(a);
}
END_TEST

static void *refuse_many(void *a)
{
    struct kl_guard_verdict v = { .status = 401, .words = "no key" };

    for (int i = 0; i < 250; i++) {
        kl_audit_refused(a, &drain, &v);
        kl_audit_done(a, &drain, "k1", 200);
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    }
    return NULL;
}

START_TEST(threads_that_record_while_files_end_make_one_chain)
{
    struct kl_audit *a = open_it("", 4000);            /* a file some ten records */
    pthread_t        thread[3];

    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, refuse_many, a), 0);
    for (int i = 0; i < 50; i++)
        ck_assert_int_eq(kl_audit_order(a, &drain, "k1", &err), KL_OK);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    kl_audit_close(a);
    ck_assert_msg(verify("") == KL_OK, "%s", err.text);
    ck_assert_uint_ge(count, 50 + 750);
}
END_TEST

START_TEST(the_name_of_a_new_folder_is_on_disk_before_anything_is_recorded)
{
    struct stat in;
    char        above[64];

    strcpy(above, folder);
    ck_assert_int_eq(stat(above, &in), 0);
    strcat(folder, "/audit");
    synced_other = 0;
    kl_audit_close(open_it("", 0));
    ck_assert_uint_eq(synced_other, in.st_ino);
    synced_other = 0;
    kl_audit_close(open_it("", 0));                    /* it is there by now, and its parent may not be ours to open */
    ck_assert_uint_eq(synced_other, 0);
    strcpy(folder, above);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("audit");
    TCase *t = tcase_create("audit");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_was_recorded_verifies_over_starts_and_files);
    tcase_add_test(t, the_name_of_a_new_folder_is_on_disk_before_anything_is_recorded);
    tcase_add_test(t, any_byte_that_was_changed_is_found);
    tcase_add_test(t, a_log_that_was_cut_anywhere_is_found_also_after_it_went_on);
    tcase_add_test(t, a_record_that_a_crash_cut_before_it_was_synced_is_passed_over);
    tcase_add_test(t, without_its_key_a_log_cannot_be_made_anew);
    tcase_add_test(t, an_older_log_with_its_head_is_found_by_a_hash_that_was_kept_elsewhere);
    tcase_add_test(t, records_with_right_hashes_that_do_not_follow_each_other_are_found);
    tcase_add_test(t, a_log_that_was_made_anew_is_found_by_the_head_of_the_old_one);
    tcase_add_test(t, one_process_writes_a_log);
    tcase_add_test(t, a_flood_of_refusals_is_counted_and_not_written);
    tcase_add_test(t, refusals_are_synced_without_an_order);
    tcase_add_test(t, threads_that_record_while_files_end_make_one_chain);
    suite_add_tcase(s, t);
    return run_suite(s);
}
