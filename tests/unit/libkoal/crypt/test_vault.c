/* libkoal/crypt/vault: an encrypted folder does what a folder does, whatever fails or crashes. */
#include "vault_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

static void check_ranges(struct kl_env_dir *dir, struct kl_env_view *v, uint64_t size)
{
    static const uint64_t odd[] = { 0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 100000 };
    uint8_t *got = malloc((size_t)size + 1);

    for (size_t a = 0; a < sizeof odd / sizeof *odd; a++)
        for (size_t b = 0; b < sizeof odd / sizeof *odd; b++) {
            if (odd[a] > size)
                continue;
            size_t n = (size_t)(odd[b] < size - odd[a] ? odd[b] : size - odd[a]);

            ok(dir->view_read(v, odd[a], got, n, &err));
            is_right(got, odd[a], n);
            memset(got, 0, n);
            if (n > 0 && kl_env_view_at_hand(dir, v, odd[a], got, n))
                is_right(got, odd[a], n);
            else
                ck_assert(dir == dirs[REAL] || n == 0);        /* the simulated disk is in memory */
        }
    ck_assert(!kl_env_view_at_hand(dir, v, size, got, 1));
    ck_assert_int_eq(dir->view_read(v, size, got, 1, &err), KL_EIO);
    ck_assert_int_eq(dir->view_read(v, UINT64_MAX, got, 1, &err), KL_EIO);
    ok(dir->view_read(v, 0, got, (size_t)size, &err));
    is_right(got, 0, (size_t)size);
    free(got);
}

/* ---- as any folder ---- */

START_TEST(ranges_of_a_file_of_any_length_are_what_was_written)
{
    static const size_t sizes[] = { 0, 1, 63, 4095, 4096, 4097, 8192, 65536, 70001, 4096 * 300, 4096 * 300 + 5 };
    struct kl_env_dir  *dir = dirs[_i];

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t piece = 1000; piece < 300000; piece *= 17) {
            struct kl_env_file *f;
            struct kl_env_view *v;
            uint64_t            size;

            ok(dir->create(dir, "tmp", &f, &err));
            for (size_t at = 0; at < sizes[i]; at += piece) {
                size_t n = sizes[i] - at < piece ? sizes[i] - at : piece;

                ok(dir->append(f, bytes_at(at, n), n, &err));
            }
            ok(dir->sync(f, &err));
            ok(dir->publish(f, "file", &err));
            dir->close(f);
            ok(dir->view(dir, "file", &v, &size, &err));
            ck_assert_uint_eq(size, sizes[i]);
            check_ranges(dir, v, size);
            dir->view_close(v);
        }
}
END_TEST

START_TEST(segment_that_is_synced_in_pieces_is_read_while_it_grows_and_after)
{
    struct kl_env_dir  *dir = dirs[_i];
    struct kl_env_file *f;
    struct kl_env_view *early, *empty, *v;
    uint64_t            size, at = 0;
    uint8_t             got[1000];

    ok(dir->create(dir, "tmp", &f, &err));
    ok(dir->publish(f, "segment", &err));
    ok(dir->view(dir, "segment", &empty, &size, &err));
    ck_assert_uint_eq(size, 0);
    for (unsigned i = 0; i < 400; i++) {
        size_t n = i % 7 == 0 ? 9000 + i : i % 5 == 0 ? 4096 : 1 + i;

        ok(dir->append(f, bytes_at(at, n), n, &err));
        at += n;
        if (i % 3 == 0)
            ok(dir->sync(f, &err));
        if (i == 100)
            ok(dir->view(dir, "segment", &early, &size, &err));
        if (i == 100)
            ck_assert_uint_eq(size, at);
        n = at < sizeof got ? (size_t)at : sizeof got;
        ok(dir->view_read(empty, at - n, got, n, &err));
        is_right(got, at - n, n);
    }
    dir->close(f);
    check_ranges(dir, early, at);
    check_ranges(dir, empty, at);
    ok(dir->view(dir, "segment", &v, &size, &err));
    ck_assert_uint_eq(size, at);
    check_ranges(dir, v, size);
    ok(dir->remove(dir, "segment", &err));
    check_ranges(dir, v, size);
    dir->view_close(v);
    dir->view_close(early);
    dir->view_close(empty);
}
END_TEST

static void tally(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    uint64_t *all = ctx;

    ck_assert_str_ne(name, KL_VAULT_MARK);
    *all += is_dir ? 1000000 : size_bytes;
}

START_TEST(lists_and_reads_speak_of_what_was_written_not_of_what_lies_there)
{
    struct kl_env_dir *dir = dirs[_i], *child;
    uint64_t           all = 0, free_bytes, total;
    void              *bytes;
    size_t             size;

    ok(save(dir, "a", bytes_at(0, 10000), 10000));
    ok(save(dir, "b", "", 0));
    ok(dir->enter(dir, "below", true, &child, &err));
    ok(save(child, "c", "deep", 4));
    ok(child->rename(child, "c", "d", &err));
    ok(child->read(child, "d", 4, &bytes, &size, &err));
    ck_assert(size == 4 && memcmp(bytes, "deep", 4) == 0);
    free(bytes);
    ck_assert_int_eq(child->read(child, "d", 3, &bytes, &size, &err), KL_ELIMIT);
    child->leave(child);
    ck_assert_int_eq(dir->remove_dir(dir, "below", &err), KL_EEXIST);
    ck_assert_int_eq(dir->read(dir, "none", 3, &bytes, &size, &err), KL_ENOENT);
    ok(kl_vault_mark_write(raws[_i], &(struct kl_vault_mark){ .whole = true, .count = 1 }, &err));
    ok(dir->list(dir, tally, &all, &err));
    ck_assert_uint_eq(all, 1010000);
    ok(dir->room(dir, &free_bytes, &total, &err));
    ok(dir->lock(dir, &err));
}
END_TEST

START_TEST(any_failure_leaves_the_old_file_or_the_new_one_whole)
{
    struct kl_env_dir *dir = dirs[SIM];
    enum kl_code       code;
    void              *bytes;
    size_t             size;

    ok(save(dir, "file", bytes_at(0, 9000), 9000));
    kl_env_disk_sim_fail(disk, (uint64_t)_i, _i % 2 == 0 ? KL_EIO : KL_ELIMIT);
    code = save(dir, "file", bytes_at(0, 70000), 70000);
    kl_env_disk_sim_fail(disk, 0, KL_EIO);
    after(kl_env_disk_sim_crash, (uint64_t)_i);
    ok(dirs[SIM]->read(dirs[SIM], "file", 100000, &bytes, &size, &err));
    ck_assert(size == 70000 || (code != KL_OK && size == 9000));
    is_right(bytes, 0, size);
    free(bytes);
}
END_TEST

START_TEST(a_file_whose_write_failed_is_never_synced_or_given_a_name)
{
    struct kl_env_dir  *dir = dirs[SIM];
    struct kl_env_file *f;

    ok(dir->create(dir, "tmp", &f, &err));
    ok(dir->append(f, "held", 4, &err));
    kl_env_disk_sim_fail(disk, 1, KL_ELIMIT);
    ck_assert_int_eq(dir->sync(f, &err), KL_ELIMIT);
    ck_assert_int_ne(dir->append(f, "x", 1, &err), KL_OK);
    ck_assert_int_ne(dir->sync(f, &err), KL_OK);
    ck_assert_int_ne(dir->publish(f, "file", &err), KL_OK);
    dir->close(f);
}
END_TEST

/* ---- crashes ---- */

START_TEST(crash_keeps_synced_bytes_and_tears_only_the_rest)
{
    struct kl_env_dir  *dir = dirs[SIM];
    struct kl_env_file *f;
    struct kl_env_view *v;
    uint64_t            at = 0, synced = 0, size;
    uint8_t            *got;
    unsigned            draw = (unsigned)_i * 2654435761u + 1;

    ok(dir->create(dir, "tmp", &f, &err));
    ok(dir->append(f, bytes_at(0, 64), 64, &err));
    at = 64;
    ok(dir->sync(f, &err));
    synced = at;
    ok(dir->publish(f, "log", &err));
    for (unsigned i = 0; i < 30; i++) {
        size_t n;

        draw = draw * 1664525u + 1013904223u;
        n = 1 + (draw >> 8) % (i % 4 == 0 ? 20000 : 700);
        ok(dir->append(f, bytes_at(at, n), n, &err));
        at += n;
        if ((draw >> 28) < 5) {
            ok(dir->sync(f, &err));
            synced = at;
        }
    }
    dir->close(f);
    after(kl_env_disk_sim_crash, (uint64_t)_i);
    ok(dirs[SIM]->view(dirs[SIM], "log", &v, &size, &err));
    ck_assert_msg(size >= synced && size <= at, "%llu of %llu synced, %llu written", (unsigned long long)size,
                  (unsigned long long)synced, (unsigned long long)at);
    got = malloc((size_t)size);
    ok(dirs[SIM]->view_read(v, 0, got, (size_t)size, &err));
    is_right(got, 0, (size_t)size);
    free(got);
    dirs[SIM]->view_close(v);
}
END_TEST

static void kill_only(struct kl_env_disk_sim *d, uint64_t seed)
{
    (void)seed;
    kl_env_disk_sim_kill(d);
}

START_TEST(killed_process_loses_nothing_that_it_wrote_under_a_name)
{
    struct kl_env_file *f;
    void               *bytes;
    size_t              size;

    ok(dirs[SIM]->create(dirs[SIM], "tmp", &f, &err));
    ok(dirs[SIM]->publish(f, "log", &err));
    ok(dirs[SIM]->append(f, bytes_at(0, 5000), 5000, &err));
    kl_env_disk_sim_kill(disk);
    dirs[SIM]->close(f);
    after(kill_only, 0);
    ok(dirs[SIM]->read(dirs[SIM], "log", 10000, &bytes, &size, &err));
    ck_assert_uint_eq(size, 5000);
    is_right(bytes, 0, size);
    free(bytes);
}
END_TEST

/* ---- threads ---- */

static struct kl_env_view *shared;
static _Atomic uint64_t    written;

static void *read_along(void *ctx)
{
    uint8_t  got[3000];
    uint64_t draw = (uint64_t)(uintptr_t)ctx;

    for (;;) {
        struct kl_err mine;
        uint64_t      end = atomic_load(&written), at;
        size_t        n;

        if (end == UINT64_MAX)
            return NULL;
        if (end == 0)
            continue;
        draw = draw * 6364136223846793005u + 1442695040888963407u;
        at = (draw >> 33) % end;
        n = end - at < sizeof got ? (size_t)(end - at) : sizeof got;
        ck_assert_int_eq(dirs[REAL]->view_read(shared, at, got, n, &mine), KL_OK);
        is_right(got, at, n);
    }
}

START_TEST(many_threads_read_what_one_writes)
{
    struct kl_env_dir  *dir = dirs[REAL];
    struct kl_env_file *f;
    pthread_t           threads[3];
    uint64_t            at = 0, size;

    atomic_store(&written, 0);
    ok(dir->create(dir, "tmp", &f, &err));
    ok(dir->publish(f, "segment", &err));
    ok(dir->view(dir, "segment", &shared, &size, &err));
    for (uintptr_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_along, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < 500; i++) {
        size_t n = 1 + i * 37 % 6000;

        ok(dir->append(f, bytes_at(at, n), n, &err));
        at += n;
        atomic_store(&written, at);
    }
    atomic_store(&written, UINT64_MAX);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    dir->view_close(shared);
    dir->close(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/crypt/vault");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, ranges_of_a_file_of_any_length_are_what_was_written, 0, KINDS);
    tcase_add_loop_test(t, segment_that_is_synced_in_pieces_is_read_while_it_grows_and_after, 0,
                        KINDS);
    tcase_add_loop_test(t, lists_and_reads_speak_of_what_was_written_not_of_what_lies_there, 0,
                        KINDS);
    tcase_add_loop_test(t, any_failure_leaves_the_old_file_or_the_new_one_whole, 1, 16);
    tcase_add_test(t, a_file_whose_write_failed_is_never_synced_or_given_a_name);
    tcase_add_loop_test(t, crash_keeps_synced_bytes_and_tears_only_the_rest, 0, 150);
    tcase_add_test(t, killed_process_loses_nothing_that_it_wrote_under_a_name);
    tcase_add_test(t, many_threads_read_what_one_writes);
    suite_add_tcase(s, t);

    return run_suite(s);
}
