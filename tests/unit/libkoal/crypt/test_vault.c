/* libkoal/crypt/vault: an encrypted folder does what a folder does, and what lies below it tells nothing and cannot be changed unseen. */
#include "libkoal/crypt/vault.h"

#include "libkoal/base/hex.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REAL, SIM, KINDS };
enum { FRAME = KL_VAULT_FRAME, STORED = KL_VAULT_FRAME + 36 };

static char                    path[64];
static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *raws[KINDS], *dirs[KINDS];
static struct kl_keys         *keys, *newer, *both;
static struct kl_err           err;

#define ok(call) ck_assert_msg((call) == KL_OK, "%s: %s", #call, err.text)

static const char first_key[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
static const char second_key[] = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

static void setup(void)
{
    char two[200];

    strcpy(path, "/tmp/vault-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
    ok(kl_env_dir_real_open(path, false, &raws[REAL], &err));
    disk = kl_env_disk_sim_new();
    raws[SIM] = kl_env_disk_sim_root(disk);
    ok(kl_keys_parse(kl_span_str(first_key), &keys, &err));
    ok(kl_keys_parse(kl_span_str(second_key), &newer, &err));
    snprintf(two, sizeof two, "# the new one\n%s\n\n%s\n", second_key, first_key);
    ok(kl_keys_parse(kl_span_str(two), &both, &err));
    for (int i = 0; i < KINDS; i++)
        dirs[i] = kl_vault_new(raws[i], keys);
}

static void teardown(void)
{
    char command[100];

    dirs[REAL]->leave(dirs[REAL]);
    dirs[SIM]->leave(dirs[SIM]);
    kl_env_disk_sim_free(disk);
    kl_keys_unref(keys);
    kl_keys_unref(newer);
    kl_keys_unref(both);
    snprintf(command, sizeof command, "rm -r %s", path);
    ck_assert_int_eq(system(command), 0);
}

static void after(void (*what)(struct kl_env_disk_sim *d, uint64_t seed), uint64_t seed)
{
    what(disk, seed);
    dirs[SIM]->leave(dirs[SIM]);
    raws[SIM] = kl_env_disk_sim_root(disk);
    dirs[SIM] = kl_vault_new(raws[SIM], keys);
}

/* Bytes that say where they are. */
static uint8_t byte_at(uint64_t i) { return (uint8_t)(i * 31 + i / 251 + i / 65000); }

static const uint8_t *bytes_at(uint64_t at, size_t size)
{
    static uint8_t b[300000];

    ck_assert_uint_le(size, sizeof b);
    for (size_t i = 0; i < size; i++)
        b[i] = byte_at(at + i);
    return b;
}

static void is_right(const uint8_t *got, uint64_t at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (got[i] != byte_at(at + i))                 /* an assertion a byte takes minutes */
            ck_abort_msg("byte %llu is another", (unsigned long long)(at + i));
}

static enum kl_code save(struct kl_env_dir *dir, const char *name, const void *bytes, size_t size)
{
    struct kl_env_file *f;
    enum kl_code        code = dir->create(dir, "tmp", &f, &err);

    if (code != KL_OK)
        return code;
    code = dir->append(f, bytes, size, &err);
    if (code == KL_OK)
        code = dir->sync(f, &err);
    if (code == KL_OK)
        code = dir->publish(f, name, &err);
    dir->close(f);
    return code;
}

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

/* ---- what lies below ---- */

static uint8_t *stored_of(struct kl_env_dir *raw, const char *name, size_t *size)
{
    void *bytes;

    ok(raw->read(raw, name, 10 << 20, &bytes, size, &err));
    return bytes;
}

START_TEST(nothing_that_was_written_lies_there_and_no_two_files_look_alike)
{
    size_t   size, other;
    uint8_t *a, *b;

    ok(save(dirs[_i], "a", "a canary sings in here", 22));
    ok(save(dirs[_i], "b", "a canary sings in here", 22));
    a = stored_of(raws[_i], "a", &size);
    b = stored_of(raws[_i], "b", &other);
    ck_assert_uint_eq(size, KL_VAULT_HEADER + 36 + 22);
    ck_assert_ptr_null(memmem(a, size, "canary", 6));
    ck_assert_int_ne(memcmp(a + KL_VAULT_HEADER + 20, b + KL_VAULT_HEADER + 20, 22), 0);
    free(a);
    free(b);
}
END_TEST

/* What is read of `name` is what was written, as far as anything is; true: all of it. */
static bool reads_whole(struct kl_env_dir *dir, const char *name, size_t whole)
{
    void        *bytes;
    size_t       size;
    enum kl_code code = dir->read(dir, name, 10 << 20, &bytes, &size, &err);

    if (code != KL_OK) {
        ck_assert_msg(code == KL_ECORRUPT || code == KL_EINVAL, "%s", err.text);
        ck_assert_ptr_nonnull(strstr(err.text, name));
        return false;
    }
    ck_assert_uint_le(size, whole);
    is_right(bytes, 0, size);
    free(bytes);
    return size == whole;
}

START_TEST(a_file_in_which_any_bit_was_changed_is_never_read_as_another)
{
    size_t   size;
    uint8_t *stored;

    ok(save(dirs[SIM], "file", bytes_at(0, FRAME + 100), FRAME + 100));
    stored = stored_of(raws[SIM], "file", &size);
    for (size_t i = 0; i < size; i += i < 200 || i > STORED + 40 ? 1 : 97) {
        stored[i] ^= (uint8_t)(1 << i % 8);
        ok(save(raws[SIM], "file", stored, size));
        ck_assert_msg(!reads_whole(dirs[SIM], "file", FRAME + 100), "byte %zu", i);
        stored[i] ^= (uint8_t)(1 << i % 8);
    }
    ok(save(raws[SIM], "file", stored, size));
    ck_assert(reads_whole(dirs[SIM], "file", FRAME + 100));
    for (size_t cut = 0; cut < size; cut += 41) {
        ok(save(raws[SIM], "file", stored, cut));
        ck_assert(!reads_whole(dirs[SIM], "file", FRAME + 100));
    }
    free(stored);
}
END_TEST

START_TEST(frames_open_neither_in_another_file_nor_in_another_place)
{
    size_t   size;
    uint8_t *a, *b, one[STORED];

    ok(save(dirs[SIM], "a", bytes_at(0, 3 * FRAME), 3 * FRAME));
    ok(save(dirs[SIM], "b", bytes_at(0, 3 * FRAME), 3 * FRAME));
    a = stored_of(raws[SIM], "a", &size);
    b = stored_of(raws[SIM], "b", &size);
    memcpy(one, a + KL_VAULT_HEADER, STORED);
    memcpy(a + KL_VAULT_HEADER, b + KL_VAULT_HEADER, STORED);
    ok(save(raws[SIM], "a", a, size));
    ck_assert_int_eq(reads_whole(dirs[SIM], "a", 3 * FRAME), false);
    memcpy(a + KL_VAULT_HEADER, a + KL_VAULT_HEADER + STORED, STORED);
    memcpy(a + KL_VAULT_HEADER + STORED, one, STORED);
    ok(save(raws[SIM], "a", a, size));
    ck_assert_int_eq(reads_whole(dirs[SIM], "a", 3 * FRAME), false);
    free(a);
    free(b);
}
END_TEST

/* A segment of three synced appends, and a fourth that is not; each a frame. */
static uint8_t *segment(size_t *size, size_t at[5])
{
    struct kl_env_dir  *dir = dirs[SIM];
    struct kl_env_file *f;
    uint8_t            *stored;

    ok(dir->create(dir, "tmp", &f, &err));
    ok(dir->publish(f, "log", &err));
    for (unsigned i = 0; i < 4; i++) {
        ok(dir->append(f, bytes_at(100 * i, 100), 100, &err));
        if (i < 3)
            ok(dir->sync(f, &err));
        at[i] = KL_VAULT_HEADER + i * 136;
    }
    at[4] = KL_VAULT_HEADER + 4 * 136;
    dir->close(f);
    stored = stored_of(raws[SIM], "log", size);
    ck_assert_uint_eq(*size, at[4]);
    return stored;
}

START_TEST(what_was_durable_and_is_damaged_is_no_torn_tail)
{
    struct kl_env_dir  *dir = dirs[SIM];
    struct kl_env_view *v;
    size_t              size, at[5];
    uint64_t            plain;
    uint8_t            *stored = segment(&size, at), got[400];

    for (size_t i = KL_VAULT_HEADER; i < size; i++) {
        enum kl_code code;

        stored[i] ^= 0x10;
        ok(save(raws[SIM], "log", stored, size));
        stored[i] ^= 0x10;
        code = dir->view(dir, "log", &v, &plain, &err);
        if (i < at[2]) {                               /* told by the last two that it was durable */
            if (code == KL_OK) {
                ck_assert_uint_ge(plain, 300);
                code = dir->view_read(v, 0, got, (size_t)plain, &err);
                dir->view_close(v);
            }
            ck_assert_msg(code == KL_ECORRUPT, "byte %zu", i);
            continue;
        }
        if (i < at[3]) {                               /* told by the last one */
            if (code == KL_OK) {
                code = dir->view_read(v, 0, got, (size_t)plain, &err);
                dir->view_close(v);
            }
            ck_assert_msg(code == KL_ECORRUPT, "byte %zu", i);
            continue;
        }
        ok(code);                                      /* nobody says that the last was durable */
        ck_assert_uint_eq(plain, 300);
        ok(dir->view_read(v, 0, got, 300, &err));
        is_right(got, 0, 300);
        dir->view_close(v);
    }
    memset(stored + at[1] - 20, 0, 60);
    ok(save(raws[SIM], "log", stored, size));
    ck_assert_int_eq(dir->view(dir, "log", &v, &plain, &err), KL_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "durable"));
    free(stored);
}
END_TEST

START_TEST(a_plain_file_in_an_encrypted_folder_is_refused_and_read_where_one_only_looks)
{
    struct kl_env_dir  *look;
    struct kl_env_file *f;
    void               *bytes;
    size_t              size;

    for (size_t n = 1; n < 200; n += 30) {
        ok(save(raws[REAL], "plain", bytes_at(3, n), n));
        ck_assert_int_eq(dirs[REAL]->read(dirs[REAL], "plain", 1000, &bytes, &size, &err), KL_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(err.text, "not encrypted"));
    }
    ok(save(dirs[REAL], "sealed", bytes_at(0, 50), 50));
    for (int i = 0; i < 2; i++) {
        struct kl_env_dir *again;

        ok(kl_env_dir_real_open(path, false, &again, &err));
        look = kl_vault_looking(again, i == 0 ? NULL : both);
        ok(look->read(look, "plain", 1000, &bytes, &size, &err));
        ck_assert_uint_eq(size, 181);
        is_right(bytes, 3, size);
        free(bytes);
        if (i == 0) {
            ck_assert_int_eq(look->read(look, "sealed", 1000, &bytes, &size, &err), KL_EINVAL);
            ck_assert_ptr_nonnull(strstr(err.text, "encryption.keys"));
        } else {
            ok(look->read(look, "sealed", 1000, &bytes, &size, &err));
            is_right(bytes, 0, size);
            free(bytes);
        }
        ck_assert_int_eq(look->create(look, "x", &f, &err), KL_EINVAL);
        look->leave(look);
    }
}
END_TEST

/* ---- keys ---- */

START_TEST(a_list_of_keys_is_read_whole_or_refused_with_words_that_do_not_hold_it)
{
    static const char *const bad[] = { "", "\n# none\n", "0011", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1g" };
    char            twice[200], text[3000] = "";
    struct kl_keys *k;
    uint8_t         id[KL_KEY_ID];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(kl_keys_parse(kl_span_str(bad[i]), &k, &err), KL_EINVAL);
        ck_assert_ptr_null(strstr(err.text, "0405"));
    }
    snprintf(twice, sizeof twice, "%s\n%s\n", first_key, first_key);
    ck_assert_int_eq(kl_keys_parse(kl_span_str(twice), &k, &err), KL_EINVAL);
    for (int i = 0; i <= KL_KEYS_MAX; i++)
        sprintf(text + strlen(text), "%02x%s\n", 64 + i, first_key + 2);
    ck_assert_int_eq(kl_keys_parse(kl_span_str(text), &k, &err), KL_EINVAL);
    ok(kl_keys_parse(kl_span(first_key, 32), &k, &err));       /* 32 bytes as they are */
    ck_assert_int_eq(memcmp(kl_keys_bytes(k, 0), first_key, 32), 0);
    kl_keys_unref(k);
    ck_assert_uint_eq(kl_keys_count(both), 2);
    kl_key_id(kl_keys_bytes(keys, 0), id);
    ck_assert_ptr_nonnull(kl_keys_find(both, id));
    ck_assert_ptr_null(kl_keys_find(newer, id));
    ck_assert_int_eq(memcmp(kl_keys_id(both, 0), kl_keys_id(newer, 0), KL_KEY_ID), 0);
}
END_TEST

START_TEST(keys_come_out_of_a_file_or_of_what_a_command_prints)
{
    struct kl_keys *k;
    char            file[100], command[200];
    FILE           *f;

    snprintf(file, sizeof file, "%s/keys", path);
    f = fopen(file, "w");
    fprintf(f, "%s\r\n%s\n", second_key, first_key);
    fclose(f);
    ok(kl_keys_read(file, &k, &err));
    ck_assert_uint_eq(kl_keys_count(k), 2);
    kl_keys_unref(k);
    snprintf(command, sizeof command, "tail -n 1 %s", file);
    ok(kl_keys_run(command, &k, &err));
    ck_assert_int_eq(memcmp(kl_keys_id(k, 0), kl_keys_id(keys, 0), KL_KEY_ID), 0);
    kl_keys_unref(k);
    ck_assert_int_eq(kl_keys_run("exit 3", &k, &err), KL_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "status 3"));
    ck_assert_int_eq(kl_keys_run("yes 0123", &k, &err), KL_EINVAL);    /* without end: killed */
    snprintf(command, sizeof command, "cat %s; exit 1", file);
    ck_assert_int_eq(kl_keys_run(command, &k, &err), KL_EIO);
    strcat(file, "-none");
    ck_assert_int_eq(kl_keys_read(file, &k, &err), KL_ENOENT);
    ok(raws[REAL]->remove(raws[REAL], "keys", &err));
}
END_TEST

START_TEST(new_files_get_the_first_key_and_old_ones_open_while_theirs_is_listed)
{
    struct kl_env_dir *rotated, *gone, *raw;
    void              *bytes;
    size_t             size;
    char               id[KL_KEY_ID_TEXT];

    ok(save(dirs[REAL], "old", bytes_at(0, 10), 10));
    ok(kl_env_dir_real_open(path, false, &raw, &err));
    rotated = kl_vault_new(raw, both);
    ck_assert(reads_whole(rotated, "old", 10));
    ok(save(rotated, "new", bytes_at(0, 10), 10));
    rotated->leave(rotated);
    ck_assert_int_eq(dirs[REAL]->read(dirs[REAL], "new", 100, &bytes, &size, &err), KL_EINVAL);
    kl_hex(kl_keys_id(newer, 0), KL_KEY_ID, id);
    ck_assert_ptr_nonnull(strstr(err.text, id));
    ok(kl_env_dir_real_open(path, false, &raw, &err));
    gone = kl_vault_new(raw, newer);
    ck_assert(reads_whole(gone, "new", 10));
    ck_assert_int_eq(gone->read(gone, "old", 100, &bytes, &size, &err), KL_EINVAL);
    gone->leave(gone);
}
END_TEST

/* ---- which folders are encrypted ---- */

static enum kl_code opens_with(struct kl_keys *k, bool writes)
{
    struct kl_env_dir *dir;
    enum kl_code       code = kl_vault_open(path, false, k, writes, &dir, &err);

    if (code == KL_OK)
        dir->leave(dir);
    return code;
}

START_TEST(a_folder_is_opened_as_it_lies_or_refused_with_what_to_do)
{
    struct kl_env_dir *dir;
    char               below[100];

    struct kl_env_dir *lost;

    ok(raws[REAL]->enter(raws[REAL], "lost+found", true, &lost, &err));
    lost->leave(lost);
    ok(opens_with(NULL, true));
    ok(save(raws[REAL], "plain", "x", 1));
    ck_assert_int_eq(opens_with(keys, true), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "koalemos encrypt"));
    ok(raws[REAL]->remove(raws[REAL], "plain", &err));
    ok(opens_with(keys, false));                       /* empty, and not to be written to */
    ok(opens_with(NULL, true));
    ok(opens_with(keys, true));
    ck_assert_int_eq(opens_with(NULL, false), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "it is encrypted"));
    ck_assert_int_eq(opens_with(newer, true), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "not among those"));
    ok(opens_with(both, false));
    ok(opens_with(keys, true));                        /* who only looked has changed nothing */
    ok(opens_with(both, true));
    ck_assert_int_eq(opens_with(keys, true), KL_EINVAL);
    ck_assert_int_eq(opens_with(newer, true), KL_EINVAL);
    ok(opens_with(both, true));

    /* A folder below needs no mark of its own. */
    ok(kl_vault_open(path, false, both, true, &dir, &err));
    struct kl_env_dir *store;
    ok(dir->enter(dir, "store", true, &store, &err));
    ok(save(store, "file", bytes_at(0, 20), 20));
    store->leave(store);
    dir->leave(dir);
    snprintf(below, sizeof below, "%s/store", path);
    ok(kl_vault_open(below, false, both, true, &dir, &err));
    ck_assert(reads_whole(dir, "file", 20));
    dir->leave(dir);
    ck_assert_int_eq(kl_vault_open(below, false, NULL, true, &dir, &err), KL_EINVAL);
    ck_assert_int_eq(kl_vault_open(below, false, keys, true, &dir, &err), KL_EINVAL);
    ok(save(raws[REAL], KL_VAULT_MARK, "koalemos encrypted 2 whole", 26));
    ck_assert_int_eq(opens_with(both, true), KL_ECORRUPT);
}
END_TEST

/* ---- written anew ---- */

static unsigned told_fine, told_bad;

static void told(void *ctx, const char *name, const struct kl_err *failed)
{
    (void)ctx, (void)name;
    *(failed == NULL ? &told_fine : &told_bad) += 1;
}

struct seen { unsigned plain, old, fresh; };

static void see(void *ctx, const struct kl_vault_file *f)
{
    struct seen *s = ctx;

    *(!f->encrypted ? &s->plain : memcmp(f->id, kl_keys_id(keys, 0), KL_KEY_ID) == 0 ? &s->old : &s->fresh) += 1;
}

static struct seen seen(struct kl_env_dir *raw)
{
    struct seen s = { 0 };

    ok(kl_vault_each(raw, see, &s, &err));
    return s;
}

static void fill(struct kl_env_dir *dir)
{
    struct kl_env_dir *below, *audit;

    ok(save(dir, "a", bytes_at(0, 300000), 300000));
    ok(save(dir, "empty", "", 0));
    ok(dir->enter(dir, "below", true, &below, &err));
    ok(save(below, "b", bytes_at(0, 5), 5));
    below->leave(below);
    ok(dir->enter(dir, "audit", true, &audit, &err));
    audit->leave(audit);
}

static bool all_right(struct kl_env_dir *dir)
{
    struct kl_env_dir *below;
    bool               fine;

    ok(dir->enter(dir, "below", false, &below, &err));
    fine = reads_whole(dir, "a", 300000) && reads_whole(dir, "empty", 0) && reads_whole(below, "b", 5);
    below->leave(below);
    return fine;
}

START_TEST(a_plain_folder_is_encrypted_then_by_another_key_then_not_any_more)
{
    struct kl_vault_change c = { .keys = keys, .told = told };
    struct kl_env_dir     *dir;

    fill(raws[REAL]);
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ck_assert_uint_eq(c.changed, 2);
    ck_assert_uint_eq(seen(raws[REAL]).old, 2);
    ck_assert(all_right(dirs[REAL]));
    ok(opens_with(keys, true));
    ok(kl_vault_rewrite(raws[REAL], &c, &err));        /* nothing is left to be done */
    ck_assert_uint_eq(c.changed, 0);

    c = (struct kl_vault_change){ .keys = both, .old = both, .told = told };
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ck_assert_uint_eq(c.changed, 2);
    ck_assert_uint_eq(seen(raws[REAL]).fresh, 2);
    ok(kl_vault_open(path, false, newer, true, &dir, &err));
    ck_assert(all_right(dir));
    dir->leave(dir);

    c = (struct kl_vault_change){ .old = newer, .told = told };
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ok(opens_with(NULL, true));
    ck_assert(all_right(raws[REAL]));
    ck_assert_int_eq(kl_vault_rewrite(raws[REAL], &c, &err), KL_EINVAL);
}
END_TEST

static void put_below(struct kl_env_dir *raw, const char *folder, const char *below)
{
    struct kl_env_dir *dir, *deeper;

    ok(raw->enter(raw, folder, true, &dir, &err));
    if (below != NULL) {
        ok(dir->enter(dir, below, true, &deeper, &err));
        ok(save(deeper, "file", bytes_at(0, 100), 100));
        deeper->leave(deeper);
    } else {
        ok(save(dir, "file", bytes_at(0, 100), 100));
    }
    dir->leave(dir);
}

static bool is_below(struct kl_env_dir *raw, const char *folder)
{
    struct kl_env_dir *dir;
    void              *bytes;
    size_t             size;
    bool               is;

    ok(raw->enter(raw, folder, false, &dir, &err));
    is = dir->read(dir, "file", 1000, &bytes, &size, &err) == KL_OK;
    if (is)
        free(bytes);
    dir->leave(dir);
    return is;
}

START_TEST(an_audit_log_is_left_alone_a_cache_emptied_and_tenants_of_these_names_are_not_mistaken_for_them)
{
    struct kl_vault_change c = { .keys = keys, .told = told };

    put_below(raws[REAL], "audit", NULL);
    put_below(raws[REAL], "cache", NULL);
    ok(opens_with(keys, true));                        /* nothing in it was to be encrypted */
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ck_assert_uint_eq(c.changed, 0);
    ck_assert(is_below(raws[REAL], "audit"));
    ck_assert(!is_below(raws[REAL], "cache"));
    put_below(raws[REAL], "cache", "0001");
    put_below(raws[REAL], "audit", "0001");
    ck_assert_uint_eq(seen(raws[REAL]).plain, 3);
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ck_assert_uint_eq(c.changed, 3);
    ck_assert_uint_eq(seen(raws[REAL]).old, 3);
}
END_TEST

START_TEST(what_does_not_open_is_left_as_it_is_and_named_and_the_rest_is_done)
{
    struct kl_vault_change c = { .keys = both, .old = both, .told = told };
    size_t                 size;
    uint8_t               *stored;

    ok(opens_with(keys, true));
    fill(dirs[REAL]);
    stored = stored_of(raws[REAL], "a", &size);
    stored[KL_VAULT_HEADER + 50] ^= 1;
    ok(save(raws[REAL], "a", stored, size));
    free(stored);
    told_fine = told_bad = 0;
    ck_assert_int_eq(kl_vault_rewrite(raws[REAL], &c, &err), KL_EIO);
    ck_assert_uint_eq(told_fine, 1);
    ck_assert_uint_eq(told_bad, 1);
    ck_assert_int_eq(opens_with(newer, true), KL_EINVAL);      /* the old key is needed still */
    ok(opens_with(both, true));
    ok(raws[REAL]->remove(raws[REAL], "a", &err));
    ok(kl_vault_rewrite(raws[REAL], &c, &err));
    ok(opens_with(newer, true));
}
END_TEST

START_TEST(a_change_that_a_crash_ends_is_taken_up_where_it_was)
{
    struct kl_vault_change c = { .keys = keys, .told = told };
    struct kl_env_dir     *dir;
    enum kl_code           code;

    fill(raws[SIM]);
    ok(raws[SIM]->sync_names(raws[SIM], &err));
    kl_env_disk_sim_fail(disk, (uint64_t)_i, KL_EIO);
    code = kl_vault_rewrite(raws[SIM], &c, &err);
    kl_env_disk_sim_fail(disk, 0, KL_EIO);
    after(kl_env_disk_sim_crash, (uint64_t)_i);
    if (code != KL_OK) {
        struct kl_vault_mark m;

        if (kl_vault_mark_read(raws[SIM], &m, &err) == KL_OK)
            ck_assert(!m.whole || seen(raws[SIM]).plain == 1);         /* but for the empty one */
        ok(kl_vault_rewrite(raws[SIM], &c, &err));
    }
    ck_assert(all_right(dirs[SIM]));
    ck_assert_uint_eq(seen(raws[SIM]).plain, 1);
    ok(kl_vault_admit(kl_env_disk_sim_root(disk), keys, true, NULL, &dir, &err));
    dir->leave(dir);
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
    Suite   *s = suite_create("libkoal/crypt/vault");
    TCase   *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, ranges_of_a_file_of_any_length_are_what_was_written, 0, KINDS);
    tcase_add_loop_test(t, segment_that_is_synced_in_pieces_is_read_while_it_grows_and_after, 0, KINDS);
    tcase_add_loop_test(t, lists_and_reads_speak_of_what_was_written_not_of_what_lies_there, 0, KINDS);
    tcase_add_loop_test(t, any_failure_leaves_the_old_file_or_the_new_one_whole, 1, 16);
    tcase_add_test(t, a_file_whose_write_failed_is_never_synced_or_given_a_name);
    tcase_add_loop_test(t, crash_keeps_synced_bytes_and_tears_only_the_rest, 0, 150);
    tcase_add_test(t, killed_process_loses_nothing_that_it_wrote_under_a_name);
    tcase_add_loop_test(t, nothing_that_was_written_lies_there_and_no_two_files_look_alike, 0, KINDS);
    tcase_add_test(t, a_file_in_which_any_bit_was_changed_is_never_read_as_another);
    tcase_add_test(t, frames_open_neither_in_another_file_nor_in_another_place);
    tcase_add_test(t, what_was_durable_and_is_damaged_is_no_torn_tail);
    tcase_add_test(t, a_plain_file_in_an_encrypted_folder_is_refused_and_read_where_one_only_looks);
    tcase_add_test(t, a_list_of_keys_is_read_whole_or_refused_with_words_that_do_not_hold_it);
    tcase_add_test(t, keys_come_out_of_a_file_or_of_what_a_command_prints);
    tcase_add_test(t, new_files_get_the_first_key_and_old_ones_open_while_theirs_is_listed);
    tcase_add_test(t, a_folder_is_opened_as_it_lies_or_refused_with_what_to_do);
    tcase_add_test(t, a_plain_folder_is_encrypted_then_by_another_key_then_not_any_more);
    tcase_add_test(t, an_audit_log_is_left_alone_a_cache_emptied_and_tenants_of_these_names_are_not_mistaken_for_them);
    tcase_add_test(t, what_does_not_open_is_left_as_it_is_and_named_and_the_rest_is_done);
    tcase_add_loop_test(t, a_change_that_a_crash_ends_is_taken_up_where_it_was, 1, 60);
    tcase_add_test(t, many_threads_read_what_one_writes);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
