/* A catalogue that lags, and filesets that went, are damaged or set aside: what is missing is named. */
#include "tests/unit/querier/fetch.h"

START_TEST(a_catalogue_behind_the_live_answer_is_read_again)
{
    struct series   old = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t1", p, 50, &old);
    struct asked   *a;

    cluster_start(&c);
    /* Committed after the watch showed its state; the watch says nothing of it in this cluster. */
    cluster_catalogue(&c, p, 3, &info, 1);
    cluster_live(&c, p, NULL, 0, (struct tsp_page){ .catalogue_revision = 3 });
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert_uint_eq(a->n.series[0].count, 10);
    asked_free(a);
}
END_TEST

START_TEST(a_catalogue_that_stays_behind_makes_the_answer_incomplete)
{
    struct asked *a;

    cluster_live(&c, home("up"), NULL, 0, (struct tsp_page){ .catalogue_revision = 9 });
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    warns(a, "catalogue");
    asked_free(a);
}
END_TEST

static void remove_fileset(const struct blk_info *info)
{
    static const char *const objects[] = { "checkpoint", "meta", "data" };
    char                     path[BLK_PATH_MAX + 1], key[KL_STORE_KEY_MAX + 1];
    struct kl_err            err;

    blk_fileset_path(info, path);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "%s/%s", path, objects[i]);
        ck_assert_int_eq(c.store->remove(c.store, key, &err), KL_OK);
    }
}

START_TEST(a_fileset_replaced_meanwhile_is_found_in_the_newer_catalogue)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info old = cluster_fileset(&c, "t1", p, 50, &s), new;
    struct asked   *a;

    cluster_catalogue(&c, p, 1, &old, 1);
    cluster_start(&c);
    new = cluster_fileset(&c, "t1", p, 51, &s);
    cluster_catalogue(&c, p, 2, &new, 1);
    remove_fileset(&old);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 1);
    ck_assert_uint_eq(a->n.series[0].count, 10);
    asked_free(a);
}
END_TEST

START_TEST(a_lost_fileset_is_named)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t1", p, 50, &s);
    char            path[BLK_PATH_MAX + 1];
    struct asked   *a;

    cluster_catalogue(&c, p, 1, &info, 1);
    remove_fileset(&info);
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    blk_fileset_path(&info, path);
    warns(a, path);
    asked_free(a);
}
END_TEST

START_TEST(a_corrupt_fileset_is_named_and_none_of_it_served)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t1", p, 50, &s);
    char            path[BLK_PATH_MAX + 1], key[KL_STORE_KEY_MAX + 1];
    struct asked   *a;
    struct kl_err   err;
    uint64_t        size;
    char           *bytes;

    blk_fileset_path(&info, path);
    snprintf(key, sizeof key, "%s/data", path);
    ck_assert_int_eq(c.store->head(c.store, key, &size, &err), KL_OK);
    bytes = malloc(size);
    ck_assert_int_eq(c.store->get(c.store, key, 0, bytes, size, &err), KL_OK);
    bytes[size / 2] ^= 0x10;
    ck_assert_int_eq(c.store->remove(c.store, key, &err), KL_OK);
    ck_assert_int_eq(c.store->put(c.store, key, kl_span(bytes, size), &err), KL_OK);
    free(bytes);
    cluster_catalogue(&c, p, 1, &info, 1);
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    warns(a, path);
    ck_assert_uint_eq(a->n.count, 0);
    asked_free(a);
}
END_TEST

START_TEST(a_fileset_in_quarantine_is_named_where_its_time_is_asked_for_and_only_there)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t1", p, 50, &s);
    char            path[BLK_PATH_MAX + 1];
    struct asked   *a;

    blk_fileset_path(&info, path);
    info.quarantined = true;
    cluster_catalogue(&c, p, 1, &info, 1);
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    warns(a, path);
    warns(a, "quarantine");
    ck_assert_uint_eq(a->n.count, 0);
    asked_free(a);
    a = get(&c, "up", 10000000, 20000000);
    complete(a);
    asked_free(a);
}
END_TEST

START_TEST(another_tenants_fileset_is_never_read)
{
    struct series   s = line(up, 1000, 10, 10, 0);
    uint32_t        p = home("up");
    struct blk_info info = cluster_fileset(&c, "t2", p, 50, &s);
    struct asked   *a;

    cluster_catalogue(&c, p, 1, &info, 1);
    cluster_start(&c);
    a = get(&c, "up", 0, 100000);
    complete(a);
    ck_assert_uint_eq(a->n.count, 0);
    asked_free(a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fetch: filesets");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_catalogue_behind_the_live_answer_is_read_again);
    tcase_add_test(t, a_catalogue_that_stays_behind_makes_the_answer_incomplete);
    tcase_add_test(t, a_fileset_replaced_meanwhile_is_found_in_the_newer_catalogue);
    tcase_add_test(t, a_lost_fileset_is_named);
    tcase_add_test(t, a_corrupt_fileset_is_named_and_none_of_it_served);
    tcase_add_test(t, a_fileset_in_quarantine_is_named_where_its_time_is_asked_for_and_only_there);
    tcase_add_test(t, another_tenants_fileset_is_never_read);
    suite_add_tcase(s, t);

    return run_suite(s);
}
