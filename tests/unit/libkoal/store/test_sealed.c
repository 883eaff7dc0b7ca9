/* libkoal/store: what lies below an encrypted store, and what of it may be changed unseen: nothing. */
#include "libkoal/store/sealed.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BIG = 3 * KL_SEALED_FRAME + 1000 };

static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *dir;
static struct kl_store        *below, *store;
static struct kl_err           err;
static uint8_t                 key[KL_AES_KEY] = { 1, 2, 3 }, plain[BIG];
static char                    raw[BIG + 1000];

static void setup(void)
{
    disk = kl_env_disk_sim_new();
    dir = kl_env_disk_sim_root(disk);
    below = kl_store_dir_new(dir);
    store = kl_store_sealed_new(kl_store_dir_new(dir), key, true);
    for (size_t i = 0; i < BIG; i++)
        plain[i] = (uint8_t)("a plain secret "[i % 15]);
}

static void teardown(void)
{
    store->close(store);
    below->close(below);
    dir->leave(dir);
    kl_env_disk_sim_free(disk);
}

static size_t raw_of(const char *name)
{
    uint64_t size;

    ck_assert_int_eq(below->head(below, name, &size, &err), KL_OK);
    ck_assert_int_eq(below->get(below, name, 0, raw, size, &err), KL_OK);
    return size;
}

static void lay(const char *name, size_t size)
{
    ck_assert_int_eq(below->remove(below, name, &err), KL_OK);
    ck_assert_int_eq(below->put(below, name, kl_span(raw, size), &err), KL_OK);
}

/* A process that has seen nothing of it yet. */
static enum kl_code read_anew(const char *name, uint64_t offset, void *bytes, size_t size, const uint8_t with[KL_AES_KEY])
{
    struct kl_store *s = kl_store_sealed_new(kl_store_dir_new(dir), with, false);
    enum kl_code     code = s->get(s, name, offset, bytes, size, &err);

    s->close(s);
    return code;
}

START_TEST(ranges_are_read_across_frames_and_nothing_plain_lies_below)
{
    static const size_t sizes[] = { 0, 1, KL_SEALED_FRAME - 1, KL_SEALED_FRAME, KL_SEALED_FRAME + 1, 2 * KL_SEALED_FRAME, BIG };
    static uint8_t      got[BIG];
    char                name[20];
    uint64_t            size;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        snprintf(name, sizeof name, "o/%zu", i);
        ck_assert_msg(store->put(store, name, kl_span(plain, sizes[i]), &err) == KL_OK, "%s", err.text);
        ck_assert_int_eq(store->head(store, name, &size, &err), KL_OK);
        ck_assert_uint_eq(size, sizes[i]);
        ck_assert_ptr_null(memmem(raw, raw_of(name), "plain", 5));
        for (size_t from = 0; from <= sizes[i]; from += 1 + sizes[i] / 7) {
            size_t n = sizes[i] - from < 70000 ? sizes[i] - from : 70000;

            ck_assert_msg(read_anew(name, from, got, n, key) == KL_OK, "%zu at %zu: %s", n, from, err.text);
            ck_assert_mem_eq(got, plain + from, n);
        }
        ck_assert_int_eq(store->get(store, name, sizes[i], got, 1, &err), KL_EIO);
    }
}
END_TEST

START_TEST(what_was_changed_cut_or_swapped_does_not_open)
{
    static uint8_t got[BIG];
    size_t         size;

    ck_assert_int_eq(store->put(store, "a", kl_span(plain, BIG), &err), KL_OK);
    ck_assert_int_eq(store->put(store, "b", kl_span(plain + 1, BIG - 1), &err), KL_OK);
    ck_assert_int_eq(store->put(store, "c", kl_span(plain, BIG), &err), KL_OK);
    size = raw_of("a");
    for (size_t i = 0; i < size; i += i < 80 ? 1 : 4999) {
        raw[i] ^= 1;
        lay("a", size);
        ck_assert_msg(read_anew("a", 0, got, BIG, key) == KL_EIO, "byte %zu", i);
        raw[i] ^= 1;
    }
    for (size_t cut = 1; cut < size; cut += 9973) {
        lay("a", size - cut);
        ck_assert_int_eq(read_anew("a", 0, got, BIG, key), KL_EIO);
    }
    memmove(raw + KL_SEALED_HEADER, raw + KL_SEALED_HEADER + KL_SEALED_FRAME + KL_GCM_TAG, KL_SEALED_FRAME + KL_GCM_TAG);
    lay("a", size);                                    /* a frame in another's place */
    ck_assert_int_eq(read_anew("a", 0, got, 10, key), KL_EIO);
    size = raw_of("c");
    lay("a", size);                                    /* an object under another's name */
    ck_assert_int_eq(read_anew("a", 0, got, 10, key), KL_EIO);
    ck_assert_int_eq(read_anew("c", 0, got, 10, key), KL_OK);
}
END_TEST

START_TEST(equal_objects_look_different)
{
    static char first[200];
    size_t      size;

    ck_assert_int_eq(store->put(store, "a", kl_span(plain, 50), &err), KL_OK);
    size = raw_of("a");
    memcpy(first, raw, size);
    ck_assert_int_eq(store->remove(store, "a", &err), KL_OK);
    ck_assert_int_eq(store->put(store, "a", kl_span(plain, 50), &err), KL_OK);
    ck_assert_uint_eq(raw_of("a"), size);
    ck_assert(memcmp(first + KL_SEALED_HEADER, raw + KL_SEALED_HEADER, size - KL_SEALED_HEADER) != 0);
}
END_TEST

START_TEST(another_key_opens_nothing_and_is_told_until_the_store_is_rewrapped_for_it)
{
    uint8_t  other[KL_AES_KEY] = { 9 }, got[10];

    ck_assert_int_eq(read_anew("a", 0, got, 1, other), KL_ENOENT);     /* an empty store is nobody's */
    ck_assert_int_eq(store->put(store, "a", kl_span(plain, 10), &err), KL_OK);
    ck_assert_int_eq(read_anew("a", 0, got, 10, other), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "encrypted with the key"));
    ck_assert_int_eq(kl_store_sealed_rewrap(below, other, key, &err), KL_EINVAL);
    ck_assert_msg(kl_store_sealed_rewrap(below, key, other, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(read_anew("a", 0, got, 10, other), KL_OK);
    ck_assert_mem_eq(got, plain, 10);
    ck_assert_int_eq(read_anew("a", 0, got, 10, key), KL_EINVAL);
    ck_assert_int_eq(store->get(store, "a", 0, got, 10, &err), KL_OK);         /* who had it open goes on */
    ck_assert_int_eq(kl_store_sealed_rewrap(below, other, key, &err), KL_OK);
    ck_assert_int_eq(read_anew("a", 0, got, 10, key), KL_OK);
}
END_TEST

static void none(void *ctx, const char *name, uint64_t size)
{
    (void)size;
    ck_assert_str_eq(name, "a");
    ++*(unsigned *)ctx;
}

START_TEST(a_store_with_plain_objects_is_refused_and_its_key_is_nobodys_object)
{
    unsigned count = 0;
    uint64_t size;

    ck_assert_int_eq(store->put(store, "a", kl_span(plain, 10), &err), KL_OK);
    ck_assert_int_eq(store->list(store, "", none, &count, &err), KL_OK);
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(store->remove(store, "catalogue/sealed-0001", &err), KL_EINVAL);
    ck_assert_int_eq(below->put(below, "p", kl_span(plain, 100), &err), KL_OK);
    ck_assert_int_eq(store->get(store, "p", 0, raw, 10, &err), KL_EIO);
    ck_assert_int_eq(below->remove(below, "catalogue/sealed-0001", &err), KL_OK);
    ck_assert_int_eq(read_anew("p", 0, raw, 10, key), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "not encrypted"));
    ck_assert_int_eq(store->head(store, "p", &size, &err), KL_OK);     /* by its size alone it could be one */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/store/sealed");
    TCase *t = tcase_create("sealed");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, ranges_are_read_across_frames_and_nothing_plain_lies_below);
    tcase_add_test(t, what_was_changed_cut_or_swapped_does_not_open);
    tcase_add_test(t, equal_objects_look_different);
    tcase_add_test(t, another_key_opens_nothing_and_is_told_until_the_store_is_rewrapped_for_it);
    tcase_add_test(t, a_store_with_plain_objects_is_refused_and_its_key_is_nobodys_object);
    suite_add_tcase(s, t);
    return run_suite(s);
}
