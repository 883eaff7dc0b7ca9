/* libkoal/crypt/vault: what lies below an encrypted folder tells nothing and cannot be changed unseen. */
#include "vault_fixture.h"

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

/* A head alone says that full frames lie before it; one of these is short, and opens. */
START_TEST(a_frame_that_ends_before_what_is_wanted_is_damage)
{
    enum { SHORT = 100, FAR = 16 * STORED };
    static uint8_t         stored[KL_VAULT_HEADER + FAR + KL_VAULT_FRAME_HEAD];
    const struct { uint32_t size; uint64_t at; } far = { FRAME, 16 * FRAME };
    struct kl_env_view    *v;
    uint64_t               whole;
    uint8_t               *a, got[10];
    size_t                 size;

    ok(save(dirs[SIM], "file", bytes_at(0, FRAME + SHORT), FRAME + SHORT));
    a = stored_of(raws[SIM], "file", &size);
    memcpy(stored, a, size);
    memcpy(stored + KL_VAULT_HEADER + FAR, &far.size, 4);      /* little-endian, as we build */
    memcpy(stored + KL_VAULT_HEADER + FAR + 4, &far.at, 8);
    ok(save(raws[SIM], "file", stored, sizeof stored));
    ok(dirs[SIM]->view(dirs[SIM], "file", &v, &whole, &err));
    ck_assert_uint_gt(whole, FRAME + 1000 + sizeof got);
    ck_assert_int_eq(dirs[SIM]->view_read(v, FRAME + 1000, got, sizeof got, &err), KL_ECORRUPT);
    ck_assert_int_eq(dirs[SIM]->view_read(v, FRAME + SHORT, got, sizeof got, &err), KL_ECORRUPT);
    ok(dirs[SIM]->view_read(v, FRAME + SHORT - sizeof got, got, sizeof got, &err));
    is_right(got, FRAME + SHORT - sizeof got, sizeof got);
    dirs[SIM]->view_close(v);
    free(a);
}
END_TEST

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

int main(void)
{
    Suite *s = suite_create("libkoal/crypt/vault: sealed");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, nothing_that_was_written_lies_there_and_no_two_files_look_alike, 0,
                        KINDS);
    tcase_add_test(t, a_file_in_which_any_bit_was_changed_is_never_read_as_another);
    tcase_add_test(t, frames_open_neither_in_another_file_nor_in_another_place);
    tcase_add_test(t, a_frame_that_ends_before_what_is_wanted_is_damage);
    tcase_add_test(t, what_was_durable_and_is_damaged_is_no_torn_tail);
    tcase_add_test(t, a_plain_file_in_an_encrypted_folder_is_refused_and_read_where_one_only_looks);
    suite_add_tcase(s, t);

    return run_suite(s);
}
