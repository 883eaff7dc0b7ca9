/* libkoal/store/store_cell: a place belongs to one cell. */
#include "libkoal/store/store.h"
#include "tests/suite.h"

#include <check.h>
#include <string.h>

static struct kl_env_disk_sim *disk;
static struct kl_env_dir      *dir;
static struct kl_err           err;

static void setup(void)
{
    disk = kl_env_disk_sim_new();
    dir = kl_env_disk_sim_root(disk);
}

static void teardown(void)
{
    dir->leave(dir);
    kl_env_disk_sim_free(disk);
}

static enum kl_code check_as(const char *cell, bool writes)
{
    struct kl_store *s = kl_store_cell_new(kl_store_dir_new(dir), cell, writes);
    enum kl_code     code = kl_store_cell_check(s, &err);

    s->close(s);
    return code;
}

START_TEST(the_first_to_write_makes_it_its_cells)
{
    ck_assert_int_eq(check_as("a", true), KL_OK);
    ck_assert_int_eq(check_as("a", true), KL_OK);
    ck_assert_int_eq(check_as("a", false), KL_OK);
    ck_assert_int_eq(check_as("b", true), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "another cell"));
    ck_assert_ptr_nonnull(strstr(err.text, "koalemos cell a"));
    ck_assert_int_eq(check_as("b", false), KL_EINVAL);
}
END_TEST

START_TEST(who_only_reads_leaves_an_empty_place_as_it_is)
{
    ck_assert_int_eq(check_as("a", false), KL_OK);
    ck_assert_int_eq(check_as("b", true), KL_OK);
    ck_assert_int_eq(check_as("a", false), KL_EINVAL);
}
END_TEST

START_TEST(no_call_gets_through_to_another_cells_objects)
{
    struct kl_store *inner = kl_store_dir_new(dir), *s;
    uint64_t         size;
    char             c;

    ck_assert_int_eq(check_as("theirs", true), KL_OK);
    ck_assert_int_eq(inner->put(inner, "k", kl_span_str("x"), &err), KL_OK);
    s = kl_store_cell_new(inner, "ours", true);
    ck_assert_int_eq(s->put(s, "l", kl_span_str("x"), &err), KL_EINVAL);
    ck_assert_int_eq(s->get(s, "k", 0, &c, 1, &err), KL_EINVAL);
    ck_assert_int_eq(s->head(s, "k", &size, &err), KL_EINVAL);
    ck_assert_int_eq(s->list(s, "", NULL, NULL, &err), KL_EINVAL);
    ck_assert_int_eq(s->remove(s, "k", &err), KL_EINVAL);
    ck_assert_int_eq(inner->head(inner, "k", &size, &err), KL_OK);
    s->close(s);
}
END_TEST

START_TEST(what_names_no_cell_is_not_taken_over)
{
    static const char *const odd[] = { "", "x", "koalemos cell a", "koalemos cell a\nmore" };
    struct kl_store *s = kl_store_dir_new(dir);

    ck_assert_int_eq(s->put(s, KL_STORE_CELL_KEY, kl_span_str(odd[_i]), &err), KL_OK);
    s->close(s);
    ck_assert_int_eq(check_as("a", true), KL_EINVAL);
}
END_TEST

START_TEST(a_place_out_of_reach_is_asked_again_by_the_next_call)
{
    struct kl_store *s = kl_store_cell_new(kl_store_dir_new(dir), "a", true);

    kl_env_disk_sim_fail(disk, 1, KL_EIO);
    ck_assert_int_ne(s->put(s, "k", kl_span_str("x"), &err), KL_OK);
    ck_assert_int_eq(s->put(s, "k", kl_span_str("x"), &err), KL_OK);
    s->close(s);
    ck_assert_int_eq(check_as("b", true), KL_EINVAL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/store/store_cell");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_first_to_write_makes_it_its_cells);
    tcase_add_test(t, who_only_reads_leaves_an_empty_place_as_it_is);
    tcase_add_test(t, no_call_gets_through_to_another_cells_objects);
    tcase_add_loop_test(t, what_names_no_cell_is_not_taken_over, 0, 4);
    tcase_add_test(t, a_place_out_of_reach_is_asked_again_by_the_next_call);
    suite_add_tcase(s, t);
    return run_suite(s);
}
