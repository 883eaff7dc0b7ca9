/* How far an import came: what was done is known again, unless the block is cut otherwise by then. */
#include "koalemos/import_priv.h"

#include "libkoal/env/dir.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *work;
static struct import_progress  p;
static struct kl_err           err;

static const char ulid[] = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

static void begin(uint64_t cut)
{
    ck_assert_msg(import_progress_open(&p, work, "t", ulid, cut, &err) == KL_OK, "%s", err.text);
}

static void step(int64_t window_ms, uint32_t partition, uint64_t id)
{
    const struct import_step s = { .window_ms = window_ms, .partition = partition, .id = id };

    ck_assert_int_eq(import_progress_add(&p, &s, &err), KL_OK);
}

static void setup(void)
{
    disk = kl_env_disk_sim_new();
    work = kl_env_disk_sim_root(disk);
    begin(7);
    step(-7200000, 3, 41);
    step(0, 3, 0);
    step(0, 9, UINT64_MAX);
    import_progress_close(&p);
}

static void teardown(void)
{
    import_progress_close(&p);
    work->leave(work);
    kl_env_disk_sim_free(disk);
}

START_TEST(what_was_done_is_known_again)
{
    begin(7);
    ck_assert_uint_eq(p.count, 3);
    ck_assert_uint_eq(p.was_cut, 7);
    ck_assert(import_progress_has(&p, -7200000, 3) && import_progress_has(&p, 0, 3) && import_progress_has(&p, 0, 9));
    ck_assert(!import_progress_has(&p, -7200000, 9));
    ck_assert_uint_eq(p.at[2].id, UINT64_MAX);
    ck_assert_int_eq(import_progress_drop_last(&p, &err), KL_OK);
    import_progress_close(&p);
    begin(7);
    ck_assert_uint_eq(p.count, 2);
}
END_TEST

START_TEST(a_block_that_is_cut_otherwise_begins_anew_once)
{
    begin(8);
    ck_assert_uint_eq(p.was_cut, 7);
    ck_assert_uint_eq(p.count, 3);                     /* the last is settled first */
    ck_assert_int_eq(import_progress_drop_last(&p, &err), KL_OK);
    import_progress_close(&p);
    begin(8);
    ck_assert_uint_eq(p.was_cut, 7);                   /* still: a crash in between forgets nothing */
    ck_assert_int_eq(import_progress_anew(&p, &err), KL_OK);
    ck_assert_uint_eq(p.count, 0);
    step(5, 1, 2);
    import_progress_close(&p);
    begin(8);
    ck_assert_uint_eq(p.was_cut, 8);
    ck_assert_uint_eq(p.count, 1);
}
END_TEST

START_TEST(a_file_that_is_not_what_was_written_is_refused)
{
    static const char *const bad[] = { "0 3 41\n", "cut 7\n0 3 41\ncut 7\n", "cut 7\n0 3\n", "\n", "cut x\n" };
    struct kl_env_file      *f;

    ck_assert_int_eq(work->create(work, "new", &f, &err), KL_OK);
    ck_assert_int_eq(work->append(f, bad[_i], strlen(bad[_i]), &err), KL_OK);
    ck_assert_int_eq(work->publish(f, "progress-01ARZ3NDEKTSV4RRFFQ69G5FAV-t", &err), KL_OK);
    work->close(f);
    ck_assert_int_eq(import_progress_open(&p, work, "t", ulid, 7, &err), KL_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "remove it to begin anew"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("koalemos/import_progress");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_was_done_is_known_again);
    tcase_add_test(t, a_block_that_is_cut_otherwise_begins_anew_once);
    tcase_add_loop_test(t, a_file_that_is_not_what_was_written_is_refused, 0, 5);
    suite_add_tcase(s, t);
    return run_suite(s);
}
