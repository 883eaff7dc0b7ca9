/* libkoal/store/store_cache: what was read once is read again from disk, and is right or not at all. */
#include "libkoal/store/store.h"
#include "libkoal/base/metrics.h"
#include "tests/suite.h"

#include <check.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char                    folder[64], path[100];
static struct kl_env          *env;
static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *dir;
static struct kl_store_faults  faults;
static struct kl_store        *inner, *s;
static struct kl_metrics      *metrics;
static struct kl_err           err;
enum { MIB = 1 << 20 };

static void open_cache(uint64_t bytes_max)
{
    ck_assert_msg(kl_store_cache_open(env, inner, path, bytes_max, NULL, metrics, &s, &err) == KL_OK, "%s",
                  err.text);
}

static void setup(void)
{
    strcpy(folder, "/tmp/cache-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/cache", folder);
    env = kl_env_real_new(1);
    disk = kl_env_disk_sim_new();
    dir = kl_env_disk_sim_root(disk);
    faults = (struct kl_store_faults){ .seed = 1 };
    inner = kl_store_faulty_new(kl_store_dir_new(dir), &faults);
    metrics = kl_metrics_new();
    open_cache(64 * MIB);
}

static void teardown(void)
{
    char command[100];

    s->close(s);
    inner->close(inner);
    dir->leave(dir);
    kl_env_disk_sim_free(disk);
    kl_env_real_free(env);
    kl_metrics_free(metrics);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static uint64_t counted(const char *name)
{
    return kl_metrics_add(metrics, KL_COUNTER, name, "", "")->bits;
}

static char byte_at(unsigned object, uint64_t at) { return (char)((at * 2654435761u + object * 97) >> 11); }

static void put(unsigned object, size_t size)
{
    char *bytes = malloc(size), key[20];

    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(object, i);
    snprintf(key, sizeof key, "o/%u", object);
    ck_assert_int_eq(inner->put(inner, key, kl_span(bytes, size), &err), KL_OK);
    free(bytes);
}

static enum kl_code read_range(unsigned object, uint64_t offset, size_t size)
{
    char        *bytes = malloc(size), key[20];
    enum kl_code code;

    snprintf(key, sizeof key, "o/%u", object);
    code = s->get(s, key, offset, bytes, size, &err);
    for (size_t i = 0; code == KL_OK && i < size; i++)
        if (bytes[i] != byte_at(object, offset + i))
            ck_abort_msg("object %u at %zu", object, (size_t)offset + i);
    free(bytes);
    return code;
}

START_TEST(what_was_read_is_read_again_while_the_store_is_away)
{
    put(1, 3 * MIB + 777);
    ck_assert_int_eq(read_range(1, 0, 3 * MIB + 777), KL_OK);
    faults.down = true;
    ck_assert_int_eq(read_range(1, 0, 3 * MIB + 777), KL_OK);
    for (uint64_t at = 0; at < 3 * MIB; at += 99991)
        ck_assert_int_eq(read_range(1, at, 777), KL_OK);
    ck_assert_int_eq(read_range(1, 3 * MIB + 776, 1), KL_OK);
    ck_assert_uint_eq(counted("koalemos_store_cache_misses_total"), 1);
    ck_assert_uint_gt(counted("koalemos_store_cache_hits_total"), 49);
}
END_TEST

START_TEST(gaps_are_filled_and_only_they_are_fetched)
{
    put(1, MIB);
    ck_assert_int_eq(read_range(1, 300000, 100), KL_OK);
    ck_assert_int_eq(read_range(1, 700000, 100000), KL_OK);
    ck_assert_uint_eq(counted("koalemos_store_cache_fetched_bytes_total"), 100 + 100000);
    ck_assert_int_eq(read_range(1, 0, MIB), KL_OK);
    ck_assert_uint_eq(counted("koalemos_store_cache_fetched_bytes_total"), MIB);
    ck_assert_uint_eq(counted("koalemos_store_cache_misses_total"), 2 + 3);
    ck_assert_int_eq(read_range(1, MIB, 1), KL_EIO);
    ck_assert_int_eq(read_range(2, 0, 1), KL_ENOENT);
}
END_TEST

START_TEST(ranges_in_any_order_come_right_and_no_byte_is_fetched_twice)
{
    enum { SIZE = 5 * MIB + 4321 };
    uint8_t *seen = calloc(1, SIZE);
    uint64_t fetched = 0;
    unsigned seed = 7;

    put(1, SIZE);
    for (int i = 0; i < 400; i++) {
        uint64_t at = (seed = seed * 1103515245 + 12345) % SIZE;
        size_t   size = 1 + (seed >> 7) % (i % 50 == 0 ? 2 * MIB : 40000);

        size = at + size > SIZE ? SIZE - at : size;
        ck_assert_int_eq(read_range(1, at, size), KL_OK);
        for (uint64_t k = at; k < at + size; k++)
            fetched += !seen[k], seen[k] = 1;
        ck_assert_uint_eq(counted("koalemos_store_cache_fetched_bytes_total"), fetched);
    }
    free(seen);
}
END_TEST

START_TEST(where_bytes_came_from_is_told)
{
    struct kl_store_tally t = { 0 };
    char                  room[50000];

    put(1, MIB);
    ck_assert_int_eq(kl_store_get(s, "o/1", 1000, room, 20000, &t, &err), KL_OK);
    ck_assert_uint_eq(t.store_bytes, 20000);
    ck_assert_uint_eq(t.requests, 1);
    ck_assert_uint_eq(t.disk_bytes, 0);
    ck_assert_int_eq(kl_store_get(s, "o/1", 0, room, 50000, &t, &err), KL_OK);
    ck_assert_uint_eq(t.store_bytes, 50000);
    ck_assert_uint_eq(t.requests, 3);
    ck_assert_uint_eq(t.disk_bytes, 20000);
}
END_TEST

START_TEST(pieces_that_rot_on_disk_are_fetched_anew)
{
    DIR           *d;
    struct dirent *e;

    put(1, MIB);
    ck_assert_int_eq(read_range(1, 0, MIB), KL_OK);
    d = opendir(path);
    while ((e = readdir(d)) != NULL)
        if (strlen(e->d_name) == 20) {
            char  name[400];
            FILE *f;

            snprintf(name, sizeof name, "%s/%s", path, e->d_name);
            ck_assert_ptr_nonnull(f = fopen(name, "r+"));
            fseek(f, 200000, SEEK_SET);
            fputs("rotten", f);
            fclose(f);
        }
    closedir(d);
    ck_assert_int_eq(read_range(1, 0, MIB), KL_OK);
    ck_assert_uint_eq(counted("koalemos_store_cache_bad_total"), 1);
    faults.down = true;
    ck_assert_int_eq(read_range(1, 0, MIB), KL_OK);
}
END_TEST

START_TEST(its_bytes_are_bounded_and_the_oldest_go_first)
{
    char     command[200];
    unsigned kib;
    FILE    *p;

    s->close(s);
    open_cache(4 * MIB);
    for (unsigned i = 0; i < 12; i++) {
        put(i, MIB);
        ck_assert_int_eq(read_range(i, 0, MIB), KL_OK);
    }
    snprintf(command, sizeof command, "du -sk --apparent-size %s", path);
    ck_assert_ptr_nonnull(p = popen(command, "r"));
    ck_assert_int_eq(fscanf(p, "%u", &kib), 1);
    pclose(p);
    ck_assert_uint_le(kib, 5 * 1024 + 64);
    faults.down = true;
    ck_assert_int_eq(read_range(11, 0, MIB), KL_OK);
    ck_assert_int_eq(read_range(0, 0, 1), KL_EAGAIN);
}
END_TEST

START_TEST(a_start_begins_empty_and_what_another_process_holds_is_refused)
{
    struct kl_store *other;

    put(1, MIB);
    ck_assert_int_eq(read_range(1, 0, MIB), KL_OK);
    ck_assert_int_eq(kl_store_cache_open(env, inner, path, MIB, NULL, NULL, &other, &err), KL_EAGAIN);
    s->close(s);
    open_cache(64 * MIB);
    faults.down = true;
    ck_assert_int_eq(read_range(1, 0, MIB), KL_EAGAIN);
}
END_TEST

START_TEST(what_was_removed_here_is_gone_here)
{
    put(1, 100);
    ck_assert_int_eq(read_range(1, 0, 100), KL_OK);
    ck_assert_int_eq(s->remove(s, "o/1", &err), KL_OK);
    ck_assert_int_eq(read_range(1, 0, 100), KL_ENOENT);
}
END_TEST

static void *reader(void *ctx)
{
    unsigned seed = (unsigned)(size_t)ctx;

    for (int i = 0; i < 300; i++) {
        seed = seed * 1103515245 + 12345;
        if (read_range(seed >> 8 & 7, (seed >> 12 & 1023) * 900, 5000) != KL_OK)
            ck_abort_msg("a read failed");
    }
    return NULL;
}

/* The folder below is on the simulated disk, for one thread: a real one here. */
START_TEST(many_read_at_once_while_pieces_come_and_go)
{
    struct kl_store *sim = inner;
    char             real[100];
    pthread_t        t[4];

    s->close(s);
    snprintf(real, sizeof real, "%s/objects", folder);
    ck_assert_int_eq(kl_store_dir_open(env, real, &inner, &err), KL_OK);
    open_cache(4 * MIB);
    for (unsigned i = 0; i < 8; i++)
        put(i, MIB);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, reader, (void *)(i + 1)), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    s->close(s);
    inner->close(inner);
    inner = sim;
    open_cache(MIB);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("libkoal/store/store_cache");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_was_read_is_read_again_while_the_store_is_away);
    tcase_add_test(t, gaps_are_filled_and_only_they_are_fetched);
    tcase_add_test(t, ranges_in_any_order_come_right_and_no_byte_is_fetched_twice);
    tcase_add_test(t, where_bytes_came_from_is_told);
    tcase_add_test(t, pieces_that_rot_on_disk_are_fetched_anew);
    tcase_add_test(t, its_bytes_are_bounded_and_the_oldest_go_first);
    tcase_add_test(t, a_start_begins_empty_and_what_another_process_holds_is_refused);
    tcase_add_test(t, what_was_removed_here_is_gone_here);
    tcase_add_test(t, many_read_at_once_while_pieces_come_and_go);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
