/*
 * libkoal/env/dir: one suite over a folder on disk and one in memory; then what only the
 * simulated disk can show: failures of each call in its turn, full disks, crashes.
 */
#include "libkoal/env/dir.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REAL, SIM, KINDS };

static char                    path[64];
static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *dirs[KINDS];
static struct kl_err           err;

#define ok(call) ck_assert_msg((call) == KL_OK, "%s: %s", #call, err.text)

static void setup(void)
{
    strcpy(path, "/tmp/dir-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
    ok(kl_env_dir_real_open(path, false, &dirs[REAL], &err));
    disk = kl_env_disk_sim_new();
    dirs[SIM] = kl_env_disk_sim_root(disk);
}

static void teardown(void)
{
    char command[100];

    dirs[REAL]->leave(dirs[REAL]);
    dirs[SIM]->leave(dirs[SIM]);
    kl_env_disk_sim_free(disk);
    snprintf(command, sizeof command, "rm -r %s", path);
    ck_assert_int_eq(system(command), 0);
}

/* Power fails, the process dies, a new one opens the disk. */
static struct kl_env_dir *after_crash(uint64_t seed)
{
    kl_env_disk_sim_crash(disk, seed);
    dirs[SIM]->leave(dirs[SIM]);
    return dirs[SIM] = kl_env_disk_sim_root(disk);
}

static enum kl_code save(struct kl_env_dir *dir, const char *name, const char *text)
{
    struct kl_env_file *f;
    enum kl_code        code = dir->create(dir, "tmp", &f, &err);

    if (code != KL_OK)
        return code;
    code = dir->append(f, text, strlen(text), &err);
    if (code == KL_OK)
        code = dir->sync(f, &err);
    if (code == KL_OK)
        code = dir->publish(f, name, &err);
    dir->close(f);
    return code;
}

/* The text of a file, "" without one; anything but absence must not fail. */
static const char *text_of(struct kl_env_dir *dir, const char *name)
{
    static char  text[1000];
    void        *bytes;
    size_t       size;
    enum kl_code code = dir->read(dir, name, sizeof text - 1, &bytes, &size, &err);

    text[0] = '\0';
    if (code == KL_ENOENT)
        return text;
    ck_assert_int_eq(code, KL_OK);
    memcpy(text, bytes, size);
    text[size] = '\0';
    free(bytes);
    return text;
}

START_TEST(published_file_replaces_the_old_one_whole)
{
    struct kl_env_dir *dir = dirs[_i];
    struct kl_err      none;
    void              *bytes;
    size_t             size;

    ok(save(dir, "a", "one"));
    ok(save(dir, "a", "three"));
    ck_assert_str_eq(text_of(dir, "a"), "three");
    ck_assert_int_eq(dir->read(dir, "tmp", 9, &bytes, &size, &none), KL_ENOENT);
    ck_assert_int_eq(dir->read(dir, "a", 4, &bytes, &size, &none), KL_ELIMIT);
}
END_TEST

START_TEST(publish_new_succeeds_once_and_changes_nothing_after)
{
    struct kl_env_dir  *dir = dirs[_i];
    struct kl_env_file *a, *b;

    ok(dir->create(dir, "a", &a, &err));
    ok(dir->create(dir, "b", &b, &err));
    ok(dir->append(a, "one", 3, &err));
    ok(dir->append(b, "two", 3, &err));
    ok(dir->sync(a, &err));
    ok(dir->sync(b, &err));
    ok(dir->publish_new(a, "name", &err));
    ck_assert_int_eq(dir->publish_new(b, "name", &err), KL_EEXIST);
    ck_assert_str_eq(text_of(dir, "name"), "one");
    ck_assert_str_eq(text_of(dir, "a"), "");
    ck_assert_str_eq(text_of(dir, "b"), "two");
    ok(dir->publish(b, "name", &err));
    ck_assert_str_eq(text_of(dir, "name"), "two");
    dir->close(a);
    dir->close(b);
}
END_TEST

START_TEST(view_reads_exactly_or_fails_and_outlives_its_name)
{
    struct kl_env_dir  *dir = dirs[_i];
    struct kl_env_view *v;
    uint64_t            size;
    char                bytes[4] = "";

    ok(save(dir, "a", "0123456789"));
    ok(dir->view(dir, "a", &v, &size, &err));
    ck_assert_uint_eq(size, 10);
    ok(dir->remove(dir, "a", &err));
    ok(save(dir, "a", "other"));
    ok(dir->view_read(v, 7, bytes, 3, &err));
    ck_assert_str_eq(bytes, "789");
    ck_assert_int_eq(dir->view_read(v, 8, bytes, 3, &err), KL_EIO);
    ck_assert_int_eq(dir->view_read(v, UINT64_MAX - 1, bytes, 3, &err), KL_EIO);
    if (kl_env_view_at_hand(dir, v, 4, bytes, 3))      /* not every file system has it */
        ck_assert_str_eq(bytes, "456");
    ck_assert(!kl_env_view_at_hand(dir, v, 8, bytes, 3));
    ck_assert(!kl_env_view_at_hand(dir, v, UINT64_MAX - 1, bytes, 3));
    dir->view_close(v);
    ck_assert_int_eq(dir->view(dir, "none", &v, &size, &err), KL_ENOENT);
}
END_TEST

START_TEST(renamed_file_replaces_another_and_stays_open_for_who_reads_it)
{
    struct kl_env_dir  *dir = dirs[_i];
    struct kl_env_view *v;
    uint64_t            size;
    char                bytes[4] = "";

    ok(save(dir, "a", "one"));
    ok(save(dir, "b", "two"));
    ok(dir->view(dir, "a", &v, &size, &err));
    ok(dir->rename(dir, "a", "b", &err));
    ok(dir->sync_names(dir, &err));
    ck_assert_str_eq(text_of(dir, "b"), "one");
    ck_assert_str_eq(text_of(dir, "a"), "");
    ok(dir->view_read(v, 0, bytes, 3, &err));
    ck_assert_str_eq(bytes, "one");
    dir->view_close(v);
    ck_assert_int_eq(dir->rename(dir, "a", "c", &err), KL_ENOENT);
}
END_TEST

START_TEST(segment_grows_after_it_is_published)
{
    struct kl_env_dir  *dir = dirs[_i];
    struct kl_env_file *f;

    ok(dir->create(dir, "tmp", &f, &err));
    ok(dir->publish(f, "segment", &err));
    ok(dir->append(f, "one ", 4, &err));
    ok(dir->sync(f, &err));
    ok(dir->append(f, "two", 3, &err));
    ck_assert_str_eq(text_of(dir, "segment"), "one two");
    dir->close(f);
}
END_TEST

struct seen { unsigned files, folders; uint64_t bytes; };
static void see(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct seen *s = ctx;

    ck_assert_str_ne(name, "LOCK");
    s->files += !is_dir;
    s->folders += is_dir;
    s->bytes += size_bytes;
}

START_TEST(list_shows_files_and_folders_but_no_lock)
{
    struct kl_env_dir *dir = dirs[_i], *child;
    struct seen        s = { 0 };

    ok(dir->lock(dir, &err));
    ok(save(dir, "a", "1"));
    ok(save(dir, "b", "22"));
    ok(dir->enter(dir, "c", true, &child, &err));
    ok(save(child, "d", "333"));
    ok(dir->list(dir, see, &s, &err));
    ck_assert_uint_eq(s.files, 2);
    ck_assert_uint_eq(s.folders, 1);
    ck_assert_uint_eq(s.bytes, 3);
    child->leave(child);
}
END_TEST

START_TEST(folders_nest_and_only_empty_ones_go)
{
    struct kl_env_dir  *dir = dirs[_i], *a, *again;
    struct kl_env_file *f;

    ck_assert_int_eq(dir->enter(dir, "a", false, &a, &err), KL_ENOENT);
    ok(dir->enter(dir, "a", true, &a, &err));
    ok(dir->enter(dir, "a", true, &again, &err));
    ok(save(a, "f", "text"));
    ck_assert_str_eq(text_of(again, "f"), "text");
    again->leave(again);
    ck_assert_int_eq(dir->remove_dir(dir, "a", &err), KL_EEXIST);
    ck_assert_int_eq(dir->remove(dir, "a", &err), KL_EIO);
    ok(a->remove(a, "f", &err));
    ck_assert_int_eq(a->remove(a, "f", &err), KL_ENOENT);
    ok(dir->remove_dir(dir, "a", &err));
    ck_assert_int_eq(dir->remove_dir(dir, "a", &err), KL_ENOENT);
    ck_assert_int_eq(a->create(a, "f", &f, &err), KL_ENOENT);
    a->leave(a);
    ok(save(dir, "file", "x"));
    ck_assert_int_eq(dir->enter(dir, "file", true, &a, &err), KL_EIO);
    ck_assert_int_eq(dir->remove_dir(dir, "file", &err), KL_EIO);
}
END_TEST

START_TEST(folder_in_the_way_fails_a_create_and_a_publish)
{
    struct kl_env_dir  *dir = dirs[_i], *a;
    struct kl_env_file *f;

    ok(dir->enter(dir, "a", true, &a, &err));
    a->leave(a);
    ck_assert_int_eq(dir->create(dir, "a", &f, &err), KL_EIO);
    ck_assert_int_eq(save(dir, "a", "x"), KL_EIO);
    void  *bytes;
    size_t size;
    ck_assert_int_eq(dir->read(dir, "a", 10, &bytes, &size, &err), KL_EIO);
}
END_TEST

START_TEST(second_holder_of_a_lock_is_refused_until_the_first_leaves)
{
    struct kl_env_dir *dir = dirs[_i], *a, *b;

    ok(dir->enter(dir, "root", true, &a, &err));
    ok(dir->enter(dir, "root", true, &b, &err));
    ok(a->lock(a, &err));
    ck_assert_int_eq(b->lock(b, &err), KL_EAGAIN);
    ck_assert_ptr_nonnull(strstr(err.text, "in use by another process"));
    a->leave(a);
    ok(b->lock(b, &err));
    b->leave(b);
}
END_TEST

START_TEST(room_is_measured)
{
    uint64_t has = 1, all = 0;

    ok(dirs[_i]->room(dirs[_i], &has, &all, &err));
    ck_assert_uint_gt(all, 0);
    ck_assert_uint_le(has, all);
}
END_TEST

START_TEST(open_makes_all_folders_of_a_path_only_when_asked)
{
    char               deep[100];
    struct kl_env_dir *d;
    struct stat        s;

    snprintf(deep, sizeof deep, "%s/x/y//z", path);
    ck_assert_int_eq(kl_env_dir_real_open(deep, false, &d, &err), KL_ENOENT);
    ok(kl_env_dir_real_open(deep, true, &d, &err));
    ok(save(d, "f", "deep"));
    ck_assert_str_eq(text_of(d, "f"), "deep");
    d->leave(d);
    ck_assert_int_eq(stat(deep, &s), 0);
    ck_assert_uint_eq(s.st_mode & 0007, 0);            /* what lies in it is not everyone's to read */
}
END_TEST

START_TEST(create_replaces_a_link_and_never_writes_through_it)
{
    struct kl_env_dir  *dev;
    struct kl_env_file *f;
    char                link[100];

    snprintf(link, sizeof link, "%s/full", path);
    ck_assert_int_eq(symlink("/dev/full", link), 0);
    ok(kl_env_dir_real_open(path, false, &dev, &err));
    ok(dev->create(dev, "full", &f, &err));
    ok(dev->append(f, "x", 1, &err));
    dev->close(f);
    ck_assert_str_eq(text_of(dev, "full"), "x");
    dev->leave(dev);
}
END_TEST

START_TEST(full_disk_is_a_limit_and_final_for_the_file)
{
    struct kl_env_dir  *dir = dirs[SIM];
    struct kl_env_file *f;

    kl_env_disk_sim_room(disk, 5);
    ok(dir->create(dir, "tmp", &f, &err));
    ok(dir->append(f, "123", 3, &err));
    ck_assert_int_eq(dir->append(f, "456", 3, &err), KL_ELIMIT);
    kl_env_disk_sim_room(disk, 100);
    ck_assert_int_eq(dir->sync(f, &err), KL_EIO);
    ck_assert_int_eq(dir->publish(f, "a", &err), KL_EIO);
    dir->close(f);
    ck_assert_str_eq(text_of(dir, "tmp"), "12345");
    ok(save(dir, "a", "anew"));
}
END_TEST

START_TEST(failed_folder_sync_is_final_for_the_open_folder)
{
    struct kl_env_dir *dir = dirs[SIM];

    kl_env_disk_sim_fail(disk, 5, KL_EIO);
    ck_assert_int_eq(save(dir, "a", "x"), KL_EIO);
    ck_assert_int_eq(save(dir, "b", "x"), KL_EIO);
    ck_assert_int_eq(dir->sync_names(dir, &err), KL_EIO);
    dir->leave(dir);
    dir = dirs[SIM] = kl_env_disk_sim_root(disk);
    ok(save(dir, "b", "x"));
}
END_TEST

START_TEST(any_crash_leaves_the_old_file_or_the_new_one_whole)
{
    struct kl_env_dir *dir = dirs[SIM];
    enum kl_code       saved;
    const char        *text;

    ok(save(dir, "a", "the old text"));
    kl_env_disk_sim_fail(disk, _i % 6, _i % 2 == 0 ? KL_EIO : KL_ELIMIT);
    saved = save(dir, "a", "a new one");
    text = text_of(after_crash((uint64_t)_i), "a");
    if (saved == KL_OK)
        ck_assert_str_eq(text, "a new one");
    else
        ck_assert_msg(strcmp(text, "the old text") == 0 || strcmp(text, "a new one") == 0,
                      "found \"%s\"", text);
}
END_TEST

START_TEST(crash_keeps_synced_bytes_and_tears_only_the_rest)
{
    struct kl_env_dir  *dir = dirs[SIM];
    struct kl_env_file *f;
    const char         *text;

    ok(dir->create(dir, "tmp", &f, &err));
    ok(dir->publish(f, "log", &err));
    ok(dir->append(f, "synced", 6, &err));
    ok(dir->sync(f, &err));
    ok(dir->append(f, "unsynced", 8, &err));
    dir = after_crash((uint64_t)_i);
    ck_assert_int_eq(dir->append(f, "x", 1, &err), KL_EIO);
    dir->close(f);
    text = text_of(dir, "log");
    ck_assert_int_eq(strncmp(text, "synced", 6), 0);
    ck_assert_int_eq(strncmp(text + 6, "unsynced", strlen(text + 6)), 0);
}
END_TEST

/* What the crash tests above rely on: that a seed can lose, keep and tear. */
START_TEST(crashes_do_lose_names_and_tear_bytes)
{
    unsigned lost = 0, kept = 0, torn = 0;

    for (uint64_t seed = 0; seed < 60; seed++) {
        struct kl_env_dir  *dir = dirs[SIM];
        struct kl_env_file *f;
        const char         *text;

        ok(dir->create(dir, "n", &f, &err));
        ok(dir->append(f, "0123456789", 10, &err));
        dir->close(f);
        text = text_of(after_crash(seed), "n");
        if (text[0] == '\0')
            lost++;
        else if (strlen(text) == 10)
            kept++;
        else
            torn++;
        dirs[SIM]->remove(dirs[SIM], "n", &err);
        ok(dirs[SIM]->sync_names(dirs[SIM], &err));
    }
    ck_assert_uint_gt(lost, 5);
    ck_assert_uint_gt(kept, 0);
    ck_assert_uint_gt(torn, 5);
}
END_TEST

START_TEST(folder_made_but_not_synced_may_be_lost_with_all_in_it)
{
    unsigned lost = 0;

    for (uint64_t seed = 0; seed < 40; seed++) {
        struct kl_env_dir *dir = dirs[SIM], *a;
        enum kl_code       found;

        ok(dir->enter(dir, "a", true, &a, &err));
        ok(save(a, "f", "x"));
        if (seed % 2 == 0)
            ok(dir->sync_names(dir, &err));
        kl_env_disk_sim_crash(disk, seed);
        a->leave(a);
        dir->leave(dir);
        dir = dirs[SIM] = kl_env_disk_sim_root(disk);
        found = dir->enter(dir, "a", false, &a, &err);
        if (found == KL_OK) {
            ck_assert_str_eq(text_of(a, "f"), "x");
            ok(a->remove(a, "f", &err));
            ok(a->sync_names(a, &err));
            a->leave(a);
            ok(dir->remove_dir(dir, "a", &err));
        } else {
            ck_assert_uint_eq(seed % 2, 1);
            lost++;
        }
        ok(dir->sync_names(dir, &err));
    }
    ck_assert_uint_gt(lost, 3);
}
END_TEST

START_TEST(killed_process_loses_nothing_written_and_its_lock)
{
    struct kl_env_dir  *dir = dirs[SIM];
    struct kl_env_file *f;

    ok(dir->lock(dir, &err));
    ok(dir->create(dir, "log", &f, &err));
    ok(dir->append(f, "written", 7, &err));
    kl_env_disk_sim_kill(disk);
    ck_assert_int_eq(dir->append(f, "x", 1, &err), KL_EIO);
    dir->close(f);
    dir->leave(dir);
    dir = dirs[SIM] = kl_env_disk_sim_root(disk);
    ok(dir->lock(dir, &err));
    ck_assert_str_eq(text_of(dir, "log"), "written");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/env/dir");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, published_file_replaces_the_old_one_whole, 0, KINDS);
    tcase_add_loop_test(t, publish_new_succeeds_once_and_changes_nothing_after, 0, KINDS);
    tcase_add_loop_test(t, view_reads_exactly_or_fails_and_outlives_its_name, 0, KINDS);
    tcase_add_loop_test(t, renamed_file_replaces_another_and_stays_open_for_who_reads_it, 0, KINDS);
    tcase_add_loop_test(t, segment_grows_after_it_is_published, 0, KINDS);
    tcase_add_loop_test(t, list_shows_files_and_folders_but_no_lock, 0, KINDS);
    tcase_add_loop_test(t, folders_nest_and_only_empty_ones_go, 0, KINDS);
    tcase_add_loop_test(t, folder_in_the_way_fails_a_create_and_a_publish, 0, KINDS);
    tcase_add_loop_test(t, second_holder_of_a_lock_is_refused_until_the_first_leaves, 0, KINDS);
    tcase_add_loop_test(t, room_is_measured, 0, KINDS);
    tcase_add_test(t, open_makes_all_folders_of_a_path_only_when_asked);
    tcase_add_test(t, create_replaces_a_link_and_never_writes_through_it);
    tcase_add_test(t, full_disk_is_a_limit_and_final_for_the_file);
    tcase_add_test(t, failed_folder_sync_is_final_for_the_open_folder);
    tcase_add_loop_test(t, any_crash_leaves_the_old_file_or_the_new_one_whole, 0, 120);
    tcase_add_loop_test(t, crash_keeps_synced_bytes_and_tears_only_the_rest, 0, 40);
    tcase_add_test(t, crashes_do_lose_names_and_tear_bytes);
    tcase_add_test(t, folder_made_but_not_synced_may_be_lost_with_all_in_it);
    tcase_add_test(t, killed_process_loses_nothing_written_and_its_lock);
    suite_add_tcase(s, t);
    return run_suite(s);
}
